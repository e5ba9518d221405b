"""Compute the units of a job, in groups of days that are published together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.days import (
    Replay,
    Track,
    compute_days,
    new_builder,
    orphan,
    resumed,
)
from rangebar_polars.bar_series.featured import ReplayError, replay_of
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.exceptions import ParquetCorruptionError, SnapshotExpiredError
from rangebar_polars.ingest.id_gap import Hole, first_hole, first_line
from rangebar_polars.populate.outcome import Outcome, SeriesOutcome
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rangebar_polars.bar_series.days import ComputedDay
    from rangebar_polars.populate.plan import Job, SeriesJob
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["GROUP_DAYS", "GROUP_S", "compute_units"]

#: A group ends after this many days, or this many seconds of work.
GROUP_DAYS = 30
GROUP_S = 1.0


def compute_units(
    job: Job, *, group_s: float | None = None
) -> Generator[list[UnitDraft], None, Outcome]:
    """Yield the units of a job in groups, in order; the generator returns the outcome.

    A group holds whole days of one month, all series of each day, and at most 30 days. Only the
    first unit of each series has `built_on` set; a publisher fills in the attempts of the others.

    Parameters
    ----------
    job
        The job to compute.
    group_s
        Seconds of work after which a group ends; None if the groups must be the same in every run.
    """
    ticks = _snapshot(job, job.first_day, job.last_day)
    runs = [_start(job, part, first_hole(ticks, part.first_day)) for part in job.series_jobs]
    # A series that starts after a hole continues alone once the others have stopped there.
    for hole, with_same_hole in groupby(sorted(runs, key=_stop), key=lambda run: run.hole):
        through = job.last_day if hole is None else hole.day - ONE_DAY
        yield from _Pass(ticks, list(with_same_hole)).groups(through, group_s)
    return Outcome(tuple(run.outcome() for run in runs))


def _snapshot(job: Job, first_day: date, last_day: date) -> TickSnapshot:
    return snapshot(
        TickStorage(job.cache_dir),
        job.symbol,
        first_day,
        last_day,
        source=job.venue.source,
        market=job.venue.market,
        check_end=False,
    )


@dataclass(slots=True)
class _SeriesRun:
    """One series of a job while it is computed."""

    job: SeriesJob
    track: Track
    hole: Hole | None
    last_in_segment: date | None
    #: The day whose state the stored ticks do not give any more.
    differs: date | None = None
    days: int = 0
    absent: list[date] = field(default_factory=list)
    bars: int = 0
    orphans: int = 0

    def draft(self, bars: pl.DataFrame, ticks: TickDay, day: date) -> UnitDraft:
        """Make the unit of a day."""
        builder = self.track.builder
        state, replay = builder.checkpoint(), replay_of(builder, day_start(day + ONE_DAY))
        if day == self.last_in_segment:
            bars = pl.concat([bars, orphan(builder)])
        closed = int(bars["is_closed"].sum())
        self.days += 1
        self.bars += closed
        self.orphans += bars.height - closed
        if ticks.state == "absent_confirmed":
            self.absent.append(day)
        job = self.job
        return UnitDraft(
            job.series,
            day,
            bars,
            ticks,
            state,
            built_on=job.built_on if day == job.first_day else None,
            generation=job.generation,
            fencing=job.fencing,
            feature_groups=job.features.words,
            replay=replay,
        )

    def outcome(self) -> SeriesOutcome:
        """Return the outcome of the series."""
        absent = tuple(self.absent)
        series, bars = self.job.series, self.bars
        return SeriesOutcome(series, self.days, absent, bars, self.orphans, self.hole, self.differs)


class _Pass:
    """Series that are computed together, in one pass over the ticks."""

    def __init__(self, ticks: TickSnapshot, runs: list[_SeriesRun]) -> None:
        self._ticks = ticks
        self._runs = runs

    def groups(self, through: date, group_s: float | None) -> Generator[list[UnitDraft]]:
        """Yield the units up to a last day in groups."""
        first = min(run.track.first_day for run in self._runs)
        if through < first:
            return
        group: list[UnitDraft] = []
        started = clock.monotonic()
        for computed in self._compute(through):
            group += self._drafts(computed)
            day = computed.day
            is_late = group_s is not None and clock.monotonic() - started >= group_s
            is_full = (day - first).days + 1 >= GROUP_DAYS
            if is_late or is_full or (day + ONE_DAY).day == 1 or day == through:
                yield group
                group = []
                started, first = clock.monotonic(), day + ONE_DAY
        if group:
            yield group

    def _compute(self, through: date) -> Iterator[ComputedDay]:
        """Compute days up to a last day, or up to a file that is damaged or gone."""
        tracks = [run.track for run in self._runs]
        following = min(track.first_day for track in tracks)
        try:
            for computed in compute_days(self._ticks, tracks, through):
                yield computed
                following = computed.day + ONE_DAY
        except (ParquetCorruptionError, SnapshotExpiredError) as error:
            hole = Hole(following, first_line(error), may_pass=True)
            for run in self._runs:
                run.hole = hole

    def _drafts(self, computed: ComputedDay) -> list[UnitDraft]:
        ticks = _tick_day(self._ticks[computed.day], computed)
        return [
            run.draft(bars, ticks, computed.day)
            for run, bars in zip(self._runs, computed.bars, strict=True)
            if bars is not None
        ]


def _start(job: Job, part: SeriesJob, hole: Hole | None) -> _SeriesRun:
    series, day = part.series, part.first_day
    end = series.segment.end
    last = None if end is None else end - ONE_DAY
    differs = None
    builder = new_builder(series.spec, part.features)
    if part.state is not None:
        replay = Replay(lambda other: _snapshot(job, other, other), part.replay)
        try:
            builder = resumed(series, part.state, day, part.features, replay)
        except ReplayError as error:
            differs, hole = day - ONE_DAY, Hole(day, first_line(error))
        except (ParquetCorruptionError, SnapshotExpiredError) as error:
            hole = Hole(day, first_line(error), may_pass=True)
    return _SeriesRun(part, Track(series, builder, day), hole, last, differs)


def _stop(run: _SeriesRun) -> date:
    """Return the day at which a series stops, as a sort key."""
    return date.max if run.hole is None else run.hole.day


def _tick_day(day: SnapshotDay, computed: ComputedDay) -> TickDay:
    coverage = day.coverage
    absent = coverage.entry.source_absent if coverage.entry is not None else ()
    return TickDay(
        coverage.state,
        computed.rows,
        day.tick_hash,
        computed.first_id,
        computed.last_id,
        absent,
        coverage.reason,
    )
