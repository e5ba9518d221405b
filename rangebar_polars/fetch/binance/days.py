"""Day source and archive probe of Binance."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars.config import settings
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import ArchiveMissingError, NotYetPublishedError
from rangebar_polars.fetch.binance.archive import BinanceArchive
from rangebar_polars.fetch.binance.archive_days import ArchiveDays
from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.fetch.binance.trades import BinanceTradeDays, TradesArchive
from rangebar_polars.fetch.http_probe import ProbingTransport
from rangebar_polars.fetch.source import ARCHIVE_PATIENCE, ArchiveProbe, Fetcher
from rangebar_polars.sources import TRADES_SCHEMA, TRADES_SUFFIX
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from rangebar_polars.fetch.source import DaySource, IdSpans

__all__ = ["BINANCE", "BinanceDays", "BinanceProbe"]


class BinanceProbe(ArchiveProbe):
    """Finds days of Binance, whose archive has a file and a checksum for each.

    With `RANGEBAR_CHECKSUM=warn`, a file without a checksum counts too, because a fetch takes it.
    """

    def __init__(
        self, symbol: str, market: str, now: Callable[[], float] = clock.unix_seconds
    ) -> None:
        options = settings()
        transport = ProbingTransport(
            options.binance_archive_url, with_checksum=options.checksum == "require", now=now
        )
        super().__init__(symbol, transport)
        archive = TradesArchive if market.endswith(TRADES_SUFFIX) else BinanceArchive
        self._archive = archive(market.removesuffix(TRADES_SUFFIX), transport=transport)

    def has(self, day: date) -> bool:
        """Return whether the file of the day is published, and its checksum."""
        return any(self._archive.days(self.symbol, day, day))


# Ids to request at once while the number of ids of a day is unknown.
_FEWEST_IDS, _MOST_IDS = 1_000, 64_000


class BinanceDays(ArchiveDays):
    """Days of a Binance symbol from the archive, the known gaps of the registry, or REST."""

    def __init__(self, symbol: str, market: str) -> None:
        super().__init__(symbol, BinanceArchive(market))
        self._rest = BinanceRest(market)

    @property
    def by_id(self) -> BinanceDays:
        """The same object, which requests ids from REST."""
        return self

    def is_published(self, day: date) -> bool:
        """Return whether the archive has the day."""
        return any(self._archive.days(self._symbol, day, day))

    def after(self, day: date, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Return the ticks of a day above an id, and the spans of ids among them that do not exist."""
        newest = self._rest.newest_id(self._symbol)
        found, absent = [TRADES_SCHEMA.to_frame()], []
        count = _FEWEST_IDS
        first, end = last + 1, last
        while first <= newest:
            rows, missing = self._rest.fetch_ids(
                self._symbol, first, min(first + count - 1, newest)
            )
            of_day = rows.filter(pl.col("timestamp").dt.date() == day)
            found.append(of_day)
            absent += missing
            end = of_day["agg_trade_id"][-1] if of_day.height else end
            if of_day.height < rows.height:
                break
            first, count = first + count, min(2 * count, _MOST_IDS)
        return self._in_coins(pl.concat(found)), [span for span in absent if span[1] < end]

    def ids(self, first: int, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Return the ticks with these ids, and the spans of ids that the exchange does not have."""
        ticks, absent = self._rest.fetch_ids(self._symbol, first, last)
        return self._in_coins(ticks), absent

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def _day(self, day: date) -> DayTicks | None:
        if day < clock.utc_now().date():
            try:
                found = self._archive.fetch_day(self._symbol, day)
            except NotYetPublishedError:
                return self._of_rest(day)
            except ArchiveMissingError:
                return self._known_gap(day) or self._of_month(day) or self._of_rest(day)
            if found.ticks.height:
                return found
        return self._of_rest(day)

    def _known_gap(self, day: date) -> DayTicks | None:
        """Return an empty day if the registry has it as a known gap."""
        entry = get_symbol_entries().get(self._symbol)
        for gap in entry.known_gaps if entry else ():
            if gap.start_date <= day <= gap.end_date:
                reason = f"known gap: {gap.reason}"
                return DayTicks(day, TRADES_SCHEMA.to_frame(), Origin("archive"), reason=reason)
        return None

    def _of_rest(self, day: date) -> DayTicks | None:
        """Return the day from REST. It is complete once its archive is no longer expected."""
        found = self._rest.fetch_day(self._symbol, day)
        if found.ticks.is_empty():
            return None if found.is_tail else found
        return replace(found, is_tail=self._today - day <= ARCHIVE_PATIENCE)

    @property
    def _today(self) -> date:
        """The date by the clock of the exchange, which this machine may be far ahead of."""
        return (clock.utc_now() - timedelta(seconds=self._rest.clock_skew_s or 0.0)).date()


def _days_of(symbol: str, market: str) -> DaySource:
    """Return the source of the days of a market, which may be one of single trades."""
    if market.endswith(TRADES_SUFFIX):
        return BinanceTradeDays(symbol, market)
    return BinanceDays(symbol, market)


BINANCE = Fetcher(_days_of, BinanceProbe)
