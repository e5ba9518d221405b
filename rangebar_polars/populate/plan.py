"""What a population has to do: pure planning from what is kept and what is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.bar_series.selection import to_continue
from rangebar_polars.bar_series.units import PUBLISHED, Chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec, LeaseKey
    from rangebar_polars.bar_series.segments import Segment
    from rangebar_polars.bar_series.units import Unit

__all__ = [
    "Job",
    "Request",
    "RequestSegment",
    "SeriesJob",
    "SeriesPlan",
    "by_lease",
    "parts_of",
    "plan_part",
]


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """A series of a job: where it goes on, from which state, and who may write it."""

    series: BarSeries
    #: The first day that is to be published.
    first_day: date
    #: Attempt of the unit of the day before; 0 on the anchor's day.
    built_on: int
    #: State of the processor after the day before; None on the anchor's day.
    state: bytes | None
    generation: int
    fencing: int


@dataclass(frozen=True, slots=True)
class Job:
    """Days of one symbol in one segment, at all thresholds that lack them: one pass over the ticks.

    It holds no ticks and no bars, so that it can be sent to another process or machine.
    """

    symbol: str
    source: str
    market: str
    #: By its stored name.
    reset: str
    segment_start: date
    #: The lowest first day of the tracks.
    first_day: date
    last_day: date
    tracks: tuple[SeriesJob, ...]
    cache_dir: str | None
    dsn: str | None = field(repr=False)
    #: Who holds the leases of the series.
    holder: int

    @property
    def fencing(self) -> dict[LeaseKey, int]:
        """The leases under which it is published."""
        return {track.series.lease_key: track.fencing for track in self.tracks}

    @property
    def built_on(self) -> dict[BarSeries, int]:
        """Of each series, the attempt that its first unit is built on."""
        return {track.series: track.built_on for track in self.tracks}

    @property
    def days(self) -> int:
        """Days of the pass over the ticks."""
        return (self.last_day - self.first_day).days + 1


@dataclass(frozen=True, slots=True)
class Request:
    """Whole days of one symbol, at one or several thresholds."""

    #: One a threshold; they are equal in all else.
    specs: tuple[BarSpec, ...]
    first_day: date
    last_day: date

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.specs[0].symbol

    @property
    def lease_keys(self) -> list[LeaseKey]:
        """Leases of all thresholds and segments."""
        return [
            spec.series(part.first_day).lease_key for part in parts_of(self) for spec in self.specs
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
    """What is to be done for a series in a part; nothing, if its first day lies after the last."""

    part: RequestSegment
    #: What is kept of the series; without units if it is a new one.
    chain: Chain
    first_day: date
    last_day: date
    generation: int = 0

    @property
    def series(self) -> BarSeries:
        """The series."""
        return self.chain.series

    @property
    def is_new(self) -> bool:
        """Whether nothing of the series is kept."""
        return not self.chain.units

    @property
    def base(self) -> Unit | None:
        """The unit that the first day is built on."""
        return self.chain.unit(self.first_day - ONE_DAY)

    @property
    def days(self) -> list[date]:
        """The days to be published."""
        count = max(0, (self.last_day - self.first_day).days + 1)
        return [self.first_day + timedelta(days=n) for n in range(count)]

    @property
    def kept(self) -> tuple[Unit, ...]:
        """Units of the part that are there already."""
        return self.chain.between(self.part.first_day, min(self.last_day, self.part.last_day))


def parts_of(request: Request) -> list[RequestSegment]:
    """A request cut at its resets."""
    span = Span(day_start(request.first_day), day_start(request.last_day + ONE_DAY))
    return [
        RequestSegment(request, segment, part.first_day, part.last_day)
        for segment, part in parts(span, request.specs[0].reset)
    ]


def by_lease(chains: Mapping[BarSeries, Chain]) -> dict[LeaseKey, list[Chain]]:
    """Chains by family and segment."""
    found: dict[LeaseKey, list[Chain]] = {}
    for series, chain in chains.items():
        found.setdefault(series.lease_key, []).append(chain)
    return found


def plan_part(part: RequestSegment, chains: Mapping[LeaseKey, Sequence[Chain]]) -> list[SeriesPlan]:
    """Where each threshold goes on in a part.

    The series of the earliest anchor that reaches the first day is continued from its frontier;
    where there is none, a new one begins on the first day.
    """
    return [_plan_track(part, spec, chains) for spec in part.request.specs]


def _plan_track(
    part: RequestSegment, spec: BarSpec, chains: Mapping[LeaseKey, Sequence[Chain]]
) -> SeriesPlan:
    series = spec.series(part.first_day)
    own = chains.get(series.lease_key, ())
    chain = to_continue(own, part.segment, part.first_day)
    if chain is None:
        chain = next((one for one in own if one.series == series), Chain(series, ()))
    first_day = chain.frontier
    return SeriesPlan(part, chain, first_day, part.last_day, _generation_on(first_day, chain))


def _generation_on(day: date, chain: Chain) -> int:
    """Number under which a unit of a day is visible."""
    visible = (g.number for g in chain.generations if g.state == PUBLISHED and g.first_day <= day)
    return max(visible, default=0)
