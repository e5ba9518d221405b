"""Conversion of bars for backtesting.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.bar_checks import check_bars, check_values, keys_of
from rangebar_polars.exceptions import BarDataError, with_hint
from rangebar_polars.interop.pandas_frames import OHLCV, bars_to_pandas, is_pandas

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["to_backtesting"]

COLUMNS = ("close_time", *OHLCV.values())


@checked_keywords
def to_backtesting(bars: pl.DataFrame | pl.LazyFrame | pd.DataFrame) -> pd.DataFrame:
    """Convert bars to a pandas frame for backtesting.py; also `bars.rangebar.to_backtesting()`.

    Bars that did not reach the threshold (`is_closed` is false) are dropped.

    Parameters
    ----------
    bars
        Bars of one threshold and one key, as the functions of this package return them. A pandas
        frame that has the columns already is copied.

    Returns
    -------
    pandas.DataFrame
        Columns Open, High, Low, Close, Volume, all of them doubles. The ascending index
        `timestamp` is the close time in UTC, without a time zone.

    Raises
    ------
    BarDataError
        The bars belong to several thresholds or keys, are not in order of time, or have a value
        that is missing or not finite. BarDataError is a ValueError.
    MissingExtraError
        pandas is not installed.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> bars = rb.sample_ticks().rangebar.bars(250)
    >>> list(rb.to_backtesting(bars).columns)
    ['Open', 'High', 'Low', 'Close', 'Volume']
    """
    if is_pandas(bars) and set(OHLCV) <= set(bars.columns):
        return bars.copy()
    frame = check_bars(bars, COLUMNS, "trades.rangebar.bars(250)")
    check_series(frame)
    return bars_to_pandas(frame.filter("is_closed") if "is_closed" in frame.columns else frame)


def check_series(bars: pl.DataFrame) -> None:
    """Check that bars are of one series, complete and in order of time."""
    for name in keys_of(bars):
        count = bars.get_column(name).n_unique()
        if count > 1:
            raise BarDataError(
                with_hint(
                    f"backtesting.py takes one series of bars; these have {count} values of "
                    f"`{name}`",
                    f'select one of them first: bars.filter(pl.col("{name}") == ...)',
                )
            )
    if bars.get_column("volume").null_count():
        raise BarDataError(
            with_hint(
                "backtesting.py does not accept missing values, but `volume` has some",
                "compute the bars from trades with a column `quantity`, or fill it: "
                'bars.with_columns(pl.col("volume").fill_null(0))',
            )
        )
    check_values(bars, COLUMNS)
    if not bars.get_column("close_time").is_sorted():
        raise BarDataError(
            with_hint("the bars are not in order of time", 'sort them: bars.sort("close_time")')
        )
