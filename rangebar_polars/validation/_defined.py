"""Where the value of a column is defined, and how exact it is, told by the bar's other columns.

A value is missing rightly where its formula is undefined, or where the ticks lacked what it is made
of. What the formulas divide by is stated here once, for the validator; the kernel has them in
`src/features`, and the tests compare both.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["DEFINITIONS", "Definition", "defined", "rounding", "witnesses"]


class Definition(NamedTuple):
    """When a bar has a value in a column that may be null."""

    #: Conditions that tell it of a bar by itself, the exact one first. The first whose columns
    #: are there is asked; null stands for "not known", as where an input is missing too.
    of_bar: tuple[pl.Expr, ...] = ()
    #: Asked in place of those where none can be, of a column that has a value in some bar: such
    #: a column had what it is made of.
    of_column: pl.Expr | None = None


def _given(*names: str) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_not_null() for name in names)


def _pair(first: str, second: str) -> dict[str, Definition]:
    """Two columns of the same input, which both are always there or never."""
    return {
        first: Definition((_given(second),), _ALWAYS),
        second: Definition((_given(first),), _ALWAYS),
    }


def _exceeds(value: pl.Expr, bound: float = 0.0) -> pl.Expr:
    """Whether a value is a number above a bound; a NaN is none."""
    return value.is_between(bound, math.inf, closed="none")


# As in the kernel: a denominator of this size counts as zero.
_ZERO = sys.float_info.epsilon

_ALWAYS = pl.lit(value=True)
_TRADED = _exceeds(pl.col("volume"))
_BUYS, _SELLS = pl.col("buy_volume"), pl.col("sell_volume")
_FLOWED = _exceeds(_BUYS + _SELLS)
_IMBALANCE = (_BUYS - _SELLS) * (1.0 / (_BUYS + _SELLS))
_RANGE = pl.col("high") - pl.col("low")
_HAS_RANGE = _exceeds(_RANGE, _ZERO)
_LASTED = (pl.col("close_time") - pl.col("open_time")).cast(pl.Duration("us")).cast(pl.Int64)

#: By the names of the catalogue. A column that is not here is never null, or no number.
DEFINITIONS: dict[str, Definition] = {
    "volume": Definition((_given("turnover"), _given("volume_per_trade")), _ALWAYS),
    "vwap": Definition((_TRADED, _exceeds(pl.col("turnover")))),
    "turnover": Definition((_given("volume_per_trade"), _TRADED), _ALWAYS),
    **_pair("buy_volume", "sell_volume"),
    **_pair("buy_turnover", "sell_turnover"),
    **_pair("buy_trade_count", "sell_trade_count"),
    "first_trade_id": Definition((_given("aggregation_density"),)),
    "last_trade_id": Definition((_given("aggregation_density"),)),
    **_pair("first_agg_trade_id", "last_agg_trade_id"),
    "ofi": Definition((_FLOWED,), _TRADED),
    "vwap_close_deviation": Definition((_HAS_RANGE & _TRADED, _HAS_RANGE & _given("vwap"))),
    "price_impact": Definition((_TRADED, _given("vwap"))),
    "kyle_lambda_proxy": Definition(
        (
            _exceeds(pl.col("ofi").abs(), _ZERO),
            pl.when(_FLOWED).then(_exceeds(_IMBALANCE.abs(), _ZERO)),
        )
    ),
    "trade_intensity": Definition((_exceeds(pl.col("duration_us")), _exceeds(_LASTED))),
    "volume_per_trade": Definition((_given("turnover"),), _ALWAYS),
    "aggression_ratio": Definition((_given("buy_trade_count"), _given("buy_volume")), _ALWAYS),
    "aggregation_density": Definition((_given("first_trade_id", "last_trade_id"),), _ALWAYS),
    "turnover_imbalance": Definition(
        (_exceeds(pl.col("buy_turnover") + pl.col("sell_turnover")), _FLOWED), _TRADED
    ),
}

#: By how much rounding alone carries a value out of its bounds, in terms of other columns: an error
#: of the vwap in its last places, and of the prices, is divided by the range of the bar.
ROUNDING: dict[str, pl.Expr] = {
    "vwap_close_deviation": pl.when(_HAS_RANGE)
    .then(4 * _ZERO * (1 + pl.col("vwap") / _RANGE))
    .otherwise(0.0)
    .fill_null(0.0),
}
# Where those are not there; a bar that reached its threshold stays within it.
_ROUNDING_OF_CLOSED = 1e-9


def witnesses(schema: Mapping[str, pl.DataType]) -> frozenset[str]:
    """The columns of a frame that conditions can be asked of: numbers and times."""
    return frozenset(n for n, dtype in schema.items() if dtype.is_numeric() or dtype.is_temporal())


def defined(name: str, present: frozenset[str], with_values: Collection[str]) -> pl.Expr | None:
    """The condition that a bar has a value in a column; None where that cannot be told.

    Parameters
    ----------
    name
        A column that may be null.
    present
        The columns that can be asked.
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
    one = DEFINITIONS.get(name, Definition())
    for condition in one.of_bar:
        if present.issuperset(condition.meta.root_names()):
            return condition
    if one.of_column is None or name not in with_values:
        return None
    return one.of_column if present.issuperset(one.of_column.meta.root_names()) else None


def rounding(name: str, present: frozenset[str]) -> pl.Expr | None:
    """By how much a value may lie out of its bounds; None for not at all."""
    expression = ROUNDING.get(name)
    if expression is None or present.issuperset(expression.meta.root_names()):
        return expression
    return pl.lit(_ROUNDING_OF_CLOSED)
