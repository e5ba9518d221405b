"""Real trades, if the folder of shared data exists: every entry point against the model."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_matches, assert_same_bars
from properties.frames import pieces
from properties.model import Case, expect

if TYPE_CHECKING:
    from properties.model import Expected

SHARED = Path(os.environ.get("RANGEBAR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FILES = sorted((SHARED / "data" / "binance").glob("*.csv"))
SPY = SHARED / "data" / "equities" / "SPY_trades_2013-10-07_to_11.parquet"
needs_files = pytest.mark.skipif(not FILES, reason=f"no real trades in {SHARED}/data/binance")
needs_spy = pytest.mark.skipif(not SPY.is_file(), reason=f"no real trades at {SPY}")
IDS = ["agg_trade_id", "first_trade_id", "last_trade_id"]


@functools.cache
def trades(path: Path) -> pl.DataFrame:
    return rb.scan_agg_trades(path).collect()


@functools.cache
def real(path: Path, incomplete: str = "keep") -> tuple[Case, Expected]:
    case = Case(trades(path), [5, 50], features="microstructure", incomplete=incomplete)
    return case, expect(case)


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scan_gives_the_rows_of_the_file(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line[0].isdigit()]
    fields = [line.split(",") for line in lines]
    frame = trades(path)
    rows = [
        (int(a), float(p), float(q), int(f), int(l), int(t), m.lower() == "true")
        for a, p, q, f, l, t, m, *_ in fields
    ]
    rows.sort()
    columns = ["agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"]
    got = frame.select(*columns, pl.col("timestamp").dt.epoch("ms"), "is_buyer_maker").rows()
    assert got == rows


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_entry_point_gives_the_bars_of_the_model(path: Path) -> None:
    case, expected = real(path)
    assert expected.bars.height > 10
    assert_matches(entry_points.eager(case), expected.bars)
    for name, entry_point in entry_points.FAST.items():
        assert_same_bars(entry_point(case), entry_points.eager(case))
        assert name


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_lazy_scan_gives_the_bars_of_the_model(path: Path) -> None:
    case, _ = real(path)
    plan = rb.scan_agg_trades(path).rangebar.bars(
        [5, 50], features="microstructure", incomplete="keep"
    )
    for engine in entry_points.ENGINES:
        assert_same_bars(entry_points.collect(plan, engine), entry_points.eager(case))


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bar_ids_equal_the_model(path: Path) -> None:
    case, expected = real(path, "drop")
    assert case.frame.select(entry_points.bar_id(case))["bar_id"].equals(expected.ids)


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pushes_with_checkpoints_give_the_bars_of_the_whole(path: Path) -> None:
    case, _ = real(path)
    parts = pieces(case.frame, range(0, case.frame.height, 97))
    assert_same_bars(
        entry_points.concat(entry_points.pushes(case, parts, resume=True)), entry_points.eager(case)
    )


@needs_files
def test_symbols_together_equal_symbols_apart() -> None:
    marked = [trades(p).with_columns(symbol=pl.lit(p.stem.split(".")[0])) for p in FILES]
    together = pl.concat(marked).sort("timestamp", maintain_order=True)
    case = Case(together, 20, "symbol", "microstructure", incomplete="keep")
    bars = entry_points.eager(case)
    for part in marked:
        alone = entry_points.eager(case.with_frame(part))
        assert_same_bars(bars.filter(pl.col("symbol") == part["symbol"][0]), alone)


@functools.cache
def spy(rows: int) -> pl.DataFrame:
    """Return real trades of a fund on many exchanges, with jumps of dollars and no side."""
    return pl.read_parquet(SPY, n_rows=rows).select(
        pl.from_epoch("transact_time", time_unit="ms").alias("timestamp"),
        "price",
        "quantity",
        pl.col("trade_id").cast(pl.Int64).alias("agg_trade_id"),
        "exchange",
    )


@needs_spy
@pytest.mark.parametrize("group_by", [None, "exchange"])
def test_trades_without_a_side_have_bars_without_order_flow(group_by: str | None) -> None:
    frame = spy(60_000)
    case = Case(frame, 50, group_by, "microstructure", incomplete="keep")
    bars = entry_points.eager(case)
    assert bars.height > 10
    assert_matches(bars, expect(case).bars)
    assert bars["buy_volume"].null_count() == bars["ofi"].null_count() == bars.height
    for entry_point in entry_points.FAST.values():
        assert_same_bars(entry_point(case), bars)


@needs_spy
def test_days_of_jumps_stream_to_the_bars_of_the_whole() -> None:
    case = Case(spy(1_900_000), [100, 1000], reset="day", incomplete="keep")
    bars = entry_points.eager(case)
    assert set(bars["ended_by"].drop_nulls()) == {"threshold", "reset"}
    assert_same_bars(entry_points.lazy("streaming")(case), bars)
    assert_same_bars(entry_points.lazy_expression("streaming")(case), bars)
    counts = bars.group_by("threshold").agg(pl.col("agg_record_count").sum())
    assert set(counts["agg_record_count"]) == {
        case.frame.height
    }  # with keep, each trade is in one bar
