"""Which series answers for a span: pure functions of what is visible.

Within a segment a result never mixes two series. Segments are independent, so that a result may
join them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.segments import parts, segment_of
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec, LeaseKey
    from rangebar_polars.bar_series.segments import Segment
    from rangebar_polars.bar_series.units import Unit

__all__ = [
    "SegmentSelection",
    "anchor_of",
    "best_kept",
    "by_segment",
    "in_segment",
    "select_series",
    "superseded",
    "to_continue",
    "walk_back",
]

#: The one segment without resets starts before the first day that the database holds.
_FIRST_STORED = date(1971, 1, 1)


@dataclass(frozen=True, slots=True)
class SegmentSelection:
    """The series that answers for the part of a span which lies in one segment."""

    segment: Segment
    part: Span
    chain: Chain

    @property
    def series(self) -> BarSeries:
        """The series: nothing of it need be kept."""
        return self.chain.series

    @property
    def units(self) -> tuple[Unit, ...]:
        """Kept units of the series; those outside the part do no harm, as bars are cut by time."""
        return self.chain.units

    @property
    def ends_segment(self) -> bool:
        """Whether the part reaches the end of its segment, where the forming bar ends too."""
        return self.segment.end is not None and self.part.end >= day_start(self.segment.end)

    @property
    def from_ticks(self) -> Span | None:
        """What has to be computed: from the frontier, or from the anchor if nothing is kept."""
        begin = day_start(self.chain.frontier) if self.units else self.series.anchor
        return Span(begin, self.part.end) if begin < self.part.end else None


def anchor_of(
    anchor: Literal["segment"] | datetime, segment: Segment, part: Span, first_day: date | None
) -> datetime:
    """The instant at which the series that was asked for begins in a segment.

    Parameters
    ----------
    anchor
        "segment" for its start, or an instant: in its own segment that, in later ones the start.
    first_day
        The symbol's effective start; nothing begins before it.

    Raises
    ------
    ValueError
        The instant lies after the start of the part.
    """
    start = day_start(segment.start)
    if first_day is not None:
        start = max(start, min(day_start(first_day), part.start))
    if anchor == "segment":
        return start
    if anchor > part.start:
        raise ValueError(
            with_hint(
                f"`anchor` ({anchor}) lies after the start of the span ({part.start})",
                "a computation begins before, or with, the first bar that is asked for",
            )
        )
    return max(anchor, start)


def select_series(
    spec: BarSpec,
    span: Span,
    chains: Mapping[BarSeries, Chain],
    *,
    groups: Collection[str] = ("core",),
    anchor: Literal["segment"] | datetime | None = None,
    first_day: date | None = None,
) -> list[SegmentSelection]:
    """For each segment of a span, the series that a read takes.

    Of those that cover the whole part, the one of the earliest anchor; else, of those with an
    anchor up to its start whose frontier reaches it, the one of the furthest frontier; else one
    that begins at the start of the part. Only series that have the groups of features count. An
    `anchor` asks for exactly the series that begins there.
    """
    by_start = by_segment(chains.values())
    found = []
    for segment, part in parts(span, spec.reset):
        if anchor is not None:
            series = spec.series(anchor_of(anchor, segment, part, first_day))
            chain = chains.get(series)
            has_groups = chain is not None and chain.feature_groups >= set(groups)
            chosen = chain if has_groups else None
        else:
            series = spec.series(part.start)
            chosen = _for_read(in_segment(by_start.get(segment.start, ()), segment, groups), part)
        found.append(SegmentSelection(segment, part, chosen or Chain(series, ())))
    return found


def by_segment(chains: Iterable[Chain]) -> dict[date, list[Chain]]:
    """Chains by the start of their segment, so that each segment need not look at all of them."""
    found: dict[date, list[Chain]] = {}
    for chain in chains:
        found.setdefault(chain.series.segment_start, []).append(chain)
    return found


def in_segment(
    chains: Iterable[Chain], segment: Segment, groups: Collection[str] = ()
) -> list[Chain]:
    """Chains of a segment that hold anything and have the groups, the earliest anchor first."""
    fitting = [
        chain
        for chain in chains
        if chain.series.segment_start == segment.start
        and chain.units
        and chain.feature_groups >= set(groups)
    ]
    return sorted(fitting, key=lambda chain: chain.series.anchor_us)


def _for_read(chains: list[Chain], part: Span) -> Chain | None:
    """The chain that answers for a part; the chains stand in the order of their anchors."""
    begun = [one for one in chains if one.series.anchor <= part.start]
    whole = [one for one in begun if one.frontier > part.last_day]
    if whole:
        return whole[0]
    reaching = [one for one in begun if one.frontier >= part.first_day]
    return max(reaching, key=lambda one: one.frontier, default=None)


def to_continue(chains: Iterable[Chain], segment: Segment, first_day: date) -> Chain | None:
    """The chain that a population from a day on continues: the earliest anchor that reaches it."""
    start = day_start(first_day)
    reaching = (
        one
        for one in in_segment(chains, segment)
        if one.series.anchor <= start and one.frontier >= first_day
    )
    return next(reaching, None)


def best_kept(chains: list[Chain], part: Span) -> Chain | None:
    """The chain that says most of a part when nothing may be computed; None if none holds a day.

    As for a read; if none was begun by the start of the part, the earliest one that holds a day.
    """
    # One that only reaches the part would be continued by a read, but says nothing of it.
    holding = [one for one in chains if one.frontier > part.first_day]
    later = (one for one in holding if part.start < one.series.anchor < part.end)
    return _for_read(holding, part) or next(later, None)


def walk_back(
    chains: Iterable[Chain],
    reset: str | None,
    end: datetime | None = None,
    *,
    groups: Collection[str] = ("core",),
) -> Iterator[Chain]:
    """Chains of one family that hold the newest bars before an instant, the newest first.

    In each segment the earliest anchor whose frontier reaches the end, else the furthest frontier.
    A segment that is kept from its start is followed by the one before it.
    """
    kept = by_segment(one for one in chains if end is None or one.series.anchor < end)
    starts = sorted(
        (start for start, known in kept.items() if any(one.units for one in known)), reverse=True
    )
    for place, start in enumerate(starts):
        segment = segment_of(max(start, _FIRST_STORED), reset)
        ranked = in_segment(kept[start], segment, groups)
        if not ranked:
            return
        last_day = _last_day(segment, end)
        whole = [one for one in ranked if last_day is not None and one.frontier > last_day]
        chosen = whole[0] if whole else max(ranked, key=lambda one: one.frontier)
        yield chosen
        earlier = starts[place + 1] if place + 1 < len(starts) else None
        is_whole = chosen.series.anchor <= day_start(segment.start)
        if earlier is None or not is_whole or segment_of(earlier, reset).end != segment.start:
            return


def _last_day(segment: Segment, end: datetime | None) -> date | None:
    """The last day of a segment that lies before an instant; None if there is no last one."""
    bounds = [] if end is None else [(end - timedelta(microseconds=1)).date()]
    bounds += [] if segment.end is None else [segment.end - ONE_DAY]
    return min(bounds, default=None)


def superseded(chains: Iterable[Chain]) -> set[BarSeries]:
    """Series that another one, of an earlier anchor and equal in all else, covers wholly."""
    alike: dict[LeaseKey, list[Chain]] = {}
    for one in chains:
        alike.setdefault(one.series.lease_key, []).append(one)
    return {
        one.series
        for others in alike.values()
        for one in others
        if any(
            other.series.anchor_us < one.series.anchor_us
            and other.frontier >= one.frontier
            and other.feature_groups >= one.feature_groups
            for other in others
        )
    }
