"""Conversion from and to pandas through NumPy, without pyarrow and without loss of precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import polars as pl

from rangebar_polars.exceptions import MissingColumnError, MissingExtraError, with_hint
from rangebar_polars.interop.fields import require
from rangebar_polars.interop.pandas_accessor import register_accessor
from rangebar_polars.interop.records import ColumnReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import pandas as pd

__all__ = [
    "bars_to_pandas",
    "frame_from_pandas",
    "import_pandas",
    "is_pandas",
    "trades_from_pandas",
]

# Names that backtesting.py and similar libraries expect.
OHLCV = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
# Data types of the columns of an empty pandas frame, whose own dtypes mean nothing.
EMPTY_DTYPES: dict[str, pl.DataType] = {
    "timestamp": pl.Int64(),
    "price": pl.Float64(),
    "quantity": pl.Float64(),
    "is_buyer_maker": pl.Boolean(),
    "side": pl.String(),
}


def import_pandas() -> ModuleType:
    """Import pandas.

    Raises
    ------
    MissingExtraError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError.of("pandas", "pandas") from error
    register_accessor()
    return pd


def is_pandas(value: object) -> TypeGuard[pd.DataFrame]:
    """Return whether a value is a pandas frame, without importing pandas."""
    kind = type(value)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"


def frame_from_pandas(frame: pd.DataFrame) -> pl.DataFrame:
    """Convert a pandas frame with all its columns, and with a named index of times as a column.

    Times become UTC without a zone, as in the frames that this package returns.

    Examples
    --------
    >>> import pandas as pd
    >>> from rangebar_polars.interop.pandas_frames import frame_from_pandas
    >>> frame_from_pandas(pd.DataFrame({"price": [1.5], "symbol": ["A"]})).row(0, named=True)
    {'price': 1.5, 'symbol': 'A'}
    """
    every: list[object] = list(frame.columns)
    labels = [label for label in every if isinstance(label, str)]
    if len(labels) < len(every) or not frame.columns.is_unique:
        raise ValueError("the columns of a pandas frame must have different texts as names")
    index = frame.index
    columns = []
    if isinstance(index.name, str) and index.name not in labels and index.dtype.kind == "M":
        columns.append(times(index.name, index.to_series()))
    columns += [column(name, name, frame[name], {}) for name in labels]
    return pl.DataFrame(columns)


def trades_from_pandas(
    trades: pd.DataFrame, readers: dict[str, ColumnReader] | None = None, first_row: int = 0
) -> pl.DataFrame:
    """Select the columns of a pandas frame that are fields of a trade.

    Integer prices and quantities become doubles, or decimals if decimals came before them. Parts of
    a file then have one dtype, even if pandas reads one part as integers and the next as doubles.
    `readers`, one per field, carry the type from frame to frame.

    Examples
    --------
    >>> import pandas as pd
    >>> from rangebar_polars.interop.pandas_frames import trades_from_pandas
    >>> trades = pd.DataFrame({"timestamp": [1704067200000], "price": [100], "volume": [0.5]})
    >>> trades_from_pandas(trades).row(0)
    (1704067200000, 100.0, 0.5)
    """
    if not trades.columns.is_unique:
        raise ValueError("two columns of the trades have the same name")
    labels: list[object] = list(trades.columns)
    names = [label for label in labels if isinstance(label, str)]
    if "timestamp" not in names and import_pandas().api.types.is_datetime64_any_dtype(trades.index):
        raise MissingColumnError(
            with_hint(
                "the trades have no column `timestamp`, but their index holds times",
                'make it a column: trades.reset_index(names="timestamp")',
            )
        )
    readers = {} if readers is None else readers
    return pl.DataFrame(
        [
            column(field, name, trades[name], readers, first_row)
            for field, name in require(names).items()
        ]
    )


def column(
    field: str,
    name: str,
    values: pd.Series[Any],
    readers: dict[str, ColumnReader] | None = None,
    first_row: int = 0,
) -> pl.Series:
    """Convert one column of trades."""
    reader = ({} if readers is None else readers).setdefault(field, ColumnReader(field))
    kind = getattr(values.dtype, "kind", "O")
    if kind == "O" and values.empty:
        return pl.Series(name, [], dtype=EMPTY_DTYPES.get(field, pl.Int64()))
    if kind == "M":
        return times(name, values)
    plain = getattr(values.dtype, "numpy_dtype", None)  # of a nullable dtype
    if kind == "O" or (plain is not None and values.isna().any()):
        return objects(name, values, reader, first_row)
    series = pl.Series(name, values.to_numpy(dtype=plain))
    if field in ("price", "quantity") and series.dtype.is_numeric():
        return reader.read_numbers(series, first_row)
    return series


def times(name: str, values: pd.Series[Any]) -> pl.Series:
    """Convert times to UTC without a time zone, in their own unit."""
    if values.dt.tz is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    array = values.to_numpy()
    if array.dtype.str.endswith("[s]"):  # Polars has no seconds
        array = array.astype("datetime64[ms]")
    return pl.Series(name, array)


def objects(name: str, values: pd.Series[Any], reader: ColumnReader, first_row: int) -> pl.Series:
    """Convert a column of Python objects, with a null for each missing value."""
    plain = values.astype(object)
    items: list[Any] = plain.where(plain.notna(), None).tolist()
    present = [item for item in items if item is not None]
    if present and all(isinstance(item, str) for item in present):
        return pl.Series(name, items, dtype=pl.String)
    if len(present) == len(items):
        return reader.read(name, items, first_row)
    return reader.read_with_nulls(name, items, first_row)


def bars_to_pandas(bars: pl.DataFrame, extra: Sequence[str] = ()) -> pd.DataFrame:
    """Convert bars to OHLCV columns and `extra`, all doubles, indexed by the close time in UTC.

    A missing volume becomes 0.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> from rangebar_polars.interop.pandas_frames import bars_to_pandas
    >>> bars = pl.DataFrame(
    ...     {
    ...         "close_time": [datetime(2024, 1, 1)],
    ...         "open": [1.0], "high": [2.0], "low": [1.0], "close": [2.0], "volume": [3.0],
    ...     }
    ... )
    >>> bars_to_pandas(bars).to_dict("records")
    [{'Open': 1.0, 'High': 2.0, 'Low': 1.0, 'Close': 2.0, 'Volume': 3.0}]
    """
    pandas = import_pandas()
    closed = bars.get_column("close_time")
    if closed.dtype.time_zone is not None:  # type: ignore[attr-defined]
        closed = closed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    titles = OHLCV | {name: name for name in extra}
    known = bars.with_columns(
        pl.col("volume").cast(pl.Float64).fill_null(0.0)
    )  # quotes have no volume
    values = {
        title: known.get_column(name).cast(pl.Float64).to_numpy() for title, name in titles.items()
    }
    index = pandas.DatetimeIndex(closed.to_numpy(), name="timestamp", copy=True)
    frame: pd.DataFrame = pandas.DataFrame(values, index=index)
    return frame
