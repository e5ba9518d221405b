"""Snapshots: the days of a span at one moment, to be checked first and then read unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds, parse_span
from rangebar_polars.storage.days.contracts import is_in_contracts
from rangebar_polars.storage.layout import is_folder
from rangebar_polars.storage.manifest.entry import SETTLED
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
    from rangebar_polars.storage.live.writer_state import WriterState
    from rangebar_polars.storage.manifest.entry import DayEntry
    from rangebar_polars.storage.parquet import TickStorage
    from rangebar_polars.storage.reading.plan import Plan, PlannedDay

__all__ = ["SnapshotDay", "TickSnapshot", "snapshot", "state_of_writer", "stored_hashes"]

_DAY_US = 86_400 * 10**6


@dataclass(frozen=True, slots=True)
class SnapshotDay:
    """A UTC day: its coverage, and a hash of its ticks."""

    coverage: DayCoverage
    #: Changes if any tick of the day changes, whichever file holds it. Empty without files.
    tick_hash: str

    @property
    def day(self) -> date:
        """The day."""
        return self.coverage.day

    @property
    def is_final(self) -> bool:
        """Whether the day is valid in the store, will not grow, and has no missing ids."""
        return self.coverage.state in SETTLED and not self.coverage.gaps

    @property
    def is_stored(self) -> bool:
        """Whether the day is valid in the store and has no missing ids."""
        return self.coverage.is_stored and not self.coverage.gaps


@dataclass(frozen=True, slots=True)
class TickSnapshot:
    """The consecutive days of a span as they were at one moment."""

    days: tuple[SnapshotDay, ...]
    _symbol_dir: SymbolDir
    _entries: Mapping[date, DayEntry]

    def __getitem__(self, day: date) -> SnapshotDay:
        return self.days[(day - self.days[0].day).days]

    @property
    def schema(self) -> pl.Schema:
        """Columns and dtypes of the ticks."""
        span = Span(day_start(self.days[0].day), day_start(self.days[-1].day + ONE_DAY))
        return self._plan(span).schema

    def frames(
        self, start: When, end: When, columns: Sequence[str] | None = None
    ) -> Generator[pl.DataFrame]:
        """Yield the ticks of a part of the span in order, after checking the SHA-256 of each file.

        Missing days and ids are skipped silently: check the coverage of `days` first.

        Raises
        ------
        ParquetCorruptionError
            A file does not contain the bytes that were written. It is in quarantine now, and the
            next `fetch_ticks` fetches its day again.
        SnapshotExpiredError
            A file was replaced at least a week ago, and removed.
        """
        return read_plan(self._plan(parse_span(start, end)), columns)

    def _plan(self, span: Span) -> Plan:
        return make_plan(self._symbol_dir, span, self._entries)


def snapshot(
    storage: TickStorage,
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
    check_end: bool = True,
) -> TickSnapshot:
    """Return the days of a span as the store holds them now.

    Without `check_end`, ids missing after the last day are a gap of the day that follows, so that
    the coverage of a day does not depend on where the span ends.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.storage.snapshot import snapshot
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> storage = TickStorage(mkdtemp())
    >>> report = storage.write_ticks("ETHUSDT", rb.sample_ticks())
    >>> now = snapshot(storage, "ETHUSDT", "2024-08-08", "2024-08-09")
    >>> [(day.coverage.state, day.is_final) for day in now.days]
    [('given', True), ('missing', False)]
    >>> sum(frame.height for frame in now.frames("2024-08-08", "2024-08-08"))
    49505
    """
    span = parse_span(start, end)
    symbol_dir = storage.symbol_dir(symbol, source, market)
    entries = current_entries(symbol_dir, span)
    hashes = _tick_hashes(symbol_dir, span, entries)
    covered = covered_days(symbol_dir, span, entries, check_end=check_end)
    days = tuple(SnapshotDay(item, hashes[item.day]) for item in covered)
    return TickSnapshot(days, symbol_dir, entries)


def state_of_writer(
    storage: TickStorage, symbol: str, *, source: str = "binance", market: str = "spot"
) -> WriterState | None:
    """Return the state of the process that streams a symbol; None if it was never streamed.

    Raises
    ------
    StorageError
        The lock of the writer cannot be tried.
    """
    symbol_dir = storage.symbol_dir(symbol, source, market)
    if not is_folder(symbol_dir.live):
        return None
    from rangebar_polars.storage.live.writer_state import writer_state

    return writer_state(symbol_dir)


def stored_hashes(
    storage: TickStorage,
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
) -> dict[date, str]:
    """Return the tick hashes of the stored days of a span, as `snapshot` computes them."""
    span = parse_span(start, end)
    symbol_dir = storage.symbol_dir(symbol, source, market)
    entries = entries_around(symbol_dir, span)
    hashes = _tick_hashes(symbol_dir, span, entries)
    return {
        day: tick_hash
        for day, tick_hash in hashes.items()
        if day in entries and entries[day].is_stored
    }


def _tick_hashes(
    symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry]
) -> dict[date, str]:
    """Return a hash for each day of the files with its ticks: its own, and rarely its neighbours'."""
    files = {item.day: item for item in planned_days(span, entries)}
    hashes = {}
    for day in span.days():
        start_us = microseconds(day_start(day))
        beside = (files.get(day - ONE_DAY), files.get(day), files.get(day + ONE_DAY))
        parts = [
            _describe_file(symbol_dir, item)
            for item in beside
            if item is not None and item.has_between(start_us, start_us + _DAY_US)
        ]
        text = "\n".join(parts).encode()
        hashes[day] = blake2b(text, digest_size=16).hexdigest() if parts else ""
    return hashes


def _describe_file(symbol_dir: SymbolDir, item: PlannedDay) -> str:
    """Return the content of a file, and by how much its first time is raised."""
    text = f"{item.day}:{item.entry.content}:{item.first_us - (item.entry.min_ts_us or 0)}"
    # Bars computed earlier have volumes in contracts.
    return f"{text}:coins" if is_in_contracts(symbol_dir, item.entry.columns) else text
