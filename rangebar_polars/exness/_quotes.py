"""Conversion of a user's quotes from a pandas or Polars frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from rangebar_polars.compute.trades import milliseconds
from rangebar_polars.exceptions import MissingColumnError, with_hint
from rangebar_polars.interop.pandas_frames import column, is_pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Quotes", "quotes_of"]

Quotes: TypeAlias = "pl.DataFrame | pd.DataFrame"


def quotes_of(ticks: Quotes) -> pl.DataFrame:
    """Select the columns of quotes: a Datetime, bid and ask as doubles, and the id if present."""
    names = ["timestamp", "timestamp_ms", "bid", "ask", "agg_trade_id"]
    if isinstance(ticks, pl.DataFrame):
        frame = ticks.select(name for name in names if name in ticks.columns)
    elif is_pandas(ticks):
        kinds = {"timestamp_ms": "timestamp", "bid": "price", "ask": "price"}
        present = [name for name in names if name in ticks.columns]
        frame = pl.DataFrame([column(kinds.get(n, n), n, ticks[n]) for n in present])
    else:
        raise TypeError(
            with_hint(
                f"quotes must be a frame; they are of type `{type(ticks).__name__}`",
                "make a pl.DataFrame, or call get_range_bars_exness to read the tick store",
            )
        )
    time = "timestamp" if "timestamp" in frame.columns else "timestamp_ms"
    for name in (time, "bid", "ask"):
        if name not in frame.columns:
            raise MissingColumnError.of(name, ticks.columns, used_for=name)
    return frame.with_columns(
        times(frame[time]), decimals(frame["bid"]), decimals(frame["ask"])
    ).drop("timestamp_ms", strict=False)


def times(values: pl.Series) -> pl.Series:
    """Return times unchanged, or converted from whole milliseconds since 1970."""
    if values.dtype.is_integer():
        values = milliseconds(values.cast(pl.Int64), 0)
    if values.dtype != pl.Datetime:
        raise TypeError(
            with_hint(
                f"column `{values.name}` has data type `{values.dtype}`, which is not a time",
                "use whole milliseconds since 1970, or times: "
                'pd.to_datetime(..., format="ISO8601"), or str.to_datetime() in Polars',
            )
        )
    return values.alias("timestamp")


def decimals(values: pl.Series) -> pl.Series:
    """Convert prices to doubles. A Float32 is rejected, because it has lost digits."""
    if not values.dtype.is_numeric() or values.dtype == pl.Float32:
        raise TypeError(
            with_hint(
                f"column `{values.name}` has data type `{values.dtype}`; prices are Float64, "
                "Decimal or whole numbers",
                f'convert it: pl.col("{values.name}").cast(pl.Float64)',
            )
        )
    return values.cast(pl.Float64)
