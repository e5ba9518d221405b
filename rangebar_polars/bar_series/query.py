"""What a read of the cache asks for, and which of the series that are kept answer it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from rangebar_polars._utils.span import Span, day_start, parse_span
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.segments import parts, reset_of
from rangebar_polars.bar_series.selection import (
    SegmentSelection,
    best_kept,
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
    from collections.abc import Iterable, Iterator, Mapping

    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["Anchor", "SeriesQuery", "instant", "span_of"]

#: The series that begins at the start of its segment, or at an instant.
Anchor: TypeAlias = "Literal['segment'] | When"

_FAR = date(9998, 12, 31)


def instant(value: When, name: str) -> datetime:
    """Instant of a datetime with a zone; 00:00 UTC of a date.

    Examples
    --------
    >>> from rangebar_polars.bar_series.query import instant
    >>> instant("2024-03-01", "before").isoformat()
    '2024-03-01T00:00:00+00:00'
    """
    try:
        return parse_span(value, _FAR).start
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`start`", f"`{name}`")) from error


def span_of(symbol: str, start: When, end: When | None) -> Span:
    """Span of the arguments from the symbol's effective start to now; no end means now.

    Raises
    ------
    ValueError
        The span is none, lies in the future, or before the effective start.
    """
    now = datetime.now(UTC)
    asked = parse_span(start, _FAR if end is None else end)
    if asked.start >= now:
        raise ValueError(
            f"`start` ({start}) lies in the future; it is now {now:%Y-%m-%d %H:%M} UTC"
        )
    first = instant(validate_and_clamp_start_date(symbol, start), "start")
    if first >= asked.end:
        sentence = f"`end` ({end}) lies before the first day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"it starts on {first:%Y-%m-%d}"))
    return Span(first, min(asked.end, now))


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Series of one family: the best for the purpose, or those of an anchor."""

    spec: BarSpec
    anchor: Literal["segment"] | datetime | None = None
    groups: frozenset[str] = frozenset({"core"})

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
        groups: Iterable[str] = ("core",),
    ) -> SeriesQuery:
        """Judge the arguments of a door, the symbol apart."""
        spec = BarSpec.of(
            symbol,
            resolve_and_validate_threshold(symbol, threshold),
            source=source,
            market=market,
            reset=reset_of(ouroboros, ouroboros_mode),
            rules=BarRules(prevent_same_timestamp_close=prevent_same_timestamp_close),
        )
        start = anchor if anchor is None or anchor == "segment" else instant(anchor, "anchor")
        return cls(spec, start, frozenset(groups))  # type: ignore[arg-type]

    @property
    def first_day(self) -> date | None:
        """The symbol's effective start."""
        start = get_effective_start_date(self.spec.symbol)
        return None if start is None else date.fromisoformat(start)

    def fitting(self, chains: Mapping[BarSeries, Chain]) -> list[Chain]:
        """Chains of the anchor that was asked for, or all."""
        if self.anchor is None:
            return list(chains.values())
        first_day = self.first_day
        return [one for one in chains.values() if _is_of(one.series, self.anchor, first_day)]

    def within(self, span: Span, chains: Mapping[BarSeries, Chain]) -> list[SegmentSelection]:
        """For each segment of a span, the series that says most of it, computing nothing."""
        if self.anchor is not None:
            return select_series(
                self.spec,
                span,
                chains,
                groups=self.groups,
                anchor=self.anchor,
                first_day=self.first_day,
            )
        found = []
        by_start = by_segment(chains.values())
        for segment, part in parts(span, self.spec.reset):
            kept = in_segment(by_start.get(segment.start, ()), segment, self.groups)
            chain = best_kept(kept, part) or Chain(self.spec.series(part.start), ())
            found.append(SegmentSelection(segment, part, chain))
        return found

    def newest(self, chains: Mapping[BarSeries, Chain], end: datetime | None) -> Iterator[Chain]:
        """The series that hold the newest bars before an instant, the newest segment first."""
        return walk_back(self.fitting(chains), self.spec.reset, end, groups=self.groups)


def _is_of(
    series: BarSeries, anchor: Literal["segment"] | datetime, first_day: date | None
) -> bool:
    start = day_start(series.segment.start)
    if first_day is not None:
        start = max(start, day_start(first_day))
    return series.anchor == (start if anchor == "segment" else max(anchor, start))
