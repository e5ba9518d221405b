"""Bars as backtesting.py takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._pandas import OHLCV, bars_to_pandas
from rangebar_polars.exceptions import MissingColumnError, with_hint

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_backtesting"]


def to_backtesting(bars: pl.DataFrame) -> pd.DataFrame:
    """Bars as a pandas frame for backtesting.py; also `bars.rangebar.to_backtesting()`.

    Bars that did not reach the threshold (`is_closed` is false) are left out.

    Parameters
    ----------
    bars
        Bars of one threshold and one key, as the doors of this package give them.

    Returns
    -------
    pandas.DataFrame
        Columns Open, High, Low, Close, Volume, all doubles; the index `timestamp` is the time at
        which a bar closed, in UTC without a zone, ascending.

    Raises
    ------
    ValueError
        The bars belong to several thresholds or keys, or have no volume.
    MissingExtraError
        pandas is not installed.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> bars = rb.sample_ticks().rangebar.bars(250)
    >>> list(rb.to_backtesting(bars).columns)
    ['Open', 'High', 'Low', 'Close', 'Volume']
    """
    if not isinstance(bars, pl.DataFrame):
        raise TypeError(
            with_hint(
                f"bars must be a Polars DataFrame; they are of type `{type(bars).__name__}`",
                "collect a LazyFrame first",
            )
        )
    judge(bars)
    if "is_closed" in bars.columns:
        bars = bars.filter("is_closed")
    return bars_to_pandas(bars)


def judge(bars: pl.DataFrame) -> None:
    """Refuse what is no single series of bars with volumes."""
    for name in ("close_time", *OHLCV.values()):
        if name not in bars.columns:
            raise MissingColumnError(
                with_hint(
                    f"these are no bars: there is no column `{name}`",
                    "trades become bars first: trades.rangebar.bars(250)",
                )
            )
    for name in keys_of(bars):
        count = bars.get_column(name).n_unique()
        if count > 1:
            raise ValueError(
                with_hint(
                    f"backtesting.py takes one series of bars; these have {count} values of "
                    f"`{name}`",
                    f'take one of them first: bars.filter(pl.col("{name}") == ...)',
                )
            )
    if bars.get_column("volume").null_count():
        raise ValueError(
            with_hint(
                "backtesting.py takes no missing values, and `volume` has some",
                "give the trades a column `quantity`, or fill it: "
                'bars.with_columns(pl.col("volume").fill_null(0))',
            )
        )
    if not bars.get_column("close_time").is_sorted():
        raise ValueError(
            with_hint("the bars are not in order of time", 'sort them: bars.sort("close_time")')
        )


def keys_of(bars: pl.DataFrame) -> list[str]:
    """Columns that tell series of bars apart: those before `bar_id` or the times.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.export.backtesting import keys_of
    >>> keys_of(pl.DataFrame(schema=["symbol", "threshold", "bar_id", "open_time"]))
    ['symbol', 'threshold']
    """
    first = min(
        bars.columns.index(name)
        for name in ("bar_id", "open_time", "close_time")
        if name in bars.columns
    )
    return bars.columns[:first]
