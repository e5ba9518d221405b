"""Plan of a population: pure functions of the stored units and the requested days."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.features import NO_FEATURES, stored_features
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.bar_series.selection import to_continue
from rangebar_polars.bar_series.units import PUBLISHED, Chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries, BarSpec, LeaseKey
    from rangebar_polars.bar_series.segments import Segment
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.ingest.newest_day import Clamp
    from rangebar_polars.sources import Venue

__all__ = [
    "Job",
    "Request",
    "RequestSegment",
    "SeriesJob",
    "SeriesPlan",
    "by_lease",
    "plan_segment",
    "segments_of",
]

_NO_FAMILIES: Mapping[BarSpec, FeatureSet] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """One series of a job: where it starts, from which state, and under which lease."""

    series: BarSeries
    #: The first day to publish.
    first_day: date
    #: Attempt of the unit of the day before; 0 on the anchor's day.
    built_on: int
    #: Processor state after the day before; None on the anchor's day.
    state: bytes | None
    generation: int
    fencing: int
    #: Optional feature groups of its bars.
    features: FeatureSet = NO_FEATURES
    #: Number of newest ticks to push again before the first day.
    replay: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Days of one symbol in one segment, for all thresholds that miss them: one pass over the ticks.

    It holds neither ticks nor bars, so that it can be sent to another process or machine.
    """

    symbol: str
    venue: Venue
    #: By its stored name.
    reset: str
    segment_start: date
    #: The lowest first day of the series.
    first_day: date
    last_day: date
    series_jobs: tuple[SeriesJob, ...]
    cache_dir: str | None
    dsn: str | None = field(repr=False)
    #: Holder of the leases of the series.
    holder: int

    @property
    def fencing(self) -> dict[LeaseKey, int]:
        """The leases that the job publishes under, with their fencing numbers."""
        return {job.series.lease_key: job.fencing for job in self.series_jobs}

    @property
    def built_on(self) -> dict[BarSeries, int]:
        """The attempt that the first unit of each series is built on."""
        return {job.series: job.built_on for job in self.series_jobs}

    @property
    def days(self) -> int:
        """Number of days in the pass over the ticks."""
        return (self.last_day - self.first_day).days + 1


@dataclass(frozen=True, slots=True)
class Request:
    """Whole days of one symbol, at one or several thresholds."""

    #: One for each threshold; they are equal otherwise.
    specs: tuple[BarSpec, ...]
    first_day: date
    #: The last day, and why it is not a later one.
    clamp: Clamp
    #: Requested optional feature groups; the window is None if it is left to the stored series.
    features: FeatureSet = NO_FEATURES
    #: The series to continue or begin, in place of those that the stored ones decide.
    series: tuple[BarSeries, ...] = ()

    @property
    def last_day(self) -> date:
        """The last day to populate."""
        return self.clamp.day

    def exact_series(self, of: BarSeries) -> BarSeries | None:
        """Return the series that is to be populated in the spec and segment of another one."""
        return next((one for one in self.series if one.lease_key == of.lease_key), None)

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.specs[0].symbol

    @property
    def lease_keys(self) -> list[LeaseKey]:
        """Leases of all thresholds and segments."""
        return [
            spec.series(requested.first_day).lease_key
            for requested in segments_of(self)
            for spec in self.specs
        ]


@dataclass(frozen=True, slots=True)
class RequestSegment:
    """The days of a request that lie in one segment."""

    request: Request
    segment: Segment
    first_day: date
    last_day: date


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The days to publish for a series in a segment; none if the first day lies after the last."""

    requested: RequestSegment
    #: The stored units of the series; none if it is new.
    chain: Chain
    first_day: date
    last_day: date
    generation: int = 0
    #: Optional feature groups of a new series, and of one that is rebuilt from its anchor.
    first_features: FeatureSet = NO_FEATURES

    @property
    def series(self) -> BarSeries:
        """The series."""
        return self.chain.series

    @property
    def is_new(self) -> bool:
        """Whether nothing of the series is stored."""
        return not self.chain.units

    @property
    def base(self) -> Unit | None:
        """The unit that the first day is built on."""
        return self.chain.unit(self.first_day - ONE_DAY)

    @property
    def features(self) -> FeatureSet:
        """Optional feature groups of the days to publish: those of the unit that they are built on."""
        base = self.base
        return self.first_features if base is None else stored_features(base.feature_groups)

    @property
    def days(self) -> list[date]:
        """The days to publish."""
        count = max(0, (self.last_day - self.first_day).days + 1)
        return [self.first_day + timedelta(days=n) for n in range(count)]

    @property
    def stored_units(self) -> tuple[Unit, ...]:
        """The requested units that are stored already."""
        last_day = min(self.last_day, self.requested.last_day)
        return self.chain.between(self.requested.first_day, last_day)


def segments_of(request: Request) -> list[RequestSegment]:
    """Split a request at its resets."""
    span = Span(day_start(request.first_day), day_start(request.last_day + ONE_DAY))
    return [
        RequestSegment(request, segment, part.first_day, part.last_day)
        for segment, part in parts(span, request.specs[0].reset)
    ]


def by_lease(chains: Mapping[BarSeries, Chain]) -> dict[LeaseKey, list[Chain]]:
    """Group chains by the lease of their series."""
    groups: dict[LeaseKey, list[Chain]] = {}
    for series, chain in chains.items():
        groups.setdefault(series.lease_key, []).append(chain)
    return groups


def plan_segment(
    requested: RequestSegment,
    chains: Mapping[LeaseKey, Sequence[Chain]],
    families: Mapping[BarSpec, FeatureSet] = _NO_FAMILIES,
) -> list[SeriesPlan]:
    """Plan where each threshold continues in a segment.

    The earliest-anchored series that reaches the first day is continued from its frontier. Without
    such a series, a new one starts on the first day, with the optional feature groups of the spec's
    newest series and the requested ones.
    """
    return [
        _plan_series(requested, spec, chains, families.get(spec, NO_FEATURES))
        for spec in requested.request.specs
    ]


def _plan_series(
    requested: RequestSegment,
    spec: BarSpec,
    chains: Mapping[LeaseKey, Sequence[Chain]],
    family: FeatureSet,
) -> SeriesPlan:
    series = spec.series(requested.first_day)
    stored = chains.get(series.lease_key, ())
    exact = requested.request.exact_series(series)
    if exact is None:
        chain = to_continue(stored, requested.segment, requested.first_day)
    else:
        series, chain = exact, None
    if chain is None:
        chain = next((chain for chain in stored if chain.series == series), Chain(series, ()))
    first_day = chain.frontier
    wanted = requested.request.features
    return SeriesPlan(
        requested,
        chain,
        first_day,
        requested.last_day,
        _generation_on(first_day, chain),
        family.joined(wanted, wanted.window),
    )


def _generation_on(day: date, chain: Chain) -> int:
    """Return the generation under which a unit of a day is visible."""
    visible = (g.number for g in chain.generations if g.state == PUBLISHED and g.first_day <= day)
    return max(visible, default=0)
