"""The event loop of live bars: symbols, their streams, and the threads beside them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils import clock
from rangebar_polars._utils.caught import Caught
from rangebar_polars.fetch.binance.stream import groups_of
from rangebar_polars.live.network.streams import Streams
from rangebar_polars.live.protocol.exchange_time import ExchangeTime
from rangebar_polars.live.protocol.spans import MissingReason
from rangebar_polars.live.protocol.states import ChangeKind, Reason
from rangebar_polars.live.symbol import LiveSymbol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.helper.base import Base
    from rangebar_polars.live.interfaces import Journal, RestQueue
    from rangebar_polars.live.protocol.buffer import Conflict
    from rangebar_polars.live.protocol.gaps import GapEvent
    from rangebar_polars.live.protocol.spans import MissingIds
    from rangebar_polars.live.protocol.states import Change, Failure
    from rangebar_polars.live.protocol.trades import TradeColumns
    from rangebar_polars.live.series import SeriesBars
    from rangebar_polars.live.symbol_parts import SymbolOptions, SymbolRun
    from rangebar_polars.storage.live.live_days import JournalDamage

__all__ = [
    "EngineOptions",
    "History",
    "HistoryDelayedError",
    "HistoryError",
    "LiveEngine",
    "Outputs",
    "Prepared",
]

#: How often connections are judged, and how long a symbol waits at least between two looks.
CHECK_S, HEAD_S, SHORTEST_WAIT_S = 1.0, 0.05, 0.001
#: How long a history waits for what it needs before it is tried again.
DELAY_S = 60.0


class HistoryError(Exception):
    """Raised when a symbol has no state to start from."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


class HistoryDelayedError(Exception):
    """Raised when a state is not available now. The history is tried again after a minute."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Prepared:
    """A symbol after the trades that are stored."""

    run: SymbolRun
    #: For each series the one in which a new consumer begins; None where the symbol becomes live.
    begins: Sequence[BarSeries | None]
    #: Damaged journals that were found.
    damages: Sequence[JournalDamage] = ()
    #: For each series, the number of its newest revision, and the state that it began with.
    revisions: Sequence[int] = ()
    bases: Sequence[Base] = ()


class History(Protocol):
    """What is stored of a symbol. Its calls wait, and run in threads."""

    def prepare(self, symbol: str, head_id: int) -> Prepared:
        """Return the symbol after the trades that are stored. `head_id` is the newest id of REST.

        Raises
        ------
        HistoryError
            There is no state to start from.
        HistoryDelayedError
            A state is not available now.
        """
        ...

    def prepare_without_bars(self, symbol: str) -> Prepared:
        """Return the symbol without series, after the newest trade that is stored.

        Raises
        ------
        HistoryError, HistoryDelayedError
            As for `prepare`.
        """
        ...

    def check_states(self, symbol: str) -> None:
        """Check that the states of series can be asked for.

        Raises
        ------
        HistoryError, HistoryDelayedError
            As for `prepare`.
        """
        ...

    def interrupt(self) -> None:
        """End the calls that wait, each with an error."""
        ...


class Outputs(Protocol):
    """Where an engine says what happened, in the thread of its loop. No call waits or raises."""

    def begin(self, symbol: LiveSymbol, prepared: Prepared) -> None:
        """Take the series of a symbol whose history is there, before their first bar.

        Without series, trades are stored until there are some.
        """
        ...

    def bars(self, symbol: LiveSymbol, bars: list[SeriesBars]) -> None:
        """Take bars that have ended."""
        ...

    def live(self, symbol: LiveSymbol) -> None:
        """Take that a symbol has become live."""
        ...

    def day_closed(self, symbol: LiveSymbol, day: date) -> None:
        """Take a day of which no trade is expected any more. The series are in the state after it."""
        ...

    def event(self, symbol: str, name: str, **fields: object) -> None:
        """Take an event."""
        ...

    def turned(self, engine: LiveEngine) -> None:
        """Note about once a second that the loop turns."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine streams, and how."""

    market: str
    symbols: Sequence[str]
    symbol: SymbolOptions
    max_lag_s: float = 10.0


