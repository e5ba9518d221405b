"""A query for stored series, and the stored series that match it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal, TypeAlias

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import Span, day_start, parse_instant, parse_span
from rangebar_polars.bar_series.features import NO_FEATURES
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.segments import parts, reset_of
from rangebar_polars.bar_series.selection import (
    SegmentSelection,
    best_stored,
    by_segment,
    in_segment,
    select_series,
    walk_back,
)
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.exceptions import with_hint
from rangebar_polars.symbol_registry import (
    get_effective_start_date,
    validate_and_clamp_start_date,
)
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["Anchor", "SeriesQuery", "instant", "span_of"]

#: The start of a series: the start of its segment, or an instant.
Anchor: TypeAlias = "Literal['segment'] | When"

_FAR = date(9998, 12, 31)


def instant(value: When, name: str) -> datetime:
    """Convert a datetime, or a date (00:00 UTC), to an instant.

    Examples
    --------
    >>> from rangebar_polars.bar_series.query import instant
    >>> instant("2024-03-01", "before").isoformat()
    '2024-03-01T00:00:00+00:00'
    """
    return parse_instant(value, name)


def span_of(symbol: str, start: When, end: When | None) -> Span:
    """Return the span of the arguments, cut to the symbol's effective start and to now.

    Raises
    ------
    ValueError
        The arguments are not a span, or it lies in the future or before the effective start.
    """
    now = clock.utc_now()
    span = parse_span(start, _FAR if end is None else end)
    if span.start >= now:
        raise ValueError(
            f"`start` ({start}) lies in the future; it is now {now:%Y-%m-%d %H:%M} UTC"
        )
    first = instant(validate_and_clamp_start_date(symbol, start), "start")
    if first >= span.end:
        sentence = f"`end` ({end}) lies before the first day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"it starts on {first:%Y-%m-%d}"))
    return Span(first, min(span.end, now))


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """A query for series of one spec, with any anchor or a particular one."""

    spec: BarSpec
    anchor: Literal["segment"] | datetime | None = None
    #: Requested optional feature groups, which do not decide the series; the window is None if it is
    #: left to the stored series.
    features: FeatureSet = NO_FEATURES

    @classmethod
    def of(
        cls,
        symbol: str,
        threshold: ThresholdLike,
        *,
        ouroboros: str | None,
        ouroboros_mode: str | None,
        source: str,
        market: str,
        prevent_same_timestamp_close: bool,
        anchor: Anchor | None,
        features: FeatureSet = NO_FEATURES,
    ) -> SeriesQuery:
        """Validate the arguments of a public function, except for the symbol."""
        spec = BarSpec.of(
            symbol,
            resolve_and_validate_threshold(symbol, threshold),
            source=source,
            market=market,
            reset=reset_of(ouroboros, ouroboros_mode),
            rules=BarRules(prevent_same_timestamp_close=prevent_same_timestamp_close),
        )
        return cls(spec, _anchor(anchor), features)

    @property
    def first_day(self) -> date | None:
        """The symbol's effective start; None without one."""
        start = get_effective_start_date(self.spec.symbol)
        return None if start is None else date.fromisoformat(start)

    def matching(self, chains: Mapping[BarSeries, Chain]) -> list[Chain]:
        """Return the chains with the anchor of the query, or all chains without one."""
        if self.anchor is None:
            return list(chains.values())
        first_day = self.first_day
        return [
            chain for chain in chains.values() if _has_anchor(chain.series, self.anchor, first_day)
        ]

    def within(self, span: Span, chains: Mapping[BarSeries, Chain]) -> list[SegmentSelection]:
        """Select for each segment of a span the stored series that covers most of it."""
        if self.anchor is not None:
            return select_series(
                self.spec, span, chains, anchor=self.anchor, first_day=self.first_day
            )
        found = []
        by_start = by_segment(chains.values())
        for segment, part in parts(span, self.spec.reset):
            stored = in_segment(by_start.get(segment.start, ()), segment)
            chain = best_stored(stored, part) or Chain(self.spec.series(part.start), ())
            found.append(SegmentSelection(segment, part, chain))
        return found

    def newest(self, chains: Mapping[BarSeries, Chain], end: datetime | None) -> Iterator[Chain]:
        """Yield the chains of the newest bars before an instant, the newest segment first."""
        return walk_back(self.matching(chains), self.spec.reset, end)


def _anchor(anchor: Anchor | None) -> Literal["segment"] | datetime | None:
    if anchor is None:
        return None
    if isinstance(anchor, str) and anchor == "segment":
        return "segment"
    try:
        return instant(anchor, "anchor")
    except ValueError as error:
        sentence = str(error).partition("\n")[0]
        if not isinstance(anchor, str) or "not a date" not in sentence:
            raise
        hint = 'write anchor="segment" for the start of each segment, or a time'
        raise ValueError(with_hint(sentence, hint)) from error


def _has_anchor(
    series: BarSeries, anchor: Literal["segment"] | datetime, first_day: date | None
) -> bool:
    start = day_start(series.segment.start)
    if first_day is not None:
        start = max(start, day_start(first_day))
    return series.anchor == (start if anchor == "segment" else max(anchor, start))
