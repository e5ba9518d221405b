"""Range bars as Polars expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars.compute._columns import SYMBOL, check_keys
from rangebar_polars.compute._options import fold_options, parse_options
from rangebar_polars.compute._plugin import calls_library, plugin
from rangebar_polars.compute.auto import AUTO, by_name
from rangebar_polars.exceptions import with_hint
from rangebar_polars.interop.pandas_frames import is_pandas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rangebar_polars._typing import (
        Features,
        Incomplete,
        IntoColumn,
        Lookback,
        MaxGap,
        Reset,
        Rule,
        SideIs,
    )
    from rangebar_polars.compute._options import Options
    from rangebar_polars.compute.auto import Auto
    from rangebar_polars.threshold import LimitLike

__all__ = ["aggregate", "bar_id", "bars"]

_MAKER = "is_buyer_maker"
_REQUIRED = ("price", "timestamp", "bar_id")


class _Inputs(NamedTuple):
    """Columns of an expression, each with its role and its name in messages."""

    roles: list[str]
    names: list[str]
    columns: list[IntoColumn]
    #: Fields that are found by name when the expression runs.
    by_name: list[str]

    def keys(self) -> list[str]:
        """Return the names of the keys."""
        pairs = zip(self.roles, self.names, strict=True)
        return [name for role, name in pairs if role == "key"]


@checked_keywords
def bars(
    price: IntoColumn,
    threshold: LimitLike | Sequence[LimitLike],
    *,
    timestamp: IntoColumn | Auto = AUTO,
    quantity: IntoColumn | Auto | None = AUTO,
    is_buyer_maker: IntoColumn | Auto | None = AUTO,
    side: IntoColumn | Auto | None = AUTO,
    agg_trade_id: IntoColumn | Auto | None = AUTO,
    first_trade_id: IntoColumn | Auto | None = AUTO,
    last_trade_id: IntoColumn | Auto | None = AUTO,
    symbol: IntoColumn | Auto | None = AUTO,
    side_is: SideIs = "taker",
    group_by: IntoColumn | Sequence[IntoColumn] | None = None,
    rule: Rule = "open",
    features: Features = "core",
    lookback: Lookback | None = None,
    reset: Reset | None = None,
    max_gap: MaxGap | None = None,
    incomplete: Incomplete = "drop",
    prevent_same_timestamp_close: bool = True,
) -> pl.Expr:
    """Compute range bars as a Struct column `bars` with one row per bar.

    Select it alone and unnest the frame: `.select(rb.bars(...)).unnest("bars")` runs the kernel
    once. Selecting fields of the Struct separately (`struct.field`, `struct.unnest`) runs it once
    per field. Where Polars requires columns of one length (`with_columns`, `select` with other
    columns, `over`), it raises ShapeError or InvalidOperationError, because there are fewer bars
    than trades. Use `group_by=`, `group_by(...).agg(...)` or `rb.bar_id`, which has one row per
    trade.

    Parameters
    ----------
    price
        Column or expression of the prices. The columns below are given in the same way; None
        means that the trades have no such column.
    threshold
        Decimal basis points: 250 is 0.25 %. Also `"0.25%"`, `"25bp"`, a name of
        `rb.THRESHOLD_PRESETS`, or a list of these, which adds a field `threshold`. Or an absolute
        distance, `rb.Distance("1.50")`; with a list of distances `threshold` is Float64.
    timestamp
        Datetimes of any unit and time zone, in ascending order.
    quantity
        Amounts in the base currency.
    is_buyer_maker
        Whether the buyer was the maker, so that the seller was the aggressor.
    side
        The aggressor as text such as `"buy"`, `"sell"` or `"none"`, or as 1, -1 or 0, in place of
        `is_buyer_maker`, which is read if the frame has both and neither is named.
    agg_trade_id, first_trade_id, last_trade_id
        Id of the record, which must increase, and ids of its first and last fill.
    side_is
        Whose side `side` is: the `"taker"`'s or, as at some exchanges, the `"maker"`'s.
    group_by
        Key or keys, such as the symbol. Each key has bars of its own; the keys become the first
        fields.
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
        (Sunday), `"day"`, or as Polars truncates: `"1y"`, `"1mo"`, `"1w"` (Monday), `"1d"`.
    max_gap
        Longest time between two trades of a bar, as a timedelta or a duration such as `"1h"`. A
        longer gap ends the forming bar.
    incomplete
        What to do with bars that did not reach the threshold: `"drop"` them, or `"keep"` them and
        add the fields `is_closed` and `ended_by`.
    prevent_same_timestamp_close
        Whether a bar can close only at a timestamp later than that of its first trade.

    Returns
    -------
    Expr
        Struct `bars`; `rb.columns()` lists its fields.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(6)],
    ...         "price": [100.0, 100.1, 100.25, 100.3, 100.2, 100.0],
    ...         "quantity": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    ...         "is_buyer_maker": [False, False, False, True, True, True],
    ...     }
    ... )
    >>> bars = trades.select(rb.bars("price", 250)).unnest("bars")
    >>> bars.select("bar_id", "open", "high", "low", "close", "volume", "buy_volume")
    shape: (2, 7)
    ┌────────┬───────┬────────┬───────┬────────┬────────┬────────────┐
    │ bar_id ┆ open  ┆ high   ┆ low   ┆ close  ┆ volume ┆ buy_volume │
    │ ---    ┆ ---   ┆ ---    ┆ ---   ┆ ---    ┆ ---    ┆ ---        │
    │ u32    ┆ f64   ┆ f64    ┆ f64   ┆ f64    ┆ f64    ┆ f64        │
    ╞════════╪═══════╪════════╪═══════╪════════╪════════╪════════════╡
    │ 0      ┆ 100.0 ┆ 100.25 ┆ 100.0 ┆ 100.25 ┆ 7.0    ┆ 7.0        │
    │ 1      ┆ 100.3 ┆ 100.3  ┆ 100.0 ┆ 100.0  ┆ 56.0   ┆ 0.0        │
    └────────┴───────┴────────┴───────┴────────┴────────┴────────────┘

    Bars of each symbol:

    >>> per_symbol = trades.with_columns(symbol=pl.lit("BTCUSDT"))
    >>> nested = per_symbol.group_by("symbol").agg(rb.bars("price", 250))
    >>> flat = nested.explode("bars", empty_as_null=False).unnest("bars")
    >>> flat.select("symbol", "bar_id", "close")
    shape: (2, 3)
    ┌─────────┬────────┬────────┐
    │ symbol  ┆ bar_id ┆ close  │
    │ ---     ┆ ---    ┆ ---    │
    │ str     ┆ u32    ┆ f64    │
    ╞═════════╪════════╪════════╡
    │ BTCUSDT ┆ 0      ┆ 100.25 │
    │ BTCUSDT ┆ 1      ┆ 100.0  │
    └─────────┴────────┴────────┘
    """
    options = parse_options(
        threshold,
        rule=rule,
        features=features,
        lookback=lookback,
        reset=reset,
        max_gap=max_gap,
        incomplete=incomplete,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        side_is=side_is,
    )
    fields = {
        "price": price,
        "timestamp": timestamp,
        "quantity": quantity,
        **_aggressor(is_buyer_maker, side),
        "agg_trade_id": agg_trade_id,
        "first_trade_id": first_trade_id,
        "last_trade_id": last_trade_id,
    }
    inputs = _inputs({**fields, SYMBOL: symbol}, group_by)
    check_keys(inputs.keys())
    return _call("bars", inputs, options)


@checked_keywords
def bar_id(
    price: IntoColumn,
    threshold: LimitLike | Sequence[LimitLike],
    *,
    timestamp: IntoColumn | Auto = AUTO,
    symbol: IntoColumn | Auto | None = AUTO,
    group_by: IntoColumn | Sequence[IntoColumn] | None = None,
    rule: Rule = "open",
    reset: Reset | None = None,
    max_gap: MaxGap | None = None,
    incomplete: Incomplete = "drop",
    prevent_same_timestamp_close: bool = True,
) -> pl.Expr:
    """Assign each trade the number of its bar.

    The numbers are the `bar_id` of `rb.bars` with the same arguments. A filter that follows selects
    numbered trades and does not change the bars; to compute bars of some trades, filter first.

    Parameters
    ----------
    price, timestamp, group_by, rule, reset, max_gap, prevent_same_timestamp_close
        As for `rb.bars`.
    threshold
        As for `rb.bars`. A list gives a Struct with a field such as `bar_id_250` per threshold.
    incomplete
        With `"drop"`, trades of bars that did not reach the threshold are null.

    Returns
    -------
    Expr
        UInt32 `bar_id`, with one row per trade, counted from 0 for each key.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(5)],
    ...         "price": [100.0, 100.25, 100.3, 100.0, 100.1],
    ...     }
    ... )
    >>> trades.select("price", rb.bar_id("price", 250)).rows()
    [(100.0, 0), (100.25, 0), (100.3, 1), (100.0, 1), (100.1, None)]
    """
    options = parse_options(
        threshold,
        rule=rule,
        reset=reset,
        max_gap=max_gap,
        incomplete=incomplete,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
    )
    fields = {"price": price, "timestamp": timestamp, SYMBOL: symbol}
    inputs = _inputs(fields, group_by)
    return _call("bar_id", inputs, options)


@checked_keywords
def aggregate(
    price: IntoColumn,
    bar_id: IntoColumn,
    *,
    timestamp: IntoColumn | Auto = AUTO,
    quantity: IntoColumn | Auto | None = AUTO,
    is_buyer_maker: IntoColumn | Auto | None = AUTO,
    side: IntoColumn | Auto | None = AUTO,
    agg_trade_id: IntoColumn | Auto | None = AUTO,
    first_trade_id: IntoColumn | Auto | None = AUTO,
    last_trade_id: IntoColumn | Auto | None = AUTO,
    side_is: SideIs = "taker",
    features: Features = "core",
    lookback: Lookback | None = None,
) -> pl.Expr:
    """Compute the columns of range bars for bars of your own, such as tick, volume or time bars.

    Parameters
    ----------
    price, timestamp, quantity, is_buyer_maker, side, agg_trade_id, first_trade_id, last_trade_id
        As for `rb.bars`.
    bar_id
        Integers. A bar is a run of trades with the same id; a trade with a null id belongs to no
        bar. An id that appears again after its bar has ended is an error.
    side_is, features, lookback
        As for `rb.bars`. Records of no bar are in the windows too.

    Returns
    -------
    Expr
        Struct `bars` with one row per bar. Its `bar_id` has the data type of the ids.

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
    ... )
    >>> two_trades = pl.int_range(pl.len()) // 2
    >>> bars = trades.select(rb.aggregate("price", two_trades, is_buyer_maker=None)).unnest("bars")
    >>> bars.select("bar_id", "open", "close", "vwap").rows()
    [(0, 100.0, 101.0, 100.66666666666667), (1, 102.0, 103.0, 102.66666666666667)]
    """
    fields = {
        "price": price,
        "timestamp": timestamp,
        "quantity": quantity,
        **_aggressor(is_buyer_maker, side),
        "agg_trade_id": agg_trade_id,
        "first_trade_id": first_trade_id,
        "last_trade_id": last_trade_id,
        "bar_id": bar_id,
    }
    return _call(
        "aggregate", _inputs(fields, None), fold_options(features, side_is, lookback=lookback)
    )


def _call(function: str, inputs: _Inputs, options: Options) -> pl.Expr:
    same_length = function == "bar_id"
    kernel = options.kernel(inputs.roles, inputs.names)
    kernel["by_name"] = inputs.by_name
    columns = list(inputs.columns)
    if inputs.by_name:
        columns.append(by_name(frozenset(inputs.by_name)))
    expression = plugin(function, columns, kernel, changes_length=not same_length)
    return expression.alias("bar_id" if same_length else "bars")


def _aggressor(
    maker: IntoColumn | Auto | None, side: IntoColumn | Auto | None
) -> dict[str, IntoColumn | Auto | None]:
    """Return the columns that may say who the aggressor was: a named one stands alone."""
    is_named = [column is not None and column is not AUTO for column in (maker, side)]
    if all(is_named):
        raise ValueError(
            with_hint(
                f"`side` and `{_MAKER}` are both given, but they hold the same information",
                "leave one of them out",
            )
        )
    if any(is_named):
        return {_MAKER: maker} if is_named[0] else {"side": side}
    return {_MAKER: maker, "side": side}


def _inputs(
    fields: Mapping[str, IntoColumn | Auto | None],
    group_by: IntoColumn | Sequence[IntoColumn] | None,
) -> _Inputs:
    keys = _listed(group_by)
    for role in _REQUIRED:
        if role in fields and fields[role] is None:
            hint = f'write the name of a column: {role}="{role}"'
            raise TypeError(with_hint(f"`{role}` cannot be left out", hint))
    columns: list[tuple[str, IntoColumn]] = [
        (role, column)
        for role, column in fields.items()
        if column is not None and column is not AUTO
    ]
    if keys:
        columns = [(role, column) for role, column in columns if role != SYMBOL]
    names = [_name(role, column) or role for role, column in columns]
    _check_keys_unbound(keys, columns)
    return _Inputs(
        [role for role, _ in columns] + ["key"] * len(keys),
        names + [_key_name(key) for key in keys],
        [column for _, column in columns] + keys,
        [
            role
            for role, column in fields.items()
            if column is AUTO and not (keys and role == SYMBOL)
        ],
    )


def _check_keys_unbound(
    keys: Sequence[IntoColumn], columns: Sequence[tuple[str, IntoColumn]]
) -> None:
    """Refuse a key that is a field of the trades, such as their price."""
    fields = {_plain(column): role for role, column in columns}
    for name in map(_plain, keys):
        if name is not None and name in fields:
            raise ValueError(
                with_hint(
                    f"`group_by` names `{name}`, which is the `{fields[name]}` of the trades",
                    "pass another column, or an expression of it with a name of its own: "
                    f'pl.col("{name}").alias("my_{name}")',
                )
            )


def _plain(column: IntoColumn) -> str | None:
    """Return the name of a column that is passed as it is."""
    if isinstance(column, str):
        return column
    if isinstance(column, pl.Expr) and column.meta.is_column():
        return column.meta.output_name()
    return None


def _listed(group_by: IntoColumn | Sequence[IntoColumn] | None) -> list[IntoColumn]:
    if group_by is None:
        return []
    if isinstance(group_by, (str, pl.Expr, pl.Series)):
        return [group_by]
    if not isinstance(group_by, (list, tuple)):
        sentence = (
            f"`group_by` must be a column, an expression or a list of those; it is of type "
            f"`{type(group_by).__name__}`"
        )
        raise TypeError(with_hint(sentence, 'write group_by="symbol"'))
    if not group_by:
        raise ValueError("`group_by` is an empty list; leave it out for a single series of trades")
    return list(group_by)


def _name(role: str, column: IntoColumn) -> str | None:
    if isinstance(column, str):
        return column
    if isinstance(column, pl.Series):
        return column.name
    if not isinstance(column, pl.Expr):
        sentence = (
            f"`{role}` must be the name of a column or an expression; it is of type "
            f"`{type(column).__name__}`"
        )
        raise TypeError(with_hint(sentence, _column_hint(role, column)))
    if column.meta.has_multiple_outputs() and not calls_library(column):
        raise ValueError(
            with_hint(
                f"`{role}` selects several columns; it must be one",
                'name the column: pl.col("name")',
            )
        )
    name = column.meta.output_name(raise_if_undetermined=False)
    return None if name == "literal" else name


def _column_hint(role: str, value: object) -> str:
    """Return what to write in place of a value that is no column."""
    if isinstance(value, (pl.DataFrame, pl.LazyFrame)):
        return "for the bars of a whole frame write df.rangebar.bars(250)"
    if is_pandas(value):
        return "for the bars of a pandas frame write pl.from_pandas(df).rangebar.bars(250)"
    if role == "price":
        return 'the price comes first, then the threshold: rb.bars("price", 250)'
    return f'write {role}="{role}", or {role}=pl.col("{role}")'


def _key_name(key: IntoColumn) -> str:
    name = _name("group_by", key)
    if name:
        return name
    raise ValueError(
        with_hint(
            "an expression of `group_by` has no name of its own, or several",
            'give each key on its own, named by `.alias("key")`',
        )
    )