class LiveEngine:
    """Streams symbols until it is stopped. `run` belongs to one event loop.

    Parameters
    ----------
    options
        What it streams.
    history
        What is stored.
    rest
        Makes the queue of requests, in the loop.
    outputs
        Where it says what happened.
    """

    def __init__(
        self,
        options: EngineOptions,
        history: History,
        rest: Callable[[], RestQueue],
        outputs: Outputs,
    ) -> None:
        self.symbols: dict[str, LiveSymbol] = {}
        self.streams: list[Streams] = []
        self.exchange_time = ExchangeTime()
        #: Time between two freshness checks of a symbol; the weight of a request decides it.
        self.freshness_interval_s = options.symbol.freshness_interval_s
        self._options = options
        self._history = history
        self._make_rest = rest
        self._outputs = outputs
        self._streams_of: dict[str, Streams] = {}
        self._timers: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._soon: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[int] = set()
        self._errors: list[BaseException] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Stream until `stop` is set; then apply what has arrived, and return.

        An error of this program, and only that, is raised.
        """
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="rangebar-live")
        rest = self._make_rest()
        try:
            self._make_symbols(rest)
            for name in self.symbols:
                self._spawn(self._prepare(name))
            self._spawn(self._judge())
            await stop.wait()
        finally:
            await self._end(rest)
        if self._errors:
            raise self._errors[0]

    def _make_symbols(self, rest: RestQueue) -> None:
        options = self._options
        own_options = options.symbol._replace(freshness_interval_s=self.freshness_interval_s)
        for name in options.symbols:
            self.symbols[name] = LiveSymbol(name, own_options, rest, self.exchange_time, self)
        for names in groups_of(options.symbols):
            own = {name: self.symbols[name] for name in names}
            streams = Streams(options.market, own, self.exchange_time, options.max_lag_s, self)
            self.streams.append(streams)
            self._streams_of.update(dict.fromkeys(names, streams))

    async def _end(self, rest: RestQueue) -> None:
        for streams in self.streams:
            streams.is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        rest.close()
        await asyncio.to_thread(self._history.interrupt)
        for symbol in self.symbols.values():
            symbol.finish()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def streams_of(self, symbol: str) -> Streams | None:
        """Return the streams of a symbol."""
        return self._streams_of.get(symbol)

    # Tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._errors.append(error)
                self._stop.set()

        task.add_done_callback(done)

    async def _prepare(self, name: str) -> None:
        """Bring a symbol to the end of what is stored, and connect."""
        symbol = self.symbols[name]
        self.wake(symbol)
        while symbol.head_id is None:
            # The exchange says which day it is.
            await clock.async_sleep(HEAD_S)
            if symbol.failure is not None:
                return
        prepared = await self._prepared(symbol, symbol.head_id)
        if prepared is None:
            return
        failpoint(Step.STATE_READY)
        self._begin(symbol, prepared)

    def _begin(self, symbol: LiveSymbol, prepared: Prepared) -> None:
        """Begin to apply trades, and connect."""
        name = symbol.name
        for damage in prepared.damages:
            fields = {"path": str(damage.path), "copy": str(damage.copy), "reason": damage.reason}
            self._outputs.event(name, "journal_damaged", day=damage.day, **fields)
        symbol.begin(prepared.run)
        self._outputs.begin(symbol, prepared)
        self.wake(symbol)
        streams = self._streams_of[name]
        if id(streams) not in self._begun:
            self._begun.add(id(streams))
            self._spawn(streams.run())

    async def _prepared(self, symbol: LiveSymbol, head_id: int) -> Prepared | None:
        """Return what is stored of a symbol; None if the symbol has failed."""
        work = self._history.prepare
        while True:
            try:
                return await self._loop.run_in_executor(self._pool, work, symbol.name, head_id)
            except HistoryError as error:
                symbol.fail(error.failure, str(error))
                self.wake(symbol)
                return None
            except HistoryDelayedError as error:
                reason, symbol.failure_text = error.reason, str(error)
            symbol.note(reason, applies=True)
            self.wake(symbol)
            if reason is Reason.CACHE_UNAVAILABLE:
                await self._store_meanwhile(symbol)
            else:
                await clock.async_sleep(DELAY_S)
            symbol.note(reason, applies=False)
            if symbol.failure is not None:
                return None
            symbol.failure_text = ""

    async def _store_meanwhile(self, symbol: LiveSymbol) -> None:
        """Store the trades of a symbol without computing bars, until states can be asked for."""
        text, history, pool = symbol.failure_text, self._history, self._pool
        try:
            work = history.prepare_without_bars
            prepared = await self._loop.run_in_executor(pool, work, symbol.name)
        except (HistoryError, HistoryDelayedError):
            # The next attempt of all raises it.
            await clock.async_sleep(DELAY_S)
            return
        self._begin(symbol, prepared)
        symbol.failure_text = text
        while symbol.failure is None:
            await clock.async_sleep(DELAY_S)
            try:
                await self._loop.run_in_executor(pool, history.check_states, symbol.name)
            except HistoryDelayedError as error:
                symbol.failure_text = str(error)
                continue
            except HistoryError:
                pass
            symbol.pause()
            return

    async def _judge(self) -> None:
        while True:
            for streams in self.streams:
                streams.check()
            for name, symbol in self.symbols.items():
                retry_at = symbol.tracker.retry_at
                if retry_at is not None and clock.monotonic() >= retry_at:
                    symbol.sequencing, symbol.failure, symbol.head_id = None, None, None
                    self.wake(symbol)
                    self._spawn(self._prepare(name))
            self._outputs.turned(self)
            await clock.async_sleep(CHECK_S)

    # Symbols

    def wake(self, symbol: LiveSymbol) -> None:
        """Call `LiveSymbol.advance` soon."""
        if symbol.name not in self._soon:
            self._soon.add(symbol.name)
            self._loop.call_soon(self._advance, symbol)

    def _advance(self, symbol: LiveSymbol) -> None:
        self._soon.discard(symbol.name)
        # The loop would log an error and go on; `run` raises it.
        with Caught() as caught:
            symbol.advance()
        if caught.error is not None:
            self._errors.append(caught.error)
            self._stop.set()
            return
        due_at = symbol.due_at
        known = self._timers.get(symbol.name)
        if known is not None:
            if known[0] == due_at and not known[1].cancelled():
                return
            known[1].cancel()
            del self._timers[symbol.name]
        if due_at < float("inf"):
            wait_s = max(SHORTEST_WAIT_S, clock.real_seconds(due_at - clock.monotonic()))
            timer = self._loop.call_later(wait_s, self._due, symbol)
            self._timers[symbol.name] = (due_at, timer)

    def _due(self, symbol: LiveSymbol) -> None:
        self._timers.pop(symbol.name, None)
        self._advance(symbol)

    # Reports of symbols and streams

    def bars(self, symbol: LiveSymbol, bars: list[SeriesBars]) -> None:
        """Pass bars on."""
        self._outputs.bars(symbol, bars)

    def changed(self, symbol: LiveSymbol, change: Change) -> None:
        """Report a change of the state."""
        reason = "" if change.status.reason is None else change.status.reason.value
        fields: dict[str, object] = {"state": change.status.state.value, "reason": reason}
        if change.kind is ChangeKind.LIVE:
            self._outputs.live(symbol)
        self._outputs.event(symbol.name, change.kind.value, **fields, away_s=change.away_s)

    def gap(self, symbol: LiveSymbol, event: GapEvent) -> None:
        """Report a gap."""
        name = "gap_healed" if event.is_healed else "gap_detected"
        self._outputs.event(symbol.name, name, first_id=event.first, last_id=event.last)

    def missing(self, symbol: LiveSymbol, span: MissingIds) -> None:
        """Report ids that are confirmed missing."""
        fields = {"first_id": span.first, "last_id": span.last, "reason": span.reason.value}
        self._outputs.event(symbol.name, "coverage_gap", **fields)
        if span.reason is MissingReason.INVALID:
            why = "stream and REST agree on a trade that is not valid"
            for number in range(span.first, span.last + 1):
                self._outputs.event(symbol.name, "trade_invalid", id=number, reason=why)

    def conflict(self, symbol: LiveSymbol, conflict: Conflict) -> None:
        """Report two trades of one id."""
        self._outputs.event(symbol.name, "trade_conflict", id=conflict.first.id)

    def late(self, symbol: LiveSymbol, trades: TradeColumns) -> None:
        """Report trades that came late."""
        fields = {"first_id": trades.ids[0], "trades": len(trades)}
        self._outputs.event(symbol.name, "trade_late", **fields)

    def day_closed(self, symbol: LiveSymbol, day: date) -> None:
        """Report a closed day."""
        self._outputs.day_closed(symbol, day)

    def silent(self, symbol: LiveSymbol) -> None:
        """Replace the connection of a symbol."""
        self._streams_of[symbol.name].silent()

    def found_equal(self, symbol: LiveSymbol) -> None:
        """Note that a check found nothing that has not arrived."""
        self._streams_of[symbol.name].found_equal()

    def not_connected(self, reason: str, text: str) -> None:
        """Report why no connection is open."""
        self._outputs.event("", "not_connected", reason=reason, error=text)

    def reconnected(self, symbols: Mapping[str, LiveSymbol], reason: str, away_s: float) -> None:
        """Report a new connection."""
        for name in symbols:
            self._outputs.event(name, "sidecar_reconnected", reason=reason, away_s=away_s)

    def sync(self, symbol: LiveSymbol, journal: Journal) -> None:
        """Sync a journal in a thread."""
        begun_at = clock.monotonic()
        future = self._loop.run_in_executor(self._pool, journal.sync)

        def done(future: asyncio.Future[None]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None and not isinstance(error, OSError):
                self._errors.append(error)
                self._stop.set()
                return
            symbol.synced(begun_at, error)
            self.wake(symbol)

        future.add_done_callback(done)
