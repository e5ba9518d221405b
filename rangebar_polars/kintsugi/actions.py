"""Repair tasks by the ordinary doors: fetches, compaction, and populations."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import (
    ParquetCorruptionError,
    SnapshotExpiredError,
    SourceError,
    TickDataError,
    with_hint,
)
from rangebar_polars.fetch.registry import day_source
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.ingest.newest_day import Clamp
from rangebar_polars.kintsugi.detect_ticks import missing_after, missing_before
from rangebar_polars.populate.plan import Request
from rangebar_polars.populate.populate import populate_requests
from rangebar_polars.populate.state import PopulationOptions
from rangebar_polars.storage.coverage import Gap
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.live.compact import compact_day
from rangebar_polars.storage.live.writer_lock import WriterLock
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.symbol_registry import past_gate

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.kintsugi.scope import Scope
    from rangebar_polars.kintsugi.shards import Action, Shard
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["Done", "SkippedError", "compact_journal", "populate_head", "rebuild", "repair_ticks"]

#: Bytes that a bar takes in the cache while it is rebuilt, at most.
_BAR_BYTES = 400
_SMALLEST_FREE = 1 << 30


class SkippedError(Exception):
    """Raised when a limit does not allow a repair."""


@dataclass(slots=True)
class Done:
    """What a repair has done."""

    action: Action = "repaired"
    bars: int = 0
    #: Days of bars that were stored, one for each series.
    days: int = 0
    rows: int = 0
    used_ids: bool = False
    splits: int = 0


def repair_ticks(shard: Shard, scope: Scope) -> Done:
    """Fetch days or ids that the store does not have, or not rightly.

    Raises
    ------
    SourceError
        The source did not answer, or does not have the day.
    TickDataError
        What was written by the user cannot be fetched.
    """
    storage, done = scope.storage, Done()
    if shard.kind == "tick_quarantined":
        _set_aside(shard, scope)
        if _is_of_user(shard, scope):
            hint = "write it again with `TickStorage.write_ticks`"
            raise TickDataError(with_hint("only you can repair a day that you wrote", hint))
    if shard.kind == "tick_gap" and _is_at_edge(shard, scope):
        return _fill_edge(shard, scope)
    with past_gate(shard.symbol):
        report = fetch_ticks(
            shard.symbol,
            shard.days[0],
            shard.days[-1],
            source=shard.source,
            market=shard.market,
            cache_dir=scope.cache_dir,
            refresh=shard.kind == "archive_changed",
            verbose=False,
        )
    failpoint(Step.TICKS_FILLED)
    done.rows = report.rows + report.filled_ids
    done.used_ids = bool(report.filled_ids or report.absent_ids) or shard.kind == "tick_gap"
    is_absent = shard.kind == "tick_gap" and not report.filled_ids and report.absent_ids > 0
    done.action = "absent" if is_absent else "repaired"
    covered = storage.coverage(
        shard.symbol, shard.days[0], shard.days[-1], source=shard.source, market=shard.market
    )
    left = covered.filter(covered["state"].is_in(["missing", "quarantined"]))
    if left.height:
        day, reason = left.item(0, "day"), left.item(0, "reason")
        raise SourceError(f"the source does not have {day}" + (f": {reason}" if reason else ""))
    return done


def _is_at_edge(shard: Shard, scope: Scope) -> bool:
    """Return whether no stored day shows that the ids are missing, so that a fetch does not see it."""
    day = shard.days[0]
    entry = _entry(shard, scope, day)
    if entry is None or shard.first_id is None or shard.last_id is None:
        return False
    if missing_after(entry, shard.last_id):
        return True
    before = _entry(shard, scope, day - ONE_DAY)
    is_first = before is None or not before.is_stored
    return is_first and bool(missing_before(entry, shard.first_id))


def _fill_edge(shard: Shard, scope: Scope) -> Done:
    """Request ids that belong to the start or the end of a day."""
    assert shard.first_id is not None  # noqa: S101 - a gap has ids
    assert shard.last_id is not None  # noqa: S101
    symbol, venue = shard.symbol, {"source": shard.source, "market": shard.market}
    with past_gate(symbol), closing(day_source(symbol, shard.source, shard.market)) as source:
        if source.by_id is None:
            raise SourceError(f"the source has no ids of {symbol}")
        rows, spans = source.by_id.ids(shard.first_id, shard.last_id)
    absent = [Gap(shard.days[0], *span) for span in spans]
    scope.storage.fill_gaps(symbol, rows, absent, **venue)
    failpoint(Step.TICKS_FILLED)
    action: Action = "repaired" if rows.height else "absent"
    return Done(action, rows=rows.height, used_ids=True)


def _set_aside(shard: Shard, scope: Scope) -> None:
    """Have a reader find out that the file of a day is faulty."""
    for day in shard.days:
        try:
            scope.storage.get_ticks(
                shard.symbol, day, day, source=shard.source, market=shard.market, on_gap="report"
            )
        except (ParquetCorruptionError, SnapshotExpiredError):
            continue


def _is_of_user(shard: Shard, scope: Scope) -> bool:
    entries = (_entry(shard, scope, day) for day in shard.days)
    return any(
        entry is not None and not entry.is_stored and entry.kept_state == "given"
        for entry in entries
    )


def _entry(shard: Shard, scope: Scope, day: date) -> DayEntry | None:
    folder = scope.storage.symbol_dir(shard.symbol, shard.source, shard.market)
    return read_manifest(folder, month_of(day)).days.get(day)


def compact_journal(shard: Shard, scope: Scope) -> Done:
    """Write the journals of a day into its file, if no writer has begun meanwhile."""
    folder = scope.storage.symbol_dir(shard.symbol, shard.source, shard.market)
    for day in shard.days:
        lock = WriterLock.try_take(folder)
        if lock is None:
            return Done()  # a writer is there, and does it
        try:
            compact_day(folder, day)
        finally:
            lock.release()
        failpoint(Step.JOURNAL_COMPACTED)
    return Done()


def populate_head(shard: Shard, scope: Scope, *, verbose: bool) -> Done:
    """Store the whole days after those that are stored."""
    return _populate(shard, scope, shard.days[0], shard.days[-1], force=False, verbose=verbose)


def rebuild(shard: Shard, scope: Scope, *, verbose: bool) -> Done:
    """Compute the bars of a series again from the first touched day to its frontier.

    Raises
    ------
    SkippedError
        There is not enough room.
    """
    _check_room(shard, scope)
    last_day = max(shard.days)
    return _populate(shard, scope, shard.days[0], last_day, force=True, verbose=verbose)


def _populate(
    shard: Shard, scope: Scope, first_day: date, last_day: date, *, force: bool, verbose: bool
) -> Done:
    options = PopulationOptions(
        scope.cache_dir,
        scope.dsn,
        force_refresh=force,
        refresh_stale=True,
        notify=True,
        verbose=verbose,
    )
    clamp = Clamp(last_day, None, "it is repaired")
    specs = tuple(dict.fromkeys(one.spec for one in shard.series))
    exact = shard.series if force else ()
    request = Request(specs, first_day, clamp, series=exact)
    with past_gate(shard.symbol):
        report = populate_requests([request], options)
    failpoint(Step.REBUILT)
    splits = len({one.series.segment_start for one in report.series if one.published})
    return Done(bars=int(report), days=report.published, splits=splits)


def _check_room(shard: Shard, scope: Scope) -> None:
    """Compare the free room with twice that of the bars that are stored from the first day on."""
    folder = resolve(scope.dsn, scope.cache_dir).folder
    if folder is None:
        return
    specs = [one.spec for one in shard.series]
    with reading(scope.dsn, cache_dir=scope.cache_dir) as cache:
        chains = {} if cache is None else read_chains(cache, specs)
    rows = sum(
        unit.rows
        for series, chain in chains.items()
        if series in shard.series
        for unit in chain.units
        if unit.day >= min(shard.days)
    )
    needed = max(_SMALLEST_FREE, 2 * rows * _BAR_BYTES)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SkippedError(f"{free:,} bytes are free, and a rebuild needs {needed:,}")
