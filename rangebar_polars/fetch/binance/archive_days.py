"""Days of a Binance symbol from the files of its archive."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from rangebar_polars._utils.contracts import with_coins
from rangebar_polars.exceptions import ArchiveMissingError, NotYetPublishedError
from rangebar_polars.fetch.prefetch import prefetch
from rangebar_polars.sources import has_contracts
from rangebar_polars.symbol_registry import get_contract_size

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.fetch.binance.archive import BinanceArchive

__all__ = ["ArchiveDays"]

# One day is parsed while the next is downloaded. More would only take memory.
_AHEAD = 2


class ArchiveDays:
    """Days of a symbol from the files of their days, or else from those of their months.

    The quantity of coin-margined futures, which the exchange counts in contracts, becomes coins.
    """

    def __init__(self, symbol: str, archive: BinanceArchive) -> None:
        self._symbol = symbol
        self._archive = archive
        is_in_contracts = has_contracts(archive.source, archive.market)
        self._contract_size = get_contract_size(symbol) if is_in_contracts else None
        self._month: tuple[tuple[int, int], dict[date, DayTicks]] | None = None
        self._of_one_month = Lock()

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """Yield the published days in order, prefetching the next ones."""
        for day in prefetch(self._day, wanted, count=_AHEAD):
            if day is not None:
                yield [replace(day, ticks=self._in_coins(day.ticks))]

    def close(self) -> None:
        """Do nothing: no connection stays open between files."""

    def _day(self, day: date) -> DayTicks | None:
        """Return the day, or None if it may still be published."""
        try:
            return self._archive.fetch_day(self._symbol, day)
        except NotYetPublishedError:
            return None
        except ArchiveMissingError:
            found = self._of_month(day)
            if found is None:
                raise
            return found

    def _in_coins(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Convert quantities in contracts to coins."""
        return ticks if self._contract_size is None else with_coins(ticks, self._contract_size)

    def _of_month(self, day: date) -> DayTicks | None:
        """Return the day from the archive of its month, if that has it."""
        month = (day.year, day.month)
        with self._of_one_month:  # days in progress at the same time share the file
            if self._month is None or self._month[0] != month:
                self._month = None
                self._month = (month, self._days_of(*month))
            return self._month[1].get(day)

    def _days_of(self, year: int, month: int) -> dict[date, DayTicks]:
        try:
            found = self._archive.fetch_month(self._symbol, year, month)
        except ArchiveMissingError:
            return {}
        return {item.day: item for item in found}
