"""Entries of days with journals, so that coverage, plans and snapshots see what a writer has applied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.sources import TRADES_SCHEMA, delivered_schema
from rangebar_polars.storage.days.contracts import in_coins, is_in_contracts
from rangebar_polars.storage.days.day_file import FileFaultError, read_day
from rangebar_polars.storage.days.quarantine import expired, set_aside
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.live.journal_file import HEADER_BYTES, pin_journals, read_journal
from rangebar_polars.storage.live.state_file import day_of, read_state
from rangebar_polars.storage.live.union import holes, is_settled, union
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.user_ticks import raised_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import (
        JournalContent,
        MissingSpan,
        PinnedJournal,
    )
    from rangebar_polars.storage.live.union import LiveDay
    from rangebar_polars.storage.manifest.entry import IdSpan

__all__ = ["LiveEntry", "has_damage", "live_days_stored", "live_entries", "read_live_day"]

_TIME = "timestamp"


@dataclass(frozen=True, slots=True)
class LiveEntry(DayEntry):
    """The union of a day file and journals, which are pinned with their lengths.

    It looks like a `tail` with the rows of the union. It is never written to a manifest.
    """

    #: The entry of the day file; None without one.
    stored: DayEntry | None = None
    journals: tuple[PinnedJournal, ...] = ()
    #: Ids that journals of the day before say are missing.
    missing_before: tuple[MissingSpan, ...] = ()
    #: Ids up to this one are those of settled days before.
    floor_id: int | None = None
    #: Journals of the day before, if it is settled: its archive may leave ids to this day.
    earlier: tuple[PinnedJournal, ...] = ()
    is_closed: bool = False

    @property
    def is_live(self) -> bool:
        """True."""
        return True

    @property
    def may_grow(self) -> bool:
        """Whether its writer has not closed the day yet."""
        return not self.is_closed


class _Applied(NamedTuple):
    """What the state file says about the last applied trade."""

    id: int | None
    day: date | None


def live_entries(
    symbol_dir: SymbolDir,
    first_day: date,
    last_day: date,
    stored: Callable[[], dict[date, DayEntry]],
) -> dict[date, DayEntry]:
    """Return the entries of manifests, with those of days that have journals and are not settled.

    For an id that a journal contains, as a trade or as missing, the journal decides; for every other
    id the day file. A day ends before its first id that is neither stored nor missing, unless the
    writer had applied that id: then it is a gap.

    The state file is read first, then the manifests, the journals, and the manifests again, until
    both are the same: a journal is removed only after its trades are in a day file.

    Parameters
    ----------
    symbol_dir
        The symbol, which has a folder of journals.
    first_day, last_day
        The days of interest, both included.
    stored
        Returns the entries of the manifests.

    Raises
    ------
    JournalSchemaError
        A newer version of this package has written a journal.
    TickOrderError
        Journals and day file together run back in time by more than a second.
    StorageError
        A file cannot be read.
    """
    while True:
        applied = _applied(read_state(symbol_dir))
        entries = stored()
        journals = pin_journals(symbol_dir, first_day)
        if stored() == entries:
            break
    return entries | dict(_live(symbol_dir, last_day, entries, journals, applied))


def live_days_stored(symbol_dir: SymbolDir, entries: Mapping[date, DayEntry]) -> list[date]:
    """Return the days with records in journals that are not settled and not in quarantine."""
    days = {one.file.day for one in pin_journals(symbol_dir) if one.length > HEADER_BYTES}
    return sorted(day for day in days if _is_live(entries.get(day)))


def has_damage(symbol_dir: SymbolDir, day: date) -> bool:
    """Return whether a journal of a day is damaged."""
    contents = (read_journal(symbol_dir, one.file) for one in pin_journals(symbol_dir, day, day))
    return any(content is not None and content.damage for content in contents)


def _is_live(entry: DayEntry | None) -> bool:
    return entry is None or (entry.is_stored and not is_settled(entry))


def _applied(state: Mapping[str, Any] | None) -> _Applied:
    known = state or {}
    number = known.get("applied_id")
    return _Applied(number if type(number) is int else None, day_of(known.get("applied_at")))


def _live(
    symbol_dir: SymbolDir,
    last_day: date,
    entries: Mapping[date, DayEntry],
    journals: Sequence[PinnedJournal],
    applied: _Applied,
) -> Iterator[tuple[date, DayEntry]]:
    """Yield the entries of days with journals, in order, as far as their chain reaches."""
    days: dict[date, list[PinnedJournal]] = {}
    for one in journals:
        if _is_live(entries.get(one.file.day)):
            days.setdefault(one.file.day, []).append(one)
    last = max(days, default=None)
    limit = -1 if applied.id is None else applied.id
    before: tuple[date, LiveEntry] | None = None
    for day, pinned in days.items():
        if day > last_day:
            return
        pins = _pinned(symbol_dir, day, entries, journals, tuple(pinned))
        summary = _summary(symbol_dir, day, pins)
        if summary is None:  # its file was faulty, and is in quarantine now
            continue
        is_newest = day == last and (applied.day is None or applied.day <= day)
        entry = summary.entry(limit, applied.id if is_newest else None)
        is_next = before is not None and not _has_between(entries, before[0], day)
        if is_next and before is not None and _breaks(before[1], entry, limit):
            return
        yield day, entry
        if summary.is_cut(limit):
            return
        before = day, entry


def _pinned(
    symbol_dir: SymbolDir,
    day: date,
    entries: Mapping[date, DayEntry],
    journals: Sequence[PinnedJournal],
    pinned: tuple[PinnedJournal, ...],
) -> LiveEntry:
    """Return the entry of a day before its rows are known."""
    entry = LiveEntry("tail", stored=entries.get(day), journals=pinned)
    earlier = _journals_of(symbol_dir, journals, day - ONE_DAY)
    before = entries.get(day - ONE_DAY)
    if is_settled(before) and before is not None:
        return replace(entry, floor_id=before.last_id, earlier=earlier)
    return replace(entry, missing_before=_missing(symbol_dir, earlier))


def _has_between(entries: Mapping[date, DayEntry], first: date, last: date) -> bool:
    """Return whether a day between two others is stored without journals."""
    return any(first < day < last and entry.is_stored for day, entry in entries.items())


def _breaks(before: LiveEntry, entry: LiveEntry, limit: int) -> bool:
    """Return whether ids are missing between two days that no writer has applied yet."""
    if before.last_id is None or entry.first_id is None:
        return False
    absent = [*before.source_absent, *entry.source_absent]
    between = holes(before.last_id, pl.Series([entry.first_id]), absent)
    return any(first > limit for first, _ in between if first < entry.first_id)


def _journals_of(
    symbol_dir: SymbolDir, journals: Sequence[PinnedJournal], day: date
) -> tuple[PinnedJournal, ...]:
    """Return the journals of a day, which may lie before those that were listed."""
    found = tuple(one for one in journals if one.file.day == day)
    return found or pin_journals(symbol_dir, day, day)


def _missing(symbol_dir: SymbolDir, journals: Sequence[PinnedJournal]) -> tuple[MissingSpan, ...]:
    contents = (read_journal(symbol_dir, one.file, one.length) for one in journals)
    return tuple(span for one in contents if one is not None for span in one.missing)


class _Summary(NamedTuple):
    """A day with journals, as a whole."""

    #: Up to the last id.
    whole: LiveEntry
    #: Spans of ids that are neither stored nor missing, in order.
    holes: tuple[IdSpan, ...] = ()
    #: Number of rows before each hole, and the id and the time of the last of them.
    ends: tuple[tuple[int, int, int], ...] = ()
    #: The last id, stored or missing; None without rows.
    top: int | None = None

    def is_cut(self, limit: int) -> bool:
        """Return whether the chain ends inside of the day."""
        return any(first > limit for first, _ in self.holes)

    def entry(self, limit: int, reach: int | None) -> LiveEntry:
        """Return the entry up to the end of the chain.

        Holes that begin at an id up to `limit` are gaps: a writer had applied them. So are ids above
        the last one, up to `reach`.
        """
        entry = self.whole
        lost = [span for span in self.holes if span[0] <= limit]
        if len(lost) < len(self.holes):
            rows, last_id, last_us = self.ends[len(lost)]
            entry = replace(entry, rows=rows, last_id=last_id, max_ts_us=last_us, is_closed=False)
        elif reach is not None and self.top is not None and reach > self.top:
            lost.append((self.top + 1, reach))
        if not lost:
            return entry
        count = sum(last - first + 1 for first, last in lost)
        reason = f"journals have lost {count_text(count, 'id')} that their writer had applied"
        return replace(entry, id_gaps=tuple(lost), reason=reason)


def _summary(symbol_dir: SymbolDir, day: date, entry: LiveEntry) -> _Summary | None:
    """Sum up a day; None if its file is faulty."""
    stored, journals = entry.stored, entry.journals
    try:
        found = _read(symbol_dir, day, entry)
    except FileFaultError as fault:
        restored = None if stored is None else set_aside(symbol_dir, day, stored, fault)
        if restored is None:
            return None
        entry = replace(entry, stored=restored)
        found = _read(symbol_dir, day, entry)
    whole = replace(
        entry,
        source_absent=tuple(sorted(found.absent)),
        is_closed=found.is_closed,
        bytes=sum(one.length for one in journals) + (0 if stored is None else stored.bytes),
        content=_name_of(stored, journals),
        **_recorded_of(stored),
    )
    if found.trades.is_empty():
        return _Summary(whole)
    ids = found.trades.get_column(ID)
    times = found.trades.get_column(_TIME).to_physical()
    spans = tuple(holes(int(ids[0]) - 1, ids, found.absent))
    rows = [int(ids.search_sorted(first)) for first, _ in spans]
    ends = tuple((row, int(ids[row - 1]), int(times[row - 1])) for row in rows)
    whole = replace(
        whole,
        columns=tuple(found.trades.columns),
        rows=ids.len(),
        first_id=int(ids[0]),
        last_id=int(ids[-1]),
        min_ts_us=int(times[0]),
        max_ts_us=int(times[-1]),
    )
    return _Summary(whole, spans, ends, max([int(ids[-1]), *(last for _, last in found.absent)]))


def _recorded_of(stored: DayEntry | None) -> dict[str, Any]:
    if stored is None:
        return {}
    return {name: getattr(stored, name) for name in ("origin", "fetched_at", "writer")}


def _name_of(stored: DayEntry | None, journals: Sequence[PinnedJournal]) -> str:
    """Return a text that is another one for other rows."""
    parts = [f"{one.file.number}:{one.length}" for one in journals]
    return " ".join(["live", "" if stored is None else stored.content, *parts])


def read_live_day(symbol_dir: SymbolDir, day: date, entry: LiveEntry) -> pl.DataFrame:
    """Read the rows of a day from its file and its journals, as they were when they were pinned.

    Raises
    ------
    FileFaultError
        The day file is gone or has other bytes.
    SnapshotExpiredError
        A journal was removed, or damaged since.
    TickOrderError, StorageError
        As for `live_entries`.
    """
    trades = _read(symbol_dir, day, entry).trades
    if entry.last_id is not None:
        trades = trades.filter(pl.col(ID) <= entry.last_id)
    if trades.height != entry.rows:
        path = entry.journals[-1].file.path
        fault = FileFaultError(path, f"it has {trades.height:,} of {entry.rows:,} rows")
        raise expired(symbol_dir, day, fault)
    return trades


def _read(symbol_dir: SymbolDir, day: date, entry: LiveEntry) -> LiveDay:
    schema = pl.Schema(delivered_schema(symbol_dir.source, symbol_dir.market))
    stored = schema.to_frame()
    if entry.stored is not None and entry.stored.rows:
        rows = read_day(symbol_dir, day, entry.stored)
        absent = [name for name in schema if name not in rows.columns]
        stored = rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
        stored = stored.select(schema.names())
    contents = [_content(symbol_dir, day, one, schema) for one in entry.journals]
    found = union(day, entry.stored, stored, contents, entry.missing_before)
    return found if entry.floor_id is None else _above(symbol_dir, found, entry, entry.floor_id)


def _above(symbol_dir: SymbolDir, found: LiveDay, entry: LiveEntry, floor_id: int) -> LiveDay:
    """Return a day after a settled one: an archive may have moved trades over midnight."""
    trades, missing = found.trades, found.missing
    ids = trades.get_column(ID)
    if ids.len() and ids[0] <= floor_id:
        trades = trades.filter(ids > floor_id)
    if entry.earlier and (trades.is_empty() or trades.item(0, ID) > floor_id + 1):
        schema = trades.schema
        contents = [_content(symbol_dir, found.day, one, schema) for one in entry.earlier]
        rows = pl.concat([trades, *(one.trades for one in contents)]).filter(pl.col(ID) > floor_id)
        rows = rows.unique(ID, keep="first", maintain_order=True).sort(ID)
        trades = raised_times(rows).ticks
        missing += tuple(span for one in contents for span in one.missing)
    return replace(found, trades=trades, missing=missing)


def _content(
    symbol_dir: SymbolDir, day: date, pinned: PinnedJournal, schema: pl.Schema
) -> JournalContent:
    content = read_journal(symbol_dir, pinned.file, pinned.length)
    if content is None:
        fault = FileFaultError(pinned.file.path, "the journal is gone", is_gone=True)
        raise expired(symbol_dir, day, fault)
    if is_in_contracts(symbol_dir, TRADES_SCHEMA.names()):
        trades, late = (
            in_coins(symbol_dir, frame).select(schema.names())
            for frame in (content.trades, content.late)
        )
        return replace(content, trades=trades, late=late)
    return content
