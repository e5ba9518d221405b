"""Columns in pieces that are long enough to be passed to the kernel one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

__all__ = ["in_pieces"]

# Each chunk of a column is passed separately, which costs as much as copying this many rows.
_SHORT_CHUNK_ROWS = 1_500
# Rows copied at a time: enough that few slices are taken of a long column, few enough that the
# copies take little memory. If the chunks themselves take more memory, pieces are longer.
_PIECE_ROWS = 1 << 18
_PIECE_ROWS_PER_CHUNK = 64


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
