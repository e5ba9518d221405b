"""State of a running population, shared by its rounds and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars.bar_series.selection import family_features
from rangebar_polars.clickhouse.query.units import read_chains, read_families
from rangebar_polars.exceptions import SourceError, TickDataError, with_hint
from rangebar_polars.ingest.id_gap import Hole, first_line
from rangebar_polars.populate.plan import segments_of
from rangebar_polars.populate.ticks import PopulationTicks
from rangebar_polars.populate.workers.executors import check_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.outcome import JobResult
    from rangebar_polars.populate.plan import Request, RequestSegment, SeriesPlan
    from rangebar_polars.populate.workers.publish import OnPublished

__all__ = ["PopulationOptions", "PopulationState", "SegmentRun"]


@dataclass(frozen=True, slots=True)
class PopulationOptions:
    """How a population is run."""

    cache_dir: str | Path | None = None
    dsn: str | None = field(default=None, repr=False)
    #: Rebuild every requested day.
    force_refresh: bool = False
    #: Rebuild from the first day whose ticks have changed.
    refresh_stale: bool = False
    notify: bool = True
    verbose: bool = True
    executor: Executor | Callable[[], Executor] | None = None

    def __post_init__(self) -> None:
        require_bool(
            force_refresh=self.force_refresh,
            refresh_stale=self.refresh_stale,
            notify=self.notify,
            verbose=self.verbose,
        )
        check_executor(self.executor)


@dataclass(slots=True)
class SegmentRun:
    """The progress of a population in one segment of a request."""

    requested: RequestSegment
    #: Plans of the series before anything was written.
    before: list[SeriesPlan]
    #: Where a series stopped, by series and whether it was being rebuilt.
    holes: dict[tuple[BarSeries, bool], Hole] = field(default_factory=dict)
    #: Days whose stored bars differ from those computed from the ticks.
    differing: dict[BarSeries, tuple[date, ...]] = field(default_factory=dict)

    @property
    def groups(self) -> set[str]:
        """The optional feature groups that its new units may have."""
        return {
            group
            for plan in self.before
            for features in (plan.first_features, plan.chain.features)
            for group in features.groups
        }

    @property
    def may_pass(self) -> bool:
        """Whether another round may get past a hole of the segment."""
        return any(hole.may_pass for hole in self.holes.values())


class PopulationState:
    """Options, ticks and progress of one population."""

    def __init__(
        self,
        requests: Sequence[Request],
        options: PopulationOptions,
        on_published: OnPublished | None = None,
    ) -> None:
        self.options = options
        self.on_published = on_published
        self.ticks = PopulationTicks(options.cache_dir, options.verbose)
        self.requested = [part for request in requests for part in segments_of(request)]
        self.segments: list[SegmentRun] = []
        #: Series that were rebuilt in this run.
        self.refreshed: set[BarSeries] = set()
        #: Days that an upgrade of this run has stored again.
        self.upgraded: dict[BarSeries, tuple[date, ...]] = {}
        #: Optional feature groups of the newest series of each spec, which new series get.
        self.families: dict[BarSpec, FeatureSet] = {}
        #: The first error of a job that neither bad ticks nor a failing source caused.
        self.error: BaseException | None = None
        self._specs = {spec: None for request in requests for spec in request.specs}
        self._segment_of: dict[BarSeries, SegmentRun] = {}

    def begin(self, segments: list[SegmentRun]) -> None:
        """Start with planned segments, in place of those of an earlier plan."""
        self.segments = segments
        self._segment_of = {plan.series: segment for segment in segments for plan in segment.before}

    def read_chains(
        self, cache: Cache, only: RequestSegment | None = None
    ) -> Mapping[BarSeries, Chain]:
        """Read the visible chains of the requested specs and segments, or of one segment."""
        if only is not None:
            specs = dict.fromkeys(only.request.specs)
            return read_chains(cache, specs, segment_starts={only.segment.start})
        starts = {part.segment.start for part in self.requested}
        return read_chains(cache, self._specs, segment_starts=starts)

    def read_families(self, cache: Cache) -> None:
        """Read the optional feature groups of the specs, and refuse a window that is not theirs.

        Raises
        ------
        ValueError
            The requested window is not that of a stored series, and no rebuild is requested.
        """
        stored = read_families(cache, self._specs)
        if not self.options.force_refresh:
            for part in self.requested:
                for spec in part.request.specs:
                    _check_window(part.request, stored.get(spec, ()))
        self.families = {spec: family_features(chains) for spec, chains in stored.items()}

    def note(self, result: JobResult, *, is_refresh: bool) -> None:
        """Note where the series of a job stopped, and an error that is not about its ticks."""
        error = result.error
        if error is not None and not isinstance(error, TickDataError | SourceError):
            self.error = self.error or error
        outcomes = result.outcome.series if result.outcome is not None else ()
        holes = {outcome.series: outcome.hole for outcome in outcomes}
        for outcome in outcomes:
            if outcome.differs is not None:
                holes[outcome.series] = None
                self.differ(outcome.series, (outcome.differs,))
        for job in result.job.series_jobs:
            # After an error, the units that are visible at the end tell how far the series got.
            lost = None if error is None else Hole(job.first_day, first_line(error))
            self.stop(job.series, holes.get(job.series, lost), is_refresh=is_refresh)

    def differ(self, series: BarSeries, days: tuple[date, ...]) -> None:
        """Note days whose stored bars differ from those computed from the ticks."""
        self._segment_of[series].differing[series] = days

    def stop(self, series: BarSeries, hole: Hole | None, *, is_refresh: bool = False) -> None:
        """Note where a series stopped, or that it did not stop."""
        holes = self._segment_of[series].holes
        holes.pop((series, is_refresh), None)
        if hole is not None:
            holes[series, is_refresh] = hole


def _check_window(request: Request, chains: Sequence[Chain]) -> None:
    wanted = request.features.window
    if wanted is None:
        return
    for chain in chains:
        window = chain.features.window
        if window not in (None, wanted):
            raise ValueError(
                with_hint(
                    f"`lookback` is `{wanted}`, but stored bars of {chain.series} have the window "
                    f"`{window}`",
                    f'pass lookback="{window}", or leave it out; force_refresh=True rebuilds the '
                    "requested segments with the new window",
                )
            )
