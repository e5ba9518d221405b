"""Bars of trades in memory, by functions with the names of the reference library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars.catalogue import REFERENCE_COLUMNS
from rangebar_polars.compute._request import FrameRequest
from rangebar_polars.compute.frame import bars_frame
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.interop.fields import require
from rangebar_polars.interop.pandas_frames import (
    bars_to_pandas,
    import_pandas,
    is_pandas,
    trades_from_pandas,
)
from rangebar_polars.interop.records import GRID_DTYPE, RecordReader
from rangebar_polars.symbol_registry import validate_symbol_registered
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold
from rangebar_polars.trade_layouts.matching import unit_of_time
from rangebar_polars.trade_layouts.table import EARLIEST_S, LATEST_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from rangebar_polars._typing import FrameT
    from rangebar_polars.compute._request import Bound
    from rangebar_polars.interop.records import ColumnReader, Record
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["process_trades_chunked", "process_trades_polars", "process_trades_to_dataframe"]

Trades: TypeAlias = "pd.DataFrame | pl.DataFrame | Iterable[Record]"
Chunks: TypeAlias = "Trades | Iterable[pd.DataFrame] | Iterable[pl.DataFrame]"

MILLISECONDS = pl.Datetime("ms", "UTC")
NO_TRADES: dict[str, pl.DataType] = {
    "timestamp": MILLISECONDS,
    "price": pl.Float64(),
    "quantity": pl.Float64(),
}

UNIT_NAMES = {"s": "seconds", "us": "microseconds", "ns": "nanoseconds"}


@checked_keywords
def process_trades_polars(
    trades: FrameT,
    threshold_decimal_bps: ThresholdLike = 250,
    *,
    symbol: str | None = None,
    include_microstructure: bool = False,
) -> FrameT:
    """Compute range bars of a Polars frame of trades.

    Parameters
    ----------
    trades
        Trades in order of time: `timestamp` (integer milliseconds since 1970, or a Datetime),
        `price`, `quantity` or `volume`; if present also `is_buyer_maker` or `side`,
        `agg_trade_id`, `first_trade_id`, `last_trade_id`.
    threshold_decimal_bps
        Decimal basis points: 250 is 0.25 %. Also `"0.25%"`, `"25bp"` or the name of a preset.
    symbol
        A registered symbol, whose minimum threshold applies.
    include_microstructure
        Whether to add the ten columns of the group `"microstructure"`.

    Returns
    -------
    DataFrame or LazyFrame
        A frame of the same kind as `trades`, with one row per bar; `rb.columns()` lists its
        columns.

    Raises
    ------
    SymbolNotRegisteredError
        The symbol is not registered, and the symbol gate is strict.
    ThresholdError
        The threshold is malformed, out of range, or below the symbol's minimum.
    TickDataError, TickOrderError
        A trade has an invalid value or is out of order. With a LazyFrame, raised when it is
        collected.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [1704067200000, 1704067201000, 1704067202000],
    ...         "price": [100.0, 100.1, 100.3],
    ...         "quantity": [1.0, 2.0, 4.0],
    ...     }
    ... )
    >>> rb.process_trades_polars(trades, 250).select("close_time", "open", "close", "volume")
    shape: (1, 4)
    ┌─────────────────────────┬───────┬───────┬────────┐
    │ close_time              ┆ open  ┆ close ┆ volume │
    │ ---                     ┆ ---   ┆ ---   ┆ ---    │
    │ datetime[ms, UTC]       ┆ f64   ┆ f64   ┆ f64    │
    ╞═════════════════════════╪═══════╪═══════╪════════╡
    │ 2024-01-01 00:00:02 UTC ┆ 100.0 ┆ 100.3 ┆ 7.0    │
    └─────────────────────────┴───────┴───────┴────────┘
    """
    threshold = admitted_threshold(symbol, threshold_decimal_bps, "process_trades_polars")
    if not isinstance(trades, (pl.DataFrame, pl.LazyFrame)):
        kind = f"pandas {type(trades).__name__}" if is_pandas(trades) else type(trades).__name__
        hint = "for pandas frames and lists of dictionaries write "
        hint += "rb.process_trades_to_dataframe(trades, 250)"
        raise TypeError(with_hint(f"trades must be a Polars frame, not a `{kind}`", hint))
    features = "microstructure" if include_microstructure else "core"
    return bars_frame(fields_only(trades), threshold, features=features)


@checked_keywords
def process_trades_to_dataframe(
    trades: Trades,
    threshold_decimal_bps: ThresholdLike = 250,
    *,
    symbol: str | None = None,
    include_microstructure: bool = False,
) -> pd.DataFrame:
    """Compute range bars of a pandas frame or a list of dictionaries, ready for backtesting.py.

    Parameters
    ----------
    trades
        Trades as for `process_trades_polars`, as a pandas or Polars frame or as dictionaries.
    threshold_decimal_bps, symbol
        As for `process_trades_polars`.
    include_microstructure
        Whether to add the columns of `rb.REFERENCE_COLUMNS`; undefined values are NaN.

    Returns
    -------
    pandas.DataFrame
        Columns Open, High, Low, Close, Volume. The ascending index `timestamp` is the close time
        in UTC, without a time zone.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> prices = [100.0, 100.1, 100.3]
    >>> trades = [
    ...     {"timestamp": 1704067200000 + 1000 * i, "price": price, "quantity": 1.0}
    ...     for i, price in enumerate(prices)
    ... ]
    >>> rb.process_trades_to_dataframe(trades, 250).to_dict("records")
    [{'Open': 100.0, 'High': 100.3, 'Low': 100.0, 'Close': 100.3, 'Volume': 3.0}]
    """
    threshold = admitted_threshold(symbol, threshold_decimal_bps, "process_trades_to_dataframe")
    import_pandas()
    frame = fields_only(frame_of(trades))
    features = "microstructure" if include_microstructure else "core"
    bars = bars_frame(frame, threshold, features=features)
    return bars_to_pandas(bars, REFERENCE_COLUMNS if include_microstructure else ())


@checked_keywords
def process_trades_chunked(
    trades_iterator: Chunks,
    threshold_decimal_bps: ThresholdLike = 250,
    chunk_size: int = 100_000,
    *,
    symbol: str | None = None,
    include_microstructure: bool = False,
) -> Iterator[pd.DataFrame]:
    """Iterate over range bars of trades that arrive in chunks, in bounded memory.

    How the trades are split into chunks makes no difference: concatenated, the frames equal the
    result of `process_trades_to_dataframe` for all trades.

    Parameters
    ----------
    trades_iterator
        Dictionaries, which are processed `chunk_size` at a time, or frames, each of which is a
        chunk.
    threshold_decimal_bps, symbol, include_microstructure
        As for `process_trades_to_dataframe`.
    chunk_size
        Number of dictionaries in a chunk.

    Returns
    -------
    Iterator of pandas.DataFrame
        One frame for each chunk in which a bar closed.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> prices = [100.0, 100.1, 100.3, 100.2, 100.6]
    >>> trades = (
    ...     {"timestamp": 1704067200000 + 1000 * i, "price": price, "quantity": 1.0}
    ...     for i, price in enumerate(prices)
    ... )
    >>> for bars in rb.process_trades_chunked(trades, 250, chunk_size=2):
    ...     print(bars["Close"].to_list())
    [100.3]
    [100.6]
    """
    threshold = admitted_threshold(symbol, threshold_decimal_bps, "process_trades_chunked")
    import_pandas()
    size = whole_number("chunk_size", chunk_size)
    items = [trades_iterator] if is_frame(trades_iterator) else iterable(trades_iterator)
    features = "microstructure" if include_microstructure else "core"
    extra = REFERENCE_COLUMNS if include_microstructure else ()
    request = FrameRequest.of_bars(threshold, features=features)
    pieces = bars_of_chunks(request, numbered(chunk_frames(items, size)))
    return (bars_to_pandas(bars, extra) for bars in pieces if bars.height)


def admitted_threshold(symbol: str | None, threshold: ThresholdLike, operation: str) -> int:
    """Check the symbol and return the threshold, which is not below the symbol's minimum."""
    raise_if_forked(operation)
    if symbol is not None:
        symbol = validate_symbol_registered(symbol, operation=operation)
    return resolve_and_validate_threshold(symbol, threshold)


