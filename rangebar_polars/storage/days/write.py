"""Writing ticks to the store: one new manifest version for each month that a write changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from rangebar_polars._utils.span import day_start
from rangebar_polars.day_ticks import Origin
from rangebar_polars.events import TicksWritten, emit
from rangebar_polars.exceptions import (
    ParquetCorruptionError,
    RangeBarError,
    StorageError,
    TickDataError,
    TicksNotCachedError,
    with_hint,
)
from rangebar_polars.sources import has_monthly_ids
from rangebar_polars.storage.days.day_file import Content, FileFaultError, read_day, store_day
from rangebar_polars.storage.days.delivered import check_delivered_day
from rangebar_polars.storage.days.journaled import (
    check_days_of_user,
    check_span_of_user,
    is_journaled,
    remove_journals,
)
from rangebar_polars.storage.days.merge import check_order_of_days, merge
from rangebar_polars.storage.days.quarantine import corruption, set_aside_locked
from rangebar_polars.storage.days.repeated import single_fills, with_single_fills
from rangebar_polars.storage.days.report import WriteReport
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.layout import is_folder, month_of
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.manifest.versions import read_manifest, update_manifest
from rangebar_polars.storage.user_ticks import (
    TIME,
    raised_times,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.storage.days.merge import Merged
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import IdSpan, State
    from rangebar_polars.storage.manifest.versions import Manifest
    from rangebar_polars.storage.user_ticks import UserTicks

__all__ = [
    "WriteReport",
    "fill_days",
    "put_days",
    "remove_days",
    "rewrite_days",
    "stored_rows",
    "write_user_ticks",
]

#: Returns the new entry of a day, or None if the old one stays.
Change: TypeAlias = "Callable[[Manifest, date, _Tally], DayEntry | None]"


@dataclass(slots=True)
class _Tally:
    """The report of a month while it is written. A retry of the month starts a new one."""

    days: list[date] = field(default_factory=list)
    added: int = 0
    duplicates: int = 0
    raised: int = 0
    replaced: list[date] = field(default_factory=list)
    unchanged: list[date] = field(default_factory=list)


def write_user_ticks(symbol_dir: SymbolDir, user_ticks: UserTicks) -> WriteReport:
    """Merge a user's ticks into the store."""
    rows = by_day(user_ticks.ticks)
    check_days_of_user(symbol_dir, rows, "write_ticks")

    def merge_into(old: Manifest, day: date, tally: _Tally) -> DayEntry | None:
        return _merge_day(symbol_dir, old.days.get(day), day, rows[day], user_ticks.raised, tally)

    report = _by_month(symbol_dir, rows, merge_into)
    return replace(
        report,
        duplicates=report.duplicates + user_ticks.duplicates,
        moved=user_ticks.moved,
        raised=report.raised + len(user_ticks.raised),
    )


def put_days(symbol_dir: SymbolDir, days: Sequence[DayTicks]) -> WriteReport:
    """Store whole days of a source, replacing what the store holds of them."""
    by_date = {item.day: item for item in days}
    if len(by_date) < len(days):
        raise ValueError(f"a day of {symbol_dir.label} appears twice in one call")
    for item in days:
        check_delivered_day(item, symbol_dir)

    def put(old: Manifest, day: date, tally: _Tally) -> DayEntry | None:
        return _put_day(symbol_dir, old.days.get(day), by_date[day], tally)

    new_ids = {item.day: ids for item in days if (ids := _id_span(item)) is not None}
    return _by_month(symbol_dir, by_date, put, new_ids)


def _id_span(item: DayTicks) -> IdSpan | None:
    ids = item.ticks.get_column(ID)
    return None if ids.is_empty() else (int(ids[0]), int(ids[-1]))


def fill_days(
    symbol_dir: SymbolDir, rows: pl.DataFrame, absent: Mapping[date, Sequence[IdSpan]]
) -> WriteReport:
    """Add missing rows to stored days, and record ids that the source does not have."""
    additions = by_day(rows)

    def fill(old: Manifest, day: date, tally: _Tally) -> DayEntry | None:
        offered = additions.get(day, rows.clear())
        return _fill_day(symbol_dir, old.days.get(day), day, offered, absent.get(day, ()), tally)

    return _by_month(symbol_dir, additions.keys() | absent.keys(), fill)


