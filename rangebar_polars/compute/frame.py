"""Bars of eager frames, of lazy plans, and of frames that arrive one after another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain, count
from os import PathLike
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.arguments.keywords import keywords_of
from rangebar_polars._utils.io_source import batches, lazy_frame, with_inner_plan
from rangebar_polars.compute._request import FrameRequest
from rangebar_polars.exceptions import with_hint
from rangebar_polars.interop.pandas_frames import frame_from_pandas, is_pandas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from rangebar_polars._typing import (
        ColumnMap,
        ContractSize,
        Features,
        FrameOptions,
        FrameT,
        GroupBy,
        Incomplete,
        Lookback,
        MaxGap,
        Reset,
        Rule,
        SideIs,
    )
    from rangebar_polars.compute._request import Bound
    from rangebar_polars.threshold import LimitLike

__all__ = ["aggregate_frame", "bars_frame", "iter_bars"]


def bars_frame(
    trades: FrameT,
    threshold: LimitLike | Sequence[LimitLike],
    *,
    group_by: GroupBy | None = None,
    rule: Rule = "open",
    features: Features = "core",
    lookback: Lookback | None = None,
    reset: Reset | None = None,
    max_gap: MaxGap | None = None,
    incomplete: Incomplete = "drop",
    prevent_same_timestamp_close: bool = True,
    side_is: SideIs = "taker",
    contract_size: ContractSize | None = None,
    columns: ColumnMap | None = None,
) -> FrameT:
    """Compute range bars of a frame of trades; also `trades.rangebar.bars(...)`.

    A LazyFrame gives a LazyFrame that runs in bounded memory: it reads the trades in batches and
    computes only the columns that the query uses.

    Parameters
    ----------
    trades
        Trades in order of time. Columns are found by name: `timestamp`, `price`, and if present
        `quantity`, `is_buyer_maker` or `side`, `agg_trade_id`, `first_trade_id`, `last_trade_id`.
        Names that exchanges use (`volume`, `transact_time`, `T`, ...) are recognised as well.
    threshold
        Decimal basis points: 250 is 0.25 %. Also `"0.25%"`, `"25bp"`, a name of
        `rb.THRESHOLD_PRESETS`, or a list of these, which adds a column `threshold`. Or an absolute
        distance, `rb.Distance("1.50")`; with a list of distances `threshold` is Float64.
    group_by
        Column or columns, such as the symbol. Each key has bars of its own; the key columns come
        first in the result.
    rule
        `"open"`: a bar closes when the distance of the price from the bar's open reaches the
        threshold. `"high_low"`: a bar closes when its high less its low reaches the threshold.
    features
        A group, the name of a column, or a list of these. The groups are `"core"`,
        `"microstructure"`, `"lookback"`, `"intrabar"`, `"extended"` and `"all"`.
    lookback
        Window of the look-back columns before each bar: a number of records (default 200, at most
        10,000), a number of bars (`"3bars"`, from the first record of the oldest one on), or a
        duration up to 24 hours (`"5m"`). A window never goes beyond a reset or a gap of `max_gap`, and is cut to its
        newest 10,000 records.
    reset
        Calendar boundary, in UTC, that ends the forming bar: `"year"`, `"month"`, `"week"`
        (Sunday), `"day"`, or as Polars truncates: `"1y"`, `"1mo"`, `"1w"` (Monday), `"1d"`. None,
        or `"none"`, for no reset.
    max_gap
        Longest time between two trades of a bar, as a timedelta or a duration such as `"1h"`. A
        longer gap ends the forming bar.
    incomplete
        What to do with bars that did not reach the threshold: `"drop"` (or False) them, or
        `"keep"` (or True) them and add the columns `is_closed` and `ended_by`.
    prevent_same_timestamp_close
        Whether a bar can close only at a timestamp later than that of its first trade.
    side_is
        Whose side a column `side` holds: the `"taker"`'s or, as at some exchanges, the `"maker"`'s.
        Values are text such as `"buy"`, `"sell"` and `"none"`, or 1, -1 and 0. A record without an
        aggressor counts in `volume`, and neither as bought nor as sold. If the trades also have
        `is_buyer_maker`, that is read and `side` is not.
    contract_size
        Worth of one contract in the quote currency, if the quantity counts contracts, as for
        coin-margined futures: text, a Decimal or an int. The quantity of a record then is
        `contracts * contract_size / price` coins, rounded half to even to 1e-8.
    columns
        Names of columns that are not found by themselves, by field: `{"price": "px"}`. None
        ignores a field: `{"agg_trade_id": None}`.

    Returns
    -------
    DataFrame or LazyFrame
        A frame of the same kind as `trades`, with one row per bar; `rb.columns()` lists its
        columns.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(6)],
    ...         "price": [100.0, 100.1, 100.25, 100.3, 100.2, 100.0],
    ...         "volume": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    ...     }
    ... )
    >>> bars = trades.rangebar.bars(250)
    >>> bars.select("bar_id", "open", "high", "low", "close", "volume")
    shape: (2, 6)
    ┌────────┬───────┬────────┬───────┬────────┬────────┐
    │ bar_id ┆ open  ┆ high   ┆ low   ┆ close  ┆ volume │
    │ ---    ┆ ---   ┆ ---    ┆ ---   ┆ ---    ┆ ---    │
    │ u32    ┆ f64   ┆ f64    ┆ f64   ┆ f64    ┆ f64    │
    ╞════════╪═══════╪════════╪═══════╪════════╪════════╡
    │ 0      ┆ 100.0 ┆ 100.25 ┆ 100.0 ┆ 100.25 ┆ 7.0    │
    │ 1      ┆ 100.3 ┆ 100.3  ┆ 100.0 ┆ 100.0  ┆ 56.0   │
    └────────┴───────┴────────┴───────┴────────┴────────┘
    """
    request = FrameRequest.of_bars(
        threshold,
        group_by=group_by,
        rule=rule,
        features=features,
        lookback=lookback,
        reset=reset,
        max_gap=max_gap,
        incomplete=incomplete,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        side_is=side_is,
        contract_size=contract_size,
        columns=columns,
    )
    return _bars_like(request, trades)


def aggregate_frame(
    trades: FrameT,
    bar_id: str,
    *,
    features: Features = "core",
    lookback: Lookback | None = None,
    side_is: SideIs = "taker",
    contract_size: ContractSize | None = None,
    columns: ColumnMap | None = None,
) -> FrameT:
    """Compute the columns of range bars for bars of your own.

    Also `trades.rangebar.aggregate(...)`. Ids can number tick, volume, dollar or time bars, or bars
    of any other rule.

    Parameters
    ----------
    trades
        Trades in order of time, with columns as for `bars_frame`.
    bar_id
        Column of integers. A bar is a run of trades with the same id; a trade with a null id
        belongs to no bar.
    features, lookback, side_is, contract_size, columns
        As for `bars_frame`. Records of no bar are in the windows too.

    Returns
    -------
    DataFrame or LazyFrame
        A frame of the same kind as `trades`, with one row per bar, including the last one.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(4)],
    ...         "price": [100.0, 101.0, 102.0, 103.0],
    ...         "quantity": [1.0, 2.0, 4.0, 8.0],
    ...     }
    ... ).with_columns(pl.int_range(pl.len()).floordiv(2).alias("bar_id"))
    >>> trades.rangebar.aggregate("bar_id").select("bar_id", "open", "close", "volume")
    shape: (2, 4)
    ┌────────┬───────┬───────┬────────┐
    │ bar_id ┆ open  ┆ close ┆ volume │
    │ ---    ┆ ---   ┆ ---   ┆ ---    │
    │ i64    ┆ f64   ┆ f64   ┆ f64    │
    ╞════════╪═══════╪═══════╪════════╡
    │ 0      ┆ 100.0 ┆ 101.0 ┆ 3.0    │
    │ 1      ┆ 102.0 ┆ 103.0 ┆ 12.0   │
    └────────┴───────┴───────┴────────┘
    """
    request = FrameRequest.of_aggregate(
        bar_id,
        columns,
        features=features,
        side_is=side_is,
        contract_size=contract_size,
        lookback=lookback,
    )
    return _bars_like(request, trades)


@keywords_of(bars_frame)
def iter_bars(
    trades: pl.LazyFrame | pl.DataFrame | Iterable[pl.DataFrame],
    threshold: LimitLike | Sequence[LimitLike],
    **arguments: Unpack[FrameOptions],
) -> Iterator[pl.DataFrame]:
    """Iterate over range bars in batches, in bounded memory.

    Arguments are checked at the call; trades are read when the next batch is requested.

    Parameters
    ----------
    trades
        A LazyFrame, a DataFrame of Polars or pandas, or an iterable of DataFrames. How the trades
        are split between frames makes no difference to the bars.
    threshold
        As for `trades.rangebar.bars`.
    **arguments
        The keywords of `trades.rangebar.bars`.

    Returns
    -------
    Iterator of DataFrame
        Frames of one or more bars, in order. If there are no bars, a single empty frame.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.LazyFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(4)],
    ...         "price": [100.0, 100.25, 100.3, 100.0],
    ...     }
    ... )
    >>> for bars in rb.iter_bars(trades, 250):
    ...     print(bars["close"].to_list())
    [100.25, 100.0]
    """
    request = FrameRequest.of_bars(threshold, **arguments)
    if isinstance(trades, pl.LazyFrame):
        bound = request.bind(trades.collect_schema(), absolute_rows=True)
        return _run(bound, _batches(bound, trades))
    if isinstance(trades, pl.DataFrame) or is_pandas(trades):
        frame = _frame(trades)
        bound = request.bind(frame.schema, absolute_rows=True, trades=frame)
        return _run(bound, [bound.columns(frame)])
    if isinstance(trades, (str, bytes, Mapping)) or not isinstance(trades, Iterable):
        raise _no_frame("trades", trades)
    return _bind_first(request, map(_item, count(), trades))


def _bars_like(request: FrameRequest, trades: FrameT) -> FrameT:
    if isinstance(trades, pl.LazyFrame):
        return _lazy(request, trades)
    frame = _frame(trades)
    bound = request.bind(frame.schema, trades=frame)
    frames = list(_run(bound, [bound.columns(frame)]))
    return frames[0] if len(frames) == 1 else frames[0].vstack(frames[1])


def _lazy(request: FrameRequest, trades: pl.LazyFrame) -> pl.LazyFrame:
    schema = trades.collect_schema()

    def frames(project: list[str] | None) -> Iterator[pl.DataFrame]:
        bound = request.bind(schema, project=project, absolute_rows=True, warns=False)
        return _run(bound, _batches(bound, trades))

    bound = request.bind(schema)
    return lazy_frame(
        frames,
        schema=bound.schema(),
        name="RANGE_BARS",
        detail=with_inner_plan(request.describe(), trades, bound.inputs.names),
    )


def _batches(bound: Bound, trades: pl.LazyFrame) -> Iterator[list[pl.Series]]:
    return (batch.get_columns() for batch in batches(trades, bound.inputs.names))


def _run(bound: Bound, trades: Iterable[Sequence[pl.Series]]) -> Iterator[pl.DataFrame]:
    """Yield the bars of the trades, at least one frame, so that there always is a schema."""
    is_empty = True
    for bars in map(bound.push_columns, trades):
        if bars is not None:
            is_empty = False
            yield bars
    last = bound.finish()
    if last is not None:
        yield last
    elif is_empty:
        yield bound.empty()


def _bind_first(request: FrameRequest, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the bars of frames, whose schema is that of the first one."""
    first = next(frames, None)
    if first is not None:
        bound = request.bind(first.schema, absolute_rows=True, trades=first)
        yield from _run(bound, map(bound.columns, chain([first], frames)))


