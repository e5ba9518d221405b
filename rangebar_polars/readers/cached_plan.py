"""Which units answer a read of the cache, and which days lack between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start, microseconds
from rangebar_polars.bar_series.segments import segments
from rangebar_polars.clickhouse.query.bars import closed_before, newest_units
from rangebar_polars.clickhouse.query.unit_cache import cached_chains

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from rangebar_polars._utils.span import Span
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.query import SeriesQuery
    from rangebar_polars.bar_series.selection import SegmentSelection
    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["Newest", "OfSpan"]


@dataclass(slots=True)
class OfSpan:
    """Which units answer for a span; it is planned anew if they were replaced meanwhile."""

    asked: SeriesQuery
    span: Span
    #: Whether the span ends with what is kept.
    is_open: bool = False
    choices: list[SegmentSelection] = field(default_factory=list)

    def plan(self, cache: Cache) -> list[Unit]:
        """The units of every series that is chosen."""
        starts = [segment.start for segment in segments(self.span, self.asked.spec.reset)]
        self.choose(cached_chains(cache, self.asked.spec, starts))
        return [unit for one in self.choices for unit in one.units]

    def choose(self, chains: Mapping[BarSeries, Chain]) -> None:
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


def _begins(choice: SegmentSelection) -> date:
    """The first day of a part that the series holds as far as it is asked for."""
    series = choice.series
    is_cut = series.anchor > max(day_start(series.first_day), choice.part.start)
    return series.first_day + ONE_DAY if is_cut else series.first_day


@dataclass(slots=True)
class Newest:
    """Which units hold the newest bars before an instant."""

    asked: SeriesQuery
    end: datetime | None = None
    #: How many bars; None for all.
    count: int | None = None
    chains: list[Chain] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)

    def plan(self, cache: Cache) -> list[Unit]:
        """The units, of no more segments and days than the bars need."""
        self.choose(cached_chains(cache, self.asked.spec))
        return self.units

    def choose(self, chains: Mapping[BarSeries, Chain]) -> None:
        """Choose among what is visible."""
        end_us = None if self.end is None else microseconds(self.end)
        held = 0
        self.chains = []
        for chain in self.asked.newest(chains, self.end):
            self.chains.append(chain)
            held += closed_before(chain.units, end_us)
            if self.count is not None and held >= self.count:
                break
        units = [unit for chain in reversed(self.chains) for unit in chain.units]
        self.units = newest_units(units, self.count, end_us)

    def absent(self) -> list[date]:
        """Whole days between the segments, and from the newest one up to the end, without units."""
        found: list[date] = []
        for older, newer in pairwise(reversed(self.chains)):
            found += _days(older.frontier, newer.series.segment_start)
        if self.chains and self.end is not None:
            found += _days(self.chains[0].frontier, min(self.end, datetime.now(UTC)).date())
        return found


def _days(first: date, end: date) -> list[date]:
    return [first + ONE_DAY * offset for offset in range((end - first).days)]