def whole_number(what: str, value: object) -> int:
    """Check that a value is an integer above 0, and return it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        sentence = f"`{what}` must be a whole number above 0; it is `{value!r}`"
        raise ValueError(with_hint(sentence, f"write {what}=100_000"))
    return value


def is_frame(value: object) -> bool:
    """Return whether a value is an eager frame, of Polars or pandas."""
    return isinstance(value, pl.DataFrame) or is_pandas(value)


def iterable(trades: object) -> Iterable[Any]:
    """Check that trades can be iterated over, and return them."""
    hint = "pass a frame, or a list of dictionaries with timestamp, price and quantity"
    if isinstance(trades, pl.LazyFrame):
        hint = "write rb.process_trades_polars(trades, 250).collect() for a LazyFrame"
    elif isinstance(trades, Mapping):
        hint = "write pl.DataFrame(trades) for columns, or [trades] for a single trade"
    elif isinstance(trades, (str, PathLike)):
        hint = f"read the file first: pl.read_parquet({json.dumps(str(trades))})"
    elif isinstance(trades, Iterable) and not isinstance(trades, (str, bytes)):
        return trades
    kind = type(trades).__name__
    expected = "trades must be a frame or an iterable of dictionaries"
    raise TypeError(with_hint(f"{expected}, not a `{kind}`", hint))


def frame_of(
    trades: object, readers: dict[str, ColumnReader] | None = None, first_row: int = 0
) -> pl.DataFrame:
    """Convert trades in any form to a Polars frame."""
    if isinstance(trades, pl.DataFrame):
        return trades
    if is_pandas(trades):
        if trades.columns.empty:
            return pl.DataFrame()
        return trades_from_pandas(trades, readers, first_row)
    records = list(iterable(trades))
    return RecordReader().frame(records) if records else pl.DataFrame()


def chunk_frames(items: Iterable[Any], size: int) -> Iterator[pl.DataFrame]:
    """Yield frames of `size` dictionaries, and the frames among them as they are."""
    readers: dict[str, ColumnReader] = {}
    records = RecordReader(readers)
    waiting: list[Record] = []
    for item in items:
        if not is_frame(item):
            waiting.append(item)
        if waiting and (is_frame(item) or len(waiting) == size):
            yield records.frame(waiting)
            waiting = []
        if is_frame(item):
            yield frame_of(item, readers, records.count)
            records.count += len(item)
    if waiting:
        yield records.frame(waiting)


def bars_of_chunks(request: FrameRequest, chunks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the bars of the chunks; amounts may be integers at first and decimals later."""
    bound: Bound | None = None
    for chunk in chunks:
        if bound is None:
            bound = request.bind(chunk.schema, absolute_rows=True, trades=chunk)
        elif decimals_begin(bound, chunk):
            bound = request.bind_again(bound, chunk.schema)
        yield bound.push(chunk)
    last = None if bound is None else bound.finish()
    if last is not None:
        yield last


