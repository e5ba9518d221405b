"""Conditions under which the value of a column is defined, and how exact it is.

A null is correct where the formula of a column is undefined, or where the ticks have no input for it.
The validator derives both from the other columns of the bar. The kernel has its own denominators in
`src/features`; tests compare the two.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rangebar_polars.validation._frames import Column

__all__ = ["DEFINITIONS", "Definition", "defined", "has_sample", "rounding", "witnesses"]


class Definition(NamedTuple):
    """When a bar has a value in a column that may be null."""

    #: Conditions on the bar alone, the exact one first. The first one whose columns are present
    #: applies. Null means unknown, as when an input is missing too.
    of_bar: tuple[pl.Expr, ...] = ()
    #: Applies if none of those can, to a column that has a value in some bar, because the ticks
    #: then have its inputs.
    of_column: pl.Expr | None = None


def _has(*names: str) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_not_null() for name in names)


def _pair(first: str, second: str) -> dict[str, Definition]:
    """Define two columns of the same input, which are both null or both not null."""
    return {
        first: Definition((_has(second),), _ALWAYS),
        second: Definition((_has(first),), _ALWAYS),
    }


def _exceeds(value: pl.Expr, bound: float = 0.0) -> pl.Expr:
    """Return whether a value exceeds a bound; false for a NaN."""
    return value.is_between(bound, math.inf, closed="none")


# A denominator of this size counts as zero, as in the kernel.
_ZERO = sys.float_info.epsilon

_ALWAYS = pl.lit(value=True)
_TRADED = _exceeds(pl.col("volume"))
_BUYS, _SELLS = pl.col("buy_volume"), pl.col("sell_volume")
_FLOWED = _exceeds(_BUYS + _SELLS)
_SIDED = _exceeds(pl.col("buy_trade_count") + pl.col("sell_trade_count"))
_IMBALANCE = (_BUYS - _SELLS) * (1.0 / (_BUYS + _SELLS))
_RANGE = pl.col("high") - pl.col("low")
_HAS_RANGE = _exceeds(_RANGE, _ZERO)
_LASTED = (pl.col("close_time") - pl.col("open_time")).cast(pl.Duration("us")).cast(pl.Int64)

#: By the names of the catalogue. Other columns are never null, or are not numeric.
DEFINITIONS: dict[str, Definition] = {
    "volume": Definition((_has("turnover"), _has("volume_per_trade")), _ALWAYS),
    "vwap": Definition((_TRADED, _exceeds(pl.col("turnover")))),
    "turnover": Definition((_has("volume_per_trade"), _TRADED), _ALWAYS),
    **_pair("buy_volume", "sell_volume"),
    **_pair("buy_turnover", "sell_turnover"),
    **_pair("buy_trade_count", "sell_trade_count"),
    "first_trade_id": Definition((_has("aggregation_density"),)),
    "last_trade_id": Definition((_has("aggregation_density"),)),
    **_pair("first_agg_trade_id", "last_agg_trade_id"),
    # A bar whose trades have no aggressor has none of the features of order flow.
    "ofi": Definition((_FLOWED,)),
    "vwap_close_deviation": Definition((_HAS_RANGE & _TRADED, _HAS_RANGE & _has("vwap"))),
    "price_impact": Definition((_TRADED, _has("vwap"))),
    "kyle_lambda_proxy": Definition(
        (
            _exceeds(pl.col("ofi").abs(), _ZERO),
            pl.when(_FLOWED).then(_exceeds(_IMBALANCE.abs(), _ZERO)),
        )
    ),
    "trade_intensity": Definition((_exceeds(pl.col("duration_us")), _exceeds(_LASTED))),
    "volume_per_trade": Definition((_has("turnover"),), _ALWAYS),
    # Without the counts, trades of no volume could still have an aggressor.
    "aggression_ratio": Definition((_SIDED, pl.when(_FLOWED).then(_ALWAYS))),
    "aggregation_density": Definition((_has("first_trade_id", "last_trade_id"),), _ALWAYS),
    "turnover_imbalance": Definition(
        (_exceeds(pl.col("buy_turnover") + pl.col("sell_turnover")), _FLOWED)
    ),
}

#: How far rounding alone can move a value out of its bounds: errors in the last places of the vwap
#: and of the prices are divided by the range of the bar.
ROUNDING: dict[str, pl.Expr] = {
    "vwap_close_deviation": pl.when(_HAS_RANGE)
    .then(4 * _ZERO * (1 + pl.col("vwap") / _RANGE))
    .otherwise(0.0)
    .fill_null(0.0),
}
# Without those columns: a bound for every bar that reached its threshold.
_ROUNDING_OF_CLOSED = 1e-9

#: By a column of the trades: the bar shows that they have it.
_BOUND: dict[str, pl.Expr] = {
    "quantity": _TRADED,
    "side": _has("buy_volume"),
    "agg_trade_id": _has("first_agg_trade_id"),
    "first_trade_id": _has("first_trade_id"),
    "last_trade_id": _has("last_trade_id"),
}


def witnesses(schema: Mapping[str, pl.DataType]) -> frozenset[str]:
    """Return the columns that conditions can use, which are numbers and times."""
    return frozenset(n for n, dtype in schema.items() if dtype.is_numeric() or dtype.is_temporal())


def defined(name: str, present: frozenset[str], with_values: Collection[str]) -> pl.Expr | None:
    """Return the condition that a bar has a value in a column, or None if it is unknown.

    Parameters
    ----------
    name
        A column that may be null.
    present
        The columns that conditions can use.
    with_values
        The columns that have a value in some bar.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.validation._defined import defined, witnesses
    >>> bars = pl.DataFrame({"duration_us": [0, 40], "trade_intensity": [None, 50.0]})
    >>> condition = defined("trade_intensity", witnesses(bars.schema), ())
    >>> bars.select(condition).to_series().to_list()
    [False, True]
    """
    definition = DEFINITIONS.get(name, Definition())
    for condition in definition.of_bar:
        if present.issuperset(condition.meta.root_names()):
            return condition
    condition_of_column = definition.of_column
    if condition_of_column is None or name not in with_values:
        return None
    inputs = condition_of_column.meta.root_names()
    return condition_of_column if present.issuperset(inputs) else None


def has_sample(column: Column, present: frozenset[str]) -> pl.Expr | None:
    """Return the condition that a bar has the inputs and the sample of a column; None if unknown.

    The value may still be null, where the formula of the column is undefined.
    """
    if column.group == "lookback":
        count = "lookback_trade_count"
    else:
        count = "order_count" if column.sample == "orders" else "agg_record_count"
    needs = [name for name in column.needs.split(", ") if name]
    if column.min_sample < 1 or not _BOUND.keys() >= set(needs):
        return None
    inputs = (_BOUND[name] for name in needs)
    condition = pl.all_horizontal(pl.col(count) >= column.min_sample, *inputs)
    return condition if present.issuperset(condition.meta.root_names()) else None


def rounding(name: str, present: frozenset[str]) -> pl.Expr | None:
    """Return how far a value may lie outside of its bounds; None if it may not."""
    expression = ROUNDING.get(name)
    if expression is None or present.issuperset(expression.meta.root_names()):
        return expression
    return pl.lit(_ROUNDING_OF_CLOSED)
