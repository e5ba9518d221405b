"""The default of an argument that names a column: find it by its name."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from typing import Final, Literal

import polars as pl
import polars.selectors as cs

from rangebar_polars import _internal

__all__ = ["AUTO", "Auto", "by_name", "known_names"]


class _Auto(Enum):
    AUTO = "AUTO"

    def __repr__(self) -> str:
        return "rb.AUTO"

    __str__ = __repr__


#: Find the column of this field by its name, if there is one.
AUTO: Final = _Auto.AUTO
Auto = Literal[_Auto.AUTO]

# Polars compiles the pattern itself; a name may be written with these characters anywhere.
_LOOSE = "[ _.-]*"


def known_names() -> pl.DataFrame:
    """List the names by which the columns of a frame of trades are recognised.

    Letter case, blanks and the characters `_`, `-`, `.` do not matter: `baseQty` and `Base Qty` are
    `base_qty`. Names of ids count only for integer columns, those of `symbol` only for text.
    Single letters count only as the signature of Binance's streams: `p`, `q` and `T` together, `a`
    and `m` beside them, `f` and `l` beside them and together.

    Returns
    -------
    DataFrame
        A row for each name, with the columns `field` (String) and `name` (String). The first name
        of a field is its own; it wins over the others. The field `symbol` is not an input of bars:
        its columns are checked to hold a single value where there is no `group_by`.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> rb.known_names().filter(pl.col("field") == "price")["name"].to_list()
    ['price', 'px', 'p']
    """
    rows = [
        (field, name)
        for field, names, letter in _internal.known_names()
        for name in [*names, *([letter] if letter else [])]
    ]
    return pl.DataFrame(rows, schema=["field", "name"], orient="row")


def by_name(fields: frozenset[str]) -> pl.Expr:
    """Select the columns that could be one of these fields by their names; there may be none."""
    return cs.matches(_pattern(fields)).as_expr()


@cache
def _pattern(fields: frozenset[str]) -> str:
    known = [row for row in _internal.known_names() if row[0] in fields]
    # Every letter of the signature decides whether the others count.
    letters = "".join(letter for _, _, letter in _internal.known_names() if letter is not None)
    names = (name for _, written, _ in known for name in written)
    spelt = sorted({_LOOSE.join(map(re.escape, _significant(name))) for name in names})
    return f"^(?:(?i-u:{_LOOSE}(?:{'|'.join(spelt)}){_LOOSE})|[{letters}])$"


def _significant(name: str) -> list[str]:
    return [character for character in name.lower() if character not in " _.-"]
