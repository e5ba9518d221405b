"""Run one population: plan the missing days, take leases, dispatch jobs and report the outcome."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rangebar_polars._utils.progress import progress
from rangebar_polars.bar_series.features import FeatureSet
from rangebar_polars.clickhouse.commit.leases import hold_leases, refuse_if_at_work
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.schema.migrate import add_group_columns
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.ingest.id_gap import Hole
from rangebar_polars.populate.plan import by_lease, plan_segment
from rangebar_polars.populate.refresh import Rebuilds, upgraded_features
from rangebar_polars.populate.report import SeriesReport
from rangebar_polars.populate.round import Round
from rangebar_polars.populate.state import PopulationState, SegmentRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rangebar_polars.bar_series.identity import BarSeries, LeaseKey
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.commit.leases import Leases
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.plan import Request, SeriesPlan
    from rangebar_polars.populate.state import PopulationOptions
    from rangebar_polars.populate.workers.publish import OnPublished

__all__ = ["PopulationRun"]


#: A damaged file goes to quarantine, is fetched again, and its day is computed in another round.
_ROUNDS = 3


class PopulationRun:
    """One population of any number of requests."""

    def __init__(
        self,
        requests: Sequence[Request],
        options: PopulationOptions,
        on_published: OnPublished | None = None,
    ) -> None:
        self._requests = requests
        self._options = options
        self._state = PopulationState(requests, options, on_published)

    @property
    def error(self) -> BaseException | None:
        """The first error of a job that neither bad ticks nor a failing source caused."""
        return self._state.error

    @property
    def source_error(self) -> Exception | None:
        """The first error of a source that could not give days."""
        return next(iter(self._state.ticks.failures.values()), None)

    def run(self) -> list[SeriesReport]:
        """Run the population. Without missing days, nothing is opened for writing."""
        options = self._options
        refuse_if_at_work(self._lease_keys, options.dsn, cache_dir=options.cache_dir)
        with ExitStack() as stack:
            cache = stack.enter_context(reading(options.dsn, cache_dir=options.cache_dir))
            chains = {} if cache is None else self._state.read_chains(cache)
            if cache is not None:
                self._state.read_families(cache)
            self._plan(chains)
            plans = (plan for segment in self._state.segments for plan in segment.before)
            if not any(self._has_work(plan, cache) for plan in plans):
                return self._reports(chains)
            with SharedCache(options.dsn, cache_dir=options.cache_dir) as shared:
                # Open it before the reading one closes, so that the engine need not start again.
                _ = shared.cache
                stack.close()
                return self._write(shared)

    def _write(self, shared: SharedCache) -> list[SeriesReport]:
        options = self._options
        with hold_leases(self._lease_keys, options.dsn, cache_dir=options.cache_dir) as leases:
            # Another population may have published since the first plan.
            self._state.read_families(shared.cache)
            self._plan(self._state.read_chains(shared.cache))
            groups = {group for segment in self._state.segments for group in segment.groups}
            if groups:
                add_group_columns(shared.cache, FeatureSet.of(groups).groups)
            self._run_rounds(shared, leases)
            return self._reports(self._state.read_chains(shared.cache))

    @property
    def _lease_keys(self) -> set[LeaseKey]:
        return {key for request in self._requests for key in request.lease_keys}

    def _has_work(self, plan: SeriesPlan, cache: Cache | None) -> bool:
        rebuilds = None if cache is None else Rebuilds.of(cache, plan)
        return bool(
            plan.days
            or self._options.force_refresh
            or upgraded_features(plan) is not None
            or (rebuilds is not None and rebuilds.is_touched)
            or (
                self._options.refresh_stale
                and self._state.ticks.stale(plan.chain, plan.requested.last_day)
            )
        )

    def _plan(self, chains: Mapping[BarSeries, Chain]) -> None:
        stored = by_lease(chains)
        self._state.begin(
            [
                SegmentRun(part, plan_segment(part, stored, self._state.families))
                for part in self._state.requested
            ]
        )

    def _run_rounds(self, shared: SharedCache, leases: Leases) -> None:
        days = sum(_days_of_pass(segment.before) for segment in self._state.segments)
        name = ", ".join(request.symbol for request in self._requests)
        with progress(days, f"bars {name}", "day", verbose=self._options.verbose) as advance:
            round_ = Round(self._state, shared, leases, advance)
            pending = self._state.segments
            for _ in range(_ROUNDS):
                round_.refresh(pending)
                round_.extend(pending)
                pending = [segment for segment in pending if segment.may_pass]
                if not pending:
                    return

    def _reports(self, after: Mapping[BarSeries, Chain]) -> list[SeriesReport]:
        with self._state.ticks.frozen():
            return [
                self._report(segment, plan, after.get(plan.series, plan.chain))
                for segment in self._state.segments
                for plan in segment.before
            ]

    def _report(self, segment: SegmentRun, plan: SeriesPlan, after: Chain) -> SeriesReport:
        """Report a series by comparing its visible units before and after the run."""
        series, requested = plan.series, plan.requested
        known = {unit.attempt for unit in plan.chain.units}
        written = [unit for unit in after.units if unit.attempt not in known]
        hole = segment.holes.get((series, True)) or segment.holes.get((series, False))
        if hole is not None and hole.day < after.frontier <= requested.last_day:
            hole = Hole(after.frontier, hole.reason)
        absent, absent_ids = self._state.ticks.absent(series.spec, [unit.day for unit in written])
        stale = set(self._state.ticks.stale(after, requested.last_day))
        stale |= set(segment.differing.get(series, ()))
        return SeriesReport(
            series,
            is_new=plan.is_new,
            planned=(requested.last_day - requested.first_day).days + 1,
            kept=len(plan.stored_units),
            published=len(written),
            absent=absent,
            absent_ids=absent_ids,
            stale=tuple(sorted(stale)),
            hole=None if hole is None else self._state.ticks.with_source_error(after, hole),
            bars=sum(unit.closed_rows for unit in written),
            orphans=sum(unit.orphan_rows for unit in written),
            beyond=sum(unit.day > requested.last_day for unit in written),
            upgraded=self._state.upgraded.get(series, ()),
            left_out=after.left_out,
        )


def _days_of_pass(plans: Iterable[SeriesPlan]) -> int:
    """Return the number of days in one pass over the ticks for all series of a segment."""
    return max((len(plan.days) for plan in plans), default=0)
