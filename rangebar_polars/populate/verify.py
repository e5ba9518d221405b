"""Verification of the stored bars of a population, a month at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.bars import READ_TRIES, DamagedBarsError, read_bars
from rangebar_polars.clickhouse.query.units import details_of, read_chains
from rangebar_polars.sources import DEFAULT_SOURCE
from rangebar_polars.validation.continuity import ContinuityCheck
from rangebar_polars.validation.tier1 import Tier1Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.report import PopulateReport
    from rangebar_polars.validation.continuity import ContinuityReport
    from rangebar_polars.validation.tier1 import Tier1Result

__all__ = ["Month", "StoredBarsCheck", "days_between", "month_of"]

Month: TypeAlias = tuple[int, int]


def month_of(day: date) -> Month:
    """Return the year and month of a day."""
    return day.year, day.month


def days_between(first_day: date, last_day: date) -> list[date]:
    """Return the days from the first to the last, both included."""
    return [first_day + timedelta(n) for n in range((last_day - first_day).days + 1)]


class _SeriesMonth(NamedTuple):
    """Days of one series in one month."""

    series: BarSeries
    first_day: date
    last_day: date


class StoredBarsCheck:
    """Counts and validates the stored bars of a population's series."""

    def __init__(
        self,
        report: PopulateReport,
        days: tuple[date, date],
        cache_dir: str | Path | None,
        dsn: str | None,
    ) -> None:
        self.report = report
        self.days = days
        self._cache_dir = cache_dir
        self._dsn = dsn
        source = report.series[0].series.spec.source if report.series else DEFAULT_SOURCE
        self._continuity = ContinuityCheck(source=source)
        self._tier1 = Tier1Check()
        self._is_validated = False
        #: Ticks of the requested days, and bars that reached their threshold.
        self.bars = self.ticks = 0

    def run(self, *, validate: bool) -> None:
        """Count the stored bars and ticks, and validate the bars on request."""
        self._is_validated = validate
        months = groupby(self._series_months(), lambda part: month_of(part.first_day))
        for _, of_month in months:
            with reading(self._dsn, cache_dir=self._cache_dir) as cache:
                if cache is not None:
                    self._check_month(cache, list(of_month))

    @property
    def continuity(self) -> ContinuityReport | None:
        """The result of the continuity check; None without validation."""
        return self._continuity.report() if self._is_validated else None

    @property
    def tier1(self) -> Tier1Result | None:
        """The result of the tier 1 validation; None without validation."""
        return self._tier1.result() if self._is_validated else None

    def _series_months(self) -> Iterator[_SeriesMonth]:
        """Yield the requested days by series and month, in order."""
        for report in self.report.series:
            segment = report.series.segment
            first_day = max(self.days[0], segment.start)
            end = self.days[1] if segment.end is None else segment.end - ONE_DAY
            days = days_between(first_day, min(self.days[1], end))
            for _, month in groupby(days, month_of):
                of_month = list(month)
                yield _SeriesMonth(report.series, of_month[0], of_month[-1])

    def _check_month(self, cache: Cache, parts: list[_SeriesMonth]) -> None:
        specs = {part.series.spec: None for part in parts}
        starts = {part.series.segment_start for part in parts}

        def read_units() -> list[Unit]:
            chains = read_chains(cache, specs, segment_starts=starts)
            return [
                unit
                for part in parts
                if part.series in chains
                for unit in chains[part.series].between(part.first_day, part.last_day)
            ]

        units = read_units()
        details = details_of(cache, units)
        self.bars += sum(unit.closed_rows for unit in units)
        self.ticks += int(details["tick_rows"].sum())
        if self._is_validated:
            absent = [tuple(span) for text in details["source_absent"] for span in json.loads(text)]
            bars = _read_again(cache, read_units)
            self._continuity.add(bars, absent=absent)
            self._tier1.add(bars.filter("is_closed"))


def _read_again(cache: Cache, read_units: Callable[[], list[Unit]]) -> pl.DataFrame:
    """Read the bars of planned units, and plan again if they were replaced meanwhile."""
    for _ in range(READ_TRIES - 1):
        with suppress(DamagedBarsError):
            return read_bars(cache, read_units(), include_orphans=True)
    return read_bars(cache, read_units(), include_orphans=True)
