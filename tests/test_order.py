"""Trades out of order: refused with both rows and the remedy, across pushes and for each key apart."""

from __future__ import annotations

import re

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import EVERY, FOLD_DOORS, FRAME_DOORS, ID_DOORS, in_plan, keeps_class
from rangebar_polars.exceptions import TickDataError, TickOrderError


def ticks(times: list[int], ids: list[int] | None = None, **more: list) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "price": [100.0 + row / 1000 for row in range(len(times))],
            **more,
        }
    )
    return frame if ids is None else frame.with_columns(pl.Series("agg_trade_id", ids, pl.Int64))


TIME_BACK = ticks([10, 20, 30, 29, 40])
ID_BACK = ticks([10, 20, 20, 20, 40], [1, 2, 5, 4, 6])
ID_TWICE = ticks([10, 20, 20, 20, 40], [1, 2, 5, 5, 6])


@pytest.mark.parametrize("door", [*EVERY, *ID_DOORS])
def test_time_that_runs_back_is_refused_with_both_rows(door: str) -> None:
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        (EVERY | ID_DOORS)[door](TIME_BACK)
    text = str(caught.value)
    assert "timestamp" in text
    assert re.search(r"\b2\b.*\b3\b|\b3\b.*\b2\b", text, re.DOTALL), text
    assert "cum_max" in text
    if keeps_class(door):
        assert isinstance(caught.value, TickOrderError)
        assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("frame", [ID_BACK, ID_TWICE], ids=["back", "twice"])
@pytest.mark.parametrize("door", EVERY)
def test_an_id_that_does_not_increase_is_refused_with_both_rows(
    door: str, frame: pl.DataFrame
) -> None:
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        EVERY[door](frame)
    text = str(caught.value)
    assert "agg_trade_id" in text
    assert re.search(r"\b2\b.*\b3\b|\b3\b.*\b2\b", text, re.DOTALL), text
    assert "sort" in text
    if keeps_class(door):
        assert isinstance(caught.value, TickOrderError)


def test_an_id_that_is_not_bound_is_not_judged() -> None:
    bars = ID_BACK.rangebar.bars(
        250, columns={"agg_trade_id": None, "symbol": None}, incomplete="keep"
    )
    assert bars["agg_record_count"].to_list() == [5]
    assert bars["first_agg_trade_id"].to_list() == [None]


def test_equal_times_are_in_order() -> None:
    bars = ticks([10, 10, 10]).rangebar.bars(250, incomplete="keep")
    assert bars["agg_record_count"].to_list() == [3]


@pytest.mark.parametrize("door", ["builder", "iter_bars"])
@pytest.mark.parametrize(("frame", "column"), [(TIME_BACK, "timestamp"), (ID_BACK, "agg_trade_id")])
def test_order_is_judged_across_pushes(frame: pl.DataFrame, column: str, door: str) -> None:
    parts = [frame.head(3), frame.head(0), frame.slice(3)]
    builder = rb.RangeBarBuilder(250)
    pushes = map(builder.push, parts) if door == "builder" else rb.iter_bars(parts, 250)
    with pytest.raises(TickOrderError, match=column):
        list(pushes)


def test_a_push_names_its_own_row_and_the_last_of_an_earlier_push() -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(TIME_BACK.head(3))
    before = builder.checkpoint()
    with pytest.raises(
        TickOrderError,
        match=r"(?s)row 0\b.*(earlier|previous|last)|(earlier|previous|last).*row 0\b",
    ):
        builder.push(TIME_BACK.slice(3))
    assert builder.checkpoint() == before


def test_a_resumed_builder_still_knows_the_last_time_and_id() -> None:
    for frame in (TIME_BACK, ID_BACK):
        builder = rb.RangeBarBuilder(250)
        builder.push(frame.head(3))
        resumed = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
        with pytest.raises(TickOrderError):
            resumed.push(frame.slice(3))


def test_order_is_remembered_when_no_bar_is_forming() -> None:
    closed = ticks([10, 20]).with_columns(price=pl.Series([100.0, 101.0]))
    builder = rb.RangeBarBuilder(250)
    assert builder.push(closed).height == 1
    with pytest.raises(TickOrderError):
        builder.push(ticks([19]))


KEYS = ["A", "B", "A", "B", "A"]


def test_each_key_has_its_own_order() -> None:
    mixed = ticks([100, 10, 110, 20, 120], [7, 1, 8, 2, 9], symbol=KEYS)
    bars = mixed.rangebar.bars(250, group_by="symbol", incomplete="keep")
    assert bars["agg_record_count"].to_list() == [3, 2]
    with pytest.raises(TickOrderError):
        mixed.rangebar.bars(250, columns={"symbol": None})


@pytest.mark.parametrize("door", [*FRAME_DOORS, "expression", "bar_id"])
def test_a_key_that_runs_back_is_refused_with_its_rows(door: str) -> None:
    mixed = ticks([100, 10, 99, 20, 120], symbol=KEYS)
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        (EVERY | ID_DOORS)[door](mixed)
    text = str(caught.value)
    assert re.search(r"\b0\b.*\b2\b|\b2\b.*\b0\b", text, re.DOTALL), text


def test_a_key_runs_back_across_pushes() -> None:
    builder = rb.RangeBarBuilder(250, group_by="symbol")
    builder.push(ticks([100, 10], symbol=["A", None]))
    builder.push(ticks([11], symbol=pl.Series([None], dtype=pl.String)))
    before = builder.checkpoint()
    with pytest.raises(TickOrderError):
        builder.push(ticks([200, 10], symbol=["A", None]))
    assert builder.checkpoint() == before
    builder.push(ticks([10], symbol=["C"]))


def test_an_id_of_anyone_that_comes_back_is_refused_with_its_row() -> None:
    frame = ticks([1, 2, 3, 4, 5]).with_columns(mine=pl.Series([1, 1, 2, 2, 1]))
    for door in (frame.rangebar.aggregate, frame.lazy().rangebar.aggregate):
        with pytest.raises(in_plan(TickDataError), match=r"\brow 4\b") as caught:
            door("mine").lazy().collect()
        assert "mine" in str(caught.value)
    fold = rb.aggregate("price", "mine", quantity=None, is_buyer_maker=None)
    with pytest.raises(pl.exceptions.ComputeError, match=r"\brow 4\b"):
        frame.select(fold)


def test_an_id_of_anyone_comes_back_across_batches() -> None:
    ids = [*range(2_000), 3]
    frame = ticks(list(range(2_001))).with_columns(mine=pl.Series(ids))
    with pl.Config() as config:
        config.set_streaming_chunk_size(100)
        for engine in ("in-memory", "streaming"):
            with pytest.raises(in_plan(TickDataError), match=r"\brow 2000\b"):
                frame.lazy().rangebar.aggregate("mine").collect(engine=engine)


@pytest.mark.parametrize("ids", [[5, 5, 3, 3, 1], [-4, -4, -9, 7, 7], [None, 2, 2, None, 3]])
def test_ids_of_anyone_need_no_order(ids: list[int | None]) -> None:
    frame = ticks([1, 2, 3, 4, 5]).with_columns(mine=pl.Series(ids))
    distinct = [v for v in dict.fromkeys(ids) if v is not None]
    assert frame.rangebar.aggregate("mine")["bar_id"].to_list() == distinct


@pytest.mark.parametrize("door", FOLD_DOORS)
def test_a_fold_judges_order_too(door: str) -> None:
    error = TickOrderError if keeps_class(door) else pl.exceptions.ComputeError
    with pytest.raises(error, match="timestamp"):
        FOLD_DOORS[door](TIME_BACK)
