"""The plan of a read of stored bars alone: its units, and the days without units."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, day_start, microseconds
from rangebar_polars.bar_series.features import stored_features
from rangebar_polars.clickhouse.query.bars import closed_before, newest_units
from rangebar_polars.readers.features import check_units
from rangebar_polars.readers.plan import visible_chains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from rangebar_polars._utils.arguments.durations import Window
    from rangebar_polars._utils.span import Span
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.selection import SegmentSelection
    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["CachedPlan", "plan_cached"]


@dataclass(frozen=True, slots=True)
class CachedPlan:
    """Units that answer a read of stored bars."""

    #: Units of the series to read. Those outside the span may hold bars of it.
    units: tuple[Unit, ...]
    #: Units of the days of the span, or those that hold the newest bars.
    units_of_span: tuple[Unit, ...]
    #: Whole days of the read without units.
    missing: tuple[date, ...]

    @property
    def window(self) -> Window | None:
        """The window of the look-back columns of its units."""
        windows = (stored_features(unit.feature_groups).window for unit in self.units_of_span)
        return next((window for window in windows if window is not None), None)


def plan_cached(cache: Cache | None, request: ReadRequest) -> CachedPlan:
    """Plan a read of stored bars from what is visible in the cache now.

    Raises
    ------
    CoverageError
        Stored bars do not have a requested feature group or window.
    """
    chains = visible_chains(cache, request)
    span = request.span
    plan = _plan_newest(request, chains) if span is None else _plan_span(request, span, chains)
    if request.features:
        check_units(request, plan.units_of_span)
    return plan


def _plan_span(request: ReadRequest, span: Span, chains: Mapping[BarSeries, Chain]) -> CachedPlan:
    selections = request.within(span, chains)
    first, last = span.first_day, span.last_day
    return CachedPlan(
        tuple(unit for selection in selections for unit in selection.units),
        tuple(unit for selection in selections for unit in selection.chain.between(first, last)),
        tuple(_missing_days(request, span, selections)),
    )


def _missing_days(
    request: ReadRequest, span: Span, selections: Sequence[SegmentSelection]
) -> list[date]:
    """Return the whole days of the span, up to yesterday, without units."""
    end = clock.utc_now().date()
    if request.is_open:
        ends = [selection.chain.frontier for selection in selections if selection.units]
        end = max(ends, default=span.first_day)
    return [
        day
        for selection in selections
        for day in selection.part.days()
        if day < end and not (_first_whole_day(selection) <= day < selection.chain.frontier)
    ]


def _first_whole_day(selection: SegmentSelection) -> date:
    """Return the first day whose requested part the series covers."""
    series = selection.series
    is_cut = series.anchor > max(day_start(series.first_day), selection.part.start)
    return series.first_day + ONE_DAY if is_cut else series.first_day


def _plan_newest(request: ReadRequest, chains: Mapping[BarSeries, Chain]) -> CachedPlan:
    """Plan a read of no more segments and days than the bars need."""
    end_us = None if request.end is None else microseconds(request.end)
    bars = 0
    newest: list[Chain] = []
    for chain in request.newest(chains, request.end):
        newest.append(chain)
        bars += closed_before(chain.units, end_us)
        if request.count is not None and bars >= request.count:
            break
    units = [unit for chain in reversed(newest) for unit in chain.units]
    chosen = tuple(newest_units(units, request.count, end_us))
    return CachedPlan(tuple(units), chosen, tuple(_holes(newest, request.end)))


def _holes(newest: Sequence[Chain], end: datetime | None) -> list[date]:
    """Return the whole days between the segments, and up to the end, without units."""
    holes: list[date] = []
    for older, newer in pairwise(reversed(newest)):
        holes += _days(older.frontier, newer.series.segment_start)
    if newest and end is not None:
        holes += _days(newest[0].frontier, min(end, clock.utc_now()).date())
    return holes


def _days(first: date, end: date) -> list[date]:
    return [first + ONE_DAY * offset for offset in range((end - first).days)]
