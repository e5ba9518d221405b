"""Long frames, with ends of lanes, blocks and chunks, on every instruction set."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import polars as pl
import pytest

from properties import entry_points
from properties.comparing import assert_matches, assert_same_bars
from properties.frames import long_frame, misaligned, offset, pieces, rechunked
from properties.model import Case, expect
from rangebar_polars import _internal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from properties.model import Expected

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
# Around the lengths of lanes, blocks and chunks.
EDGES = [1, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 4097, 8191, 8192, 8193]
ROWS = 13_001
# name: frame arguments, threshold. Bars of two records, of tens, of thousands; a price on a coarse grid;
# prices at which doubles no longer hold the grid; one bar that never ends.
SHAPES: dict[str, tuple[dict[str, int], int | list[int]]] = {
    "bars of a few records": ({"seed": 1, "step": 2 * 10**9}, 10),
    "bars of tens": ({"seed": 2}, 50),
    "bars of thousands": ({"seed": 3}, 1000),
    "one bar without an end": ({"seed": 4}, 50_000),
    "small prices": ({"seed": 5, "base": 900, "step": 2}, 250),
    "smallest prices": ({"seed": 6, "base": 40, "step": 3}, 100_000),
    "beyond 2^52 units": ({"seed": 7, "base": 2**52 + 12_345, "step": 2**41}, 100),
    "beyond 2^62 units": ({"seed": 8, "base": 2**62, "step": 2**51}, 100),
    "half a unit off the grid": ({"seed": 13, "base": 10**10, "step": 40, "halves": True}, 1),
    "one clock tick": ({"seed": 9, "burst": 1, "step": 10**10}, 10),
    "four at once": ({"seed": 10}, [250, 50, 1000, 500]),
}


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on the code for one instruction set."""
    try:
        _internal.force_instruction_set(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    _internal.force_instruction_set(None)


@functools.cache
def shaped(name: str, incomplete: str = "keep") -> tuple[Case, Expected]:
    """Return a long case and its bars and ids by the model."""
    arguments, threshold = SHAPES[name]
    frame = long_frame(rows=ROWS, **arguments)
    case = Case(frame, threshold, features="microstructure", incomplete=incomplete)
    return case, expect(case)


@pytest.mark.parametrize("name", SHAPES)
def test_long_runs_equal_the_model_on_each_instruction_set(name: str, instruction_set: str) -> None:
    case, expected = shaped(name)
    assert _internal.instruction_set() == instruction_set
    assert_matches(entry_points.eager(case), expected.bars)


@pytest.mark.parametrize("name", SHAPES)
def test_bar_ids_of_long_runs_equal_the_model(name: str, instruction_set: str) -> None:
    case, expected = shaped(name, "drop")
    assert instruction_set
    assert case.frame.select(entry_points.bar_id(case))["bar_id"].equals(expected.ids)


@pytest.mark.parametrize("name", SHAPES)
def test_cuts_at_the_edges_of_blocks_do_not_change_bars(name: str) -> None:
    case, _ = shaped(name)
    bars = entry_points.eager(case)
    for layout in (rechunked, misaligned):
        cut = case.with_frame(layout(case.frame, EDGES))
        assert_same_bars(entry_points.eager_expression(cut), bars)
        assert_same_bars(entry_points.eager(cut), bars)
    assert_same_bars(
        entry_points.concat(entry_points.pushes(case, pieces(case.frame, EDGES), resume=True)), bars
    )
    assert_same_bars(entry_points.iterated(case, pieces(case.frame, EDGES)), bars)


@pytest.mark.parametrize("rows", [*EDGES, 0, 2, 3, 15, 16, 17, 31, 33])
def test_frames_that_end_at_the_edges_of_lanes_equal_the_model(
    rows: int, instruction_set: str
) -> None:
    frame = long_frame(seed=rows, rows=rows, step=3 * 10**8)
    case = Case(frame, [20, 400], features="microstructure", incomplete="keep")
    assert instruction_set
    assert_matches(entry_points.eager(case), expect(case).bars)


@pytest.mark.parametrize("before", [1, 3, 7, 8, 9, 63, 65])
def test_slices_that_start_within_a_byte_of_flags_equal_the_model(
    before: int, instruction_set: str
) -> None:
    frame = long_frame(seed=before, rows=700)
    case = Case(frame, 30, features="microstructure", incomplete="keep")
    sliced = case.with_frame(offset(frame, before))
    assert instruction_set
    assert_matches(entry_points.eager(sliced), expect(case).bars)


def test_a_checkpoint_after_every_row_of_a_long_run_changes_nothing() -> None:
    frame = long_frame(seed=11, rows=2_100)
    case = Case(frame, [40, 900], features="microstructure", incomplete="keep")
    assert_same_bars(entry_points.resumed_each_row(case), entry_points.eager(case))


@pytest.mark.parametrize("size", [100, 4_096, 5_000])
def test_streaming_chunk_sizes_do_not_change_long_runs(size: int) -> None:
    case, _ = shaped("bars of thousands")
    bars = entry_points.eager(case)
    with pl.Config() as config:
        config.set_streaming_chunk_size(size)
        for engine in entry_points.ENGINES:
            assert_same_bars(entry_points.lazy(engine)(case), bars)
            assert_same_bars(entry_points.lazy_expression(engine)(case), bars)


@pytest.mark.parametrize("keys", [2, 20, 700])
@pytest.mark.parametrize("run", [1, 50])
def test_interleaved_keys_equal_the_model(keys: int, run: int) -> None:
    frame = long_frame(seed=keys, rows=6_000, step=3 * 10**8)
    symbol = ((pl.int_range(pl.len()) // run) % keys).cast(pl.String).alias("symbol")
    case = Case(
        frame.with_columns(symbol), [50, 250], "symbol", "microstructure", incomplete="keep"
    )
    bars = expect(case).bars
    assert_matches(entry_points.eager(case), bars)
    assert_same_bars(entry_points.lazy("streaming")(case), entry_points.eager(case))
    assert_same_bars(entry_points.eager_expression(case), entry_points.eager(case))


def test_a_thousand_records_a_bar_equal_the_group_by_of_polars() -> None:
    frame = long_frame(seed=12, rows=20_500).with_columns(mine=pl.int_range(pl.len()) // 1000)
    bars = frame.rangebar.aggregate("mine")
    grouped = frame.group_by("mine", maintain_order=True).agg(
        open_time=pl.col("timestamp").first(),
        close_time=pl.col("timestamp").last(),
        open=pl.col("price").first(),
        high=pl.col("price").max(),
        low=pl.col("price").min(),
        close=pl.col("price").last(),
        volume=(pl.col("quantity") * 1e8).round().cast(pl.Int64).sum(),
        buy_trade_count=(
            (pl.col("last_trade_id") - pl.col("first_trade_id") + 1)
            .filter(~pl.col("is_buyer_maker"))
            .sum()
        ),
        first_trade_id=pl.col("first_trade_id").first(),
        last_agg_trade_id=pl.col("agg_trade_id").last(),
    )
    # Polars may multiply by the inverse of a literal; NumPy divides.
    volume = pl.Series("volume", grouped["volume"].to_numpy() / 1e8)
    grouped = grouped.with_columns(volume).rename({"mine": "bar_id"})
    assert_same_bars(bars.select(grouped.columns), grouped)
    assert bars.height == 21
