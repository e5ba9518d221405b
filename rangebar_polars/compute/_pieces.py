"""Columns as they are passed to the kernel: in pieces that are long enough, and with few categories.

Categories cross into the kernel one by one, which costs more than the bars. Symbols are only
compared, so that their codes cross instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.compute._columns import SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["SymbolCodes", "code_dtype", "in_pieces"]

# Each chunk of a column is passed separately, which costs as much as copying this many rows.
_SHORT_CHUNK_ROWS = 1_500
# Rows copied at a time: enough that few slices are taken of a long column, few enough that the
# copies take little memory. If the chunks themselves take more memory, pieces are longer.
_PIECE_ROWS = 1 << 18
_PIECE_ROWS_PER_CHUNK = 64

_CODED = (pl.Categorical, pl.Enum)
_SEVERAL = r"`(.*)` has more than one value: `(\d+)`, and `(\d+)` at row"


def in_pieces(columns: Sequence[pl.Series]) -> Iterable[Sequence[pl.Series]]:
    """Split columns of equal length into pieces without short chunks.

    Columns with long chunks are a single piece and are not copied. Others are copied, a bounded
    number of rows at a time. The result can be iterated over repeatedly.
    """
    rows = columns[0].len()
    chunks = max(column.n_chunks() for column in columns)
    if chunks == 1 or rows >= chunks * _SHORT_CHUNK_ROWS:
        return (columns,)
    return _Pieces(columns, rows, max(_PIECE_ROWS, chunks * _PIECE_ROWS_PER_CHUNK))


@dataclass(frozen=True)
class _Pieces:
    columns: Sequence[pl.Series]
    rows: int
    size: int

    def __iter__(self) -> Iterator[Sequence[pl.Series]]:
        if self.rows <= self.size:
            # If chunks have only a few rows, a slice costs more than the copy.
            yield [column.rechunk() for column in self.columns]
            return
        for start in range(0, self.rows, self.size):
            yield [column.slice(start, self.size).rechunk() for column in self.columns]


def code_dtype(dtype: pl.DataType) -> pl.DataType:
    """Return the data type in which the kernel takes a column of symbols.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.compute._pieces import code_dtype
    >>> code_dtype(pl.Enum(["A", "B"])), code_dtype(pl.String())
    (UInt8, String)
    """
    if not isinstance(dtype, _CODED):
        return dtype
    return pl.Series(dtype=dtype).to_physical().dtype


class SymbolCodes:
    """Replaces symbols by their codes, and codes in messages by their symbols."""

    def __init__(
        self, roles: Sequence[str], names: Sequence[str], dtypes: Sequence[pl.DataType]
    ) -> None:
        coded = [
            role == SYMBOL and isinstance(dtype, _CODED)
            for role, dtype in zip(roles, dtypes, strict=True)
        ]
        self._at = [position for position, is_coded in enumerate(coded) if is_coded]
        self._names = [names[position] for position in self._at]
        #: Data types of the columns that the kernel takes.
        self.dtypes = tuple(
            code_dtype(dtype) if is_coded else dtype
            for dtype, is_coded in zip(dtypes, coded, strict=True)
        )
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def is_used(self) -> bool:
        """Whether there is a column to replace."""
        return bool(self._at)

    def encoded(self, columns: Sequence[pl.Series]) -> list[pl.Series]:
        """Return columns as the kernel takes them."""
        taken = list(columns)
        for position in self._at:
            taken[position] = columns[position].to_physical()
        return taken

    def note(self, columns: Sequence[pl.Series]) -> None:
        """Keep the symbol of a push, for messages about later ones."""
        for position, name in zip(self._at, self._names, strict=True):
            column = columns[position]
            symbol = (column.drop_nulls() if column.null_count() else column).head(1)
            for code, text in zip(symbol.to_physical(), symbol, strict=True):
                self._seen.setdefault((name, str(code)), text)

    def reword(self, message: str, columns: Sequence[pl.Series]) -> str:
        """Name the symbols in a message about several of them."""
        found = re.match(_SEVERAL, message, re.DOTALL)
        if found is None or found[1] not in self._names:
            return message
        name, *codes = found.groups()
        column = columns[self._at[self._names.index(name)]]
        first, second = (self._symbol(name, code, column) for code in codes)
        sentence = f"`{name}` has more than one value: `{first}`, and `{second}` at row"
        return sentence + message[found.end() :]

    def _symbol(self, name: str, code: str, column: pl.Series) -> str:
        seen = self._seen.get((name, code))
        return column.filter(column.to_physical() == int(code))[0] if seen is None else seen
