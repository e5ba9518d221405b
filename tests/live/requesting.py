"""A queue of REST requests in an event loop of its own, for tests that wait for its answers."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from rangebar_polars.live.network.backfill import RestRequests
from rangebar_polars.live.protocol.gaps import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rangebar_polars.live.protocol.trades import TradeColumns

__all__ = ["Requesting"]

WAIT_S = 120.0


class Requesting:
    """Runs a queue; `outcomes` are what its answers were, in order, with the name of each request."""

    def __init__(self, market: str = "spot", **options: Any) -> None:
        self.market, self.options = market, options
        self.outcomes: list[tuple[Any, ...]] = []
        #: The threads in which answers arrived.
        self.threads: set[int] = set()
        self.errors: list[BaseException] = []
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="requesting", daemon=True)
        self._queue: RestRequests | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(lambda: self._queue or self.errors)
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.close()
        self.join()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self.errors:
            raise self.errors[0]

    @property
    def queue(self) -> RestRequests:
        if self._queue is None:
            raise self.errors[0]
        return self._queue

    def join(self) -> None:
        """Wait for the end of the queue's thread."""
        self.queue._thread.join(WAIT_S)
        assert not self.queue._thread.is_alive()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._condition:
            if not self._condition.wait_for(condition, WAIT_S):
                raise TimeoutError(str(self.outcomes))

    def wait_for(self, count: int) -> list[tuple[Any, ...]]:
        """Wait until so many answers are there."""
        self.wait(lambda: len(self.outcomes) >= count or self.errors)
        return self.outcomes

    def page(self, from_id: int, *, is_gap: bool = True, symbol: str = "BTCUSDT") -> None:
        answer = Outcome(self, f"{'gap' if is_gap else 'backfill'} {from_id}")
        self.queue.request_page(symbol, Request(from_id), answer, is_gap=is_gap)

    def newest(self, symbol: str = "BTCUSDT") -> None:
        self.queue.request_newest(symbol, Outcome(self, f"newest {symbol}"))

    def note(self, *outcome: Any) -> None:
        with self._condition:
            self.threads.add(threading.get_ident())
            self.outcomes.append(outcome)
            self._condition.notify_all()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            queue = RestRequests(self.market, on_error=self._failed, **self.options)
        except Exception as error:  # noqa: BLE001 - the test is told
            self._failed(error)
            return
        with self._condition:
            self._queue = queue
            self._condition.notify_all()
        await self._stop.wait()

    def _failed(self, error: BaseException) -> None:
        with self._condition:
            self.errors.append(error)
            self._condition.notify_all()


class Outcome:
    """Notes the answer to one request."""

    def __init__(self, requesting: Requesting, name: str) -> None:
        self._requesting, self._name = requesting, name

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        self._requesting.note(self._name, "page", request, trades, sent_at)

    def newest(self, newest_id: int, date: datetime) -> None:
        self._requesting.note(self._name, "newest", newest_id, date)

    def failed(self, *, is_refused: bool, closed_until: float | None, unknown: str = "") -> None:
        assert not unknown or is_refused
        self._requesting.note(self._name, "failed", is_refused, closed_until)
