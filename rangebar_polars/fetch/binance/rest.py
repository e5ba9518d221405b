"""The REST interface of Binance, for days and ids that are missing from the archive."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import ONE_DAY, day_start, parse_day, parse_span
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import (
    ConfirmedAbsentError,
    CorruptSourceError,
    NotYetPublishedError,
    SourceError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch.binance.rest_chain import PAGE_ROWS, Trade, TradeChain, times_us
from rangebar_polars.fetch.binance.rest_client import RestClient
from rangebar_polars.fetch.binance.rest_page import valid_rows_of
from rangebar_polars.fetch.normalise import micros, normalise
from rangebar_polars.sources import (
    LONGEST_STEP_BACK_US,
    TRADES_SCHEMA,
    canonical_market,
    canonical_symbol,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from types import TracebackType
    from typing import Self

    from rangebar_polars._utils.span import When
    from rangebar_polars.fetch.binance.rate_limit import WeightBudget
    from rangebar_polars.fetch.binance.rest_chain import Requests

__all__ = ["BinanceRest", "first_id_of_day"]

ID = "agg_trade_id"
ONE_DAY_US = 86_400_000_000
# The interface has a trade well before this time has passed.
LATEST_ENTRY = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Edge(NamedTuple):
    """The start of a day in the chain of ids."""

    before: Trade | None
    first: Trade | None


class BinanceRest:
    """Aggregate trades of Binance, requested by id.

    The ids prove that a fetched day is complete, as far as the exchange has the trades. All threads
    of a process share the request weight of the setting `rest_weight_per_minute`. Futures markets
    have a lower limit and use two fifths of it. When the exchange closes its interface to this
    address, no process on the same cache folder sends a request before it is open again.

    Parameters
    ----------
    market
        `"spot"`, `"um"` or `"cm"`.
    url
        One base before `/api/v3`, `/fapi/v1` and `/dapi/v1`; else the setting
        `RANGEBAR_BINANCE_REST_URL`, else the exchange's own address.
    budget
        Request weight to use instead of the shared one of the host.
    now
        Seconds since 1970 by the clock of this machine.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rest import BinanceRest
    >>> source = BinanceRest("um", url="http://127.0.0.1:8000")
    >>> source.url, source.clock_skew_s
    ('http://127.0.0.1:8000/fapi/v1/aggTrades', None)
    >>> source.close()
    """

    source = "binance"

    def __init__(
        self,
        market: str = "spot",
        *,
        url: str | None = None,
        budget: WeightBudget | None = None,
        now: Callable[[], float] = clock.unix_seconds,
    ) -> None:
        _, self.market = canonical_market(self.source, market)
        self._client = RestClient(self.market, url=url, budget=budget, now=now)

    @property
    def url(self) -> str:
        """Address of the requests."""
        return self._client.url

    @property
    def clock_skew_s(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the exchange's; None before an answer."""
        return self._client.clock_skew_s

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read_day(self, symbol: str, day: When) -> pl.DataFrame:
        """Return the trades of a UTC day.

        Raises
        ------
        ConfirmedAbsentError
            The exchange has no trade of that day.
        NotYetPublishedError
            The day has no trade yet.
        """
        found = self.fetch_day(symbol, day)
        if found.ticks.height:
            return found.ticks
        kind, yet = (NotYetPublishedError, " yet") if found.is_tail else (ConfirmedAbsentError, "")
        name = canonical_symbol(symbol)
        raise kind(
            f"`{name}` has no trade of {found.day}{yet}: {found.reason}",
            symbol=name,
            day=found.day,
            url=self.url,
        )

    def days(self, symbol: str, start: When, end: When) -> Iterator[date]:
        """Yield the days of a span between the first and the newest trade of the symbol."""
        name = canonical_symbol(symbol)
        with _add_context(name, None):
            chain = TradeChain(self._client, name)
            oldest = chain.first_from(0) or chain.newest
        first, last = _day_of(oldest.time_us), _day_of(chain.newest.time_us)
        yield from (day for day in parse_span(start, end).days() if first <= day <= last)

    def newest_id(self, symbol: str) -> int:
        """Return the id of the newest trade."""
        return self._newest(symbol).id

    def newest_day(self, symbol: str) -> date:
        """Return the UTC day of the newest trade."""
        return _day_of(self._newest(symbol).time_us)

    def fetch_day(
        self,
        symbol: str,
        day: When,
        *,
        first_id: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> DayTicks:
        """Fetch the trades of a UTC day, for the running day those so far.

        A day without trades has 0 rows and a reason. `is_tail` tells whether it may still get some.

        Parameters
        ----------
        first_id
            The id after the last one of the day before, which saves a search.
        progress
            Called with the number of trades received since the last call.

        Raises
        ------
        TransientSourceError, CorruptSourceError
            There was no answer, or no valid one, after all tries.
        SourceError
            The exchange does not know the symbol.
        TickDataError
            A trade has an invalid value, or two trades have one id.
        TickOrderError
            In id order, time runs back by more than a second.
        """
        raise_if_forked("BinanceRest")
        name, wanted = canonical_symbol(symbol), parse_day(day)
        start_us = micros(day_start(wanted))
        with _add_context(name, wanted):
            chain = TradeChain(self._client, name)
            edge = _edge(chain, start_us, first_id)
            if edge.first is None or edge.first.time_us >= start_us + ONE_DAY_US:
                return self._empty(chain, wanted, edge)
            raw = chain.collect(edge.first.id, chain.newest.id, start_us + ONE_DAY_US, progress)
            ticks, origin = self._clean(chain, raw)
        low = edge.first.id if edge.before is None else edge.before.id + 1
        absent = tuple(_missing(ticks[ID], low, int(raw[ID][-1])))
        if ticks.is_empty():
            reason = (
                f"its {origin.sentinels} ids are sentinels without a trade (price 0, trade id -1)"
            )
            return DayTicks(wanted, ticks, origin, absent, reason=reason)
        return DayTicks(wanted, ticks, origin, absent, is_tail=True)

    def fetch_ids(
        self,
        symbol: str,
        first_id: int,
        last_id: int,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[pl.DataFrame, list[tuple[int, int]]]:
        """Fetch the trades with ids from `first_id` to `last_id`, and the spans of ids without one.

        Every id of the span is in one of the two. Ids of sentinel rows have no trade.

        Raises
        ------
        TransientSourceError
            The span ends after the newest trade, so that more trades may follow.
        """
        raise_if_forked("BinanceRest")
        name = canonical_symbol(symbol)
        if not 0 <= first_id <= last_id:
            raise ValueError(
                with_hint(f"`{first_id}` to `{last_id}` is not a span of ids", "0 <= first <= last")
            )
        with _add_context(name, None):
            chain = TradeChain(self._client, name)
            if last_id > chain.newest.id:
                sentence = (
                    f"`{name}` has no id above `{chain.newest.id}` yet; `{last_id}` was requested"
                )
                raise TransientSourceError(with_hint(sentence, "try again later"))
            ticks, _ = self._clean(chain, chain.collect(first_id, last_id, None, progress))
        return ticks, _missing(ticks[ID], first_id, last_id)

    def _newest(self, symbol: str) -> Trade:
        name = canonical_symbol(symbol)
        with _add_context(name, None):
            return TradeChain(self._client, name).newest

    def _empty(self, chain: TradeChain, day: date, edge: Edge) -> DayTicks:
        """Make a day without trades, which the ids around it prove. A running day may still get some."""
        none, origin = TRADES_SCHEMA.to_frame(), Origin("rest", url=self.url)
        before, first = edge
        if first is None:
            over = self._client.server_time() - day_start(day) - ONE_DAY
            reason = f"the newest trade is {_describe(chain.newest)}"
            return DayTicks(day, none, origin, is_tail=over < LATEST_ENTRY, reason=reason)
        if before is None:
            return DayTicks(day, none, origin, reason=f"the first trade is {_describe(first)}")
        reason = f"no trade lies between {_describe(before)} and {_describe(first)}"
        low, high = before.id + 1, first.id - 1
        return DayTicks(day, none, origin, ((low, high),) if low <= high else (), reason=reason)

    def _clean(self, chain: TradeChain, raw: pl.DataFrame) -> tuple[pl.DataFrame, Origin]:
        """Normalise trades, and count the repairs in their origin."""
        clean = normalise(raw, self.url, 1)
        origin = clean.repairs.recorded_in(Origin("rest", url=self.url, unit=clean.unit))
        # The chain has counted these, within pages. It is in order from page to page.
        return clean.ticks, replace(origin, moved=chain.moved, doubled=chain.doubled)


def first_id_of_day(client: Requests, symbol: str, day: When) -> int:
    """Return the id of the first trade of a UTC day, or that of the next trade if it has none yet.

    Trades with an invalid value are passed over.

    Parameters
    ----------
    client
        What sends the requests.
    symbol
        The symbol in upper case.

    Raises
    ------
    TransientSourceError, CorruptSourceError
        There was no answer, or no valid one.
    SourceError
        The exchange does not know the symbol.
    TickDataError
        Two trades have one id.
    """
    wanted = parse_day(day)
    with _add_context(symbol, wanted):
        chain = TradeChain(client, symbol, read=valid_rows_of)
        edge = _edge(chain, micros(day_start(wanted)), None)
        return chain.newest.id + 1 if edge.first is None else edge.first.id


def _edge(chain: TradeChain, start_us: int, hint: int | None) -> Edge:
    """Find the trades before and after the start of a day."""
    if chain.newest.time_us < start_us:
        return Edge(chain.newest, None)
    if hint is not None and 0 < hint <= chain.newest.id:
        edge = _edge_within(chain.collect(hint - 1, hint), start_us)
        if edge.before is not None and edge.first is not None and edge.first.id == hint:
            return edge
    found = chain.at_time(start_us)
    if found is None or found > chain.newest.id:
        found = _bisect_first(chain, start_us)
    edge = _edge_around(chain, start_us, found)
    if edge.first is None:  # the exchange returned a trade from before the time
        edge = _edge_around(chain, start_us, _bisect_first(chain, start_us))
    if edge.first is None:
        sentence = (
            f"the newest trade is {_describe(chain.newest)}, but none of the ids up to it is of "
            f"{_instant(start_us).date()} or later"
        )
        raise CorruptSourceError(with_hint(sentence, "try again later"), url=chain.url)
    return edge


def _edge_around(chain: TradeChain, start_us: int, found: int) -> Edge:
    """Find the edge of a day by searching backwards from a trade."""
    step = PAGE_ROWS - 1  # one page, with the trade itself
    while True:
        low = max(0, found - step)
        rows = chain.collect(low, found)
        edge = _edge_within(rows, start_us)
        # Times may step back a little, so the edge is the first trade after trades well before it.
        early = rows.is_empty() or times_us(rows)[0] >= start_us - LONGEST_STEP_BACK_US
        if low == 0 or not (early or edge.before is None):
            return edge
        step *= 2


def _edge_within(rows: pl.DataFrame, start_us: int) -> Edge:
    """Find the edge of a day in successive trades."""
    trades = list(zip(rows[ID].to_list(), times_us(rows).to_list(), strict=True))
    row = next((row for row, (_, time_us) in enumerate(trades) if time_us >= start_us), None)
    if row is None:
        return Edge(Trade(*trades[-1]) if trades else None, None)
    return Edge(Trade(*trades[row - 1]) if row else None, Trade(*trades[row]))


def _bisect_first(chain: TradeChain, start_us: int) -> int:
    """Find the first trade at or after a time by bisection of the ids."""
    low, high = 0, chain.newest.id
    while low < high:
        middle = (low + high) // 2
        trade = chain.first_from(middle) or chain.newest
        if trade.time_us >= start_us:
            high = middle
        else:
            low = trade.id + 1
    # The lowest such id may have no trade.
    return (chain.first_from(low) or chain.newest).id


def _missing(ids: pl.Series, low: int, high: int) -> list[tuple[int, int]]:
    """Return the spans from `low` to `high` that are missing among increasing ids.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.binance.rest import _missing
    >>> _missing(pl.Series([3, 4, 7]), 1, 9)
    [(1, 2), (5, 6), (8, 9)]
    """
    edges = pl.concat([pl.Series([low - 1]), ids, pl.Series([high + 1])])
    pairs = pl.DataFrame({"from": edges.shift(1) + 1, "to": edges - 1}).slice(1)
    return pairs.filter(pl.col("from") <= pl.col("to")).rows()


@contextmanager
def _add_context(symbol: str, day: date | None) -> Iterator[None]:
    """Add the symbol and the day to errors of the source."""
    try:
        yield
    except SourceError as error:
        error.symbol, error.day = symbol, day
        raise


def _instant(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)


def _day_of(time_us: int) -> date:
    return _instant(time_us).date()


def _describe(trade: Trade) -> str:
    return f"`{trade.id}` of {_instant(trade.time_us):%Y-%m-%d %H:%M:%S} UTC"