def decimals_begin(bound: Bound, chunk: pl.DataFrame) -> bool:
    """Return whether a price or quantity that was a double is a decimal in this chunk."""
    return any(
        before == pl.Float64 and chunk.schema.get(name) == GRID_DTYPE
        for name, before in zip(bound.inputs.names, bound.dtypes, strict=True)
    )


def numbered(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the frames that hold trades, with rows counted over all of them."""
    row = 0
    for frame in frames:
        if frame.height:
            yield fields_only(frame, row)
            row += frame.height


def fields_only(trades: FrameT, first_row: int = 0) -> FrameT:
    """Select the columns that are fields of a trade, with time as a Datetime."""
    names = trades.collect_schema().names()
    if not names:
        return trades.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in NO_TRADES.items()
        ).head(0)
    return with_times(trades.select(require(names).values()), first_row)


def with_times(trades: FrameT, first_row: int = 0) -> FrameT:
    """Convert a `timestamp` of integer milliseconds to a Datetime."""
    if trades.collect_schema().get("timestamp") != pl.Int64:
        return trades
    if isinstance(trades, pl.DataFrame):
        return trades.with_columns(milliseconds(trades.get_column("timestamp"), first_row))
    convert = pl.col("timestamp").map_batches(
        milliseconds, return_dtype=MILLISECONDS, is_elementwise=True
    )
    return trades.with_columns(convert)


def milliseconds(times: pl.Series, first_row: int | None = None) -> pl.Series:
    """Convert integer milliseconds since 1970 to a Datetime. An error names any other unit."""
    inside = times.is_between(EARLIEST_S * 1000, LATEST_S * 1000, closed="left")
    if inside.all():
        return times.cast(MILLISECONDS)
    row = int(inside.not_().arg_true()[0])
    value = times[row]
    where = "" if first_row is None else f" of row {first_row + row}"
    raise TickDataError(f"the timestamp `{value}`{where} {unit_advice(value)}")


def unit_advice(value: int) -> str:
    """Describe the unit that a time seems to have, and how to convert it.

    Examples
    --------
    >>> from rangebar_polars.compute.trades import unit_advice
    >>> print(unit_advice(1704067200))
    looks like seconds since 1970, not milliseconds
    <BLANKLINE>
    hint: convert it: pl.from_epoch("timestamp", time_unit="s"), or in pandas \
pd.to_datetime(trades["timestamp"], unit="s")
    """
    unit = unit_of_time(value)
    if unit in UNIT_NAMES:
        return with_hint(
            f"looks like {UNIT_NAMES[unit]} since 1970, not milliseconds",
            f'convert it: pl.from_epoch("timestamp", time_unit="{unit}"), or in pandas '
            f'pd.to_datetime(trades["timestamp"], unit="{unit}")',
        )
    return with_hint(
        "is not a time between 2000 and 2100 in milliseconds since 1970",
        "pass milliseconds, or a column of times",
    )
