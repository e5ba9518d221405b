"""The trades of a symbol by their ids: every one once, whatever the pages that bring them look like.

Pages are asked for by the first id wanted, never by time: many trades share a millisecond. A page
may be short, repeat trades, or be out of order; only ids say where the next one begins. Where an id
is missing, a second answer has to say the same before the exchange is believed to lack it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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

    from rangebar_polars.fetch.binance.rest_client import RestClient

__all__ = ["PAGE_ROWS", "Trade", "TradeChain", "times_us"]

PAGE_ROWS = 1000
# So many pages become one frame: a small frame has a cost of its own.
PAGES_TOGETHER = 50
ANSWERS = 6
ID = "agg_trade_id"
TIME = "timestamp"


class Trade(NamedTuple):
    """A trade by its id and its time in microseconds since 1970."""

    id: int
    time_us: int


class TradeChain:
    """The ids of one symbol, walked for one purpose by one thread."""

    def __init__(self, client: RestClient, symbol: str) -> None:
        self._client = client
        self._symbol = symbol
        self._frames: list[pl.DataFrame] = []
        self._pages: list[pl.DataFrame] = []
        # The id that followed where a page broke off, by the id that was missing.
        self._breaks: dict[int, int] = {}
        self.moved = 0
        self.doubled = 0
        #: The newest trade when the walk began: it ends there, so that it ends.
        self.newest = self._ask_newest()

    def at_time(self, start_us: int) -> int | None:
        """Id of the first trade at or after a time, as the exchange finds it; None if it does not."""
        page = self._client.ask(page_of, symbol=self._symbol, startTime=start_us // 1000, limit=1)
        return None if page.is_empty() else int(page[ID][0])

    def run_from(self, next_id: int) -> pl.DataFrame | None:
        """Trades with consecutive ids from the first one at or after `next_id`; None past the newest."""
        if next_id > self.newest.id:
            return None
        run = self._agreed(next_id)
        return self._after_void(next_id) if run.is_empty() else run

    def first_from(self, next_id: int) -> Trade | None:
        """The first trade whose id is `next_id` or above."""
        run = self.run_from(next_id)
        return None if run is None else _trade(run, 0)

    def collect(
        self,
        first_id: int,
        last_id: int,
        end_us: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> pl.DataFrame:
        """Trades with ids from `first_id` to `last_id`, or to the last one before a time.

        Raises
        ------
        TickDataError
            Two answers disagree about a trade.
        TickOrderError
            Behind the first trade at or after `end_us`, time runs back by more than a second.
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
            self._keep(inside)
            if progress is not None:
                progress(inside.height)
            if inside.height < rows.height:
                self._check_behind(run.slice(inside.height), next_id)
                break
        return pl.concat([PAGE_SCHEMA.to_frame(), *self._frames, *self._pages])

    def _keep(self, rows: pl.DataFrame) -> None:
        if not rows.is_empty():
            self._pages.append(rows)
        if len(self._pages) == PAGES_TOGETHER:
            self._frames.append(pl.concat(self._pages, rechunk=True))
            self._pages = []

    def _check_behind(self, rest: pl.DataFrame, next_id: int) -> None:
        """A trade that ends the walk by its time is not followed by ones from before the end."""
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
                    f"second behind that of trade `{after}`",
                    "fetch the day again; if it stays so, the exchange's answer is at fault",
                )
            )

    def _agreed(self, next_id: int) -> pl.DataFrame:
        """Answer from an id on that begins there, or a second time elsewhere or nowhere."""
        believed = self._breaks.pop(next_id, None)
        for _ in range(ANSWERS):
            run = self._answer(next_id)
            if run is None:
                continue
            first = -1 if run.is_empty() else int(run[ID][0])
            if first in (next_id, believed):
                return run
            believed = first
        sentence = (
            f"answers of `{self._client.url}` for `{self._symbol}` from id `{next_id}` on repeat "
            f"themselves or contradict each other"
        )
        raise self._no_answer(sentence)

    def _answer(self, next_id: int) -> pl.DataFrame | None:
        """One answer as far as its ids are consecutive; None where it is one to another question."""
        page = self._client.ask(page_of, symbol=self._symbol, fromId=next_id, limit=PAGE_ROWS)
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
        """The page in the order of its ids, each once."""
        ids = page[ID]
        if (ids.diff() > 0).all():
            return page
        self.moved += int((ids < ids.cum_max()).sum())
        single = page.unique(maintain_order=True).sort(ID)
        self.doubled += page.height - single.height
        self._refuse_two(single)
        return single

    def _compare(self, old: pl.DataFrame) -> None:
        """Trades that came before are what they were."""
        low, high = old[ID][0], old[ID][-1]
        kept = [
            frame.filter(pl.col(ID).is_between(low, high))
            for frame in (*self._frames, *self._pages)
            if frame[ID][0] <= high and frame[ID][-1] >= low
        ]
        if kept:
            known = pl.concat(kept)
            self.doubled += int(old[ID].is_in(known[ID].implode()).sum())
            self._refuse_two(pl.concat([known, old]).unique(maintain_order=True))

    def _refuse_two(self, trades: pl.DataFrame) -> None:
        twice = trades.filter(pl.col(ID).is_duplicated())
        if not twice.is_empty():
            raise TickDataError(
                with_hint(
                    f"two different trades of `{self._symbol}` have the agg_trade_id "
                    f"`{twice[ID][0]}` in answers of `{self._client.url}`",
                    "fetch the day again: an exchange gives an id once",
                )
            )

    def _after_void(self, next_id: int) -> pl.DataFrame:
        """Answer from the first id that there is after one from which on the answer is empty.

        An empty answer is no end while newer trades exist. Ever longer steps lead past the ids that
        are missing, halving ones back to the first id from which on there is an answer.
        """
        low, step = next_id, 1
        while (run := self._agreed(high := min(low + step, self.newest.id))).is_empty():
            if high == self.newest.id:
                sentence = (
                    f"`{self._client.url}` gives no trade of `{self._symbol}` from id `{next_id}` "
                    f"on, though the newest is `{high}`"
                )
                raise self._no_answer(sentence)
            low, step = high, 2 * step
        while low + 1 < high:
            middle = (low + high) // 2
            lower = self._agreed(middle)
            if lower.is_empty():
                low = middle
            else:
                high, run = middle, lower
        return run

    def _ask_newest(self) -> Trade:
        def parse(body: bytes, url: str) -> Trade:
            page = page_of(body, url)
            if page.is_empty():
                raise self._no_answer(f"`{url}` knows no newest trade of `{self._symbol}`")
            return _trade(page.sort(ID), -1)

        return self._client.ask(parse, symbol=self._symbol, limit=1)

    def _no_answer(self, sentence: str) -> TransientSourceError:
        hint = "try again later"
        return TransientSourceError(
            with_hint(sentence, hint), symbol=self._symbol, url=self._client.url
        )


def times_us(page: pl.DataFrame) -> pl.Series:
    """Times of a page in microseconds, by the unit that its first time is in."""
    times = page[TIME]
    return times * UNITS[FileTimes.of_value(times[0] if len(times) else 0).unit][1]


def _trade(page: pl.DataFrame, row: int) -> Trade:
    return Trade(int(page[ID][row]), int(times_us(page)[row]))
