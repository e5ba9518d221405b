"""Conversion of bars for backtesting.py."""

from __future__ import annotations

import json
import math
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
        Bars of one threshold and one key, as the functions of this package return them; a LazyFrame
        is collected. A pandas frame that has the columns already, as `rb.get_range_bars` returns
        it, is checked and copied.

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
        return closed_bars(bars)
    frame = check_bars(bars, COLUMNS, "trades.rangebar.bars(250)")
    check_series(frame)
    return bars_to_pandas(frame.filter("is_closed") if "is_closed" in frame.columns else frame)


def closed_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Copy a pandas frame for backtesting.py without its unfinished bars, after checking it."""
    if "is_closed" in bars.columns:
        bars = bars[bars["is_closed"].astype(bool)]
    for name in OHLCV:
        try:
            values = bars[name].to_numpy(dtype="float64", na_value=math.nan)
        except (TypeError, ValueError) as error:
            sentence = f"column `{name}` of the bars is not numeric"
            raise BarDataError(with_hint(sentence, f"convert `{name}` to floats")) from error
        # Comparisons with NaN are false.
        sound = (values > -math.inf) & (values < math.inf)
        if not sound.all():
            row = int((~sound).argmax())
            raise BarDataError(
                with_hint(
                    f"`{name}` of row {row} of the bars is `{bars[name].iloc[row]}`, which is not a "
                    "finite number",
                    f"leave such rows out, or correct `{name}`",
                )
            )
    if not bars.index.is_monotonic_increasing:
        sentence = "the bars are not in order of time"
        raise BarDataError(with_hint(sentence, "sort them: bars.sort_index()"))
    return bars.copy()


def check_series(bars: pl.DataFrame) -> None:
    """Check that bars are of one series, complete and in order of time."""
    for name in keys_of(bars):
        values = bars.get_column(name)
        count = values.n_unique()
        if count > 1:
            raise BarDataError(
                with_hint(
                    f"backtesting.py takes one series of bars; these have {count} values of "
                    f"`{name}`",
                    f"select one of them first: bars.filter({_equal(name, values[0])})",
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


def _equal(name: str, value: object) -> str:
    """Return the code of a condition that selects one value of a key."""
    column = f"pl.col({json.dumps(name)})"
    if isinstance(value, str):
        return f"{column} == {json.dumps(value)}"
    if isinstance(value, (int, float)) and math.isfinite(value):
        return f"{column} == {value!r}"
    return f"{column} == pl.col({json.dumps(name)}).first()"
