"""Values and conditions as they stand in the text of a query.

The database reads at most 256 KiB of text, and neither of its clients sends values beside it to
both kinds of cache. So a list that grows with what is stored is sent in pieces, one to a query.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Value",
    "among",
    "among_in_pieces",
    "enclosing",
    "identifier",
    "joined_in_pieces",
    "literal",
    "numbers_in_pieces",
]

Value = str | int | date
_Item = TypeVar("_Item")

#: Characters of a list in one query.
MOST_CHARACTERS = 100_000
#: Of a 64-bit number with a comma and a space.
_NUMBER = 22


def literal(value: Value) -> str:
    r"""A value as the database reads it.

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
    """A name of a database or a table as the database reads it."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def among(columns: Sequence[str], values: Iterable[Sequence[Value]]) -> str:
    """Condition that the columns hold one of the tuples of values.

    Columns that are the same in all tuples stand by themselves, which the database's index
    takes best.

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


def among_in_pieces(columns: Sequence[str], values: Iterable[Sequence[Value]]) -> list[str]:
    """Conditions as of `among`, each for some of the tuples of values, and none twice.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import among_in_pieces
    >>> conditions = among_in_pieces(["threshold"], [(number,) for number in range(100_000)])
    >>> max(map(len, conditions)) < 110_000
    True
    >>> among_in_pieces(["symbol"], [])
    []
    """
    fixed, names, listed = _parts(columns, values)
    if fixed is None:
        return []
    if not listed:
        return [" AND ".join(fixed)]
    return [" AND ".join([*fixed, f"{names} IN ({text})"]) for text in joined_in_pieces(listed)]


def _parts(
    columns: Sequence[str], values: Iterable[Sequence[Value]]
) -> tuple[list[str] | None, str, list[str]]:
    """Conditions on columns with one value, the names of the others, and their tuples.

    The conditions are None if there is no tuple at all.
    """
    tuples = list(dict.fromkeys(tuple(value) for value in values))
    if not tuples:
        return None, "", []
    fixed = [place for place in range(len(columns)) if len({t[place] for t in tuples}) == 1]
    conditions = [f"{columns[place]} = {literal(tuples[0][place])}" for place in fixed]
    varied = [place for place in range(len(columns)) if place not in fixed]
    if not varied:
        return conditions, "", []
    listed = [_tuple([_plain(t[place]) for place in varied]) for t in tuples]
    return conditions, _tuple([columns[place] for place in varied]), listed


def _plain(value: Value) -> str:
    """A value without a call of a function: the database takes a list of such in one step."""
    return f"'{value.isoformat()}'" if isinstance(value, date) else literal(value)


def joined_in_pieces(texts: Iterable[str]) -> Iterator[str]:
    """The texts with commas between them, in pieces that each fit in a query.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import joined_in_pieces
    >>> list(joined_in_pieces(["1", "2"]))
    ['1, 2']
    """
    piece: list[str] = []
    length = 0
    for text in texts:
        if piece and length + len(text) > MOST_CHARACTERS:
            yield ", ".join(piece)
            piece, length = [], 0
        piece.append(text)
        length += len(text) + 2
    if piece:
        yield ", ".join(piece)


def numbers_in_pieces(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """The items in pieces, so that a number of each fits in a query."""
    count = max(1, MOST_CHARACTERS // _NUMBER)
    for start in range(0, len(items), count):
        yield items[start : start + count]


def enclosing(columns: Sequence[str], values: Sequence[Sequence[Value]]) -> str:
    """Condition that each column lies between its least and its greatest value.

    It holds for all of the tuples, and for others between them: a short one for an index.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.sql import enclosing
    >>> enclosing(["symbol", "threshold"], [("BTCUSDT", 250), ("BTCUSDT", 500)])
    "symbol = 'BTCUSDT' AND threshold BETWEEN 250 AND 500"
    """
    conditions = []
    for place, column in enumerate(columns):
        found = {value[place] for value in values}
        least, greatest = min(found), max(found)
        is_one = least == greatest
        bounds = f"BETWEEN {literal(least)} AND {literal(greatest)}"
        conditions.append(f"{column} {f'= {literal(least)}' if is_one else bounds}")
    return " AND ".join(conditions)


def _tuple(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"({', '.join(words)})"
