"""The selection of series for a span, as pure functions of the visible chains.

Within a segment a result never mixes two series. Segments are independent: a result may join them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.features import FeatureSet
from rangebar_polars.bar_series.segments import parts, segment_of
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec, LeaseKey
    from rangebar_polars.bar_series.segments import Segment
    from rangebar_polars.bar_series.units import Unit

__all__ = [
    "SegmentSelection",
    "anchor_of",
    "best_stored",
    "by_segment",
    "family_features",
    "furthest",
    "in_segment",
    "select_series",
    "superseded",
    "to_continue",
    "walk_back",
]

#: First day that can be stored. The segment of a series without resets starts before it.
_FIRST_STORED = date(1971, 1, 1)


@dataclass(frozen=True, slots=True)
class SegmentSelection:
    """The series that is selected for the part of a span in one segment."""

    segment: Segment
    part: Span
    chain: Chain

    @property
    def series(self) -> BarSeries:
        """The series, which need not have stored units."""
        return self.chain.series

    @property
    def units(self) -> tuple[Unit, ...]:
        """Stored units of the series. Those outside the part are harmless: bars are cut by time."""
        return self.chain.units

    @property
    def ends_segment(self) -> bool:
        """Whether the part reaches the end of its segment, where the forming bar ends too."""
        return self.segment.end is not None and self.part.end >= day_start(self.segment.end)

    @property
    def from_ticks(self) -> Span | None:
        """The ticks to compute: from the frontier, or from the anchor without units; None for none."""
        begin = day_start(self.chain.frontier) if self.units else self.series.anchor
        return Span(begin, self.part.end) if begin < self.part.end else None


def anchor_of(
    anchor: Literal["segment"] | datetime, segment: Segment, part: Span, first_day: date | None
) -> datetime:
    """Return the instant at which the requested series begins in a segment.

    Parameters
    ----------
    anchor
        "segment" for the start of the segment, or an instant. A segment after that of the instant
        begins at its own start.
    first_day
        The symbol's effective start. No series begins before it.

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
                "a computation begins no later than the first requested bar",
            )
        )
    return max(anchor, start)


def select_series(
    spec: BarSpec,
    span: Span,
    chains: Mapping[BarSeries, Chain],
    *,
    anchor: Literal["segment"] | datetime | None = None,
    first_day: date | None = None,
) -> list[SegmentSelection]:
    """Select for each segment of a span the series to read.

    Of the series that cover the whole part, select the one with the earliest anchor. Else, of the
    series whose anchor is not after the start of the part and whose frontier reaches it, select the
    one with the furthest frontier. Else select a new series that begins at the start of the part.
    An `anchor` selects the series that begins there. Feature groups do not matter, so that they
    never change a bar.
    """
    by_start = by_segment(chains.values())
    found = []
    for segment, part in parts(span, spec.reset):
        if anchor is not None:
            series = spec.series(anchor_of(anchor, segment, part, first_day))
            chosen = chains.get(series)
        else:
            series = spec.series(part.start)
            chosen = _for_read(in_segment(by_start.get(segment.start, ()), segment), part)
        found.append(SegmentSelection(segment, part, chosen or Chain(series, ())))
    return found


def by_segment(chains: Iterable[Chain]) -> dict[date, list[Chain]]:
    """Group chains by the start of their segment."""
    found: dict[date, list[Chain]] = {}
    for chain in chains:
        found.setdefault(chain.series.segment_start, []).append(chain)
    return found


def in_segment(chains: Iterable[Chain], segment: Segment) -> list[Chain]:
    """Return the chains of a segment that have units, the earliest anchor first."""
    matching = [
        chain for chain in chains if chain.series.segment_start == segment.start and chain.units
    ]
    return sorted(matching, key=lambda chain: chain.series.anchor_us)


def _for_read(chains: list[Chain], part: Span) -> Chain | None:
    """Return the chain to read for a part; the chains are in the order of their anchors."""
    begun = [chain for chain in chains if chain.series.anchor <= part.start]
    whole = [chain for chain in begun if chain.frontier > part.last_day]
    if whole:
        return whole[0]
    reaching = [chain for chain in begun if chain.frontier >= part.first_day]
    return max(reaching, key=lambda chain: chain.frontier, default=None)


