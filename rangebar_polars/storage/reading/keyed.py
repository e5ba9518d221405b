"""Rows of several series in one lazy frame, one series after another, with columns that name it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars.storage.reading.pruning import Bounds, time_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rangebar_polars._utils.io_source import Frames

    RowsWithin = Callable[[list[str], Bounds], Iterator[pl.DataFrame]]

__all__ = ["KeyedRows", "keyed_frame"]


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Rows of one series, and the values of its key columns."""

    keys: Mapping[str, object]
    #: Yields frames with some columns, and with at least the rows within the bounds.
    rows: RowsWithin


def keyed_frame(
    series: Sequence[KeyedRows],
    *,
    schema: pl.Schema,
    key_dtypes: Mapping[str, pl.DataType],
    time: str,
    name: str,
    detail: str,
    begin: Callable[[], Sequence[KeyedRows]] | None = None,
) -> pl.LazyFrame:
    """Return a lazy frame of the rows of all series, one series after another.

    The rows of a series are not opened before those of the series before it have ended, nor if a
    filter does not pass its keys, nor once a row limit is reached.

    Parameters
    ----------
    series
        The series in their order.
    schema
        Columns of the rows, without the key columns. One that a series does not have is null.
    key_dtypes
        Key columns, which come first.
    time
        The column of times, filters on which are passed on as bounds.
    name, detail
        As for `lazy_frame`.
    begin
        Returns the series for one query, whose rows then share a state of their own.
    """
    made = _Keyed(tuple(series), schema, dict(key_dtypes), time, begin)
    return lazy_frame(
        made,
        schema=pl.Schema({**key_dtypes, **schema}),
        name=name,
        detail=detail,
        pruned=made.pruned,
    )


@dataclass(frozen=True, slots=True)
class _Keyed:
    """Frames of several series; it can be pickled if their rows can."""

    series: tuple[KeyedRows, ...]
    schema: pl.Schema
    key_dtypes: dict[str, pl.DataType]
    time: str
    begin: Callable[[], Sequence[KeyedRows]] | None = None

    def __call__(self, names: list[str] | None) -> Iterator[pl.DataFrame]:
        return self._frames([Bounds()] * len(self.series), names)

    def pruned(self, predicate: pl.Expr) -> Frames:
        """Return frames without rows that a filter does not pass."""
        bounds = [time_bounds(predicate, self.time, self._constants(one)) for one in self.series]
        return partial(self._frames, bounds)

    def _constants(self, one: KeyedRows) -> pl.DataFrame | None:
        if not self.key_dtypes:
            return None
        row = {name: [one.keys[name]] for name in self.key_dtypes}
        return pl.DataFrame(row, schema=self.key_dtypes)

    def _frames(self, bounds: Sequence[Bounds], names: list[str] | None) -> Iterator[pl.DataFrame]:
        wanted = [*self.key_dtypes, *self.schema] if names is None else names
        # At least one column, so that rows are counted.
        own = [name for name in wanted if name in self.schema] or [next(iter(self.schema))]
        series = self.series if self.begin is None else self.begin()
        for one, within in zip(series, bounds, strict=True):
            if within.is_empty:
                continue
            keys = {
                name: pl.lit(one.keys[name], dtype)
                for name, dtype in self.key_dtypes.items()
                if name in wanted
            }
            for frame in one.rows(own, within):
                yield self._completed(frame, keys, own).select(wanted)

    def _completed(
        self, frame: pl.DataFrame, keys: Mapping[str, pl.Expr], own: Sequence[str]
    ) -> pl.DataFrame:
        """Add the key columns, and a column of nulls for each that the series does not have."""
        absent = {
            name: pl.lit(None, self.schema[name]) for name in own if name not in frame.columns
        }
        return frame.with_columns(**keys, **absent) if keys or absent else frame
