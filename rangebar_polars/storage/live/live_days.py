"""Live days: the trades of journals and day files together, and where their chain of ids ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.files.content_file import place, read_file
from rangebar_polars.storage.live.journal_file import (
    PinnedJournal,
    list_journals,
    parse_journal,
    pin_journals,
    read_journal,
)
from rangebar_polars.storage.live.state_file import read_state, remove_unfinished
from rangebar_polars.storage.live.union import LiveDay, chain_end, holes, is_settled, union
from rangebar_polars.storage.reading.plan import Plan, PlannedDay, entries_around
from rangebar_polars.storage.reading.read import read_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path
    from typing import Any

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import JournalFile, MissingSpan
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = [
    "JournalDamage",
    "LiveDay",
    "LiveView",
    "PinnedJournal",
    "chain_end",
    "given_day_after",
    "holes",
    "is_settled",
    "live_from",
    "live_view",
    "pin_journals",
    "recover_journals",
    "stored_trades",
    "union",
]


class JournalDamage(NamedTuple):
    """A journal that is damaged, and the copy of it in the quarantine."""

    day: date
    path: Path
    copy: Path
    reason: str


def live_from(symbol_dir: SymbolDir, first_day: date, today: date) -> date:
    """Return the first day from a day on that is not settled; `today` at the latest."""
    if first_day >= today:
        return today
    entries = entries_around(symbol_dir, Span(day_start(first_day), day_start(today)))
    day = first_day
    while day < today and is_settled(entries.get(day)):
        day += ONE_DAY
    return day


def given_day_after(symbol_dir: SymbolDir, first_day: date, last_day: date) -> date | None:
    """Return the first day of a span that the user has given; None without one."""
    if first_day > last_day:
        return None
    entries = entries_around(symbol_dir, Span(day_start(first_day), day_start(last_day + ONE_DAY)))
    given = [day for day, entry in entries.items() if entry.state == "given"]
    return min((day for day in given if first_day <= day <= last_day), default=None)


# Recovery


def recover_journals(symbol_dir: SymbolDir, first_day: date | None = None) -> list[JournalDamage]:
    """Prepare the journals from a day on for a new writer, which holds the lock.

    A damaged journal stays, since it is read up to the damage. A copy of it goes to the quarantine.
    Return the journals that were copied now, not those that were copied earlier.

    Raises
    ------
    JournalSchemaError
        A newer version of this package has written a journal.
    StorageError
        A file cannot be read or copied.
    """
    remove_unfinished(symbol_dir)
    found = []
    for file in list_journals(symbol_dir, first_day):
        data = read_file(symbol_dir, file.path)
        content = parse_journal(file, data)
        if content is None or not content.damage:
            continue
        copy = _copy_aside(symbol_dir, file, data)
        if copy is not None:
            found.append(JournalDamage(file.day, file.path, copy, content.damage))
    failpoint(Step.JOURNALS_RECOVERED)
    return found


def _copy_aside(symbol_dir: SymbolDir, file: JournalFile, data: bytes) -> Path | None:
    """Copy a journal to the quarantine; return None if the copy is there already."""
    stem = f"{file.day.isoformat()}.{file.number:04}"

    def name_of(sha256: str) -> str:
        return f"{stem}.{sha256[:16]}.journal"

    try:
        sha256 = place(symbol_dir, symbol_dir.quarantine, memoryview(data), name_of)
    except FileExistsError:
        return None
    return symbol_dir.quarantine / name_of(sha256)


# Reading


@dataclass(frozen=True, slots=True)
class LiveView:
    """The days of a span at one moment, with journals."""

    symbol_dir: SymbolDir
    first_day: date
    last_day: date
    entries: Mapping[date, DayEntry]
    journals: tuple[PinnedJournal, ...]
    #: The state file before the journals were listed; None if it has no information.
    state: Mapping[str, Any] | None

    def days(self) -> Iterator[LiveDay]:
        """Read the days that are stored, in order.

        Raises
        ------
        TickOrderError
            Journals and day file together run back in time by more than a second.
        StorageError
            A file cannot be read.
        """
        missing: tuple[MissingSpan, ...] = ()
        day = self.first_day
        while day <= self.last_day:
            found = self.day(day, missing)
            if found is not None:
                yield found
                missing = found.missing
            day += ONE_DAY

    def day(self, day: date, missing: Sequence[MissingSpan] = ()) -> LiveDay | None:
        """Read a day; None if nothing of it is stored.

        `missing` are ids that journals of the day before say are missing: the first ids of a day may
        be among them.
        """
        entry = self.entries.get(day)
        stored = stored_trades(self.symbol_dir, day, entry)
        if is_settled(entry):
            return LiveDay(day, stored, source_absent=entry.source_absent if entry else ())
        pinned = [one for one in self.journals if one.file.day == day]
        contents = [
            content
            for one in pinned
            if (content := read_journal(self.symbol_dir, one.file, one.length)) is not None
        ]
        if not contents and entry is None:
            return None
        return union(day, entry, stored, contents, missing)

    def require_applied(self, end_id: int) -> None:
        """Raise if the chain of this view ends below what its writer had applied before.

        Raises
        ------
        CoverageError
            It does.
        """
        applied_id = None if self.state is None else self.state.get("applied_id")
        if isinstance(applied_id, int) and end_id < applied_id:
            raise CoverageError(
                with_hint(
                    f"the stored trades of {self.symbol_dir.label} end at id {end_id}, below id "
                    f"{applied_id}, which their writer has applied",
                    "read again; if that does not help, restart the writer: it fetches lost trades",
                )
            )


def stored_trades(symbol_dir: SymbolDir, day: date, entry: DayEntry | None) -> pl.DataFrame:
    """Read the trades of a day file, with the columns of `TRADES_SCHEMA`; none without a file."""
    nothing = TRADES_SCHEMA.to_frame()
    if entry is None or not entry.is_stored or entry.min_ts_us is None:
        return nothing
    item = PlannedDay(day, entry, 0)
    plan = Plan(symbol_dir, item.first_us, item.last_us + 1, (item,), nothing.schema)
    frames = read_plan(plan, TRADES_SCHEMA.names(), whole_days=True)
    return pl.concat([nothing, *(frame.select(TRADES_SCHEMA.names()) for frame in frames)])


def live_view(symbol_dir: SymbolDir, first_day: date, last_day: date) -> LiveView:
    """Return the days of a span as they are now.

    The state file is read first, so that its applied id is among the trades of the journals. The
    manifest is read before and after the journals are listed, until it is the same: a journal is
    removed only after its trades are in a day file.
    """
    span = Span(day_start(first_day), day_start(last_day + ONE_DAY))
    while True:
        state = read_state(symbol_dir)
        entries = entries_around(symbol_dir, span)
        journals = pin_journals(symbol_dir, first_day, last_day)
        if entries_around(symbol_dir, span) == entries:
            return LiveView(symbol_dir, first_day, last_day, entries, journals, state)
