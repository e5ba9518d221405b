"""What a read of the cache asks for, and which of the series that are kept answer it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from rangebar_polars._span import Span, day_start, parse_span
from rangebar_polars.clickhouse.choice import Choice, best_kept, choose, in_segment, walk_back
from rangebar_polars.clickhouse.rows import closed_before, newest_units
from rangebar_polars.clickhouse.series import Configuration, Family, microseconds, parts, segments
from rangebar_polars.clickhouse.units import Chain, read_chains
from rangebar_polars.exceptions import with_hint
from rangebar_polars.minimum import resolve_and_validate_threshold
from rangebar_polars.symbol_registry import (
    get_effective_start_date,
    validate_and_clamp_start_date,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rangebar_polars._span import When
    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.clickhouse.units import Unit
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["Anchor", "Asked", "Newest", "OfSpan", "instant", "span_of"]

#: The series that begins at the start of its segment, or at an instant.
Anchor: TypeAlias = "Literal['segment'] | When"

_ONE_DAY = timedelta(days=1)
_FAR = date(9998, 12, 31)
# The text of a query has a limit.
_MOST_STARTS = 1_000


def instant(value: When, name: str) -> datetime:
    """Instant of a datetime with a zone; 00:00 UTC of a date.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.asked import instant
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
class Asked:
    """Series of one family: the best for the purpose, or those of an anchor."""

    family: Family
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
    ) -> Asked:
        """Judge the arguments of a door, the symbol apart."""
        family = Family.of(
            symbol,
            resolve_and_validate_threshold(symbol, threshold),
            source=source,
            market=market,
            reset=ouroboros if ouroboros_mode is None else ouroboros_mode,
            configuration=Configuration(prevent_same_timestamp_close=prevent_same_timestamp_close),
        )
        start = anchor if anchor is None or anchor == "segment" else instant(anchor, "anchor")
        return cls(family, start, frozenset(groups))  # type: ignore[arg-type]

    @property
    def first_day(self) -> date | None:
        """The symbol's effective start."""
        start = get_effective_start_date(self.family.symbol)
        return None if start is None else date.fromisoformat(start)

    def fitting(self, chains: Mapping[Series, Chain]) -> list[Chain]:
        """Chains of the anchor that was asked for, or all."""
        if self.anchor is None:
            return list(chains.values())
        first_day = self.first_day
        return [one for one in chains.values() if _is_of(one.series, self.anchor, first_day)]

    def within(self, span: Span, chains: Mapping[Series, Chain]) -> list[Choice]:
        """For each segment of a span, the series that says most of it, computing nothing."""
        if self.anchor is not None:
            return choose(
                self.family,
                span,
                chains,
                groups=self.groups,
                anchor=self.anchor,
                first_day=self.first_day,
            )
        found = []
        for segment, part in parts(span, self.family.reset):
            # One that only reaches the part would be continued by a read, but says nothing of it.
            holding = [
                one
                for one in in_segment(chains.values(), segment, self.groups)
                if one.frontier > part.first_day
            ]
            chain = best_kept(holding, part) or Chain(self.family.series(part.start), ())
            found.append(Choice(segment, part, chain))
        return found

    def newest(self, chains: Mapping[Series, Chain], end: datetime | None) -> Iterator[Chain]:
        """The series that hold the newest bars before an instant, the newest segment first."""
        return walk_back(self.fitting(chains), self.family.reset, end, groups=self.groups)


def _is_of(series: Series, anchor: Literal["segment"] | datetime, first_day: date | None) -> bool:
    start = day_start(series.segment.start)
    if first_day is not None:
        start = max(start, day_start(first_day))
    return series.anchor == (start if anchor == "segment" else max(anchor, start))


@dataclass(slots=True)
class OfSpan:
    """Which units answer for a span; it is planned anew if they were replaced meanwhile."""

    asked: Asked
    span: Span
    #: Whether the span ends with what is kept.
    is_open: bool = False
    choices: list[Choice] = field(default_factory=list)

    def plan(self, cache: Cache) -> list[Unit]:
        """The units of every series that is chosen."""
        starts = [segment.start for segment in segments(self.span, self.asked.family.reset)]
        chains = read_chains(
            cache,
            [self.asked.family],
            segment_starts=starts if len(starts) <= _MOST_STARTS else None,
        )
        self.choose(chains)
        return [unit for one in self.choices for unit in one.units]

    def choose(self, chains: Mapping[Series, Chain]) -> None:
        """Choose among what is visible."""
        self.choices = self.asked.within(self.span, chains)

    @property
    def units(self) -> list[Unit]:
        """The units of the span's days."""
        first, last = self.span.first_day, self.span.last_day
        return [unit for one in self.choices for unit in one.chain.between(first, last)]

    def absent(self) -> list[date]:
        """Whole days of the span, up to yesterday, that are not kept."""
        end = datetime.now(UTC).date()
        if self.is_open:
            kept = [one.chain.frontier for one in self.choices if one.units]
            end = max(kept, default=self.span.first_day)
        return [
            day
            for one in self.choices
            for day in one.part.days()
            if day < end and not (_begins(one) <= day < one.chain.frontier)
        ]


def _begins(choice: Choice) -> date:
    """The first day of a part that the series holds as far as it is asked for."""
    series = choice.series
    is_cut = series.anchor > max(day_start(series.first_day), choice.part.start)
    return series.first_day + _ONE_DAY if is_cut else series.first_day


@dataclass(slots=True)
class Newest:
    """Which units hold the newest bars before an instant."""

    asked: Asked
    end: datetime | None = None
    #: How many bars; None for all.
    count: int | None = None
    chains: list[Chain] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)

    def plan(self, cache: Cache) -> list[Unit]:
        """The units, of no more segments and days than the bars need."""
        self.choose(read_chains(cache, [self.asked.family]))
        return self.units

    def choose(self, chains: Mapping[Series, Chain]) -> None:
        """Choose among what is visible."""
        end_us = None if self.end is None else microseconds(self.end)
        units: list[Unit] = []
        self.chains = []
        for chain in self.asked.newest(chains, self.end):
            self.chains.append(chain)
            units = [*chain.units, *units]
            if self.count is not None and closed_before(units, end_us) >= self.count:
                break
        self.units = newest_units(units, self.count, end_us)

    def absent(self) -> list[date]:
        """Whole days between the segments, and from the newest one up to the end, without units."""
        found: list[date] = []
        for newer, older in pairwise(self.chains):
            found = _days(older.frontier, newer.series.segment_start) + found
        if self.chains and self.end is not None:
            found += _days(self.chains[0].frontier, min(self.end, datetime.now(UTC)).date())
        return found


def _days(first: date, end: date) -> list[date]:
    return [first + _ONE_DAY * offset for offset in range((end - first).days)]
