"""Validation of frames of bars before they are drawn or exported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.exceptions import BarDataError, MissingColumnError, with_hint
from rangebar_polars.interop.pandas_frames import frame_from_pandas, is_pandas

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_bars", "check_finite", "check_values", "keys_of"]

# A day inside of Python's calendar, so that the time exists in every time zone.
EARLIEST = int(datetime(1, 1, 2, tzinfo=UTC).timestamp())
LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
PER_SECOND = {"ms": 10**3, "us": 10**6}
A_DAY = 86_400
TIMES = ("open_time", "close_time")


def check_bars(bars: object, columns: Sequence[str], make_bars: str) -> pl.DataFrame:
    """Check that a frame has these columns, each with a data type that bars can have.

    A LazyFrame is collected, and a pandas frame with these columns is converted. `make_bars` is the
    code that the hint suggests if the frame holds trades.

    Raises
    ------
    TypeError
        The value is not a DataFrame, or a column has another data type.
    MissingColumnError
        A column is missing.
    """
    if isinstance(bars, pl.LazyFrame):
        bars = bars.collect(engine="streaming")
    elif is_pandas(bars):
        bars = frame_from_pandas(bars)
    if not isinstance(bars, pl.DataFrame):
        raise TypeError(
            with_hint(
                f"bars must be a frame of Polars or pandas; they are of type `{type(bars).__name__}`",
                "pass the frame that trades.rangebar.bars(250) returns",
            )
        )
    for name in columns:
        if name not in bars.columns:
            raise _missing(name, bars, make_bars)
    for name in keys_of(bars):
        dtype = bars.schema[name]
        if dtype.is_nested() or dtype == pl.Object:
            raise _wrong_dtype(name, dtype, "cannot tell series of bars apart", "pl.String")
    for name in (*columns, *(name for name in ("volume", "is_closed") if name in bars.columns)):
        _check_dtype(name, bars.schema[name])
    return bars


def check_values(bars: pl.DataFrame, columns: Sequence[str]) -> None:
    """Check that these columns have no nulls, only finite numbers, and times of Python's calendar.

    Raises
    ------
    BarDataError
        A value is null, NaN or infinite, or a time outside of the years 1 to 9999.
    """
    for name in columns:
        _refuse(bars, name, bars.get_column(name).is_null(), "is a missing value")
    for name in dict.fromkeys([*columns, *keys_of(bars)]):
        limits = _limits(bars.schema[name])
        if limits is not None:
            inside = bars.get_column(name).to_physical().is_between(*limits)
            _refuse(bars, name, ~inside, "is outside of the years 1 to 9999")
    check_finite(bars, columns)


def check_finite(bars: pl.DataFrame, columns: Sequence[str]) -> None:
    """Check that the numbers of these columns are finite. Nulls pass.

    Raises
    ------
    BarDataError
        A value is NaN or infinite.
    """
    for name in columns:
        values = bars.get_column(name)
        if values.dtype.is_float():
            _refuse(bars, name, ~values.is_finite(), "is not a finite number")


def keys_of(bars: pl.DataFrame) -> list[str]:
    """Return the columns that identify a series of bars: those before `bar_id` or the times.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars._utils.bar_checks import keys_of
    >>> keys_of(pl.DataFrame(schema=["symbol", "threshold", "bar_id", "open_time"]))
    ['symbol', 'threshold']
    """
    first = min(
        bars.columns.index(name)
        for name in ("bar_id", "open_time", "close_time")
        if name in bars.columns
    )
    return bars.columns[:first]


def _missing(name: str, bars: pl.DataFrame, make_bars: str) -> MissingColumnError:
    """Return the error for bars, or something else, without a column."""
    columns = set(bars.columns)
    if {"Open", "High", "Low", "Close"} <= columns:
        sentence = (
            f"these bars have no column `{name}`: it is not part of a frame for backtesting.py"
        )
        hint = "take the bars as a Polars frame, from `rb.scan_range_bars` with the same arguments"
    elif name in TIMES and {"open", "high", "low", "close", *TIMES} - columns == {name}:
        other = next(time for time in TIMES if time != name)
        sentence = f"these bars have no column `{name}`"
        hint = f'keep it, or add it: bars.with_columns({name}="{other}")'
    else:
        sentence = f"this is not a frame of bars: column `{name}` is missing"
        hint = f"make bars of trades first: {make_bars}"
    return MissingColumnError(with_hint(sentence, hint))


def _limits(dtype: pl.DataType) -> tuple[int, int] | None:
    """Return the first and last valid value of a data type of times, or None if all are valid."""
    if isinstance(dtype, pl.Date):
        return EARLIEST // A_DAY, LATEST // A_DAY
    if isinstance(dtype, pl.Datetime) and dtype.time_unit in PER_SECOND:
        return EARLIEST * PER_SECOND[dtype.time_unit], LATEST * PER_SECOND[dtype.time_unit]
    return None


def _check_dtype(name: str, dtype: pl.DataType) -> None:
    if name in TIMES:
        if not isinstance(dtype, pl.Datetime):
            raise _wrong_dtype(name, dtype, "is not a time", 'pl.Datetime("us", "UTC")')
    elif name == "is_closed":
        if dtype != pl.Boolean:
            raise _wrong_dtype(name, dtype, "is not Boolean", "pl.Boolean")
    elif not dtype.is_numeric():
        raise _wrong_dtype(name, dtype, "is not a number", "pl.Float64")


def _wrong_dtype(name: str, dtype: pl.DataType, fault: str, expected: str) -> TypeError:
    sentence = f"column `{shown(name)}` has data type `{dtype}`, which {fault}"
    return TypeError(with_hint(sentence, f'convert it: pl.col("{shown(name)}").cast({expected})'))


def _refuse(bars: pl.DataFrame, name: str, wrong: pl.Series, fault: str) -> None:
    """Raise for the first wrong row, if there is one."""
    rows = wrong.arg_true()
    if rows.is_empty():
        return
    row = int(rows[0])
    # The number behind a time, since Python cannot represent such times.
    value = bars.get_column(name).to_physical()[row]
    found = "null" if value is None else shown(value)
    column = shown(name)
    raise BarDataError(
        with_hint(
            f"`{column}` of row {row} of the bars is `{found}`, which {fault}",
            f"these bars cannot be drawn or exported; leave them out or correct `{column}`",
        )
    )
