"""Predicate pruning: the times that a filter can pass, so that files outside them are not read.

An expression that is not understood passes every time. The filter itself is applied to the rows.
"""

from __future__ import annotations

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

    def __and__(self, other: Bounds) -> Bounds:
        return Bounds(max(self.low, other.low), min(self.high, other.high))

    def __or__(self, other: Bounds) -> Bounds:
        return Bounds(min(self.low, other.low), max(self.high, other.high))


def time_bounds(predicate: pl.Expr, column: str) -> Bounds:
    """Return the range of times of a column that a filter can pass.

    It understands comparisons of the column with a literal, `is_between`, `&` and `|`.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import polars as pl
    >>> from rangebar_polars.storage.reading.pruning import time_bounds
    >>> late = pl.col("timestamp") >= datetime(1970, 1, 2, tzinfo=UTC)
    >>> time_bounds(late & (pl.col("price") > 3), "timestamp").low
    86400000000
    """
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        return Bounds()
    return _bounds(tree, column)


def _bounds(tree: Any, column: str) -> Bounds:  # noqa: ANN401
    try:
        if "BinaryExpr" in tree:
            return _of_binary(tree["BinaryExpr"], column)
        if "Function" in tree:
            return _of_between(tree["Function"], column)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return Bounds()


def _of_binary(node: dict[str, Any], column: str) -> Bounds:
    operator = node["op"]
    if operator in ("And", "LogicalAnd"):
        return _bounds(node["left"], column) & _bounds(node["right"], column)
    if operator in ("Or", "LogicalOr"):
        return _bounds(node["left"], column) | _bounds(node["right"], column)
    left, right = node["left"], node["right"]
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