def rewrite_days(
    symbol_dir: SymbolDir,
    days: Sequence[date],
    rewrite: Callable[[date, DayEntry | None], DayEntry | None],
) -> WriteReport:
    """Replace the entries of days under the lock.

    `rewrite` takes a day and its entry, and returns the new entry, or None if the old one stays.
    """

    def change(old: Manifest, day: date, tally: _Tally) -> DayEntry | None:
        before = old.days.get(day)
        entry = rewrite(day, before)
        if entry is not None:
            known = 0 if before is None or not before.is_stored else before.rows
            tally.added += max(0, entry.rows - known)
        return entry

    return _by_month(symbol_dir, days, change)


def remove_days(symbol_dir: SymbolDir, first: date, last: date) -> list[date]:
    """Remove days from the manifests, and return them. Their files stay until `gc` removes them.

    Journals of the days are removed at once.
    """
    removed: list[date] = []
    if not is_folder(symbol_dir.folder):
        return removed
    check_span_of_user(symbol_dir, first, last, "delete_ticks")
    with writing(symbol_dir):
        journaled = remove_journals(symbol_dir, first, last)
        for month in symbol_dir.months():
            found: list[date] = []

            def without(old: Manifest, found: list[date] = found) -> dict[date, DayEntry | None]:
                found[:] = [day for day in sorted(old.days) if first <= day <= last]
                pruned = [day for day in old.pruned if first <= day <= last]
                return dict.fromkeys([*found, *pruned])

            update_manifest(symbol_dir, month, without)
            removed += found
    return sorted(journaled.union(removed)) if journaled else removed


def by_day(ticks: pl.DataFrame) -> dict[date, pl.DataFrame]:
    """Split ticks, which are in the order of their times, by UTC day."""
    times = ticks.get_column(TIME)
    days = times.dt.date().unique(maintain_order=True).to_list()
    starts = [times.search_sorted(day_start(day)) for day in days]
    ends = [*starts[1:], ticks.height] if starts else []
    return {
        day: ticks.slice(start, end - start)
        for day, start, end in zip(days, starts, ends, strict=True)
    }


def _by_month(
    symbol_dir: SymbolDir,
    days: Iterable[date],
    change: Change,
    new_ids: Mapping[date, IdSpan] | None = None,
) -> WriteReport:
    """Change days under the lock, each month as a whole.

    Parameters
    ----------
    symbol_dir, days, change
        The symbol, its days, and the function that changes each.
    new_ids
        The ids of days that replace stored ones.
    """
    months: dict[str, list[date]] = {}
    for day in sorted(days):
        months.setdefault(month_of(day), []).append(day)
    tallies: dict[str, _Tally] = {}
    if months:
        with writing(symbol_dir):
            for month in _write_order(symbol_dir, list(months), new_ids or {}):
                try:
                    tallies[month] = _write_month(symbol_dir, month, months[month], change)
                except RangeBarError as error:
                    _note_written(error, sorted(tallies))
                    raise
    report = _report(symbol_dir.symbol, list(months), [tallies[month] for month in months])
    if changed := [day for day in report.days if day not in report.unchanged]:
        emit(TicksWritten(symbol_dir.symbol, days=changed, rows=report.rows_added))
    return report


def _write_order(
    symbol_dir: SymbolDir, months: Sequence[str], new_ids: Mapping[date, IdSpan]
) -> list[str]:
    """Return months in an order of writing in which no id is ever stored twice.

    Ids that move from one month to another are first removed from the one and then added to the
    other. A reader in between, or after a kill, finds a gap but never a tick twice.
    """
    order: list[str] = []
    run: list[str] = []
    for month in months:
        if run and not _grows_into(symbol_dir, run[-1], month, new_ids):
            order += reversed(run)
            run = []
        run.append(month)
    return [*order, *reversed(run)]


def _grows_into(
    symbol_dir: SymbolDir, month: str, later: str, new_ids: Mapping[date, IdSpan]
) -> bool:
    """Return whether the new ids of a month are among the stored ones of a later month."""
    new = [last for day, (_, last) in new_ids.items() if month_of(day) == month]
    stored = [
        entry.first_id
        for entry in read_manifest(symbol_dir, later).days.values()
        if entry.first_id is not None
    ]
    return bool(new and stored) and max(new) >= min(stored)


def _report(symbol: str, months: Sequence[str], tallies: Sequence[_Tally]) -> WriteReport:
    return WriteReport(
        symbol,
        days=tuple(day for tally in tallies for day in tally.days),
        months=tuple(months),
        rows_added=sum(tally.added for tally in tallies),
        duplicates=sum(tally.duplicates for tally in tallies),
        raised=sum(tally.raised for tally in tallies),
        replaced=tuple(day for tally in tallies for day in tally.replaced),
        unchanged=tuple(day for tally in tallies for day in tally.unchanged),
    )


