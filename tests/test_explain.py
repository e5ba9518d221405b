"""`explain()` of plans of bars shows the plan of the trades, and what is pushed down into it."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.io.plugins import register_io_source

import rangebar_polars as rb

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    "explain_name" not in inspect.signature(register_io_source).parameters,
    reason="Polars before 2.0 does not show names of sources",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "trades.parquet"
    rb.sample_ticks().with_columns(symbol=pl.lit("ETHUSDT"), other=pl.lit(1.0)).write_parquet(file)
    return file


def test_the_plan_of_the_trades_is_shown_with_its_pushdown(path: Path) -> None:
    plan = pl.scan_parquet(path).filter(pl.col("price") > 3000)
    text = plan.rangebar.bars(250, group_by="symbol", features="ofi").explain()
    head, *inner = text.splitlines()[2:]
    assert head == ("INFO: threshold=250, features=['ofi'], group_by=['symbol'], from")
    assert all(line.startswith("  | ") for line in inner)
    shown = "\n".join(inner)
    assert f"Parquet SCAN [{path}]" in shown
    assert "PROJECT 8/9 COLUMNS" in shown
    assert 'SELECTION: col("price") > 3000.0' in shown


def test_the_plan_of_bars_of_bars_has_both(path: Path) -> None:
    bars = pl.scan_parquet(path).rangebar.bars(250, columns={"symbol": None})
    again = bars.select(timestamp="close_time", price="close", quantity="volume").rangebar.bars(500)
    text = again.explain()
    assert text.count("PYTHON[RANGE_BARS]") == 2
    assert "INFO: threshold=500, from" in text
    assert re.search(r"^  \| +INFO: threshold=250, from$", text, re.MULTILINE)
    assert "Parquet SCAN" in text


def test_the_plan_of_bars_of_ones_own_names_their_column(path: Path) -> None:
    text = pl.scan_parquet(path).rangebar.aggregate("agg_trade_id", columns={"symbol": None})
    assert "INFO: bar_id='agg_trade_id', from\n" in text.explain()


def test_a_long_plan_is_cut(path: Path) -> None:
    plan = pl.scan_parquet(path)
    long = pl.concat([plan.filter(pl.col("price") > n) for n in range(40)])
    lines = long.rangebar.bars(250).explain().splitlines()
    assert len(lines) < 40
    assert lines[-1].startswith("  | ... and ")


def test_names_of_sources_are_spelled_alike(path: Path) -> None:
    trades = rb.scan_trades(path, columns={"symbol": None})
    text = trades.rangebar.bars(250).explain()
    assert "PYTHON[RANGE_BARS] SCAN []" in text
    assert "PYTHON[TRADES] SCAN []" in text
