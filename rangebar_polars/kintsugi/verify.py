"""Prove a repair: the detectors find nothing any more, and rebuilt bars are computed again."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.days import Track, compute_days, new_builder, orphan, restored
from rangebar_polars.bar_series.live_builders import bars_state
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains, states_of
from rangebar_polars.clickhouse.schema.rows import rows_of
from rangebar_polars.kintsugi.checked import Checked
from rangebar_polars.kintsugi.detect_ticks import (
    changed_archives,
    holes_and_tails,
    is_compacted,
    missing_after,
)
from rangebar_polars.kintsugi.discover import bars_of
from rangebar_polars.kintsugi.scope import Place
from rangebar_polars.storage.days.day_file import FileFaultError, read_verified
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from rangebar_polars.bar_series.days import ComputedDay
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.kintsugi.scope import Scope
    from rangebar_polars.kintsugi.shards import Shard

__all__ = ["bars_fault", "ticks_fault"]

#: Days whose rows are hashed together.
_BATCH = 30


def ticks_fault(shard: Shard, scope: Scope) -> str:
    """Return what is still wrong with the ticks of a task; empty if nothing is."""
    place = Place(scope.storage.symbol_dir(shard.symbol, shard.source, shard.market))
    if shard.kind == "orphan_journal":
        left = [day for day in shard.days if not is_compacted(place.named_days.get(day))]
        return f"the journals of {left[0]} are not compacted" if left else ""
    if shard.kind == "archive_changed":
        return next((one.reason for one in changed_archives(place, Checked(), shard.days)), "")
    if shard.kind == "tick_quarantined" and (fault := _file_fault(place, shard.days)):
        return fault
    entry = place.named_days.get(shard.days[0])
    if shard.kind == "tick_gap" and shard.last_id is not None and entry is not None:
        for first_id, last_id in missing_after(entry, shard.last_id):
            return f"ids {first_id} to {last_id} are missing"
    for found in holes_and_tails(place):
        if found.kind == shard.kind and set(found.days) & set(shard.days):
            return found.reason
    return ""


def _file_fault(place: Place, days: Sequence[date]) -> str:
    """Read the files of days again; return what is wrong with the first faulty one."""
    for day in days:
        entry = place.named_days.get(day)
        if entry is None or not entry.is_stored or not entry.file:
            continue
        try:
            read_verified(place.folder, day, entry)
        except FileFaultError as fault:
            return fault.reason
    return ""


def bars_fault(shard: Shard, scope: Scope) -> str:
    """Return what is still wrong with the bars of a task; empty if nothing is."""
    found = bars_of(scope, shard.symbol, shard.source, shard.market)
    if found.failures:
        return found.failures[0]
    for other in found.shards:
        if set(other.series) & set(shard.series) and other.kind != "head_behind":
            return other.reason
    for series in shard.series:
        day = differing_day(series, shard.days[0], scope)
        if day is not None:
            return f"the bars of {day} are not those of a second computation"
    return ""


def differing_day(series: BarSeries, first_day: date, scope: Scope) -> date | None:
    """Compute the days of a series again, and return the first one whose bars differ."""
    with reading(scope.dsn, cache_dir=scope.cache_dir) as cache:
        if cache is None:
            return first_day
        chain = read_chains(cache, [series.spec]).get(series)
        if chain is None or not chain.units:
            return first_day
        before = chain.unit(first_day - ONE_DAY)
        state = None if before is None else states_of(cache, [before])[before]
    builder = new_builder(series.spec) if state is None else restored(bars_state(state))
    start = series.first_day if state is None else first_day
    return _first_other(chain, Track(series, builder, start), scope)


def _first_other(chain: Chain, track: Track, scope: Scope) -> date | None:
    spec, last_day = chain.series.spec, chain.frontier - ONE_DAY
    if track.first_day > last_day:
        return None
    ticks = snapshot(
        scope.storage,
        spec.symbol,
        track.first_day,
        last_day,
        source=spec.source,
        market=spec.market,
        check_end=False,
    )
    computed = _with_orphan(track, compute_days(ticks, [track], last_day))
    while days := list(islice(computed, _BATCH)):
        frames = rows_of([bars for _, bars in days if bars is not None])
        for (day, _), rows in zip(days, frames, strict=True):
            unit = chain.unit(day)
            if unit is None or (rows.height, rows["row_hash"].sum()) != (
                unit.rows,
                unit.row_hash_sum,
            ):
                return day
    return None


def _with_orphan(
    track: Track, computed: Iterable[ComputedDay]
) -> Iterator[tuple[date, pl.DataFrame | None]]:
    """Yield days with their bars; the last one of a segment also with the bar that its end ends."""
    end = track.series.segment.end
    for one in computed:
        bars = one.bars[0]
        if bars is not None and one.day + ONE_DAY == end:
            bars = pl.concat([bars, orphan(track.builder)])
        yield one.day, bars