def _note_written(error: RangeBarError, months: Sequence[str]) -> None:
    if months:
        error.add_note(f"the months written before are in the store: {', '.join(months)}")


def _write_month(symbol_dir: SymbolDir, month: str, days: Sequence[date], change: Change) -> _Tally:
    tally = _Tally()

    def changed(old: Manifest) -> dict[date, DayEntry]:
        nonlocal tally
        tally = _Tally()
        entries = {}
        for day in days:
            entry = change(old, day, tally)
            tally.days.append(day)
            if entry is None:
                tally.unchanged.append(day)
            else:
                entries[day] = entry
        if entries:
            _check_neighbours(symbol_dir, month, {**old.days, **entries})
        return entries

    update_manifest(symbol_dir, month, changed)
    return tally


def _check_neighbours(symbol_dir: SymbolDir, month: str, days: Mapping[date, DayEntry]) -> None:
    """Check that ids increase from day to day, from the month before to the month after."""
    months = symbol_dir.months()
    around = dict(days)
    for neighbour in (
        max((other for other in months if other < month), default=None),
        min((other for other in months if other > month), default=None),
    ):
        if neighbour is not None:
            around |= read_manifest(symbol_dir, neighbour).days
    check_order_of_days(around, symbol_dir.label)


def stored_rows(symbol_dir: SymbolDir, day: date, old: DayEntry) -> pl.DataFrame:
    """Read the stored rows of a day under the lock. Quarantine the day if its file is faulty.

    Raises
    ------
    ParquetCorruptionError
        The file is faulty.
    """
    try:
        return read_day(symbol_dir, day, old)
    except FileFaultError as fault:
        set_aside_locked(symbol_dir, day, old, fault)
        raise corruption(symbol_dir, day, fault) from fault


def _merge_day(
    symbol_dir: SymbolDir,
    old: DayEntry | None,
    day: date,
    offered: pl.DataFrame,
    raised: Sequence[int],
    tally: _Tally,
) -> DayEntry | None:
    """Merge a user's rows into a day, and return its new entry."""
    if old is not None and not old.is_stored:
        _check_replaces_quarantined(symbol_dir, old, day, offered)
    merged = _merged(symbol_dir, old, day, offered, tally)
    repeated = single_fills(merged.ticks).dropped.height if merged.added else 0
    tally.added -= repeated
    tally.duplicates += repeated
    if merged.added <= repeated:
        return None
    if old is not None and old.state == "final":
        raise TickDataError(
            with_hint(
                f"{day} of {symbol_dir.label} is final: {merged.added - repeated:,} of {offered.height:,} rows "
                "are not among its ticks",
                "the source delivered the whole day; if your ticks are right, delete the day first "
                "(`delete_ticks`)",
            )
        )
    is_tail = old is not None and old.state == "tail"
    before = Content(merged.ticks, "given") if old is None or not is_tail else _content(old, merged)
    if old is None and is_journaled(symbol_dir, day):  # a given day would hide its journals
        before = replace(before, state="tail")
    if old is not None and old.is_stored and not is_tail:
        origin = replace(before.origin, repeated=old.origin.repeated)
        before = replace(before, source_absent=old.source_absent, origin=origin)
    count = int(merged.new.get_column(ID).is_in(raised).sum()) if raised else 0
    if old is not None and old.is_stored and not is_tail:
        count += old.origin.raised
    before = with_single_fills(before, day, symbol_dir.label)
    return store_day(symbol_dir, day, _with_raised(before, count + merged.raised), old)


def _merged(
    symbol_dir: SymbolDir, old: DayEntry | None, day: date, offered: pl.DataFrame, tally: _Tally
) -> Merged:
    """Merge the offered rows with the stored rows of a day, and count them."""
    has_rows = old is not None and old.is_stored and old.rows > 0
    stored = stored_rows(symbol_dir, day, old) if old is not None and has_rows else offered.clear()
    merged = merge(stored, offered)
    tally.added += merged.added
    tally.duplicates += merged.duplicates
    tally.raised += merged.raised
    return merged


def _content(old: DayEntry, merged: Merged, state: State | None = None) -> Content:
    """Return the merged rows with the state and the origin of the stored day."""
    return Content(merged.ticks, state or old.state, old.origin, old.source_absent)


