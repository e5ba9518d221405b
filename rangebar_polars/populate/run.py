"""The course of a population: what is kept, what is lacking, leases, jobs, and what came of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.progress import progress
from rangebar_polars.clickhouse.commit.leases import hold_leases, refuse_if_at_work
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.exceptions import SourceError, TickDataError
from rangebar_polars.ingest.id_gap import Hole, first_line
from rangebar_polars.populate.plan import by_lease, parts_of, plan_part
from rangebar_polars.populate.report import SeriesReport
from rangebar_polars.populate.round import Round, SegmentRun, may_pass
from rangebar_polars.populate.ticks import PopulationTicks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSeries, LeaseKey
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.commit.leases import Leases
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.outcome import JobResult
    from rangebar_polars.populate.plan import Request, SeriesPlan

__all__ = ["Options", "PopulationRun"]


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


class PopulationRun:
    """One population of any number of requests."""

    def __init__(self, requests: Sequence[Request], options: Options) -> None:
        self._requests = requests
        self._options = options
        self._stock = PopulationTicks(options.cache_dir, options.verbose)
        self._families = {spec: None for one in requests for spec in one.specs}
        self._parts = [part for request in requests for part in parts_of(request)]
        self._stretches: list[SegmentRun] = []
        self._of_series: dict[BarSeries, SegmentRun] = {}
        #: Series that were built anew.
        self.refreshed: set[BarSeries] = set()
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
            with SharedCache(options.dsn, cache_dir=options.cache_dir) as turns:
                # Open already, so that neither the leases nor the work need open it again.
                _ = turns.cache
                looking.close()
                return self._write(turns)

    def _write(self, turns: SharedCache) -> list[SeriesReport]:
        options = self._options
        with hold_leases(self._lease_keys, options.dsn, cache_dir=options.cache_dir) as leases:
            # What was seen before may be another population's by now.
            self._begin(self._read(turns.cache))
            self._work(turns, leases)
            return self._reports(self._read(turns.cache))

    @property
    def _lease_keys(self) -> set[LeaseKey]:
        return {key for request in self._requests for key in request.lease_keys}

    def _read(self, cache: Cache) -> dict[BarSeries, Chain]:
        starts = {part.segment.start for part in self._parts}
        return read_chains(cache, self._families, segment_starts=starts)

    def _has_work(self, plan: SeriesPlan) -> bool:
        return bool(
            plan.days
            or self._options.force_refresh
            or plan.chain.open_generations
            or (self._options.refresh_stale and self._stock.stale(plan.chain, plan.part.last_day))
        )

    def _begin(self, chains: Mapping[BarSeries, Chain]) -> None:
        kept = by_lease(chains)
        self._stretches = [SegmentRun(part, plan_part(part, kept)) for part in self._parts]
        self._of_series = {
            plan.series: stretch for stretch in self._stretches for plan in stretch.before
        }

    def _work(self, turns: SharedCache, leases: Leases) -> None:
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
    def stock(self) -> PopulationTicks:
        """The ticks."""
        return self._stock

    def chains(self, cache: Cache) -> dict[BarSeries, Chain]:
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

    def stop(self, series: BarSeries, hole: Hole | None, *, is_refresh: bool = False) -> None:
        """Keep where a series stopped, or that it did not."""
        holes = self._of_series[series].holes
        holes.pop((series, is_refresh), None)
        if hole is not None:
            holes[series, is_refresh] = hole

    # What came of it

    def _reports(self, after: Mapping[BarSeries, Chain]) -> list[SeriesReport]:
        with self._stock.frozen():
            return [
                self._report(stretch, plan, after.get(plan.series, plan.chain))
                for stretch in self._stretches
                for plan in stretch.before
            ]

    def _report(self, stretch: SegmentRun, plan: SeriesPlan, after: Chain) -> SeriesReport:
        """What was done for a series: what is visible after and was not before."""
        series, part = plan.series, plan.part
        known = {unit.attempt for unit in plan.chain.units}
        written = [unit for unit in after.units if unit.attempt not in known]
        hole = stretch.holes.get((series, True)) or stretch.holes.get((series, False))
        if hole is not None and hole.day < after.frontier <= part.last_day:
            hole = Hole(after.frontier, hole.reason)
        absent, absent_ids = self._stock.absent(series.spec, [unit.day for unit in written])
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


def _days_of_pass(plans: Iterable[SeriesPlan]) -> int:
    """Days of one pass over the ticks for all that lack any."""
    return max((len(plan.days) for plan in plans), default=0)
