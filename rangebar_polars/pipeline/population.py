"""The course of a population: what is kept, what is lacking, leases, jobs, and what came of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._progress import progress
from rangebar_polars.clickhouse.client import reading
from rangebar_polars.clickhouse.generations import publish_generation
from rangebar_polars.clickhouse.leases import hold_leases, refuse_if_at_work
from rangebar_polars.clickhouse.turns import Turns
from rangebar_polars.clickhouse.units import read_chains
from rangebar_polars.exceptions import SourceError, TickDataError
from rangebar_polars.pipeline.executors import run_jobs
from rangebar_polars.pipeline.in_process import InProcessRunner
from rangebar_polars.pipeline.jobs import Job, JobTrack, by_lease, parts_of, plan_part
from rangebar_polars.pipeline.outcome import Hole, first_line
from rangebar_polars.pipeline.populate_report import SeriesReport
from rangebar_polars.pipeline.publishing import Publisher
from rangebar_polars.pipeline.rebuild import begin_refresh, discard_others
from rangebar_polars.pipeline.stock import Stock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.leases import Leases
    from rangebar_polars.clickhouse.series import LeaseKey, Series
    from rangebar_polars.clickhouse.units import Chain
    from rangebar_polars.clickhouse.write import UnitDraft
    from rangebar_polars.pipeline.jobs import Part, Request, TrackPlan
    from rangebar_polars.pipeline.outcome import JobResult
    from rangebar_polars.pipeline.rebuild import Refresh

__all__ = ["Course", "Options"]

#: A file that was damaged is set aside, fetched again, and its day computed in another round.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How a population is done."""

    cache_dir: str | Path | None = None
    dsn: str | None = field(default=None, repr=False)
    #: Build every day asked for anew.
    force_refresh: bool = False
    #: Build anew from the first day whose ticks have changed.
    refresh_stale: bool = False
    notify: bool = True
    verbose: bool = True
    executor: Executor | Callable[[], Executor] | None = None


@dataclass(slots=True)
class SegmentRun:
    """A part of a request, and how far it got."""

    part: Part
    #: As they stood before anything was done.
    before: list[TrackPlan]
    #: Where a series stopped, by whether it was being built anew.
    holes: dict[tuple[Series, bool], Hole] = field(default_factory=dict)
    #: Days whose stored bars are not those of the ticks.
    differing: dict[Series, date] = field(default_factory=dict)


