"""Columns in pieces that are worth a crossing into the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

__all__ = ["in_pieces"]

# Each chunk of a column crosses separately, which costs as much as copying this many rows.
_SHORT_CHUNK_ROWS = 1_500
# Rows that are copied at a time: long enough that few slices are taken of a long column, short
# enough that the copies take little memory; more where the chunks themselves take more than that.
_PIECE_ROWS = 1 << 18
_PIECE_ROWS_PER_CHUNK = 64


def in_pieces(columns: Sequence[pl.Series]) -> Iterable[Sequence[pl.Series]]:
    """Columns of one length in pieces without short chunks, which may be iterated over again.

    Columns in long chunks are a single piece and are not copied. Others are copied, a bounded
    number of rows at a time.
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
            # A slice costs more than the copy where a chunk is a few rows.
            yield [column.rechunk() for column in self.columns]
            return
        for start in range(0, self.rows, self.size):
            yield [column.slice(start, self.size).rechunk() for column in self.columns]
