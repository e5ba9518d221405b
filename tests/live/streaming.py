"""A connector in a thread of its own, for tests that wait for what happens."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from rangebar_polars.fetch.binance.stream import StreamTrade
from rangebar_polars.live.network.connector import Connected, Connector, Disconnected, NotConnected
from rangebar_polars.live.protocol.backoff import ConnectBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.live.network.connection import StreamConnection

__all__ = ["Streaming", "lowest"]

WAIT_S = 120.0


def lowest(low: float, _high: float) -> float:
    """Jitter that never waits."""
    return low


class Streaming:
    """Runs a connector; `events` and `changes` are what it reported."""

    def __init__(
        self, market: str, bases: list[str], symbols: tuple[str, ...] = ("BTCUSDT",)
    ) -> None:
        self.market, self.bases, self.symbols = market, bases, symbols
        self.budget = ConnectBudget(most=1_000)
        self.uniform: Callable[[float, float], float] = lowest
        self.events: list[tuple[StreamConnection, Any]] = []
        self.changes: list[Any] = []
        self.on_event: Callable[[Any], None] = lambda _event: None
        self.error: BaseException | None = None
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="streaming", daemon=True)
        self._is_stopping = False
        self.connector: Connector | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def trades(self) -> list[StreamTrade]:
        return [event for _, event in list(self.events) if isinstance(event, StreamTrade)]

    def of(self, kind: type) -> list[Any]:
        return [change for change in list(self.changes) if isinstance(change, kind)]

    @property
    def connected(self) -> list[Connected]:
        return self.of(Connected)

    @property
    def lost(self) -> list[Disconnected]:
        return self.of(Disconnected)

    @property
    def failed(self) -> list[NotConnected]:
        return self.of(NotConnected)

    def wait(self, condition: Callable[[], object]) -> None:
        with self._condition:
            if not self._condition.wait_for(lambda: condition() or self.error, WAIT_S):
                raise TimeoutError(f"{self.changes}, {len(self.events)} events")
        if self.error is not None:
            raise self.error

    def call(self, function: Callable[..., object], *arguments: object, **options: object) -> None:
        """Call a method in the thread of the loop."""
        self.loop.call_soon_threadsafe(lambda: function(*arguments, **options))

    def stop(self) -> None:
        self._is_stopping = True
        if self._thread.is_alive():
            self.wait(lambda: self.connector is not None)
            self.loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - the test is told
            self.error = error
            self._changed()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        connector = Connector(
            self.market,
            self.symbols,
            sink=self._take,
            on_change=self._note,
            bases=self.bases,
            budget=self.budget,
            uniform=self.uniform,
        )
        self._task = asyncio.create_task(connector.run())
        self.connector = connector
        self._changed()
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def _take(self, connection: StreamConnection, event: Any) -> None:
        self.events.append((connection, event))
        self.on_event(event)
        self._changed()

    def _note(self, change: Any) -> None:
        self.changes.append(change)
        self._changed()

    def _changed(self) -> None:
        with self._condition:
            self._condition.notify_all()