def to_continue(chains: Iterable[Chain], segment: Segment, first_day: date) -> Chain | None:
    """Return the chain that a population from a day continues: of those that reach it, the first."""
    start = day_start(first_day)
    reaching = (
        chain
        for chain in in_segment(chains, segment)
        if chain.series.anchor <= start and chain.frontier >= first_day
    )
    return next(reaching, None)


def furthest(chains: Sequence[Chain]) -> Chain:
    """Return the earliest-anchored chain at the furthest frontier of the newest segment."""
    newest = max(chain.series.segment_start for chain in chains)
    candidates = [chain for chain in chains if chain.series.segment_start == newest]
    return min(candidates, key=lambda chain: (-chain.frontier.toordinal(), chain.series.anchor_us))


def best_stored(chains: list[Chain], part: Span) -> Chain | None:
    """Return the chain that covers most of a part without computing bars; None without one.

    Select as for a read. If no chain begins by the start of the part, select the earliest one with
    a day of it.
    """
    # A read would continue a chain that only reaches the part, but it has no bars of it.
    holding = [chain for chain in chains if chain.frontier > part.first_day]
    later = (chain for chain in holding if part.start < chain.series.anchor < part.end)
    return _for_read(holding, part) or next(later, None)


def walk_back(
    chains: Iterable[Chain], reset: str | None, end: datetime | None = None
) -> Iterator[Chain]:
    """Yield the chains of one spec that hold the newest bars before an instant, newest first.

    Of each segment, yield the earliest anchor whose frontier reaches the end, else the furthest
    frontier. Continue with the segment before if a segment is stored from its start.
    """
    stored = by_segment(chain for chain in chains if end is None or chain.series.anchor < end)
    starts = sorted(
        (start for start, known in stored.items() if any(chain.units for chain in known)),
        reverse=True,
    )
    for index, start in enumerate(starts):
        segment = segment_of(max(start, _FIRST_STORED), reset)
        ranked = in_segment(stored[start], segment)
        if not ranked:
            return
        last_day = _last_day(segment, end)
        whole = [chain for chain in ranked if last_day is not None and chain.frontier > last_day]
        chosen = whole[0] if whole else max(ranked, key=lambda chain: chain.frontier)
        yield chosen
        earlier = starts[index + 1] if index + 1 < len(starts) else None
        is_whole = chosen.series.anchor <= day_start(segment.start)
        if earlier is None or not is_whole or segment_of(earlier, reset).end != segment.start:
            return


def _last_day(segment: Segment, end: datetime | None) -> date | None:
    """Return the last day of a segment before an instant; None without a last day."""
    bounds = [] if end is None else [(end - timedelta(microseconds=1)).date()]
    bounds += [] if segment.end is None else [segment.end - ONE_DAY]
    return min(bounds, default=None)


def superseded(chains: Iterable[Chain]) -> set[BarSeries]:
    """Return the series that another one with an earlier anchor covers wholly.

    Feature groups do not matter: a read selects a series without regard to them.
    """
    alike: dict[LeaseKey, list[Chain]] = {}
    for chain in chains:
        alike.setdefault(chain.series.lease_key, []).append(chain)
    return {
        chain.series
        for others in alike.values()
        for chain in others
        if any(
            other.series.anchor_us < chain.series.anchor_us and other.frontier >= chain.frontier
            for other in others
        )
    }


def family_features(chains: Iterable[Chain]) -> FeatureSet:
    """Return the optional groups that a new series of a family begins with: those of the newest.

    A family is the series of one spec; the newest is that with the earliest anchor in the latest
    segment. The window is that of the newest series with look-back columns, and is there even if
    the groups have no such columns.
    """
    known = [chain.features for chain in sorted(chains, key=_age, reverse=True)]
    window = next((features.window for features in known if features.window is not None), None)
    return FeatureSet(known[0].groups if known else (), window)


def _age(chain: Chain) -> tuple[date, int]:
    return chain.series.segment_start, -chain.series.anchor_us