def _frame(trades: object) -> pl.DataFrame:
    if isinstance(trades, pl.DataFrame):
        return trades
    if is_pandas(trades):
        return frame_from_pandas(trades)
    raise _no_frame("trades", trades)


def _item(index: int, trades: object) -> pl.DataFrame:
    """Return an item of an iterable of frames."""
    if isinstance(trades, pl.DataFrame):
        return trades
    if is_pandas(trades):
        return frame_from_pandas(trades)
    raise _no_frame(f"item {index} of the trades", trades, is_item=True)


def _no_frame(what: str, value: object, *, is_item: bool = False) -> TypeError:
    """Return the error for something that is not a frame, with the call to write."""
    if isinstance(value, (str, PathLike)):
        path = json.dumps(str(value))
        hint = f"read the file first: rb.iter_bars(pl.scan_parquet({path}), 250)"
    elif isinstance(value, pl.LazyFrame):
        hint = "pass one plan instead of several: rb.iter_bars(pl.concat(trades), 250)"
    elif isinstance(value, Mapping):
        hint = "make a frame of it: rb.iter_bars(pl.DataFrame(trades), 250)"
    else:
        hint = "pass a frame, a LazyFrame or an iterable of frames"
    kind = type(value).__name__
    expected = "a DataFrame" if is_item else "a frame of Polars or pandas"
    return TypeError(with_hint(f"{what} must be {expected}; it is of type `{kind}`", hint))
