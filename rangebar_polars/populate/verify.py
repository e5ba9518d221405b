"""A look at what is kept of some days, a month at a time."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import details_of, read_chains
from rangebar_polars.sources import DEFAULT_SOURCE
from rangebar_polars.validation.continuity import ContinuityCheck
from rangebar_polars.validation.tier1 import Tier1Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.report import PopulateReport
    from rangebar_polars.validation.continuity import ContinuityReport
    from rangebar_polars.validation.tier1 import Tier1Result

__all__ = ["Month", "StoredBarsCheck", "days_between", "month_of"]

Month: TypeAlias = tuple[int, int]


def month_of(day: date) -> Month:
    """Year and month of a day."""
    return day.year, day.month


def days_between(first_day: date, last_day: date) -> list[date]:
    """The days from the first to the last, both included."""
    return [first_day + timedelta(n) for n in range((last_day - first_day).days + 1)]


class Part(NamedTuple):
    """Days of one series in one month."""

    series: BarSeries
    first_day: date
    last_day: date


class StoredBarsCheck:
    """A look at what is kept of the series of a population, a month at a time."""

    def __init__(
        self,
        report: PopulateReport,
        days: tuple[date, date],
        cache_dir: str | Path | None,
        dsn: str | None,
    ) -> None:
        self.report = report
        self.days = days
        self._where: dict[str, Any] = {"dsn": dsn, "cache_dir": cache_dir}
        source = report.series[0].series.spec.source if report.series else DEFAULT_SOURCE
        self._continuity = ContinuityCheck(source=source)
        self._tier1 = Tier1Check()
        self._is_deep = False
        #: Bars that reached their threshold, and ticks, of the days asked for.
        self.bars = self.ticks = 0

    def run(self, *, is_deep: bool) -> None:
        """Count what is kept, and validate it if that is wanted."""
        self._is_deep = is_deep
        for _, parts in groupby(self._parts(), lambda part: month_of(part.first_day)):
            with reading(**self._where) as cache:
                if cache is not None:
                    self._look_at(cache, list(parts))

    @property
    def continuity(self) -> ContinuityReport | None:
        """What the chain of ids says; None if it was not looked at."""
        return self._continuity.report() if self._is_deep else None

    @property
    def tier1(self) -> Tier1Result | None:
        """What the values say; None if they were not looked at."""
        return self._tier1.result() if self._is_deep else None

    def _parts(self) -> Iterator[Part]:
        """The days asked for by series and month, in order."""
        for one in self.report.series:
            segment = one.series.segment
            first_day = max(self.days[0], segment.start)
            end = self.days[1] if segment.end is None else segment.end - ONE_DAY
            days = days_between(first_day, min(self.days[1], end))
            for _, together in groupby(days, month_of):
                of_month = list(together)
                yield Part(one.series, of_month[0], of_month[-1])

    def _look_at(self, cache: Cache, parts: list[Part]) -> None:
        """Look at one month."""
        specs = {part.series.spec: None for part in parts}
        starts = {part.series.segment_start for part in parts}

        def units() -> list[Unit]:
            chains = read_chains(cache, specs, segment_starts=starts)
            return [
                unit
                for part in parts
                if part.series in chains
                for unit in chains[part.series].between(part.first_day, part.last_day)
            ]

        found = units()
        details = details_of(cache, found)
        self.bars += sum(unit.closed_rows for unit in found)
        self.ticks += int(details["tick_rows"].sum())
        if self._is_deep:
            absent = [tuple(span) for text in details["source_absent"] for span in json.loads(text)]
            bars = read_bars(cache, units, include_orphans=True)
            self._continuity.add(bars, absent=absent)
            self._tier1.add(bars.filter("is_closed"))
