"""Day source and archive probe of Exness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.config import settings
from rangebar_polars.exceptions import NotYetPublishedError
from rangebar_polars.fetch.exness.archive import Exness, month_file
from rangebar_polars.fetch.http_probe import UNKNOWN_TIME, ProbingTransport
from rangebar_polars.fetch.prefetch import prefetch
from rangebar_polars.fetch.source import ArchiveProbe, Fetcher, by_month
from rangebar_polars.sources import DEFAULT_MARKET

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import date

    from rangebar_polars.day_ticks import DayTicks

__all__ = ["EXNESS", "ExnessDays", "ExnessProbe"]


class ExnessProbe(ArchiveProbe):
    """Finds days of Exness. They are whole once the file of their month is written after its end."""

    patience = 62

    def __init__(
        self, symbol: str, market: str, now: Callable[[], float] = clock.unix_seconds
    ) -> None:
        del market  # there is only one
        super().__init__(symbol, ProbingTransport(settings().exness_url, now=now))

    def has(self, day: date) -> bool:
        """Return whether the month's file holds the whole month."""
        file = month_file(self.symbol, day.year, day.month)
        written = self.transport.changed(file.path)
        if written is None:
            written = self.transport.changed(file.path_of_year)
        return written is not None and (
            written == UNKNOWN_TIME or written >= day_start(file.last_day + ONE_DAY)
        )

    def before(self, day: date) -> date:
        """Return the last day of the month before."""
        return day.replace(day=1) - ONE_DAY


class ExnessDays:
    """Days of an Exness symbol, a month's file at a time."""

    def __init__(self, symbol: str, market: str = DEFAULT_MARKET) -> None:
        del market  # there is only one
        self._symbol = symbol
        self._source = Exness()

    @property
    def by_id(self) -> None:
        """None: Exness does not number its quotes."""
        return

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """Yield the months of the days, each whole, leaving out those not yet published."""
        for found in prefetch(self._days_of, by_month(wanted), count=1):
            if found:
                yield found

    def close(self) -> None:
        """Do nothing: no connection stays open between files."""

    def _days_of(self, month: tuple[int, int]) -> list[DayTicks]:
        try:
            return self._source.fetch_month(self._symbol, *month)
        except NotYetPublishedError:
            return []


EXNESS = Fetcher(ExnessDays, ExnessProbe)
