"""One round of a population: rebuild days, then add missing days."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.commit.generations import publish_generation
from rangebar_polars.ingest.id_gap import Hole
from rangebar_polars.populate.plan import Job, SeriesJob, by_lease, plan_segment
from rangebar_polars.populate.refresh import (
    Rebuilds,
    begin_refresh,
    discard,
    resumable,
    upgraded_features,
)
from rangebar_polars.populate.workers.executors import ExecutorRunner
from rangebar_polars.populate.workers.in_process import InProcessRunner
from rangebar_polars.populate.workers.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries, LeaseKey
    from rangebar_polars.bar_series.units import Chain, Generation, UnitDraft
    from rangebar_polars.clickhouse.commit.leases import Leases
    from rangebar_polars.clickhouse.shared import SharedCache
    from rangebar_polars.populate.outcome import JobResult
    from rangebar_polars.populate.plan import SeriesPlan
    from rangebar_polars.populate.refresh import Refresh
    from rangebar_polars.populate.state import PopulationState, SegmentRun

__all__ = ["Round"]


@dataclass(slots=True)
class _Remaining:
    """The days of a segment for which jobs are still to be made."""

    segment: SegmentRun
    #: The last day of the jobs that were made.
    through: date | None = None
    is_done: bool = False

    def has_passed(self, day: date) -> bool:
        """Return whether a job was made for a day: a series that still misses it is stuck there."""
        return self.through is not None and day <= self.through


class Round:
    """One attempt at the pending segments: first rebuilds, then the days after the stored ones."""

    def __init__(
        self,
        state: PopulationState,
        shared: SharedCache,
        leases: Leases,
        advance: Callable[[int], None],
    ) -> None:
        options = state.options
        self._state = state
        self._options = options
        self._shared = shared
        self._leases = leases
        self._advance = advance
        self._runner = InProcessRunner(self._publish)
        self._publisher = Publisher(
            shared,
            leases.check,
            cache_dir=options.cache_dir,
            notify=options.notify,
            on_published=state.on_published,
        )

    # Days to rebuild

    def refresh(self, pending: Sequence[SegmentRun]) -> None:
        """Rebuild requested and stale days, and publish each rebuild once it is complete."""
        chains = self._state.read_chains(self._shared.cache)
        open_refreshes: dict[BarSeries, Refresh] = {}
        jobs = self._refresh_jobs(pending, chains, open_refreshes)
        for result in self._results(jobs):
            self._state.note(result, is_refresh=True)
            for outcome in result.outcome.series if result.outcome is not None else ():
                if outcome.hole is None:
                    self._publish_refresh(open_refreshes[outcome.series])

    def _refresh_jobs(
        self,
        pending: Sequence[SegmentRun],
        chains: Mapping[BarSeries, Chain],
        open_refreshes: dict[BarSeries, Refresh],
    ) -> Iterator[Job]:
        stored = by_lease(chains)
        for segment in pending:
            plans: dict[date, list[SeriesPlan]] = {}
            for plan in self._plans(segment, stored):
                refresh = self._begin_refresh(plan)
                if refresh is None:
                    continue
                open_refreshes[plan.series] = refresh
                if refresh.plan.days:
                    plans.setdefault(refresh.plan.last_day, []).append(refresh.plan)
                else:
                    self._publish_refresh(refresh)
            for with_same_end in plans.values():
                job = self._refresh_job(segment, with_same_end)
                if job is not None:
                    yield job

    def _refresh_job(self, segment: SegmentRun, plans: Sequence[SeriesPlan]) -> Job | None:
        """Fetch all ticks of days to rebuild: their bars become visible together."""
        first_day = min(plan.first_day for plan in plans)
        last_day = max(plan.last_day for plan in plans)
        ticks = self._state.ticks
        ticks.fetch(plans[0].chain, first_day, last_day, self._shared, before=self._runner.flush)
        return self._job(segment, plans)

    def _plans(
        self, segment: SegmentRun, stored: Mapping[LeaseKey, Sequence[Chain]]
    ) -> list[SeriesPlan]:
        return plan_segment(segment.requested, stored, self._state.families)

    def _begin_refresh(self, plan: SeriesPlan) -> Refresh | None:
        """Begin or resume the rebuild that a series needs, and discard those that it replaces."""
        chain, fencing = plan.chain, self._leases.fencing[plan.series.lease_key]
        rebuilds = Rebuilds.of(self._shared.cache, plan)
        upgrade = self._upgrade(plan, rebuilds)
        if upgrade is not None:
            first_day: date | None = plan.series.first_day
            features, interrupted = upgrade
            replaced = list(chain.open_generations)
        else:
            first_day = self._first_day_to_refresh(plan)
            features = chain.features.joined(plan.requested.request.features)
            interrupted = [
                each
                for each in rebuilds.others
                if first_day != plan.series.first_day or rebuilds.has_exactly(each, features)
            ]
            replaced = rebuilds.others
            if self._options.force_refresh or plan.requested.request.features:
                replaced += rebuilds.upgrades
        if first_day is None:
            discard(self._shared.cache, chain, replaced, fencing=fencing)
            return None
        refresh = begin_refresh(
            self._shared.cache,
            plan,
            first_day,
            features,
            interrupted=interrupted,
            replaced=replaced,
            fencing=fencing,
            is_current=self._state.ticks.is_current,
        )
        return replace(refresh, is_upgrade=upgrade is not None)

    def _upgrade(
        self, plan: SeriesPlan, rebuilds: Rebuilds
    ) -> tuple[FeatureSet, list[Generation]] | None:
        """Return the groups of the upgrade to make, and interrupted ones to resume; None for none."""
        wanted = plan.requested.request.features
        target = upgraded_features(plan)
        if plan.series in self._state.refreshed or not wanted:
            return None
        known = target or wanted
        interrupted = [each for each in rebuilds.upgrades if rebuilds.has_features(each, known)]
        if target is not None:
            return target, interrupted
        if self._options.force_refresh:
            return None
        # Nothing that is requested is missing, but an upgrade to more groups was interrupted.
        resumed = resumable(
            self._shared.cache,
            plan.chain,
            plan.series.first_day,
            interrupted,
            self._state.ticks.is_current,
        )
        return None if resumed is None else (plan.chain.features, [resumed])

    def _first_day_to_refresh(self, plan: SeriesPlan) -> date | None:
        """Return the first day to rebuild; None if there is nothing to rebuild."""
        options, ticks = self._options, self._state.ticks
        if plan.is_new or plan.series in self._state.refreshed:
            return None
        days = set()
        if options.force_refresh and plan.chain.frontier > plan.requested.first_day:
            days.add(plan.requested.first_day)
        if options.refresh_stale:
            days.update(ticks.stale(plan.chain, plan.requested.last_day))
        first = min(days, default=None)
        if first is None and not (options.refresh_stale and plan.days):
            return None
        # An unreadable state is recomputed, which may show that earlier days differ.
        rebuilt = ticks.state_before(plan.chain, first or plan.first_day, self._shared)
        return first if isinstance(rebuilt, Hole) or rebuilt.differs is None else rebuilt.differs

    def _publish_refresh(self, refresh: Refresh) -> None:
        """Publish a complete rebuild; discard an upgrade if its bars are not those it replaces."""
        cache, series = self._shared.cache, refresh.plan.series
        self._leases.check(cache, [series.lease_key])
        fencing = self._leases.fencing[series.lease_key]
        self._state.refreshed.add(series)
        if refresh.is_upgrade and not (self._options.refresh_stale or self._options.force_refresh):
            changed = refresh.changed(cache)
            if changed:
                discard(cache, refresh.replaced, [refresh.generation], fencing=fencing)
                self._state.differ(series, changed)
                return
        publish_generation(cache, series, refresh.generation, fencing=fencing)
        if refresh.is_upgrade:
            days = tuple(unit.day for unit in refresh.replaced.units)
            self._state.upgraded[series] = days

    # Days to add

    def extend(self, pending: Sequence[SegmentRun]) -> None:
        """Add the days after the stored ones; a fetch of ticks and their bars take turns."""
        for result in self._extensions(pending):
            self._state.note(result, is_refresh=False)

    def _extensions(self, pending: Sequence[SegmentRun]) -> Iterator[JobResult]:
        remaining = [_Remaining(segment) for segment in pending]
        if self._options.executor is None:
            stored = self._stored()
            jobs = (job for part in remaining for job in self._parts(part, stored))
            yield from self._runner.run(jobs)
            return
        with self._executor() as executor:
            # A job starts from the state after the one before it, which has to be published first.
            while remaining:
                stored = self._stored()
                nexts = (self._next_job(part, stored) for part in remaining)
                yield from executor.run(job for job in nexts if job is not None)
                remaining = [part for part in remaining if not part.is_done]

    def _parts(self, part: _Remaining, stored: Mapping[LeaseKey, Sequence[Chain]]) -> Iterator[Job]:
        """Yield the jobs of a segment, each once the one before it is published."""
        while not part.is_done:
            if part.through is not None:
                self._runner.flush()
                only = part.segment.requested
                stored = by_lease(self._state.read_chains(self._shared.cache, only))
            job = self._next_job(part, stored)
            if job is not None:
                yield job

    def _stored(self) -> Mapping[LeaseKey, Sequence[Chain]]:
        return by_lease(self._state.read_chains(self._shared.cache))

    def _next_job(self, part: _Remaining, stored: Mapping[LeaseKey, Sequence[Chain]]) -> Job | None:
        """Fetch ticks that come next in a segment, and return the job of the days that have them.

        None if there is nothing to compute, as a series stops at a hole.
        """
        plans = [
            plan
            for plan in self._plans(part.segment, stored)
            if plan.days and not part.has_passed(plan.first_day)
        ]
        if not plans:
            part.is_done = True
            return None
        first_day = min(plan.first_day for plan in plans)
        last_day = max(plan.last_day for plan in plans)
        through = self._state.ticks.fetch_next(
            plans[0].chain, first_day, last_day, self._shared, before=self._runner.flush
        )
        part.through, part.is_done = through, through >= last_day
        return self._job(
            part.segment,
            [
                replace(plan, last_day=min(plan.last_day, through))
                for plan in plans
                if plan.first_day <= through
            ],
        )

    def _job(self, segment: SegmentRun, plans: Sequence[SeriesPlan]) -> Job | None:
        """Return the job of plans whose ticks are fetched; None if no series can be continued."""
        with self._state.ticks.frozen():
            series_jobs = [job for plan in plans for job in self._series_jobs(segment, plan)]
        if not series_jobs:
            return None
        spec, options = plans[0].series.spec, self._options
        return Job(
            spec.symbol,
            spec.venue,
            spec.reset,
            segment.requested.segment.start,
            min(job.first_day for job in series_jobs),
            max(plan.last_day for plan in plans),
            tuple(series_jobs),
            None if options.cache_dir is None else str(options.cache_dir),
            options.dsn,
            self._leases.holder,
        )

    def _series_jobs(self, segment: SegmentRun, plan: SeriesPlan) -> Iterator[SeriesJob]:
        """Yield the job of a plan, if there is a state to continue from."""
        ticks = self._state.ticks
        begin = ticks.gap_before(plan.chain, plan.first_day) or ticks.state_before(
            plan.chain, plan.first_day, self._shared
        )
        if isinstance(begin, Hole):
            self._state.stop(plan.series, begin)
        elif begin.differs is not None:
            segment.differing[plan.series] = (begin.differs,)
        else:
            yield from self._resumed(plan, begin.state)

    def _resumed(self, plan: SeriesPlan, state: bytes | None) -> Iterator[SeriesJob]:
        """Yield the job of a plan from a state, if the ticks for its feature groups are there."""
        features = plan.features
        replay = self._state.ticks.replay_before(plan.chain, plan.first_day, features, self._shared)
        if isinstance(replay, Hole):
            self._state.stop(plan.series, replay)
            return
        yield SeriesJob(
            plan.series,
            plan.first_day,
            0 if plan.base is None else plan.base.attempt,
            state,
            plan.generation,
            self._leases.fencing[plan.series.lease_key],
            features,
            replay,
        )

    # Both

    def _results(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        if self._options.executor is None:
            yield from self._runner.run(jobs)
            return
        with self._executor() as executor:
            yield from executor.run(jobs)

    def _executor(self) -> ExecutorRunner:
        assert self._options.executor is not None  # noqa: S101
        return ExecutorRunner(
            self._options.executor, self._publisher.publish, on_days=self._advance
        )

    def _publish(self, drafts: list[UnitDraft]) -> None:
        self._publisher.publish(drafts)
        self._advance(len({draft.day for draft in drafts}))
