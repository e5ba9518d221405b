"""Predicate pruning: the times that a filter can pass, so that files outside them are not read.

An expression that is not understood passes every time. The filter itself is applied to the rows.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import polars as pl

__all__ = ["Bounds", "time_bounds"]

LOWEST = -(2**63)
HIGHEST = 2**63 - 1
_PER_US = {"Milliseconds": (1000, 1), "Microseconds": (1, 1), "Nanoseconds": (1, 1000)}
_MIRRORED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq", "Eq": "Eq"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of times in microseconds since 1970, both ends included, outside which no row passes."""

    low: int = LOWEST
    high: int = HIGHEST

    @property
    def is_empty(self) -> bool:
        """Whether no row passes."""
        return self.low > self.high

    def __and__(self, other: Bounds) -> Bounds:
        return Bounds(max(self.low, other.low), min(self.high, other.high))

    def __or__(self, other: Bounds) -> Bounds:
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Bounds(min(self.low, other.low), max(self.high, other.high))


#: The bounds of a filter that no row passes.
_NO_TIME = Bounds(HIGHEST, LOWEST)


def time_bounds(predicate: pl.Expr, column: str, constants: pl.DataFrame | None = None) -> Bounds:
    """Return the range of times of a column that a filter can pass.

    It understands comparisons of the column with a literal, `is_between`, `&` and `|`, and any
    condition on columns that have one value in all rows.

    Parameters
    ----------
    predicate
        The filter.
    column
        The column of times.
    constants
        A row with the columns that have one value.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import polars as pl
    >>> from rangebar_polars.storage.reading.pruning import time_bounds
    >>> late = pl.col("timestamp") >= datetime(1970, 1, 2, tzinfo=UTC)
    >>> time_bounds(late & (pl.col("price") > 3), "timestamp").low
    86400000000
    >>> ethereum = pl.DataFrame({"symbol": ["ETHUSDT"]})
    >>> time_bounds(late & (pl.col("symbol") == "BTCUSDT"), "timestamp", ethereum).is_empty
    True
    """
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        return Bounds()
    return _bounds(tree, column, constants)


def _bounds(tree: Any, column: str, constants: pl.DataFrame | None) -> Bounds:  # noqa: ANN401
    try:
        if constants is not None and _columns_of(tree) <= set(constants.columns):
            return Bounds() if _passes(tree, constants) else _NO_TIME
        if "BinaryExpr" in tree:
            return _of_binary(tree["BinaryExpr"], column, constants)
        if "Function" in tree:
            return _of_between(tree["Function"], column)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return Bounds()


def _columns_of(tree: Any) -> set[str]:  # noqa: ANN401
    """Return the names of the columns in an expression."""
    if isinstance(tree, dict):
        if set(tree) == {"Column"}:
            return {tree["Column"]}
        # A literal holds data, which may look like anything.
        parts = [part for name, part in tree.items() if name != "Literal"]
    else:
        parts = tree if isinstance(tree, list) else []
    return set().union(*map(_columns_of, parts))


def _passes(tree: Any, constants: pl.DataFrame) -> bool:  # noqa: ANN401
    """Return whether a condition on constant columns holds; True if it cannot be evaluated."""
    text = json.dumps(tree)
    if '"AnonymousFunction"' in text:  # of Python, which may raise anything
        return True
    try:
        condition = pl.Expr.deserialize(io.BytesIO(text.encode()), format="json")
        return not constants.filter(condition).is_empty()
    except pl.exceptions.PolarsError:
        return True


def _of_binary(node: dict[str, Any], column: str, constants: pl.DataFrame | None) -> Bounds:
    operator, left, right = node["op"], node["left"], node["right"]
    if operator in ("And", "LogicalAnd"):
        return _bounds(left, column, constants) & _bounds(right, column, constants)
    if operator in ("Or", "LogicalOr"):
        return _bounds(left, column, constants) | _bounds(right, column, constants)
    if left == {"Column": column}:
        return _compared(operator, right)
    if right == {"Column": column}:
        return _compared(_MIRRORED[operator], left)
    return Bounds()


def _compared(operator: str, literal: dict[str, Any]) -> Bounds:
    low, high = _microseconds(literal)
    return {
        "Gt": Bounds(low=low),
        "GtEq": Bounds(low=low),
        "Lt": Bounds(high=high),
        "LtEq": Bounds(high=high),
        "Eq": Bounds(low, high),
    }[operator]


def _of_between(node: dict[str, Any], column: str) -> Bounds:
    if "IsBetween" not in node["function"]["Boolean"]:
        return Bounds()
    subject, low, high = node["input"]
    if subject != {"Column": column}:
        return Bounds()
    return Bounds(_microseconds(low)[0], _microseconds(high)[1])


def _microseconds(literal: dict[str, Any]) -> tuple[int, int]:
    """Return the microseconds at or below a literal time, and those at or above it."""
    value, unit, zone = literal["Literal"]["Scalar"]["Datetime"]
    if zone is None or not isinstance(value, int):
        raise ValueError("a time without a zone is not an instant")
    factor, divisor = _PER_US[unit]
    return value * factor // divisor, -(-value * factor // divisor)
