"""A lazy plan has as many rows as the eager frame, whichever columns it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rangebar_polars as rb
from counting_plans import COUNTS, assert_counts_equal, plans
from properties.frames import long_frame
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Callable

TRADES = long_frame(seed=21, rows=4_000, step=8 * 10**9).with_columns(
    bar=pl.int_range(pl.len()) // 17,
    key=(pl.int_range(pl.len()) * 7919 % 3).cast(pl.String),
)
BARS: dict[str, Callable] = {
    "bars": lambda f: f.rangebar.bars(50),
    "bars, kept": lambda f: f.rangebar.bars(50, incomplete="keep", features="microstructure"),
    "bars of two thresholds": lambda f: f.rangebar.bars([50, 90]),
    "bars by key": lambda f: f.rangebar.bars(50, group_by="key"),
    "aggregate": lambda f: f.rangebar.aggregate("bar"),
    "process_trades_polars": lambda f: rb.process_trades_polars(f, 50),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, pl.LazyFrame]:
    """Lazy frames of trades that are read from files."""
    folder = tmp_path_factory.mktemp("trades")
    ticks = rb.sample_ticks().head(400)
    storage = TickStorage(folder / "store")
    storage.write_ticks("BTCUSDT", ticks)
    times = ticks["timestamp"]
    scan = storage.scan_ticks("BTCUSDT", times[0], times[-1])
    file = folder / "BTCUSDT-aggTrades-2024-08-08.csv"
    rows = range(1, 301)
    file.write_text("".join(f"{i},100.{i},1,{i},{i},{1723161255342 + i},true,true\n" for i in rows))
    return {"scan_ticks": scan, "scan_agg_trades": rb.scan_agg_trades(file)}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", BARS)
def test_a_plan_that_asks_for_no_column_has_all_bars(name: str, count: str) -> None:
    door = BARS[name]
    eager = door(TRADES)
    assert eager.height > 30
    with pl.Config() as config:
        config.set_streaming_chunk_size(300)
        assert_counts_equal(door(TRADES.lazy()), eager, [COUNTS[count]])


@settings(max_examples=60)
@given(name=st.sampled_from(list(BARS)), steps=plans("close", TRADES["price"].median()))
def test_any_counting_plan_of_bars_equals_that_of_the_frame(name, steps) -> None:
    door = BARS[name]
    assert_counts_equal(door(TRADES.lazy()), door(TRADES), steps)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["scan_ticks", "scan_agg_trades"])
def test_a_plan_that_asks_for_no_column_has_all_trades(sources, name: str, count: str) -> None:
    eager = sources[name].collect()
    assert eager.height >= 300
    assert_counts_equal(sources[name], eager, [COUNTS[count]])


@settings(max_examples=60)
@given(
    name=st.sampled_from(["scan_ticks", "scan_agg_trades"]),
    steps=plans("is_buyer_maker", value=False),
)
def test_any_counting_plan_of_trades_equals_that_of_the_frame(sources, name, steps) -> None:
    assert_counts_equal(sources[name], sources[name].collect(), steps)


def test_the_kernel_refuses_to_make_bars_without_columns() -> None:
    from rangebar_polars.compute._request import FrameRequest

    request = FrameRequest.of_bars(50)
    with pytest.raises(ValueError, match="at least one column"):
        request.bind(TRADES.schema, project=[])
