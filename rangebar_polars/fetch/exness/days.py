"""Days of Exness quotes for the tick store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.exceptions import NotYetPublishedError
from rangebar_polars.fetch.exness.archive import Exness
from rangebar_polars.fetch.exness.csv import MonthFile
from rangebar_polars.fetch.http_probe import _UNKNOWN_TIME
from rangebar_polars.fetch.prefetch import ahead
from rangebar_polars.fetch.source import ArchiveProbe, by_month

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import date

    from rangebar_polars.sources import DayTicks

__all__ = ["ExnessDays", "ExnessProbe"]


class ExnessProbe(ArchiveProbe):
    """Days of Exness: they are whole once the file of their month was written after its end."""

    patience = 62

    def has(self, day: date) -> bool:
        """Whether the month's file holds the whole month."""
        file = MonthFile(self.symbol, day.year, day.month)
        written = self.transport.changed(file.path)
        return written is not None and (
            written == _UNKNOWN_TIME or written >= day_start(file.last_day + ONE_DAY)
        )

    def before(self, day: date) -> date:
        """The last day of the month before."""
        return day.replace(day=1) - ONE_DAY


class ExnessDays:
    """Days of an Exness symbol, a month's file at a time."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._source = Exness()

    @property
    def by_id(self) -> None:
        """Nobody: quotes have no ids of the exchange."""
        return

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """The months of the days, each whole; one that is not published yet is left out."""
        for found in ahead(self._days_of, by_month(wanted), count=1):
            if found:
                yield found

    def close(self) -> None:
        """Nothing is held open."""

    def _days_of(self, month: tuple[int, int]) -> list[DayTicks]:
        try:
            return self._source.fetch_month(self._symbol, *month)
        except NotYetPublishedError:
            return []
