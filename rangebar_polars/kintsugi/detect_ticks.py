"""Detect what is wrong with stored ticks. Manifests, journals and files say it, never bars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.fetch.checksum import SUFFIX, parse_checksum
from rangebar_polars.fetch.registry import archive_probe
from rangebar_polars.sources import has_monthly_ids, is_user_source
from rangebar_polars.storage.coverage import MISSING, IdSpans
from rangebar_polars.storage.days.day_file import FileFaultError, read_day, read_verified
from rangebar_polars.storage.layout import is_folder
from rangebar_polars.storage.reading.plan import PRUNED
from rangebar_polars.symbol_registry import get_effective_start_date

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from rangebar_polars.fetch.transport import Transport
    from rangebar_polars.kintsugi.checked import Checked
    from rangebar_polars.kintsugi.scope import Place
    from rangebar_polars.kintsugi.shards import Shard
    from rangebar_polars.storage.coverage import DayCoverage, Gap
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = [
    "changed_archives",
    "cut_edges",
    "faulty_files",
    "holes_and_tails",
    "missing_after",
    "missing_before",
    "orphan_journals",
]

ID, TIME = "agg_trade_id", "timestamp"
#: A day that still grows after so many days is overdue.
TAIL_DAYS = 10
#: Archives of the last so many days are asked for whether they changed.
ARCHIVE_DAYS = 30
#: Without a writer, a state file of this age belongs to a writer that does not come back.
ORPHAN_S = 3_600.0
_STREAM = "stream"
_SEEN = "bars were computed from ids that the store does not have any more"
#: Where the paths of Binance's archive begin.
_ROOT = "/data/"


def holes_and_tails(place: Place) -> list[Shard]:
    """Return the tasks of missing days, missing ids, quarantined days, and days that grow too long."""
    covered, entries = place.coverage()
    streamed = place.streamed([one.day for one in covered])
    first = get_effective_start_date(place.folder.symbol)
    starts = date.min if first is None else date.fromisoformat(first)
    found: list[Shard] = []
    missing: list[date] = []
    is_after_hole = False
    for one in covered:
        # Nobody needs the ticks of a day that was pruned.
        is_missing = one.state == MISSING and one.reason != PRUNED
        is_missing = is_missing and one.day >= starts and one.day not in streamed
        if missing and not is_missing:
            found.append(_missing(place, missing, entries))
            missing = []
        if is_missing:
            missing.append(one.day)
        elif one.day not in streamed:
            found += _of_day(place, one, entries, is_after_hole=is_after_hole)
        is_after_hole = not one.is_stored
    if missing:
        found.append(_missing(place, missing, entries))
    return found


def _missing(place: Place, days: Sequence[date], entries: Mapping[date, DayEntry]) -> Shard:
    around = _around(days[0], days[-1], entries)
    return place.shard("tick_missing", days, "the store does not have the day", around=around)


def _of_day(
    place: Place, one: DayCoverage, entries: Mapping[date, DayEntry], *, is_after_hole: bool
) -> Iterator[Shard]:
    day, entry = one.day, one.entry
    if entry is None:
        return
    if not one.is_stored:
        around = _around(day, day, entries)
        yield place.shard("tick_quarantined", [day], one.reason, around=around)
        return
    if entry.may_grow and not entry.is_live and day < clock.utc_now().date() - TAIL_DAYS * ONE_DAY:
        reason = f"it has been growing for more than {TAIL_DAYS} days"
        yield place.shard("tail_overdue", [day], reason, priority="P3")
        return
    if entry.may_grow:
        return
    for gap in one.gaps:
        # What is missing before the first id belongs to the days before, which are missing whole.
        if is_after_hole and entry.first_id is not None and gap.last_id < entry.first_id:
            continue
        around = _around_gap(place, gap, entry, entries)
        ids = (gap.first_id, gap.last_id)
        reason = gap.reason or "the store does not have the ids"
        yield place.shard("tick_gap", [day], reason, ids=ids, around=around)


def _around(
    first_day: date, last_day: date, entries: Mapping[date, DayEntry]
) -> tuple[tuple[int | None, int | None], int | None]:
    """Return the times of the trades before and after some days, and the id of the one before."""
    stored = {day: one for day, one in entries.items() if one.is_stored and one.rows}
    before = stored.get(max((day for day in stored if day < first_day), default=date.min))
    after = stored.get(min((day for day in stored if day > last_day), default=date.max))
    times = (
        None if before is None else before.max_ts_us,
        None if after is None else after.min_ts_us,
    )
    return times, None if before is None else before.last_id


def _around_gap(
    place: Place, gap: Gap, entry: DayEntry, entries: Mapping[date, DayEntry]
) -> tuple[tuple[int | None, int | None], int | None]:
    (before_us, after_us), before_id = _around(gap.day, gap.day, entries)
    trades = pl.DataFrame(schema={ID: pl.Int64, TIME: pl.Datetime("us", "UTC")})
    try:
        trades = read_day(place.folder, gap.day, entry).select(ID, TIME)
    except FileFaultError:  # the check of the files says so
        return (before_us, after_us), before_id
    times = trades.get_column(TIME).dt.epoch("us")
    below = trades.get_column(ID).search_sorted(gap.first_id, side="left")
    above = trades.get_column(ID).search_sorted(gap.last_id, side="right")
    if below:
        before_us, before_id = int(times[below - 1]), int(trades.get_column(ID)[below - 1])
    if above < trades.height:
        after_us = int(times[above])
    return (before_us, after_us), before_id


def cut_edges(place: Place) -> list[Shard]:
    """Return the tasks of days that lack the first or last ids that their bars were computed from.

    Beyond them, the store has no day whose ids would show that.
    """
    source = place.folder.source
    if not place.chains or is_user_source(source) or has_monthly_ids(source):
        return []
    covered, entries = place.coverage()
    streamed = place.streamed([one.day for one in covered])
    stored = {one.day for one in covered if one.is_stored}
    found = []
    for one in covered:
        day, entry = one.day, one.entry
        if entry is None or entry.may_grow or day not in stored or day in streamed:
            continue
        first_id, last_id = _seen(place, day)
        (before_us, after_us), before_id = _around(day, day, entries)
        if first_id is not None and day - ONE_DAY not in stored:
            around = (before_us, entry.min_ts_us), before_id
            spans = missing_before(entry, first_id)
            found += [
                place.shard("tick_gap", [day], _SEEN, ids=ids, around=around) for ids in spans
            ]
        if last_id is not None and day + ONE_DAY not in stored:
            around = (entry.max_ts_us, after_us), entry.last_id
            spans = missing_after(entry, last_id)
            found += [
                place.shard("tick_gap", [day], _SEEN, ids=ids, around=around) for ids in spans
            ]
    return found


def _seen(place: Place, day: date) -> tuple[int | None, int | None]:
    """Return the first and the last id of a day that bars were computed from."""
    units = [unit for chain in place.chains if (unit := chain.unit(day)) is not None]
    first_ids = (unit.tick_first_id for unit in units if unit.tick_first_id is not None)
    last_ids = (unit.tick_last_id for unit in units if unit.tick_last_id is not None)
    return min(first_ids, default=None), max(last_ids, default=None)


def missing_before(entry: DayEntry, first_id: int) -> list[tuple[int, int]]:
    """Return the spans of ids from an id to the start of a day that are not known to be absent."""
    if entry.first_id is None or entry.first_id <= first_id:
        return []
    return IdSpans(entry.source_absent).missing_from((first_id, entry.first_id - 1))


def missing_after(entry: DayEntry, last_id: int) -> list[tuple[int, int]]:
    """Return the spans of ids from the end of a day to an id that are not known to be absent."""
    if entry.last_id is None or entry.last_id >= last_id:
        return []
    return IdSpans(entry.source_absent).missing_from((entry.last_id + 1, last_id))


def faulty_files(place: Place, checked: Checked, is_late: Callable[[], bool]) -> list[Shard]:
    """Read the files that have not been read for a week; return the tasks of those that are faulty.

    Once the time of the pass is over, the rest is left to the next one.
    """
    found = []
    for day, entry in sorted(place.named_days.items()):
        if not entry.is_stored or not entry.file:
            continue
        path = place.folder.day_file(day, entry.file)
        if is_late() or not checked.is_file_due(path):
            continue
        try:
            read_verified(place.folder, day, entry)
        except FileFaultError as fault:
            around = _around(day, day, place.named_days)
            found.append(place.shard("tick_quarantined", [day], fault.reason, around=around))
            continue
        checked.note_file(path)
    return found


def orphan_journals(place: Place) -> list[Shard]:
    """Return the tasks of journals that no writer will compact."""
    folder = place.folder
    if not is_folder(folder.live):
        return []
    from rangebar_polars.storage.live.journal_file import list_journals
    from rangebar_polars.storage.live.state_file import state_age_s
    from rangebar_polars.storage.live.writer_lock import has_writer

    age_s = state_age_s(folder)
    if has_writer(folder) or (age_s is not None and age_s < ORPHAN_S):
        return []
    today = clock.utc_now().date()
    days = sorted({file.day for file in list_journals(folder) if file.day < today})
    return [
        place.shard("orphan_journal", [day], "its writer has ended", priority="P0")
        for day in days
        if not is_compacted(place.named_days.get(day))
    ]


def is_compacted(entry: DayEntry | None) -> bool:
    """Return whether the journals of a day are not needed for its ticks."""
    return entry is not None and (not entry.may_grow or entry.origin.kind == _STREAM)


def changed_archives(
    place: Place, checked: Checked, only: Collection[date] | None = None
) -> list[Shard]:
    """Ask for the archives of the last days, or of `only` some; return the tasks of those that changed."""
    by_url: dict[str, list[date]] = {}
    oldest = clock.utc_now().date() - timedelta(days=ARCHIVE_DAYS)
    for day, entry in sorted(place.named_days.items()):
        is_asked = day >= oldest if only is None else day in only
        if entry.is_stored and entry.origin.kind == "archive" and is_asked:
            by_url.setdefault(entry.origin.url, []).append(day)
    found = []
    due = {url: days for url, days in by_url.items() if url and checked.is_archive_due(url)}
    if not due:
        return []
    folder = place.folder
    transport = archive_probe(folder.symbol, folder.source, folder.market).transport
    for url, days in due.items():
        path = _path_at(transport, url)
        reason = _change(transport, path, place.named_days[days[0]]) if path else ""
        if reason:
            found.append(place.shard("archive_changed", days, reason, priority="P3"))
        else:
            checked.note_archive(url)
    return found


def _path_at(transport: Transport, url: str) -> str:
    """Return the path of an archive at the address of today; empty if it is another archive."""
    base = transport.url_of("").rstrip("/")
    if url.startswith(f"{base}/"):
        return url.removeprefix(f"{base}/")
    # The same archive at another address, such as a mirror.
    _, mark, rest = url.partition(_ROOT)
    return (mark + rest).lstrip("/") if mark else ""


def _change(transport: Transport, path: str, entry: DayEntry) -> str:
    """Return how an archive differs from what was stored of it; empty if it does not."""
    origin = entry.origin
    facts = transport.facts(path)
    if facts is None:
        return ""  # it is gone, and what is stored of it stays
    if origin.checksum:
        return _checksum_change(transport, path, origin.checksum)
    if origin.etag and facts.etag:
        return "" if facts.etag == origin.etag else "its ETag is another one"
    written = facts.last_modified
    is_same = not origin.last_modified or written is None
    is_same = is_same or _same_instant(origin.last_modified, written)  # type: ignore[arg-type]
    return "" if is_same else "it was written again"


def _checksum_change(transport: Transport, path: str, known: str) -> str:
    try:
        content = transport.get(path + SUFFIX).content
    except FileNotFoundError:
        return ""
    published = parse_checksum(content, path.rpartition("/")[2])
    is_same = bool(published.fault) or published.record == known
    return "" if is_same else "its checksum is another one"


def _same_instant(text: str, instant: datetime) -> bool:
    try:
        known = datetime.fromisoformat(text)
    except ValueError:
        return True
    return known.astimezone(UTC) == instant.astimezone(UTC)
