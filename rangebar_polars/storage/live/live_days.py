"""Live days: the trades of journals and day files together, and where their chain of ids ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.coverage import IdSpans
from rangebar_polars.storage.days.merge import id_gaps
from rangebar_polars.storage.files.content_file import place, read_file
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.live.journal_file import (
    HEADER_BYTES,
    list_journals,
    parse_journal,
    read_journal,
)
from rangebar_polars.storage.live.state_file import read_state, remove_unfinished
from rangebar_polars.storage.reading.plan import Plan, PlannedDay, entries_around
from rangebar_polars.storage.reading.read import read_plan
from rangebar_polars.storage.snapshot import SETTLED
from rangebar_polars.storage.user_ticks import raised_times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path
    from typing import Any

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import (
        JournalContent,
        JournalFile,
        MissingSpan,
    )
    from rangebar_polars.storage.manifest.entry import DayEntry, IdSpan

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


class PinnedJournal(NamedTuple):
    """A journal, and how much of it was there at one moment."""

    file: JournalFile
    length: int


@dataclass(frozen=True, slots=True)
class LiveDay:
    """A day of which the store may have journals, a day file, or both."""

    day: date
    #: In the order of ids, with the columns of `TRADES_SCHEMA`.
    trades: pl.DataFrame
    #: Ids that journals say are missing.
    missing: tuple[MissingSpan, ...] = ()
    #: Ids that the entry of the day says are missing, and that no journal has.
    source_absent: tuple[IdSpan, ...] = ()
    #: Trades that arrived after their ids were confirmed missing.
    late: pl.DataFrame | None = None
    #: Revisions as JSON, in the order of their records.
    revisions: tuple[str, ...] = ()
    is_closed: bool = False
    has_journal: bool = False

    @property
    def absent(self) -> list[IdSpan]:
        """All spans of ids that are missing."""
        return [(span.first, span.last) for span in self.missing] + list(self.source_absent)

    def chain_end(self, after_id: int) -> int:
        """Return the last id of the chain that begins after an id."""
        return chain_end(after_id, self.trades.get_column(ID), self.absent)


def is_settled(entry: DayEntry | None) -> bool:
    """Return whether a day is its day file alone, whatever its journals hold."""
    return entry is not None and entry.state in SETTLED


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


def pin_journals(
    symbol_dir: SymbolDir, first_day: date | None = None, last_day: date | None = None
) -> tuple[PinnedJournal, ...]:
    """List journals with their present lengths. Those without a whole header are left out."""
    pinned = []
    for file in list_journals(symbol_dir, first_day, last_day):
        try:
            length = file.path.stat().st_size
        except OSError:  # removed meanwhile
            continue
        if length >= HEADER_BYTES:
            pinned.append(PinnedJournal(file, length))
    return tuple(pinned)


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


# The union of a day file and journals


def union(
    day: date,
    entry: DayEntry | None,
    stored: pl.DataFrame,
    contents: Sequence[JournalContent],
    missing_before: Sequence[MissingSpan] = (),
) -> LiveDay:
    """Join a day file that is not settled, and the journals of the day.

    For an id that a journal contains, as a trade or as missing, the journal decides; for every other
    id the day file. If journals contain an id more than once, a trade wins over a missing id, and the
    last trade over those before it.
    """
    trades = _by_id(pl.concat([TRADES_SCHEMA.to_frame(), *(one.trades for one in contents)]))
    spans = {span for one in contents for span in one.missing}
    missing = _without_ids(sorted(spans), trades.get_column(ID))
    own = _not_among([*missing, *missing_before], stored)
    if trades.height and own.height:
        own = own.join(trades.select(ID), on=ID, how="anti", maintain_order="left")
        trades = pl.concat([trades, own]).sort(ID)
    elif own.height:
        trades = own
    absent = IdSpans([(span.first, span.last) for span in missing])
    source_absent = () if entry is None else entry.source_absent
    return LiveDay(
        day,
        raised_times(trades).ticks,
        tuple(missing),
        tuple(left for span in source_absent for left in absent.missing_from(span)),
        pl.concat([TRADES_SCHEMA.to_frame(), *(one.late for one in contents)]),
        tuple(text for one in contents for text in one.revisions),
        is_closed=any(one.is_closed for one in contents),
        has_journal=bool(contents),
    )


def _by_id(trades: pl.DataFrame) -> pl.DataFrame:
    """Return trades in the order of their ids, of several with one id the last."""
    ids = trades.get_column(ID)
    if ids.is_empty() or is_strictly_increasing(ids):
        return trades
    ordered = trades.sort(ID, maintain_order=True)
    is_last = pl.col(ID) != pl.col(ID).shift(-1)
    return ordered.filter(is_last.fill_null(value=True))


def _without_ids(spans: Sequence[MissingSpan], ids: pl.Series) -> list[MissingSpan]:
    """Return spans without some ids, which increase."""
    left = []
    for span in spans:
        start = ids.search_sorted(span.first, side="left")
        stop = ids.search_sorted(span.last, side="right")
        inside = IdSpans((number, number) for number in ids[start:stop])
        parts = inside.missing_from((span.first, span.last))
        left += [span._replace(first=first, last=last) for first, last in parts]
    return left


def _not_among(spans: Sequence[MissingSpan], trades: pl.DataFrame) -> pl.DataFrame:
    """Return the trades whose ids are in none of the spans."""
    if not spans or trades.is_empty():
        return trades
    bounds = pl.DataFrame(
        sorted((span.first, span.last) for span in spans),
        schema={"first": pl.Int64, "last": pl.Int64},
        orient="row",
    ).with_columns(pl.col("last").cum_max())
    inside = trades.sort(ID).join_asof(
        bounds.set_sorted("first"), left_on=ID, right_on="first", strategy="backward"
    )
    return inside.filter(pl.col("last").is_null() | (pl.col("last") < pl.col(ID))).select(
        trades.columns
    )


def holes(after_id: int, ids: pl.Series, absent: Sequence[IdSpan]) -> list[IdSpan]:
    """Return the spans of ids after an id that are neither in a series nor absent.

    The ids increase. The last span ends below the highest id that is known.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.live.live_days import holes
    >>> holes(4, pl.Series([5, 8, 9]), [(6, 6), (12, 13)])
    [(7, 7), (10, 11)]
    """
    ids = ids.filter(ids > after_id)
    top = max([after_id, *(last for _, last in absent), *ids.tail(1)])
    known = IdSpans(absent)
    gaps: list[IdSpan] = list(id_gaps(ids))
    if ids.is_empty():
        gaps.append((after_id + 1, top))
    else:
        gaps = [(after_id + 1, ids[0] - 1), *gaps, (ids[-1] + 1, top)]
    return [left for gap in gaps if gap[0] <= gap[1] for left in known.missing_from(gap)]


def chain_end(after_id: int, ids: pl.Series, absent: Sequence[IdSpan]) -> int:
    """Return the last id of the chain after an id: all ids up to it are in a series or absent.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.live.live_days import chain_end
    >>> chain_end(4, pl.Series([5, 8, 9]), [(6, 6)]), chain_end(4, pl.Series([5]), [(6, 9)])
    (6, 9)
    """
    left = holes(after_id, ids, absent)
    if left:
        return left[0][0] - 1
    top: int = max([after_id, *(last for _, last in absent), *ids.tail(1)])
    return top
