"""The bars of a job, in groups of days that are published together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.days import Track, compute_days, new_builder, orphan, restored
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.exceptions import ParquetCorruptionError, SnapshotExpiredError
from rangebar_polars.ingest.id_gap import Hole, first_hole, first_line
from rangebar_polars.populate.outcome import Outcome, TrackOutcome
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rangebar_polars.bar_series.days import ComputedDay
    from rangebar_polars.populate.plan import Job, SeriesJob
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["GROUP_DAYS", "GROUP_S", "compute_units"]

#: A group ends after so many days, or seconds of work.
GROUP_DAYS = 30
GROUP_S = 1.0


def compute_units(
    job: Job, *, group_s: float | None = None
) -> Generator[list[UnitDraft], None, Outcome]:
    """The units of a job in groups, in order; its return value says how far it got.

    A group has days of one month, all tracks of a day, and at most 30 days. `built_on` is set in
    the first unit of each series alone: a publisher fills in what the group before was given.

    Parameters
    ----------
    job
        What is to be computed.
    group_s
        Seconds of work after which a group ends; None where groups must be the same every time.
    """
    held = snapshot(
        TickStorage(job.cache_dir),
        job.symbol,
        job.first_day,
        job.last_day,
        source=job.source,
        market=job.market,
        check_end=False,
    )
    tracks = [_begun(plan, first_hole(held, plan.first_day)) for plan in job.tracks]
    # A track that has had the days of a hole goes on without the others.
    for hole, together in groupby(sorted(tracks, key=_stop), key=lambda one: one.hole):
        through = job.last_day if hole is None else hole.day - ONE_DAY
        yield from _Pass(held, list(together)).groups(through, group_s)
    return Outcome(tuple(one.outcome() for one in tracks))


@dataclass(slots=True)
class _Progress:
    """A track of a job, and what came of it."""

    plan: SeriesJob
    track: Track
    hole: Hole | None
    last_in_segment: date | None
    days: int = 0
    absent: list[date] = field(default_factory=list)
    bars: int = 0
    orphans: int = 0

    def draft(self, bars: pl.DataFrame, ticks: TickDay, day: date) -> UnitDraft:
        """The unit of a day."""
        builder = self.track.builder
        state = builder.checkpoint()
        if day == self.last_in_segment:
            bars = pl.concat([bars, orphan(builder)])
        closed = int(bars["is_closed"].sum())
        self.days += 1
        self.bars += closed
        self.orphans += bars.height - closed
        if ticks.state == "absent_confirmed":
            self.absent.append(day)
        plan = self.plan
        return UnitDraft(
            plan.series,
            day,
            bars,
            ticks,
            state,
            built_on=plan.built_on if day == plan.first_day else None,
            generation=plan.generation,
            fencing=plan.fencing,
        )

    def outcome(self) -> TrackOutcome:
        """The result."""
        absent = tuple(self.absent)
        series, bars = self.plan.series, self.bars
        return TrackOutcome(series, self.days, absent, bars, self.orphans, self.hole)


class _Pass:
    """Tracks that are computed together, in one pass over the ticks."""

    def __init__(self, held: TickSnapshot, tracks: list[_Progress]) -> None:
        self._held = held
        self._tracks = tracks

    def groups(self, through: date, group_s: float | None) -> Generator[list[UnitDraft]]:
        """Units in groups."""
        tracks = [one.track for one in self._tracks]
        first = min(track.first_day for track in tracks)
        if through < first:
            return
        group: list[UnitDraft] = []
        begun = time.monotonic()
        for computed in self._computed(tracks, through):
            group += self._drafts(computed)
            day = computed.day
            is_late = group_s is not None and time.monotonic() - begun >= group_s
            is_full = (day - first).days + 1 >= GROUP_DAYS
            if is_late or is_full or (day + ONE_DAY).day == 1 or day == through:
                yield group
                group = []
                begun, first = time.monotonic(), day + ONE_DAY
        if group:
            yield group

    def _computed(self, tracks: list[Track], through: date) -> Iterator[ComputedDay]:
        """Days up to a last one, or to a file that is not what was written."""
        following = min(track.first_day for track in tracks)
        try:
            for computed in compute_days(self._held, tracks, through):
                yield computed
                following = computed.day + ONE_DAY
        except (ParquetCorruptionError, SnapshotExpiredError) as error:
            hole = Hole(following, first_line(error), may_pass=True)
            for one in self._tracks:
                one.hole = hole

    def _drafts(self, computed: ComputedDay) -> list[UnitDraft]:
        ticks = _tick_day(self._held[computed.day], computed)
        return [
            one.draft(bars, ticks, computed.day)
            for one, bars in zip(self._tracks, computed.bars, strict=True)
            if bars is not None
        ]


def _begun(plan: SeriesJob, hole: Hole | None) -> _Progress:
    series = plan.series
    builder = new_builder(series.spec) if plan.state is None else restored(plan.state)
    end = series.segment.end
    last = None if end is None else end - ONE_DAY
    return _Progress(plan, Track(series, builder, plan.first_day), hole, last)


def _stop(progress: _Progress) -> date:
    return date.max if progress.hole is None else progress.hole.day


def _tick_day(held: SnapshotDay, computed: ComputedDay) -> TickDay:
    coverage = held.coverage
    absent = coverage.entry.source_absent if coverage.entry is not None else ()
    return TickDay(
        coverage.state,
        computed.rows,
        held.tick_hash,
        computed.first_id,
        computed.last_id,
        absent,
        coverage.reason,
    )
