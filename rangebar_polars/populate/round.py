"""One round of a population: refresh, then extend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.commit.generations import publish_generation
from rangebar_polars.ingest.id_gap import Hole
from rangebar_polars.populate.plan import Job, SeriesJob, by_lease, plan_part
from rangebar_polars.populate.refresh import begin_refresh, discard_others
from rangebar_polars.populate.workers.executors import run_jobs
from rangebar_polars.populate.workers.in_process import InProcessRunner
from rangebar_polars.populate.workers.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.commit.leases import Leases
    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.clickhouse.shared import SharedCache
    from rangebar_polars.populate.outcome import JobResult
    from rangebar_polars.populate.plan import RequestSegment, SeriesPlan
    from rangebar_polars.populate.refresh import Refresh
    from rangebar_polars.populate.run import PopulationRun

__all__ = ["Round", "SegmentRun", "may_pass"]


@dataclass(slots=True)
class SegmentRun:
    """A part of a request, and how far it got."""

    part: RequestSegment
    #: As they stood before anything was done.
    before: list[SeriesPlan]
    #: Where a series stopped, by whether it was being built anew.
    holes: dict[tuple[BarSeries, bool], Hole] = field(default_factory=dict)
    #: Days whose stored bars are not those of the ticks.
    differing: dict[BarSeries, date] = field(default_factory=dict)


class Round:
    """A try at what is lacking: first what is built anew, then what comes after it."""

    def __init__(
        self,
        course: PopulationRun,
        turns: SharedCache,
        leases: Leases,
        advance: Callable[[int], None],
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
        under_way: dict[BarSeries, Refresh] = {}
        jobs = self._refresh_jobs(pending, chains, under_way)
        for result in self._results(jobs):
            self._course.note(result, is_refresh=True)
            for track in result.outcome.tracks if result.outcome is not None else ():
                if track.hole is None:
                    self._show(under_way[track.series])

    def _refresh_jobs(
        self,
        pending: Sequence[SegmentRun],
        chains: Mapping[BarSeries, Chain],
        under_way: dict[BarSeries, Refresh],
    ) -> Iterator[Job]:
        kept = by_lease(chains)
        for stretch in pending:
            plans: dict[date, list[SeriesPlan]] = {}
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

    def _begin_refresh(self, plan: SeriesPlan) -> Refresh | None:
        first_day = self._first_to_refresh(plan)
        cache, fencing = self._turns.cache, self._leases.fencing[plan.series.lease_key]
        if first_day is None:
            discard_others(cache, plan.chain, fencing=fencing)
            return None
        is_current = self._course.stock.is_current
        return begin_refresh(cache, plan, first_day, fencing=fencing, is_current=is_current)

    def _first_to_refresh(self, plan: SeriesPlan) -> date | None:
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

    def _job(self, stretch: SegmentRun, plans: Sequence[SeriesPlan]) -> Iterator[Job]:
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
        spec, options = todo[0].series.spec, self._options
        yield Job(
            spec.symbol,
            spec.source,
            spec.market,
            spec.reset,
            stretch.part.segment.start,
            min(track.first_day for track in tracks),
            last_day,
            tuple(tracks),
            None if options.cache_dir is None else str(options.cache_dir),
            options.dsn,
            self._leases.holder,
        )

    def _tracks(self, stretch: SegmentRun, plan: SeriesPlan) -> Iterator[SeriesJob]:
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
            yield SeriesJob(
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
    """Return whether another round may get past a hole of the segment."""
    return any(hole.may_pass for hole in stretch.holes.values())
