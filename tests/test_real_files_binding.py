"""On every real file the expression, bound by name, gives the bars of the frame method."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb

SHARED = Path(os.environ.get("RANGEBAR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DATA = SHARED / "data"
FILES = sorted(
    [
        *DATA.glob("binance/*.csv"),
        *DATA.glob("binance_rest/*.json"),
        *DATA.glob("equities/*.parquet"),
        *DATA.glob("fx/*_T1_*.parquet"),
        *DATA.glob("fx/*.zip"),
    ]
)
ENGINES = ("in-memory", "streaming")
ROWS = 100_000

pytestmark = pytest.mark.skipif(not FILES, reason=f"no real trades in {DATA}")


def pages(path: Path) -> pl.DataFrame:
    """The trades of recorded answers, with the single letters of the exchange."""
    rows: list[dict[str, object]] = []

    def collect(value: object) -> None:
        if isinstance(value, dict) and {"a", "p", "q", "T", "m"} <= value.keys():
            rows.append(value)
        elif isinstance(value, (dict, list)):
            for inner in value.values() if isinstance(value, dict) else value:
                collect(inner)

    collect(json.loads(path.read_text(encoding="utf-8")))
    times = pl.from_epoch("T", time_unit="ms")
    numbers = pl.col("p", "q").cast(pl.Float64)
    return pl.DataFrame(rows).unique("a").sort("a").with_columns(times, numbers)


def trades(path: Path) -> pl.DataFrame:
    """The trades of a file, under the names that it has for them."""
    if path.parent.name == "binance":
        header = pl.read_csv(path, n_rows=1).columns
        frame = pl.read_csv(path) if "price" in header else rb.scan_agg_trades(path).collect()
        time = next(name for name in ("transact_time", "timestamp") if name in frame.columns)
        if frame[time].dtype == pl.Int64:
            frame = frame.sort("agg_trade_id").with_columns(pl.from_epoch(time, time_unit="ms"))
        return frame
    if path.suffix == ".json":
        return pages(path)
    if path.suffix == ".zip":
        with ZipFile(path) as archive:
            quotes = pl.read_csv(archive.read(archive.namelist()[0]))
        times = pl.col("Timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.fZ", time_unit="us")
        return quotes.with_columns(times, price=(pl.col("Bid") + pl.col("Ask")) / 2)
    frame = pl.read_parquet(path, n_rows=ROWS)
    if "bid" in frame.columns:
        return frame.with_columns(price=(pl.col("bid") + pl.col("ask")) / 2)
    return frame.with_columns(pl.from_epoch("transact_time", time_unit="ms"))


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def frame(request: pytest.FixtureRequest) -> pl.DataFrame:
    return trades(request.param).head(ROWS)


@pytest.mark.filterwarnings("ignore::rangebar_polars.exceptions.RangeBarWarning")
@pytest.mark.parametrize("features", ["core", "microstructure"])
def test_an_expression_gives_the_bars_of_the_frame(frame: pl.DataFrame, features: str) -> None:
    expected = frame.rangebar.bars(20, features=features)
    assert frame.height < 1_000 or expected.height > 5
    for nested in (
        rb.bars("price", 20, features=features),
        pl.col("price").rangebar.bars(threshold=20, features=features),
    ):
        expression = nested if "price" in frame.columns else rb.bars("p", 20, features=features)
        assert_frame_equal(frame.select(expression).unnest("bars"), expected, check_exact=True)
        for engine in ENGINES:
            plan = frame.lazy().select(expression)
            assert_frame_equal(
                plan.collect(engine=engine).unnest("bars"), expected, check_exact=True
            )
            assert plan.collect_schema() == plan.collect(engine=engine).schema
        keyed = frame.with_columns(key=pl.lit(1)).group_by("key").agg(expression)
        flat = keyed.explode("bars", empty_as_null=False).drop("key").unnest("bars")
        assert_frame_equal(flat, expected, check_exact=True)
    lazy = frame.lazy().rangebar.bars(20, features=features)
    for engine in ENGINES:
        assert_frame_equal(lazy.collect(engine=engine), expected, check_exact=True)
