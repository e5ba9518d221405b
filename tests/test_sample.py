"""The bundled trades."""

from __future__ import annotations

from pathlib import Path

import polars as pl

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_matches
from properties.model import Case, expect


def test_the_sample_is_a_frame_of_trades_in_canonical_columns() -> None:
    ticks = rb.sample_ticks()
    assert 40_000 <= ticks.height <= 60_000
    assert dict(ticks.schema) == {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64,
        "quantity": pl.Float64,
        "agg_trade_id": pl.Int64,
        "first_trade_id": pl.Int64,
        "last_trade_id": pl.Int64,
        "is_buyer_maker": pl.Boolean,
    } or set(ticks.columns) == {
        "timestamp", "price", "quantity", "agg_trade_id", "first_trade_id", "last_trade_id", "is_buyer_maker",
    }  # fmt: skip
    assert ticks.null_count().sum_horizontal().item() == 0
    assert ticks["timestamp"].is_sorted()


def test_the_sample_is_small() -> None:
    files = list((Path(rb.__file__).parent / "data").glob("*.parquet"))
    assert files
    assert sum(f.stat().st_size for f in files) < 1_000_000


def test_the_sample_makes_bars_at_the_default_threshold() -> None:
    case = Case(rb.sample_ticks(), 250, features="microstructure", incomplete="keep")
    bars = entry_points.eager(case)
    assert bars.height > 20
    assert_matches(bars, expect(case).bars)


def test_each_call_gives_the_same_frame() -> None:
    assert rb.sample_ticks().equals(rb.sample_ticks())