class Course:
    """One population of any number of requests."""

    def __init__(self, requests: Sequence[Request], options: Options) -> None:
        self._requests = requests
        self._options = options
        self._stock = Stock(options.cache_dir, options.verbose)
        self._families = {family: None for one in requests for family in one.families}
        self._parts = [part for request in requests for part in parts_of(request)]
        self._stretches: list[SegmentRun] = []
        self._of_series: dict[Series, SegmentRun] = {}
        #: Series that were built anew.
        self.refreshed: set[Series] = set()
        #: The first error of a job that is none of its ticks.
        self.error: BaseException | None = None

    def run(self) -> list[SeriesReport]:
        """Do what there is to do: nothing is written if that is nothing."""
        options = self._options
        refuse_if_at_work(self._lease_keys, options.dsn, cache_dir=options.cache_dir)
        with ExitStack() as looking:
            cache = looking.enter_context(reading(options.dsn, cache_dir=options.cache_dir))
            chains = {} if cache is None else self._read(cache)
            self._begin(chains)
            plans = (plan for stretch in self._stretches for plan in stretch.before)
            if not any(map(self._has_work, plans)):
                return self._reports(chains)
            with Turns(options.dsn, cache_dir=options.cache_dir) as turns:
                # Open already, so that neither the leases nor the work need open it again.
                _ = turns.cache
                looking.close()
                return self._write(turns)

    def _write(self, turns: Turns) -> list[SeriesReport]:
        options = self._options
        with hold_leases(self._lease_keys, options.dsn, cache_dir=options.cache_dir) as leases:
            # What was seen before may be another population's by now.
            self._begin(self._read(turns.cache))
            self._work(turns, leases)
            return self._reports(self._read(turns.cache))

    @property
    def _lease_keys(self) -> set[LeaseKey]:
        return {key for request in self._requests for key in request.lease_keys}

    def _read(self, cache: Cache) -> dict[Series, Chain]:
        starts = {part.segment.start for part in self._parts}
        return read_chains(cache, self._families, segment_starts=starts)

    def _has_work(self, plan: TrackPlan) -> bool:
        return bool(
            plan.days
            or self._options.force_refresh
            or plan.chain.open_generations
            or (self._options.refresh_stale and self._stock.stale(plan.chain, plan.part.last_day))
        )

    def _begin(self, chains: Mapping[Series, Chain]) -> None:
        kept = by_lease(chains)
        self._stretches = [SegmentRun(part, plan_part(part, kept)) for part in self._parts]
        self._of_series = {
            plan.series: stretch for stretch in self._stretches for plan in stretch.before
        }

    def _work(self, turns: Turns, leases: Leases) -> None:
        days = sum(_days_of_pass(stretch.before) for stretch in self._stretches)
        name = ", ".join(request.symbol for request in self._requests)
        with progress(days, name, "day", verbose=self._options.verbose) as advance:
            round_ = Round(self, turns, leases, advance)
            pending = self._stretches
            for _ in range(_ROUNDS):
                round_.refresh(pending)
                round_.extend(pending)
                pending = [one for one in pending if may_pass(one)]
                if not pending:
                    return

    # What the rounds ask for

    @property
    def options(self) -> Options:
        """How it is done."""
        return self._options

    @property
    def stock(self) -> Stock:
        """The ticks."""
        return self._stock

    def chains(self, cache: Cache) -> dict[Series, Chain]:
        """What is visible now."""
        return self._read(cache)

    def note(self, result: JobResult, *, is_refresh: bool) -> None:
        """Keep where the tracks of a job stopped, if they did."""
        error = result.error
        if error is not None and not isinstance(error, TickDataError | SourceError):
            self.error = self.error or error
        found = {one.series: one.hole for one in result.outcome.tracks} if result.outcome else {}
        for track in result.job.tracks:
            # After an error, what is visible at the end says how far it got.
            lost = None if error is None else Hole(track.first_day, first_line(error))
            self.stop(track.series, found.get(track.series, lost), is_refresh=is_refresh)

    def stop(self, series: Series, hole: Hole | None, *, is_refresh: bool = False) -> None:
        """Keep where a series stopped, or that it did not."""
        holes = self._of_series[series].holes
        holes.pop((series, is_refresh), None)
        if hole is not None:
            holes[series, is_refresh] = hole

    # What came of it

    def _reports(self, after: Mapping[Series, Chain]) -> list[SeriesReport]:
        with self._stock.frozen():
            return [
                self._report(stretch, plan, after.get(plan.series, plan.chain))
                for stretch in self._stretches
                for plan in stretch.before
            ]

    def _report(self, stretch: SegmentRun, plan: TrackPlan, after: Chain) -> SeriesReport:
        """What was done for a series: what is visible after and was not before."""
        series, part = plan.series, plan.part
        known = {unit.attempt for unit in plan.chain.units}
        written = [unit for unit in after.units if unit.attempt not in known]
        hole = stretch.holes.get((series, True)) or stretch.holes.get((series, False))
        if hole is not None and hole.day < after.frontier <= part.last_day:
            hole = Hole(after.frontier, hole.reason)
        absent, absent_ids = self._stock.absent(series.family, [unit.day for unit in written])
        stale = set(self._stock.stale(after, part.last_day))
        stale |= {stretch.differing[series]} if series in stretch.differing else set()
        return SeriesReport(
            series,
            is_new=plan.is_new,
            planned=(part.last_day - part.first_day).days + 1,
            kept=len(plan.kept),
            published=len(written),
            absent=absent,
            absent_ids=absent_ids,
            stale=tuple(sorted(stale)),
            hole=None if hole is None else self._stock.reason(after, hole),
            bars=sum(unit.closed_rows for unit in written),
            orphans=sum(unit.orphan_rows for unit in written),
            beyond=sum(unit.day > part.last_day for unit in written),
        )


