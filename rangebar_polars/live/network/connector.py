"""Keep the streams of some symbols connected: connect, read, and connect again, without end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address
from rangebar_polars.fetch.binance.stream import (
    MOST_SYMBOLS,
    Rejected,
    Rejection,
    ServerShutdown,
    StreamDecoder,
    StreamTrade,
    stream_bases,
    stream_url,
)
from rangebar_polars.live.network.connection import (
    Lost,
    LostReason,
    NotOpenedError,
    StreamConnection,
)
from rangebar_polars.live.protocol.backoff import Backoff, Bases, ConnectBudget
from rangebar_polars.live.protocol.replacement import ReplaceReason, end_of_life

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rangebar_polars.fetch.binance.stream import StreamEvent
    from rangebar_polars.live.protocol.backoff import Uniform

__all__ = ["BUDGET", "Connected", "Connector", "Disconnected", "NotConnected"]

#: The budget of connects, which all connectors of the process share.
BUDGET = ConnectBudget()
_BUDGET_LOCK = Lock()


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is open. `replaces` are those that stay open until `Connector.retire`."""

    connection: StreamConnection
    replaces: tuple[StreamConnection, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection has ended. `is_last`: no other is open."""

    connection: StreamConnection
    lost: Lost
    is_last: bool


@dataclass(frozen=True, slots=True)
class NotConnected:
    """A connect has failed; the next one begins at a monotonic time."""

    url: str
    lost: Lost
    next_at: float


class Connector:
    """The connections that stream the trades of at most 200 symbols of a market.

    One connection is open, or two while one replaces the other. All methods belong to the event loop
    in which `run` runs.

    Parameters
    ----------
    market
        "spot", "um" or "cm".
    symbols
        Names of the symbols.
    sink
        Takes each event, with its connection.
    on_change
        Takes `Connected`, `Disconnected` and `NotConnected`.
    bases
        Addresses before `/stream`; by default those of the settings.
    budget
        When a connect is allowed.
    uniform
        Source of jitter.

    Raises
    ------
    MissingExtraError
        `websockets` or `msgspec` is not installed.
    SettingError
        A setting is not valid.
    """

    def __init__(
        self,
        market: str,
        symbols: Sequence[str],
        *,
        sink: Callable[[StreamConnection, StreamEvent], None],
        on_change: Callable[[Connected | Disconnected | NotConnected], None],
        bases: Sequence[str] | None = None,
        budget: ConnectBudget = BUDGET,
        uniform: Uniform = random.uniform,
    ) -> None:
        if not 0 < len(symbols) <= MOST_SYMBOLS:
            raise ValueError(f"a connection takes 1 to {MOST_SYMBOLS} symbols, not {len(symbols)}")
        self.market = market
        self.symbols = tuple(symbols)
        #: Whether every base has sent times in milliseconds where microseconds were asked for.
        self.has_wrong_unit = False
        found = stream_bases(market) if bases is None else tuple(map(Address, bases))
        self._bases = Bases(found)
        self._base_count = len(found)
        self._wrong_bases: set[str] = set()
        self._sink = sink
        self._on_change = on_change
        self._budget = budget
        self._uniform = uniform
        self._backoff = Backoff(uniform)
        self._readers: dict[StreamConnection, asyncio.Task[None]] = {}
        self._outdated: set[StreamConnection] = set()
        self._reasons: dict[StreamConnection, Lost] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._wake, self._failed = asyncio.Event(), asyncio.Event()
        self._failures: list[BaseException] = []
        # Missing extras are reported here, not at the first connect.
        StreamConnection(Address(found[0]), StreamDecoder(market, symbols), self._take)

    @property
    def connections(self) -> list[StreamConnection]:
        """Open connections, the oldest first."""
        return [each for each in self._readers if each.is_open]

    async def run(self) -> None:
        """Connect whenever no connection is open that is to stay; ends when it is cancelled.

        An error of `sink` or `on_change` is raised.
        """
        keeper = asyncio.create_task(self._keep())
        self._watch(keeper)
        try:
            while not self._failures:
                await self._failed.wait()
            raise self._failures[0]
        finally:
            keeper.cancel()
            await asyncio.gather(*(each.close() for each in self._readers))
            tasks = [keeper, *self._readers.values(), *self._closing]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _keep(self) -> None:
        while True:
            if any(each not in self._outdated for each in self._readers):
                await self._wake.wait()
                self._wake.clear()
            else:
                await self._connect()

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Let `run` raise an error of a task."""

        def done(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._failures.append(error)
                self._failed.set()

        task.add_done_callback(done)

    def trades_applied(self) -> None:
        """Note that trades were applied. After a minute this ends a series of failures."""
        self._backoff.applied(clock.monotonic())

    def replace(
        self, connection: StreamConnection, reason: ReplaceReason, *, next_base: bool = False
    ) -> None:
        """Open a connection beside this one, which stays open until it is retired.

        `next_base` connects to the next address, as after a failure.
        """
        if connection not in self._readers or connection in self._outdated:
            return
        self._outdated.add(connection)
        if next_base or reason in (ReplaceReason.SILENT, ReplaceReason.LAGGING):
            self._bases.next()
        self._wake.set()

    def retire(self, connection: StreamConnection) -> None:
        """Close a connection that is no longer needed."""
        self._end(connection, LostReason.STOPPED, "was replaced")

    def drop(self, connection: StreamConnection, reason: LostReason = LostReason.SILENT) -> None:
        """Close a connection that is of no use. This counts as a failure."""
        self._end(connection, reason, f"is of no use ({reason})")

    # What happens to a connection

    async def _connect(self) -> None:
        """Connect once; after a failure, wait until the next connect is allowed."""
        # Other connectors may take what has become free meanwhile.
        while (free_at := _spend(self._budget)) is not None:
            await _wait_until(free_at)
        decoder = StreamDecoder(self.market, self.symbols)
        url = stream_url(self._bases.current, self.market, self.symbols)
        connection = StreamConnection(url, decoder, self._take)
        try:
            await connection.open()
        except NotOpenedError as error:
            self._bases.next()
            next_at = self._next_at(error.lost)
            self._on_change(NotConnected(connection.shown_url, error.lost, next_at))
            await _wait_until(next_at)
            return
        self._backoff.connected(clock.monotonic())
        replaced = tuple(self.connections)
        reader = asyncio.create_task(self._read(connection))
        self._readers[connection] = reader
        self._watch(reader)
        self._on_change(Connected(connection, replaced))

    async def _read(self, connection: StreamConnection) -> None:
        """Read a connection to its end; then wait before the next connect."""
        opened_at = clock.monotonic() if connection.opened_at is None else connection.opened_at
        life_s = end_of_life(opened_at, self._uniform) - opened_at
        timer = asyncio.get_running_loop().call_later(
            clock.real_seconds(life_s), self.replace, connection, ReplaceReason.AGE
        )
        try:
            lost = await connection.read()
        finally:
            timer.cancel()
        lost = self._reasons.pop(connection, lost)
        was_outdated = connection in self._outdated
        is_last = self.connections == []
        self._on_change(Disconnected(connection, lost, is_last))
        if lost.reason is not LostReason.STOPPED and not was_outdated:
            self._bases.next()
            # The reader stays in the table meanwhile, so that nothing connects before its time.
            await _wait_until(self._next_at(lost))
        self._outdated.discard(connection)
        del self._readers[connection]
        self._wake.set()

    def _next_at(self, lost: Lost) -> float:
        now = clock.monotonic()
        next_at = self._backoff.failed(now, lost.retry_after_s)
        return max(next_at, self._budget.free_at(now))

    def _end(self, connection: StreamConnection, reason: LostReason, text: str) -> None:
        if connection.is_open and connection not in self._reasons:
            self._reasons[connection] = Lost(reason, f"`{connection.shown_url}` {text}")
            closing = asyncio.create_task(connection.close())
            # The loop holds no reference to its tasks.
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._watch(closing)

    def _take(self, connection: StreamConnection, event: StreamEvent) -> None:
        """Pass an event on, and act on those that concern the connection."""
        if isinstance(event, StreamTrade):
            if self._wrong_bases:
                self._wrong_bases.clear()
                self.has_wrong_unit = False
        elif isinstance(event, ServerShutdown):
            self.replace(connection, ReplaceReason.SHUTDOWN)
        elif isinstance(event, Rejected) and event.why is Rejection.TIME_UNIT:
            self._wrong_bases.add(connection.shown_url)
            self.has_wrong_unit = len(self._wrong_bases) >= self._base_count
            self.drop(connection, LostReason.TIME_UNIT)
        self._sink(connection, event)


def _spend(budget: ConnectBudget) -> float | None:
    """Take a connect from the budget; or return when the next one is free."""
    with _BUDGET_LOCK:
        now = clock.monotonic()
        free_at = budget.free_at(now)
        if free_at > now:
            return free_at
        budget.spend(now)
        return None


async def _wait_until(at: float) -> None:
    while (wait_s := at - clock.monotonic()) > 0:
        await clock.async_sleep(wait_s)
