"""How a frame is split never changes its bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_same_bars
from properties.frames import cases, cuts, misaligned, offset, pieces, rechunked

if TYPE_CHECKING:
    from properties.model import Case

ANY_CUTS = cuts(50)
WHOLE_FRAME = ["expression, eager", *(f"expression, {e}" for e in entry_points.ENGINES), "frame"]
LAZY = [f"lazy frame, {e}" for e in entry_points.ENGINES]


def within(frame: pl.DataFrame, at: list[int]) -> list[int]:
    return [min(cut, frame.height) for cut in at]


@given(cases(), ANY_CUTS)
def test_chunks_of_a_frame_do_not_change_bars(case: Case, at: list[int]) -> None:
    bars = entry_points.eager(case)
    at = within(case.frame, at)
    for layout in (rechunked, misaligned):
        cut = case.with_frame(layout(case.frame, at))
        assert cut.frame.equals(case.frame)
        for name in (*WHOLE_FRAME, *LAZY, "builder", "iter_bars"):
            assert_same_bars(entry_points.ALL[name](cut), bars)


@given(cases(), st.integers(0, 9))
def test_a_slice_gives_the_bars_of_its_rows(case: Case, before: int) -> None:
    bars = entry_points.eager(case)
    sliced = case.with_frame(offset(case.frame, before))
    for name in (*WHOLE_FRAME, *LAZY, "builder", "iter_bars"):
        assert_same_bars(entry_points.ALL[name](sliced), bars)


@given(cases(), ANY_CUTS)
def test_pushes_of_any_size_give_the_bars_of_the_whole(case: Case, at: list[int]) -> None:
    parts = pieces(case.frame, within(case.frame, at))
    bars = entry_points.eager(case)
    assert_same_bars(entry_points.concat(entry_points.pushes(case, parts)), bars)
    assert_same_bars(entry_points.concat(entry_points.pushes(case, parts, resume=True)), bars)
    assert_same_bars(entry_points.iterated(case, parts), bars)
    assert_same_bars(entry_points.iterated(case, iter(parts)), bars)


@given(cases(), ANY_CUTS)
def test_equal_states_give_equal_checkpoints(case: Case, at: list[int]) -> None:
    cut, whole = entry_points.builder_of(case), entry_points.builder_of(case)
    for part in pieces(case.frame, within(case.frame, at)):
        cut.push(part)
    whole.push(case.frame)
    assert cut.checkpoint() == whole.checkpoint()
    resumed = rb.RangeBarBuilder.from_checkpoint(whole.checkpoint())
    assert resumed.checkpoint() == whole.checkpoint()
    assert_same_bars(resumed.partial(), whole.partial())


@given(cases(), st.integers(1, 20))
def test_streaming_chunk_size_does_not_change_bars(case: Case, size: int) -> None:
    bars = entry_points.eager(case)
    with pl.Config() as config:
        config.set_streaming_chunk_size(size)
        for name in (*LAZY, "expression, streaming", "iter_bars"):
            assert_same_bars(entry_points.ALL[name](case), bars)


@given(cases(keys=(None,)), ANY_CUTS)
def test_chunks_do_not_change_what_is_folded(case: Case, at: list[int]) -> None:
    ids = (pl.int_range(pl.len()) // 7).alias("mine")
    frame = case.frame.with_columns(ids)
    whole = frame.rangebar.aggregate("mine", features=case.features)
    fold = rb.aggregate("price", "mine", **case.bound, features=case.features)
    at = within(frame, at)
    for layout in (rechunked, misaligned):
        cut = layout(frame, at)
        assert_same_bars(cut.select(fold).unnest("bars"), whole)
        with pl.Config() as config:
            config.set_streaming_chunk_size(5)
            for engine in entry_points.ENGINES:
                lazy = cut.lazy().rangebar.aggregate("mine", features=case.features)
                assert_same_bars(entry_points.collect(lazy, engine), whole)
