"""Bars for backtesting.py: its columns, its index, and a run of the library itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from properties.frames import long_frame

OHLCV = ["Open", "High", "Low", "Close", "Volume"]


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return long_frame(seed=41, rows=8_000).rangebar.bars(10)


def test_a_frame_is_what_backtesting_takes(bars: pl.DataFrame) -> None:
    frame = rb.to_backtesting(bars)
    assert list(frame.columns) == OHLCV
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index.name == "timestamp"
    assert frame.index.tz is None
    assert frame.index.is_monotonic_increasing
    assert not frame.isna().any(axis=None)
    assert (frame["High"] >= frame[["Open", "Close"]].max(axis=1)).all()
    assert (frame["Low"] <= frame[["Open", "Close"]].min(axis=1)).all()
    for name in OHLCV:
        assert frame[name].to_list() == bars[name.lower()].to_list()
    closes = bars["close_time"].dt.replace_time_zone(None).to_list()
    assert [t.to_pydatetime() for t in frame.index] == closes


def test_the_method_is_the_function(bars: pl.DataFrame) -> None:
    pd.testing.assert_frame_equal(bars.rangebar.to_backtesting(), rb.to_backtesting(bars))


def test_a_zone_becomes_utc_without_a_zone(bars: pl.DataFrame) -> None:
    tokyo = bars.with_columns(pl.col("close_time").dt.convert_time_zone("Asia/Tokyo"))
    assert (rb.to_backtesting(tokyo).index == rb.to_backtesting(bars).index).all()
    naive = bars.with_columns(pl.col("close_time").dt.replace_time_zone(None))
    assert (rb.to_backtesting(naive).index == rb.to_backtesting(bars).index).all()


def test_no_bars_are_an_empty_frame_of_the_same_kind(bars: pl.DataFrame) -> None:
    frame = rb.to_backtesting(bars.clear())
    assert list(frame.columns) == OHLCV
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_bars_without_volume_are_refused_rather_than_nan() -> None:
    bars = long_frame(seed=41, rows=2_000).drop("quantity").rangebar.bars(30)
    try:
        frame = rb.to_backtesting(bars)
    except ValueError as error:
        assert "olume" in str(error)  # noqa: PT017 - either answer is right, NaN is not
    else:
        assert not frame.isna().any(axis=None)


def test_what_are_no_bars_is_refused(bars: pl.DataFrame) -> None:
    with pytest.raises((ValueError, pl.exceptions.ColumnNotFoundError), match="close"):
        rb.to_backtesting(bars.drop("close"))


def test_several_thresholds_in_one_frame_are_refused() -> None:
    bars = long_frame(seed=41, rows=8_000).rangebar.bars([30, 60])
    with pytest.raises(ValueError, match="threshold"):
        rb.to_backtesting(bars)


@pytest.mark.filterwarnings("ignore")
def test_backtesting_runs_on_it(bars: pl.DataFrame) -> None:
    from backtesting import Backtest, Strategy

    class Alternate(Strategy):
        def init(self) -> None:
            self.count = 0

        def next(self) -> None:
            self.count += 1
            if self.position:
                self.position.close()
            else:
                self.buy(size=1)

    test = Backtest(
        bars.rangebar.to_backtesting(), Alternate, cash=10_000_000, finalize_trades=True
    )
    result = test.run()
    assert result["# Trades"] > 10


def test_bars_that_did_not_close_are_left_out() -> None:
    ticks = long_frame(seed=41, rows=2_000)
    kept = ticks.rangebar.bars(30, incomplete="keep")
    assert not kept["is_closed"].all()
    frame = rb.to_backtesting(kept)
    pd.testing.assert_frame_equal(frame, rb.to_backtesting(ticks.rangebar.bars(30)))


def test_bars_out_of_order_and_of_several_keys_are_refused(bars: pl.DataFrame) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"close_time|order|sort"):
        rb.to_backtesting(bars.reverse())
    keyed = long_frame(seed=41, rows=4_000).with_columns(symbol=pl.int_range(pl.len()) % 2)
    with pytest.raises(ValueError, match=r"symbol|close_time|order|sort"):
        rb.to_backtesting(keyed.rangebar.bars(30, group_by="symbol"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.array([1.0, None, 3.0], dtype="Float64"), "`Close` of row 1 of the bars is"),
        (["one", "two", "three"], "column `Close` of the bars is not numeric"),
    ],
    ids=["a missing value", "text"],
)
def test_values_of_a_pandas_frame_are_checked(values: object, words: str) -> None:
    frame = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in ("Open", "High", "Low", "Volume")})
    with pytest.raises(rb.exceptions.BarDataError, match=words):
        rb.to_backtesting(frame.assign(Close=values))
