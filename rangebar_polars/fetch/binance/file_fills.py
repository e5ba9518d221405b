"""Fills that records of files of trades repeat, within a file and across files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars.fetch.binance.file_chain import some_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FileFills", "FillChain"]

FIRST, LAST = "first_trade_id", "last_trade_id"
ID = "agg_trade_id"
TWICE = "they count twice. To count them once, drop these records"


class Span(NamedTuple):
    """The first and the last fill of a file."""

    source: str
    first: int
    last: int


class FillChain:
    """The fills of the files so far; one for each pass over the files of a plan."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._misplaced: list[str] = []

    def add(self, span: Span) -> None:
        """Add a file, and note if it belongs before an earlier one."""
        later = [other for other in self.spans if other.first > span.first]
        if later:
            self._misplaced.append(f"`{span.source}` comes after `{later[-1].source}`")
        self.spans.append(span)

    def misplaced(self) -> str:
        """Describe the files that are not in order; empty if all are."""
        if not self._misplaced:
            return ""
        listed = some_of(self._misplaced)
        return f"the files are not in the order of their trades: {listed}. Pass the oldest first"


class FileFills:
    """The fills of one file, whose blocks are added in order."""

    def __init__(self, source: str, chain: FillChain) -> None:
        self.source = source
        #: The first record that repeats a fill; None without one.
        self.repeated: Mapping[str, int] | None = None
        self._chain = chain
        self._count = 0
        #: The first and the last fill of this file.
        self._first: int | None = None
        self._end: int | None = None
        #: The last fill so far, of this file and of those it is compared with.
        self._before: int | None = None

    def add(self, ticks: pl.DataFrame) -> None:
        """Add a block, and note the records whose fills an earlier one has."""
        if ticks.is_empty():
            return
        if self._first is None:
            first = self._first = int(ticks[FIRST][0])
            # Files that belong after this one are not compared with each record.
            earlier = (span.last for span in self._chain.spans if span.first <= first)
            self._before = max(earlier, default=None)
        before = self._before
        highest = int(ticks.select(pl.col(LAST).max()).item())
        self._end = highest if self._end is None else max(highest, self._end)
        self._before = highest if before is None else max(highest, before)
        begins_late = before is None or int(ticks[FIRST][0]) > before
        if begins_late and (ticks[FIRST].slice(1) > ticks[LAST].head(ticks.height - 1)).all():
            return
        ends = pl.concat([pl.Series(LAST, [before], pl.Int64), ticks[LAST].head(ticks.height - 1)])
        marked = ticks.with_columns(ends.cum_max().forward_fill().alias("fill_before"))
        repeated = marked.filter(pl.col(FIRST) <= pl.col("fill_before"))
        if repeated.height and self.repeated is None:
            self.repeated = repeated.row(0, named=True)
        self._count += repeated.height

    def warnings(self, place: str) -> Iterator[str]:
        """Yield descriptions of fills that count twice; `place` is that of the first such record."""
        first, end = self._first, self._end
        if first is None or end is None:
            return
        if self.repeated is not None:
            yield self._of_records(self.repeated, place)
        shared = [
            f"{fills(span.first, min(span.last, end))}, which `{span.source}` has"
            for span in self._chain.spans
            if first < span.first <= end
        ]
        if shared:
            yield f"`{self.source}` repeats {some_of(shared)}: {TWICE}"
        self._chain.add(Span(self.source, first, end))

    def _of_records(self, row: Mapping[str, int], place: str) -> str:
        where = f"`{self.source}`, {place}" if place else f"`{self.source}`"
        record = f"the record `{row[ID]}`" if ID in row else "the record"
        more = f"; {count_text(self._count - 1, 'more such record')}" if self._count > 1 else ""
        shared = fills(row[FIRST], min(row[LAST], row["fill_before"]))
        return f"{where}: {record} repeats {shared}, which an earlier record has{more}: {TWICE}"


def fills(first: int, last: int) -> str:
    """Return the words for a span of fills."""
    return f"fill {first}" if first == last else f"fills {first} to {last}"
