"""Values and conditions as they stand in the text of a query."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Value", "among", "identifier", "literal"]

Value = str | int | date


def literal(value: Value) -> str:
    r"""A value as the database reads it.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.clickhouse.sql import literal
    >>> print(literal("it's"), literal(250), literal(date(2024, 3, 1)))
    'it\'s' 250 toDate('2024-03-01')
    """
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return f"toDate('{value.isoformat()}')" if isinstance(value, date) else str(int(value))


def identifier(name: str) -> str:
    """A name of a database or a table as the database reads it."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def among(columns: Sequence[str], values: Iterable[Sequence[Value]]) -> str:
    """Condition that the columns hold one of the tuples of values.

    Columns that are the same in all tuples stand by themselves, which the database's index
    takes best.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.sql import among
    >>> among(["symbol", "threshold"], [("BTCUSDT", 250), ("BTCUSDT", 500)])
    "symbol = 'BTCUSDT' AND threshold IN (250, 500)"
    >>> among(["symbol"], [])
    '0'
    """
    tuples = list(dict.fromkeys(tuple(value) for value in values))
    if not tuples:
        return "0"
    fixed = [place for place in range(len(columns)) if len({t[place] for t in tuples}) == 1]
    conditions = [f"{columns[place]} = {literal(tuples[0][place])}" for place in fixed]
    varied = [place for place in range(len(columns)) if place not in fixed]
    if varied:
        listed = ", ".join(_tuple([literal(t[place]) for place in varied]) for t in tuples)
        conditions.append(f"{_tuple([columns[place] for place in varied])} IN ({listed})")
    return " AND ".join(conditions)


def _tuple(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"({', '.join(words)})"
