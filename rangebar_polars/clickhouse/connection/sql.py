"""Values and conditions in the text of a query.

The database reads at most 256 KiB of text, and no client can send values separately to both kinds
of cache. A list that grows with the stored bars is therefore split over several queries.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Value",
    "among",
    "enclosing",
    "identifier",
    "joined_batches",
    "literal",
    "number_batches",
    "split_among",
]

Value = str | int | date
_Item = TypeVar("_Item")

#: The most characters of a list in one query.
MOST_CHARACTERS = 100_000
#: Characters of a 64-bit number with a comma and a space.
_NUMBER = 22


def literal(value: Value) -> str:
    r"""Write a value as a literal of the database.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.clickhouse.connection.sql import literal
    >>> print(literal("it's"), literal(250), literal(date(2024, 3, 1)))
    'it\'s' 250 toDate('2024-03-01')
    """
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return f"toDate('{value.isoformat()}')" if isinstance(value, date) else str(int(value))


def identifier(name: str) -> str:
    """Quote the name of a database or a table."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def among(columns: Sequence[str], values: Iterable[Sequence[Value]]) -> str:
    """Write the condition that the columns hold one of the tuples of values.

    Columns with one value in all tuples get a condition of their own, which suits the database's
    index best.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import among
    >>> among(["symbol", "threshold"], [("BTCUSDT", 250), ("BTCUSDT", 500)])
    "symbol = 'BTCUSDT' AND threshold IN (250, 500)"
    >>> among(["symbol"], [])
    '0'
    """
    fixed, names, listed = _parts(columns, values)
    if fixed is None:
        return "0"
    return " AND ".join([*fixed, *([f"{names} IN ({', '.join(listed)})"] if listed else [])])


def split_among(columns: Sequence[str], values: Iterable[Sequence[Value]]) -> list[str]:
    """Split the condition of `among`: each part covers some of the tuples, and none twice.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import split_among
    >>> conditions = split_among(["threshold"], [(number,) for number in range(100_000)])
    >>> max(map(len, conditions)) < 110_000
    True
    >>> split_among(["symbol"], [])
    []
    """
    fixed, names, listed = _parts(columns, values)
    if fixed is None:
        return []
    if not listed:
        return [" AND ".join(fixed)]
    return [" AND ".join([*fixed, f"{names} IN ({text})"]) for text in joined_batches(listed)]


def _parts(
    columns: Sequence[str], values: Iterable[Sequence[Value]]
) -> tuple[list[str] | None, str, list[str]]:
    """Return conditions on columns with one value, the names of the others, and their tuples.

    The conditions are None if there are no tuples.
    """
    tuples = list(dict.fromkeys(tuple(value) for value in values))
    if not tuples:
        return None, "", []
    fixed = [index for index in range(len(columns)) if len({t[index] for t in tuples}) == 1]
    conditions = [f"{columns[index]} = {literal(tuples[0][index])}" for index in fixed]
    varied = [index for index in range(len(columns)) if index not in fixed]
    if not varied:
        return conditions, "", []
    listed = [_tuple([_plain(t[index]) for index in varied]) for t in tuples]
    return conditions, _tuple([columns[index] for index in varied]), listed


def _plain(value: Value) -> str:
    """Write a value without a function call: the database parses a list of such values faster."""
    return f"'{value.isoformat()}'" if isinstance(value, date) else literal(value)


def joined_batches(texts: Iterable[str]) -> Iterator[str]:
    """Join texts with commas, in strings that each fit in a query.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import joined_batches
    >>> list(joined_batches(["1", "2"]))
    ['1, 2']
    """
    batch: list[str] = []
    length = 0
    for text in texts:
        if batch and length + len(text) > MOST_CHARACTERS:
            yield ", ".join(batch)
            batch, length = [], 0
        batch.append(text)
        length += len(text) + 2
    if batch:
        yield ", ".join(batch)


def number_batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Split items so that the numbers of each batch fit in a query."""
    count = max(1, MOST_CHARACTERS // _NUMBER)
    for start in range(0, len(items), count):
        yield items[start : start + count]


def enclosing(columns: Sequence[str], values: Sequence[Sequence[Value]]) -> str:
    """Write the condition that each column lies between its least and its greatest value.

    The condition is short and suits an index. It holds for all tuples, and for others between them.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import enclosing
    >>> enclosing(["symbol", "threshold"], [("BTCUSDT", 250), ("BTCUSDT", 500)])
    "symbol = 'BTCUSDT' AND threshold BETWEEN 250 AND 500"
    """
    conditions = []
    for index, column in enumerate(columns):
        found = {value[index] for value in values}
        least, greatest = min(found), max(found)
        is_one = least == greatest
        bounds = f"BETWEEN {literal(least)} AND {literal(greatest)}"
        conditions.append(f"{column} {f'= {literal(least)}' if is_one else bounds}")
    return " AND ".join(conditions)


def _tuple(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
