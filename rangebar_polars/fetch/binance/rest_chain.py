"""The chain of a symbol's trades by id, each once, from pages of the REST interface.

Pages are requested by their first id, never by time, because many trades share a millisecond. A page
may be short, repeat trades, or be out of order, so only ids tell where the next one starts. An id
counts as missing only if a second answer confirms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import polars as pl

from rangebar_polars.exceptions import (
    TickDataError,
    TickOrderError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch.binance.rest_page import PAGE_SCHEMA, page_of
from rangebar_polars.fetch.normalise import UNITS, FileTimes
from rangebar_polars.sources import LONGEST_STEP_BACK_US

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

__all__ = ["PAGE_ROWS", "Requests", "Trade", "TradeChain", "times_us"]

PAGE_ROWS = 1000
# This many pages are joined into one frame, because every frame has a fixed cost.
PAGES_TOGETHER = 50
ANSWERS = 6
ID = "agg_trade_id"
TIME = "timestamp"


class Trade(NamedTuple):
    """A trade by its id and its time in microseconds since 1970."""

    id: int
    time_us: int


class Requests(Protocol):
    """What sends the requests of a chain: a `RestClient`, or a queue in front of it."""

    @property
    def url(self) -> str:
        """Address of the requests."""
        ...

    def ask(self, parse: Callable[[bytes, str], T], **parameters: str | int) -> T:
        """Send a request and return the answer parsed by `parse`."""
        ...


class TradeChain:
    """A walk over the ids of one symbol, for one operation in one thread.

    Parameters
    ----------
    client
        What sends the requests.
    symbol
        The symbol in upper case.
    read
        Parses a page. By default, a trade with an invalid value is an error.
    """

    def __init__(
        self,
        client: Requests,
        symbol: str,
        *,
        read: Callable[[bytes, str], pl.DataFrame] = page_of,
    ) -> None:
        self._client = client
        self._symbol = symbol
        self._read = read
        self._frames: list[pl.DataFrame] = []
        self._pages: list[pl.DataFrame] = []
        # By missing id: the next id on the page where it was missing.
        self._breaks: dict[int, int] = {}
        self.moved = 0
        self.doubled = 0
        #: The newest trade at the start of the walk, at which the walk ends.
        self.newest = self._ask_newest()

    @property
    def url(self) -> str:
        """Address of the requests."""
        return self._client.url

    def at_time(self, start_us: int) -> int | None:
        """Ask the exchange for the id of the first trade at or after a time; None if it has none."""
        page = self._client.ask(
            self._read, symbol=self._symbol, startTime=start_us // 1000, limit=1
        )
        return None if page.is_empty() else int(page[ID][0])

    def run_from(self, next_id: int) -> pl.DataFrame | None:
        """Fetch trades with consecutive ids from `next_id` or the next existing id; None past the newest."""
        if next_id > self.newest.id:
            return None
        run = self._confirmed(next_id)
        return self._after_missing_ids(next_id) if run.is_empty() else run

    def first_from(self, next_id: int) -> Trade | None:
        """Return the first trade with `next_id` or a higher id."""
        run = self.run_from(next_id)
        return None if run is None else _trade(run, 0)

    def collect(
        self,
        first_id: int,
        last_id: int,
        end_us: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> pl.DataFrame:
        """Fetch the trades from `first_id` to `last_id`, or to the last one before a time.

        Raises
        ------
        TickDataError
            Two answers contradict each other about a trade.
        TickOrderError
            After the first trade at or after `end_us`, time runs back by more than a second.
        """
        self._frames, self._pages, self.moved, self.doubled = [], [], 0, 0
        next_id = first_id
        while next_id <= last_id:
            run = self.run_from(next_id)
            if run is None:
                break
            next_id = int(run[ID][-1]) + 1
            rows = run.filter(pl.col(ID) <= last_id)
            inside = (
                rows if end_us is None else rows.filter((times_us(rows) >= end_us).cum_sum() == 0)
            )
            self._append(inside)
            if progress is not None:
                progress(inside.height)
            if inside.height < rows.height:
                self._check_order_after(run.slice(inside.height), next_id)
                break
        return pl.concat([PAGE_SCHEMA.to_frame(), *self._frames, *self._pages])

    def _append(self, rows: pl.DataFrame) -> None:
        if not rows.is_empty():
            self._pages.append(rows)
        if len(self._pages) == PAGES_TOGETHER:
            self._frames.append(pl.concat(self._pages, rechunk=True))
            self._pages = []

    def _check_order_after(self, rest: pl.DataFrame, next_id: int) -> None:
        """Check that no trade from before the end follows the trade that ended the walk by its time."""
        if rest.height == 1:
            more = self.run_from(next_id)
            rest = rest if more is None else pl.concat([rest, more])
        times = times_us(rest)
        back = times < times[0] - LONGEST_STEP_BACK_US
        if back.any():
            number, after = rest.filter(back)[ID][0], rest[ID][0]
            raise TickOrderError(
                with_hint(
                    f"the time of trade `{number}` of `{self._symbol}` runs back by more than a "
                    f"second after that of trade `{after}`",
                    "fetch the day again; if the error persists, the answer of the exchange is wrong",
                )
            )

    def _confirmed(self, next_id: int) -> pl.DataFrame:
        """Return the trades from an id on. A missing id must be confirmed by a second answer."""
        unconfirmed = self._breaks.pop(next_id, None)
        for _ in range(ANSWERS):
            run = self._answer(next_id)
            if run is None:
                continue
            first = -1 if run.is_empty() else int(run[ID][0])
            if first in (next_id, unconfirmed):
                return run
            unconfirmed = first
        sentence = (
            f"answers of `{self._client.url}` for `{self._symbol}` from id `{next_id}` on repeat "
            f"themselves or contradict each other"
        )
        raise self._no_answer(sentence)

    def _answer(self, next_id: int) -> pl.DataFrame | None:
        """Request one page and return its consecutive ids; None if it does not match the request."""
        page = self._client.ask(self._read, symbol=self._symbol, fromId=next_id, limit=PAGE_ROWS)
        if page.is_empty():
            return page
        page = self._ordered(page)
        new = page.filter(pl.col(ID) >= next_id)
        if new.height < page.height:
            self._compare(page.filter(pl.col(ID) < next_id))
        if new.is_empty():
            return None
        first = int(new[ID][0])
        run = new.filter(pl.col(ID) == pl.int_range(pl.len()) + first)
        if run.height < new.height:
            self._breaks[int(run[ID][-1]) + 1] = int(new[ID][run.height])
        return run

    def _ordered(self, page: pl.DataFrame) -> pl.DataFrame:
        """Sort the page by id, and drop exact copies."""
        ids = page[ID]
        if (ids.diff() > 0).all():
            return page
        self.moved += int((ids < ids.cum_max()).sum())
        single = page.unique(maintain_order=True).sort(ID)
        self.doubled += page.height - single.height
        self._reject_conflicts(single)
        return single

    def _compare(self, old: pl.DataFrame) -> None:
        """Check that repeated trades equal those received before."""
        low, high = old[ID][0], old[ID][-1]
        overlapping = [
            frame.filter(pl.col(ID).is_between(low, high))
            for frame in (*self._frames, *self._pages)
            if frame[ID][0] <= high and frame[ID][-1] >= low
        ]
        if overlapping:
            known = pl.concat(overlapping)
            self.doubled += int(old[ID].is_in(known[ID].implode()).sum())
            self._reject_conflicts(pl.concat([known, old]).unique(maintain_order=True))

    def _reject_conflicts(self, trades: pl.DataFrame) -> None:
        twice = trades.filter(pl.col(ID).is_duplicated())
        if not twice.is_empty():
            raise TickDataError(
                with_hint(
                    f"two different trades of `{self._symbol}` have the agg_trade_id "
                    f"`{twice[ID][0]}` in answers of `{self._client.url}`",
                    "fetch the day again; an exchange uses an id once",
                )
            )

    def _after_missing_ids(self, next_id: int) -> pl.DataFrame:
        """Return the trades from the first existing id after one with an empty answer.

        An empty answer is not the end while newer trades exist. Doubling steps skip the missing
        ids, and bisection then finds the first id with an answer.
        """
        low, step = next_id, 1
        while (run := self._confirmed(high := min(low + step, self.newest.id))).is_empty():
            if high == self.newest.id:
                sentence = (
                    f"`{self._client.url}` returns no trade of `{self._symbol}` from id `{next_id}` "
                    f"on, but the newest is `{high}`"
                )
                raise self._no_answer(sentence)
            low, step = high, 2 * step
        while low + 1 < high:
            middle = (low + high) // 2
            lower = self._confirmed(middle)
            if lower.is_empty():
                low = middle
            else:
                high, run = middle, lower
        return run

    def _ask_newest(self) -> Trade:
        def parse(body: bytes, url: str) -> Trade:
            page = self._read(body, url)
            if page.is_empty():
                raise self._no_answer(f"`{url}` returns no newest trade of `{self._symbol}`")
            return _trade(page.sort(ID), -1)

        return self._client.ask(parse, symbol=self._symbol, limit=1)

    def _no_answer(self, sentence: str) -> TransientSourceError:
        hint = "try again later"
        return TransientSourceError(
            with_hint(sentence, hint), symbol=self._symbol, url=self._client.url
        )


def times_us(page: pl.DataFrame) -> pl.Series:
    """Convert the times of a page to microseconds, by the unit of its first time."""
    times = page[TIME]
    return times * UNITS[FileTimes.of_value(times[0] if len(times) else 0).unit][1]


def _trade(page: pl.DataFrame, row: int) -> Trade:
    return Trade(int(page[ID][row]), int(times_us(page)[row]))
