"""A plan of trade files says which layout was recognised, and what each field is read from."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.io.plugins import register_io_source

import rangebar_polars as rb
from trade_files.samples import SAMPLES, content

if TYPE_CHECKING:
    from pathlib import Path

EXPLAINS = "explain_name" in inspect.signature(register_io_source).parameters

#: What price, time, quantity and side are read from.
SOURCES = {
    "binance trades, spot": ("`price`", "`time` of the file, in ms", "`qty`", "`is_buyer_maker`"),
    "binance trades, cm": (
        "`price`",
        "`time` of the file, in ms",
        "`base_qty`",
        "`is_buyer_maker`",
    ),
    "bybit, linear": ("`price`", "`timestamp` of the file, in s", "`size`", "`side`"),
    "bybit, inverse, newest first": ("`price`", "in s", "`size` / `price`", "`side`"),
    "okx, translated": ("`price`", "`created_time` of the file, in ms", "`size`", "`side`"),
    "bitget": ("`price`", "in ms", "`size(base)`", "the side of the taker"),
    "kraken": ("`price`", "in s", "`volume`", None),
    "coinbase": ("`price`", "`time` of the file, as text", "`size`", "the side of the maker"),
    "dukascopy, GMT": ("the mid of `Bid` and `Ask`", "`Gmt time`", None, None),
    "dukascopy-node": ("the mid of `bidPrice` and `askPrice`", "in ms", None, None),
}
FIELDS = ("price", "timestamp", "quantity", "is_buyer_maker")


def written(folder: Path, name: str) -> Path:
    path = folder / "sample.csv"
    path.write_bytes(content(SAMPLES[name]))
    return path


def notes(plan: pl.LazyFrame) -> dict[str, str | None]:
    return dict(plan.rangebar.binding().select("field", "note").rows())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_layout_is_in_the_binding(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    plan = rb.scan_trades(path)
    row = plan.rangebar.binding().filter(pl.col("field") == "layout").row(0, named=True)
    assert row["how"] == "recognised"
    assert row["note"].startswith(f"{SAMPLES[name].layout}, times: ")
    assert row["note"].endswith(f"1 file from {path}")
    assert rb.binding(plan).equals(plan.rangebar.binding())
    layout = SAMPLES[name].layout.partition(" (")[0]
    given = rb.scan_trades(path, layout=layout).rangebar.binding()
    assert given.filter(pl.col("field") == "layout")["how"].to_list() == ["given"]


@pytest.mark.parametrize("name", SOURCES)
def test_each_field_names_the_column_of_the_file(name: str, tmp_path: Path) -> None:
    found = notes(rb.scan_trades(written(tmp_path, name)))
    for field, words in zip(FIELDS, SOURCES[name], strict=True):
        assert (found[field] is None) == (words is None), field
        assert words is None or words in found[field]


def test_columns_that_the_caller_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,px,lots\n1704067200000,1.5,2\n")
    columns = {"price": "px", "timestamp": "when", "quantity": "lots"}
    found = notes(rb.scan_trades(path, layout="csv", columns=columns, time_unit="ms"))
    assert found["price"] == "`px` of the file"
    assert found["timestamp"] == "`when` of the file, in ms"
    assert found["quantity"] == "`lots` of the file"
    assert found["layout"].startswith("csv, times: ms; 1 file from ")


def test_a_parquet_file_and_several_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rb.sample_ticks().rename({"quantity": "qty"}).write_parquet(tmp_path / f"{name}.parquet")
    found = notes(rb.scan_trades(tmp_path))
    assert found["quantity"] == "`qty` of the file"
    assert found["layout"].startswith("parquet, times: us; 2 files from ")


@pytest.mark.skipif(not EXPLAINS, reason="Polars before 2.0 does not show names of sources")
def test_a_plan_that_was_made_from_it_still_tells(tmp_path: Path) -> None:
    plan = rb.scan_trades(written(tmp_path, "bybit, linear"))
    later = plan.filter(pl.col("price") > 0).with_columns(one=pl.lit(1))
    assert notes(later) == notes(plan)
    renamed = notes(plan.rename({"quantity": "size"}))
    assert renamed["quantity"] is None
    assert renamed["layout"] == notes(plan)["layout"]


@pytest.mark.skipif(not EXPLAINS, reason="Polars before 2.0 does not show names of sources")
def test_two_plans_that_explain_shows_alike_are_not_mixed_up(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,bid_px,px,lots\n1704067200000,1.5,1.6,2\n")
    fields = {"timestamp": "when", "quantity": "lots"}
    first, second = (
        rb.scan_trades(path, layout="csv", columns={**fields, "price": name}, time_unit="ms")
        for name in ("px", "bid_px")
    )
    assert notes(first)["price"] == "`px` of the file"
    assert notes(second)["price"] == "`bid_px` of the file"
    assert notes(first.head(1))["price"] is None
    assert "layout" not in notes(pl.concat([first, second]))


def test_frames_and_other_plans_have_no_layout(tmp_path: Path) -> None:
    trades = rb.sample_ticks()
    for frame in (trades, trades.lazy(), trades.lazy().filter(pl.col("price") > 0)):
        assert "layout" not in frame.rangebar.binding()["field"].to_list()
    assert trades.rename({"price": "cost"}).rangebar.binding(columns={"price": "cost"})[0, 1] == (
        "cost"
    )


def test_files_of_aggregate_trades_are_that_layout(tmp_path: Path) -> None:
    path = written(tmp_path, "binance agg, spot").rename(tmp_path / "BTCUSDT-aggTrades-2024-08.csv")
    found = notes(rb.scan_agg_trades(path))
    assert found["layout"] == f"binance-agg-trades; {path}"
