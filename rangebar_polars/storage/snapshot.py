"""The days of a span as the store holds them at one moment: judged, and read as they were judged."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds, parse_span
from rangebar_polars.storage.reading.plan import (
    covered_days,
    current_entries,
    entries_around,
    make_plan,
    planned_days,
)
from rangebar_polars.storage.reading.read import read_plan

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars._utils.span import When
    from rangebar_polars.storage.coverage import DayCoverage
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry
    from rangebar_polars.storage.parquet import TickStorage
    from rangebar_polars.storage.reading.plan import Plan, PlannedDay

__all__ = ["SEALED", "SnapshotDay", "TickSnapshot", "kept_hashes", "snapshot"]

#: States of a day to which nothing is to come.
SEALED = frozenset({"final", "given", "absent_confirmed"})

_DAY_US = 86_400 * 10**6


@dataclass(frozen=True, slots=True)
class SnapshotDay:
    """A UTC day: what the store holds of it, and a hash of its ticks."""

    coverage: DayCoverage
    #: Another one if any tick is another one, whichever file it stands in; empty without files.
    tick_hash: str

    @property
    def day(self) -> date:
        """The day."""
        return self.coverage.day

    @property
    def is_final(self) -> bool:
        """Whether the store vouches for it, nothing is to come, and no id is missing."""
        return self.coverage.state in SEALED and not self.coverage.gaps

    @property
    def is_kept(self) -> bool:
        """Whether the store vouches for what it holds of it, and no id is missing."""
        return self.coverage.is_kept and not self.coverage.gaps


@dataclass(frozen=True, slots=True)
class TickSnapshot:
    """Days of a span, in order and without a hole, as they were at one moment."""

    days: tuple[SnapshotDay, ...]
    _shelf: SymbolDir
    _entries: Mapping[date, DayEntry]

    def __getitem__(self, day: date) -> SnapshotDay:
        return self.days[(day - self.days[0].day).days]

    @property
    def schema(self) -> pl.Schema:
        """Columns of the ticks."""
        span = Span(day_start(self.days[0].day), day_start(self.days[-1].day + ONE_DAY))
        return self._plan(span).schema

    def frames(
        self, start: When, end: When, columns: Sequence[str] | None = None
    ) -> Generator[pl.DataFrame]:
        """Ticks of a part of the span, in order and in pieces, their bytes proved.

        What the store was found to lack is not among them: judge the days first.

        Raises
        ------
        ParquetCorruptionError
            A file is not what was written; it is set aside, and its day is fetched by the next
            `fetch_ticks`.
        SnapshotExpiredError
            A file was replaced a week ago or more, and removed.
        """
        return read_plan(self._plan(parse_span(start, end)), columns)

    def _plan(self, span: Span) -> Plan:
        return make_plan(self._shelf, span, self._entries)


def snapshot(
    storage: TickStorage,
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
    judge_end: bool = True,
) -> TickSnapshot:
    """The days of a span as the store holds them now.

    Without `judge_end`, ids that are missing after the last day are a gap of the day that follows,
    so that what is said of a day does not depend on where the span ends.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.storage.snapshot import snapshot
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> storage = TickStorage(mkdtemp())
    >>> report = storage.write_ticks("ETHUSDT", rb.sample_ticks())
    >>> held = snapshot(storage, "ETHUSDT", "2024-08-08", "2024-08-09")
    >>> [(one.coverage.state, one.is_final) for one in held.days]
    [('given', True), ('missing', False)]
    >>> sum(frame.height for frame in held.frames("2024-08-08", "2024-08-08"))
    49505
    """
    span = parse_span(start, end)
    symbol_dir = storage.symbol_dir(symbol, source, market)
    entries = current_entries(symbol_dir, span)
    hashes = _tick_hashes(span, entries)
    covered = covered_days(symbol_dir, span, entries, judge_end=judge_end)
    days = tuple(SnapshotDay(item, hashes[item.day]) for item in covered)
    return TickSnapshot(days, symbol_dir, entries)


def kept_hashes(
    storage: TickStorage,
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
) -> dict[date, str]:
    """Hashes of the ticks of those days that the store vouches for now, as `snapshot` gives them."""
    span = parse_span(start, end)
    entries = entries_around(storage.symbol_dir(symbol, source, market), span)
    hashes = _tick_hashes(span, entries)
    return {day: one for day, one in hashes.items() if day in entries and entries[day].is_kept}


def _tick_hashes(span: Span, entries: Mapping[date, DayEntry]) -> dict[date, str]:
    """For each day a hash of the files with ticks of it: its own, rarely those beside it too."""
    files = {item.day: item for item in planned_days(span, entries)}
    hashes = {}
    for day in span.days():
        start_us = microseconds(day_start(day))
        beside = (files.get(day - ONE_DAY), files.get(day), files.get(day + ONE_DAY))
        parts = [
            _part(item)
            for item in beside
            if item is not None and item.has_between(start_us, start_us + _DAY_US)
        ]
        text = "\n".join(parts).encode()
        hashes[day] = blake2b(text, digest_size=16).hexdigest() if parts else ""
    return hashes


def _part(item: PlannedDay) -> str:
    """A file, and by how much its first time is raised to the last one of the day before."""
    return f"{item.day}:{item.entry.content}:{item.first_us - (item.entry.min_ts_us or 0)}"
