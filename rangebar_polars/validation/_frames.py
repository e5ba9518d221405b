"""Conversion of bars in Polars or pandas to the columns of the catalogue in Polars."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.catalogue import columns
from rangebar_polars.exceptions import with_hint
from rangebar_polars.interop.pandas_frames import OHLCV, import_pandas, is_pandas

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

__all__ = ["Column", "catalogue", "catalogue_names", "numeric_column", "polars_bars"]

_NUMBERS = ("Float64", "Int64", "UInt32")


#: The smallest difference of two prices.
GRID = 1e-8


class Column(NamedTuple):
    """The row of the catalogue for one column."""

    name: str
    dtype: str
    nullable: bool
    lower: float | None
    upper: float | None
    group: str
    #: Columns of the trades without which all values are null.
    needs: str
    #: What a sample consists of, and the smallest one that has a value.
    sample: str
    min_sample: int

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.dtype in _NUMBERS

    @property
    def bounds(self) -> str:
        """The bounds as text."""
        low = "" if self.lower is None else f"at least {self.lower:g}"
        high = "" if self.upper is None else f"at most {self.upper:g}"
        return " and ".join(bound for bound in (low, high) if bound)

    def of(self, dtype: pl.DataType) -> Column:
        """Return the column with the bounds of a data type, which differ for distances."""
        is_distance = self.name == "threshold" and dtype.is_float()
        return self._replace(lower=GRID, upper=None) if is_distance else self


@cache
def catalogue() -> dict[str, Column]:
    """Return the columns that a bar frame can have, by name."""
    return {row[0]: Column(*row) for row in columns().select(Column._fields).iter_rows()}


def catalogue_names(labels: Iterable[object]) -> dict[str, str]:
    """Return the labels of backtesting.py, such as Close, with their names in the catalogue.

    A label is left out if the frame has the name as well.

    Examples
    --------
    >>> from rangebar_polars.validation._frames import catalogue_names
    >>> catalogue_names(["Open", "Close", "close"])
    {'Open': 'open'}
    """
    present = set(labels)
    return {
        title: name for title, name in OHLCV.items() if title in present and name not in present
    }


def polars_bars(bars: object) -> pl.DataFrame:
    """Select the columns of a bar frame that the catalogue has, under its names.

    Columns may have the names for backtesting.py, such as Close. A NaN of pandas, which marks a
    missing value, becomes a null. The validator decides whether the value may be missing.

    Raises
    ------
    TypeError
        The argument is not a frame in memory, or a numeric column holds something else.
    """
    if isinstance(bars, pl.LazyFrame):
        raise TypeError(with_hint("bars must be in memory to be validated", "bars.collect()"))
    if isinstance(bars, pl.DataFrame):
        named = bars.rename(catalogue_names(bars.columns))
        found = named.select(name for name in named.columns if name in catalogue())
        for name, dtype in found.schema.items():
            if catalogue()[name].is_number and not dtype.is_numeric():
                raise _not_numeric(name, dtype)
        return found
    if is_pandas(bars):
        return _of_pandas(bars)
    raise TypeError(
        with_hint(
            f"bars must be a frame of Polars or pandas; they are of type `{type(bars).__name__}`",
            "bars = ticks.rangebar.bars(250)",
        )
    )


def numeric_column(bars: pl.DataFrame | pd.DataFrame, name: str) -> pl.Series | None:
    """Return a column of any name as doubles; None if the frame does not have it.

    A column of the catalogue is also found under its name for backtesting.py, such as Close.

    Raises
    ------
    TypeError
        The values are not numbers.
    ValueError
        Two columns of a pandas frame have this name.
    """
    titles = {known: title for title, known in catalogue_names(bars.columns).items()}
    label = name if name in bars.columns else titles.get(name)
    if label is None:
        return None
    if isinstance(bars, pl.DataFrame):
        values = bars.get_column(label)
        if not values.dtype.is_numeric() and values.dtype != pl.Boolean:
            raise _not_numeric(name, values.dtype)
        return values.cast(pl.Float64)
    return _numbers(name, _column(bars, label)).cast(pl.Float64)


def _column(bars: pd.DataFrame, label: str) -> pd.Series[Any]:
    """Return a column of a pandas frame by its label."""
    values = bars[label]
    if is_pandas(values):
        sentence = f"the bars have {values.shape[1]} columns with the name `{shown(label)}`"
        hint = "keep the first: bars.loc[:, ~bars.columns.duplicated()]"
        raise ValueError(with_hint(sentence, hint))
    return values


def _of_pandas(bars: pd.DataFrame) -> pl.DataFrame:
    found: dict[str, pl.Series] = {}
    titles = catalogue_names(bars.columns)
    for label in bars.columns:
        name = titles.get(label, label)
        column = catalogue().get(name)
        if column is not None and name not in found:
            values = _column(bars, label)
            found[name] = _numbers(name, values) if column.is_number else _rest(values)
    index = bars.index
    if "close_time" not in found and getattr(index.dtype, "kind", "") == "M":
        found["close_time"] = _rest(index.to_series())
    return pl.DataFrame([series.alias(name) for name, series in found.items()])


def _numbers(name: str, values: pd.Series[Any]) -> pl.Series:
    """Convert numbers to doubles, except whole numbers, so that ids stay exact."""
    kind = values.dtype
    if getattr(kind, "kind", "O") in "iu" and not values.isna().any():
        plain: Any = getattr(kind, "numpy_dtype", kind)
        return pl.Series(name, values.to_numpy(dtype=plain))
    try:
        doubles = values.to_numpy(dtype="float64", na_value=float("nan"))
    except (TypeError, ValueError) as error:
        raise _not_numeric(name, kind) from error
    return pl.Series(name, doubles).fill_nan(None)


def _rest(values: pd.Series[Any]) -> pl.Series:
    """Convert times to UTC, and copy flags and categories."""
    if getattr(values.dtype, "kind", "O") == "M":
        if values.dt.tz is not None:
            values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        array = values.to_numpy()
        if not array.dtype.str.endswith("[ns]"):  # Polars has no unit of seconds
            array = array.astype("datetime64[us]")
        return pl.Series(array).dt.replace_time_zone("UTC")
    missing = import_pandas().isna(values).tolist()
    plain = values.astype(object).tolist()
    return pl.Series(
        [None if is_missing else value for value, is_missing in zip(plain, missing, strict=True)],
        strict=False,
    )


def _not_numeric(name: str, dtype: object) -> TypeError:
    return TypeError(
        with_hint(
            f"the column `{shown(name)}` is of type `{dtype}`, which is not numeric",
            "cast it first",
        )
    )
