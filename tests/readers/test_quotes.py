"""Bars of quotes for backtesting.py: there is no volume, and nothing of OHLCV is missing."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

import rangebar_polars as rb
from exchange import QuoteTape
from rangebar_polars.exness import get_range_bars_exness
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.storage.parquet import TickStorage

SYMBOL, THRESHOLD = "EURUSD", 50
OHLCV = ["Open", "High", "Low", "Close", "Volume"]
NOON = datetime(2024, 12, 3, 12, tzinfo=UTC)
#: By the source of the bars: three days are kept.
SPANS = {
    "cache": ("2024-12-02", "2024-12-04"),
    "cache+ticks": ("2024-12-02", "2024-12-06"),
    "ticks": ("2024-12-06", "2024-12-06"),
}


@pytest.fixture(scope="module")
def place(in_memory):
    """Five days of quotes in a folder, and bars of three of them."""
    folder = in_memory / "quotes"
    tape = QuoteTape.generate(SYMBOL, "2024-12-02", "2024-12-07", per_day=2_000)
    TickStorage(folder).write_ticks(SYMBOL, tape.ticks, source="exness")
    options = {"source": "exness", "cache_dir": folder}
    rb.populate_cache_resumable(
        SYMBOL, *SPANS["cache"], threshold_decimal_bps=THRESHOLD, verbose=False, **options
    )
    return {**options, "fetch_if_missing": False}


def read(place, span, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return get_range_bars(SYMBOL, *span, THRESHOLD, **place, **options)


def judge(frame):
    """Refuse what backtesting.py would."""
    assert list(frame.columns)[:5] == OHLCV
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert not frame[OHLCV].isnull().any().any()
    assert set(frame["Volume"]) <= {0.0}


@pytest.mark.parametrize(("source", "span"), SPANS.items())
@pytest.mark.parametrize("micro", [False, True])
def test_the_volume_of_quotes_is_zero_wherever_bars_come_from(place, source, span, micro):
    frame = read(place, span, include_microstructure=micro)
    fresh = read(place, span, include_microstructure=micro, use_cache=False)
    assert frame.attrs["rangebar"][0]["source"] == source
    assert len(frame) > 20
    for one in (frame, fresh):
        judge(one)
    pd.testing.assert_frame_equal(frame, fresh)
    # What is not defined without volumes stays so.
    assert not micro or frame["ofi"].isna().all()


def test_no_bars_and_the_forming_bar_are_like_the_others(place):
    moment = (NOON, NOON + timedelta(microseconds=1))
    for use_cache in (True, False):
        empty = read(place, moment, use_cache=use_cache)
        assert len(empty) == 0
        judge(empty)
        forming = read(place, SPANS["cache"], use_cache=use_cache, include_incomplete=True)
        assert not forming["is_closed"].iloc[-1]
        judge(forming[OHLCV])


def test_the_newest_bars_of_quotes_have_no_missing_value(place):
    whole = read(place, SPANS["cache+ticks"])
    for use_cache in (True, False):
        newest = get_n_range_bars(
            SYMBOL, 100, THRESHOLD, end_date="2024-12-06", use_cache=use_cache,
            anchor="2024-12-02", **place,
        )  # fmt: skip
        judge(newest)
        pd.testing.assert_frame_equal(newest, whole.tail(100))


def test_the_frame_is_that_of_the_door_for_quotes(place):
    frame = read(place, SPANS["cache+ticks"])
    other = get_range_bars_exness(
        SYMBOL, *SPANS["cache+ticks"], THRESHOLD, fetch=False, cache_dir=place["cache_dir"]
    )
    pd.testing.assert_frame_equal(frame, other[OHLCV])


def test_polars_says_that_the_volume_is_not_known(place):
    lazy = scan_range_bars(SYMBOL, *SPANS["cache+ticks"], THRESHOLD, **place)
    assert lazy.collect()["volume"].null_count() == len(read(place, SPANS["cache+ticks"]))


@pytest.mark.filterwarnings("ignore")
def test_backtesting_runs_on_quotes(place):
    from backtesting import Backtest, Strategy

    class Hold(Strategy):
        def init(self):
            pass

        def next(self):
            self.position or self.buy(size=1)

    result = Backtest(read(place, SPANS["cache+ticks"]), Hold, cash=10_000, finalize_trades=True)
    assert result.run()["# Trades"] == 1