def _with_raised(content: Content, count: int) -> Content:
    """Add to the number of rows whose time was raised."""
    raised = content.origin.raised + count
    return replace(content, origin=replace(content.origin, raised=raised))


def _check_replaces_quarantined(
    symbol_dir: SymbolDir, old: DayEntry, day: date, offered: pl.DataFrame
) -> None:
    """Check that the rows for a quarantined day reach as far as the lost ones."""
    what = "ids"
    low, high = (None if end is None else str(end) for end in (old.first_id, old.last_id))
    if old.first_id is None and old.min_ts_us is not None:
        times = offered.get_column(TIME)
        what, ends = "times", pl.Series([old.min_ts_us, old.max_ts_us], dtype=times.dtype)
        low, high = (str(end) for end in ends)
        covers = times[0] <= ends[0] and times[-1] >= ends[1] and offered.height >= old.rows
    elif old.first_id is not None and ID in offered.columns:
        ids = offered.get_column(ID)
        covers = ids[0] <= old.first_id and ids[-1] >= old.last_id
    else:
        covers = old.first_id is None
    if covers:
        return
    raise StorageError(
        with_hint(
            f"{day} of {symbol_dir.label} is quarantined: its {what} `{low}` to `{high}` "
            "cannot be read, and the new rows do not cover them",
            "write all ticks of the day in one call, or fetch the day again",
        )
    )


def _fill_day(
    symbol_dir: SymbolDir,
    old: DayEntry | None,
    day: date,
    offered: pl.DataFrame,
    absent: Sequence[IdSpan],
    tally: _Tally,
) -> DayEntry | None:
    if old is None and is_journaled(symbol_dir, day):
        old = DayEntry("tail", origin=Origin("rest"))
    if old is None or not old.is_stored:
        raise TicksNotCachedError(
            f"{day} of {symbol_dir.label} is not in the store, so its gaps cannot be filled",
            symbol=symbol_dir.symbol,
            days=[day],
        )
    known = tuple(sorted({*old.source_absent, *absent}))
    if offered.is_empty():
        return None if known == old.source_absent else replace(old, source_absent=known)
    merged = _merged(symbol_dir, old, day, offered, tally)
    state: State = "tail" if old.state == "absent_confirmed" else old.state
    content = replace(_content(old, merged, state), source_absent=known)
    content = with_single_fills(content, day, symbol_dir.label)
    return store_day(symbol_dir, day, _with_raised(content, merged.raised), old)


def _put_day(
    symbol_dir: SymbolDir, old: DayEntry | None, item: DayTicks, tally: _Tally
) -> DayEntry | None:
    """Store a day of a source, and return its new entry. A tail never replaces a final day."""
    state = "tail" if item.is_tail else "final" if item.ticks.height else "absent_confirmed"
    if old is not None and state == "tail" and old.state in ("final", "absent_confirmed"):
        return None
    content = Content(item.ticks, state, item.origin, item.source_absent, item.reason)  # type: ignore[arg-type]
    if old is not None and state == old.state == "tail":
        content = _grown(symbol_dir, old, item.day, content)
    content = with_single_fills(content, item.day, symbol_dir.label)
    entry = store_day(symbol_dir, item.day, content, old)
    if entry is not None:
        tally.raised += item.origin.raised
        is_new = old is None or not old.is_stored or not old.rows
        rows = content.ticks.height
        tally.added += rows if is_new else max(0, rows - old.rows)  # type: ignore[union-attr]
        if not is_new and entry.content != old.content:  # type: ignore[union-attr]
            tally.replaced.append(item.day)
    return entry


def _grown(symbol_dir: SymbolDir, old: DayEntry, day: date, content: Content) -> Content:
    """Add the stored rows of a growing day whose ids a source has not delivered again.

    Rows of a month's file are numbered anew in each edition, and replace those that are stored.
    """
    if not old.rows or has_monthly_ids(symbol_dir.source):
        return content
    try:
        stored = stored_rows(symbol_dir, day, old)
    except ParquetCorruptionError:  # it is in quarantine now, and the source has delivered the day
        return content
    rows = content.ticks
    left = stored.join(rows.select(ID), on=ID, how="anti", maintain_order="left")
    if left.height:
        rows = raised_times(pl.concat([rows, left], how="diagonal").sort(ID)).ticks
    return replace(
        content,
        ticks=rows,
        origin=old.origin if old.origin.kind == "stream" else content.origin,
        source_absent=tuple(sorted({*old.source_absent, *content.source_absent})),
    )
