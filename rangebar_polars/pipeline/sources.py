"""One answer per day from the sources of an exchange: its archive, else its interface."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import polars as pl

from rangebar_polars._ticks import TRADES_SCHEMA, DayTicks, Origin
from rangebar_polars.exceptions import ArchiveMissingError, NotYetPublishedError
from rangebar_polars.fetch.binance_archive import BinanceArchive
from rangebar_polars.fetch.binance_rest import BinanceRest
from rangebar_polars.fetch.exness import Exness
from rangebar_polars.pipeline.plan import ARCHIVE_PATIENCE, by_month
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from datetime import date

__all__ = ["DaySource", "day_source"]

# One day is parsed while the next is downloaded; more would only hold more days in memory.
_AHEAD = 2


class IdSource(Protocol):
    """Asks an exchange for ticks by their ids."""

    def after(self, day: date, last: int) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Ticks of the running day above an id, and the spans of ids between that do not exist."""
        ...

    def ids(self, first: int, last: int) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Ticks with these ids, and the spans of ids that the exchange does not have."""
        ...


class DaySource(Protocol):
    """The ticks of one symbol, a day at a time."""

    @property
    def by_id(self) -> IdSource | None:
        """Who can be asked for ids; None where ticks have no ids of the exchange."""
        ...

    def days(self, wanted: Sequence[date]) -> Iterator[list[DayTicks]]:
        """The days, in order, those of one file together.

        A day of which nothing can be known yet is left out; a file may hold more than was asked for.
        """
        ...

    def close(self) -> None:
        """Let go of connections; what is under way is given up."""
        ...


def day_source(symbol: str, source: str, market: str) -> DaySource:
    """The sources of a symbol behind one door."""
    if source == "exness":
        return ExnessDays(symbol)
    return BinanceDays(symbol, market)


class BinanceDays:
    """Days of a Binance symbol: the archive, else the registry's known gaps, else REST."""

    def __init__(self, symbol: str, market: str) -> None:
        self._symbol = symbol
        self._archive = BinanceArchive(market)
        self._rest = BinanceRest(market)
        self._workers = ThreadPoolExecutor(_AHEAD, thread_name_prefix="rangebar-fetch")
        self._month: tuple[tuple[int, int], dict[date, DayTicks]] | None = None

    @property
    def by_id(self) -> BinanceDays:
        """Itself, which asks REST."""
        return self

    def days(self, wanted: Sequence[date]) -> Iterator[list[DayTicks]]:
        """The days, in order, the next one under way while one is used."""
        pending: deque[Future[DayTicks | None]] = deque()
        left = deque(wanted)
        while left or pending:
            while left and len(pending) < _AHEAD:
                pending.append(self._workers.submit(self._day, left.popleft()))
            found = pending.popleft().result()
            if found is not None:
                yield [found]

    def after(self, day: date, last: int) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Ticks of the running day above an id, and the spans of ids between that do not exist."""
        newest = self._rest.newest_id(self._symbol)
        if newest <= last:
            return TRADES_SCHEMA.to_frame(), []
        rows, absent = self._rest.fetch_ids(self._symbol, last + 1, newest)
        rows = rows.filter(pl.col("timestamp").dt.date() == day)
        end = rows["agg_trade_id"][-1] if rows.height else last
        return rows, [span for span in absent if span[1] < end]

    def ids(self, first: int, last: int) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Ticks with these ids, and the spans of ids that the exchange does not have."""
        return self._rest.fetch_ids(self._symbol, first, last)

    def close(self) -> None:
        """Let go of the workers and connections."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._rest.close()

    def _day(self, day: date) -> DayTicks | None:
        today = datetime.now(UTC).date()
        if day < today:
            try:
                return self._archive.fetch_day(self._symbol, day)
            except NotYetPublishedError:
                pass
            except ArchiveMissingError:
                settled = self._known_gap(day) or self._of_month(day)
                if settled is not None:
                    return settled
        return self._of_rest(day, today)

    def _known_gap(self, day: date) -> DayTicks | None:
        """An empty day where the registry says that there is nothing."""
        entry = get_symbol_entries().get(self._symbol)
        for gap in entry.known_gaps if entry else ():
            if gap.start_date <= day <= gap.end_date:
                reason = f"known gap: {gap.reason}"
                return DayTicks(day, TRADES_SCHEMA.to_frame(), Origin("archive"), reason=reason)
        return None

    def _of_month(self, day: date) -> DayTicks | None:
        """The day as the month's archive has it, where its own is missing."""
        month = (day.year, day.month)
        if self._month is None or self._month[0] != month:
            try:
                found = self._archive.fetch_month(self._symbol, *month)
            except ArchiveMissingError:
                found = []
            self._month = (month, {one.day: one for one in found})
        held = self._month[1].get(day)
        return held if held is not None and held.ticks.height else None

    def _of_rest(self, day: date, today: date) -> DayTicks | None:
        """The day as REST has it; complete once its archive is not to be expected any more."""
        found = self._rest.fetch_day(self._symbol, day)
        if found.ticks.is_empty():
            return None if found.is_tail else found
        return replace(found, is_tail=today - day <= ARCHIVE_PATIENCE)


class ExnessDays:
    """Days of an Exness symbol, a month's file at a time."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._source = Exness()

    @property
    def by_id(self) -> None:
        """Nobody: quotes have no ids of the exchange."""
        return

    def days(self, wanted: Sequence[date]) -> Iterator[list[DayTicks]]:
        """The months of the days, each whole; one that is not published yet is left out."""
        for year, month in by_month(wanted):
            try:
                yield self._source.fetch_month(self._symbol, year, month)
            except NotYetPublishedError:
                continue

    def close(self) -> None:
        """Nothing is held open."""