class Round:
    """A try at what is lacking: first what is built anew, then what comes after it."""

    def __init__(
        self, course: Course, turns: Turns, leases: Leases, advance: Callable[[int], None]
    ) -> None:
        options = course.options
        self._course = course
        self._options = options
        self._turns = turns
        self._leases = leases
        self._advance = advance
        self._runner = InProcessRunner(self._publish)
        self._publisher = Publisher(
            turns, leases.check, cache_dir=options.cache_dir, notify=options.notify
        )

    # Days that are built anew

    def refresh(self, pending: Sequence[SegmentRun]) -> None:
        """Build anew what was asked for or has other ticks, and show it when it is whole."""
        chains = self._course.chains(self._turns.cache)
        under_way: dict[Series, Refresh] = {}
        jobs = self._refresh_jobs(pending, chains, under_way)
        for result in self._results(jobs):
            self._course.note(result, is_refresh=True)
            for track in result.outcome.tracks if result.outcome is not None else ():
                if track.hole is None:
                    self._show(under_way[track.series])

    def _refresh_jobs(
        self,
        pending: Sequence[SegmentRun],
        chains: Mapping[Series, Chain],
        under_way: dict[Series, Refresh],
    ) -> Iterator[Job]:
        kept = by_lease(chains)
        for stretch in pending:
            plans: dict[date, list[TrackPlan]] = {}
            for plan in plan_part(stretch.part, kept):
                refresh = self._begin_refresh(plan)
                if refresh is None:
                    continue
                under_way[plan.series] = refresh
                if refresh.plan.days:
                    plans.setdefault(refresh.plan.last_day, []).append(refresh.plan)
                else:
                    self._show(refresh)
            for together in plans.values():
                yield from self._job(stretch, together)

    def _begin_refresh(self, plan: TrackPlan) -> Refresh | None:
        first_day = self._first_to_refresh(plan)
        cache, fencing = self._turns.cache, self._leases.fencing[plan.series.lease_key]
        if first_day is None:
            discard_others(cache, plan.chain, fencing=fencing)
            return None
        is_current = self._course.stock.is_current
        return begin_refresh(cache, plan, first_day, fencing=fencing, is_current=is_current)

    def _first_to_refresh(self, plan: TrackPlan) -> date | None:
        """The first day that is to be built anew."""
        options, stock = self._options, self._course.stock
        if plan.is_new or plan.series in self._course.refreshed:
            return None
        wanted = set()
        if options.force_refresh and plan.chain.frontier > plan.part.first_day:
            wanted.add(plan.part.first_day)
        if options.refresh_stale:
            wanted.update(stock.stale(plan.chain, plan.part.last_day))
        first = min(wanted, default=None)
        if first is None and not (options.refresh_stale and plan.days):
            return None
        # A state that cannot be read is computed again, and may show that earlier days differ.
        begin = stock.state_before(plan.chain, first or plan.first_day, self._turns)
        return first if isinstance(begin, Hole) or begin.differs is None else begin.differs

    def _show(self, refresh: Refresh) -> None:
        """Publish a rebuild that is whole."""
        series = refresh.plan.series
        self._leases.check(self._turns.cache, [series.lease_key])
        fencing = self._leases.fencing[series.lease_key]
        publish_generation(self._turns.cache, series, refresh.generation, fencing=fencing)
        self._course.refreshed.add(series)

    # Days that follow what is kept

    def extend(self, pending: Sequence[SegmentRun]) -> None:
        """Add the days that are not kept."""
        kept = by_lease(self._course.chains(self._turns.cache))
        jobs = (
            job for stretch in pending for job in self._job(stretch, plan_part(stretch.part, kept))
        )
        for result in self._results(jobs):
            self._course.note(result, is_refresh=False)

    def _job(self, stretch: SegmentRun, plans: Sequence[TrackPlan]) -> Iterator[Job]:
        """The job of the plans that lack days, if any does, its ticks fetched."""
        todo = [plan for plan in plans if plan.days]
        if not todo:
            return
        first_day = min(plan.first_day for plan in todo)
        last_day = max(plan.last_day for plan in todo)
        self._course.stock.fetch(
            todo[0].chain, first_day, last_day, self._turns, before=self._runner.flush
        )
        with self._course.stock.frozen():
            tracks = [track for plan in todo for track in self._tracks(stretch, plan)]
        if not tracks:
            return
        family, options = todo[0].series.family, self._options
        yield Job(
            family.symbol,
            family.source,
            family.market,
            family.reset,
            stretch.part.segment.start,
            min(track.first_day for track in tracks),
            last_day,
            tuple(tracks),
            None if options.cache_dir is None else str(options.cache_dir),
            options.dsn,
            self._leases.holder,
        )

    def _tracks(self, stretch: SegmentRun, plan: TrackPlan) -> Iterator[JobTrack]:
        """The track of a plan, if there is a state to go on from."""
        stock = self._course.stock
        begin = stock.gap_before(plan.chain, plan.first_day) or stock.state_before(
            plan.chain, plan.first_day, self._turns
        )
        if isinstance(begin, Hole):
            self._course.stop(plan.series, begin)
        elif begin.differs is not None:
            stretch.differing[plan.series] = begin.differs
        else:
            yield JobTrack(
                plan.series,
                plan.first_day,
                0 if plan.base is None else plan.base.attempt,
                begin.state,
                plan.generation,
                self._leases.fencing[plan.series.lease_key],
            )

    # Both

    def _results(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        executor = self._options.executor
        if executor is not None:
            publish = self._publisher.publish
            yield from run_jobs(jobs, executor, publish, on_days=self._advance)
            return
        yield from self._runner.run(jobs)

    def _publish(self, drafts: list[UnitDraft]) -> None:
        self._publisher.publish(drafts)
        self._advance(len({draft.day for draft in drafts}))


def may_pass(stretch: SegmentRun) -> bool:
    return any(hole.may_pass for hole in stretch.holes.values())


def _days_of_pass(plans: Iterable[TrackPlan]) -> int:
    """Days of one pass over the ticks for all that lack any."""
    return max((len(plan.days) for plan in plans), default=0)
