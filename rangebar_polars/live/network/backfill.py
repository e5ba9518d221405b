"""Requests of live bars to the REST interface of a host, one page at a time, in a thread of its own.

Gaps come first, then freshness checks, then the first trades of days, then backfill. Whatever the
thread waits for, `close` ends it at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rangebar_polars._utils import clock
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    CorruptSourceError,
    RangeBarError,
    SourceError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch.binance.rest import first_id_of_day
from rangebar_polars.fetch.binance.rest_client import (
    RestClient,
    TooManyRequestsError,
    UnknownSymbolError,
)
from rangebar_polars.fetch.binance.rest_page import loose_page_of
from rangebar_polars.fetch.source import Caller, request_context
from rangebar_polars.live.protocol.backoff import doubled
from rangebar_polars.live.protocol.gaps import PAGE_IDS
from rangebar_polars.live.protocol.trades import TradeColumns

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path
    from types import TracebackType

    from rangebar_polars.fetch._wire import Limits
    from rangebar_polars.fetch.binance.rest_client import Reply
    from rangebar_polars.live.interfaces import RestAnswer
    from rangebar_polars.live.protocol.gaps import Request

    T = TypeVar("T")

__all__ = ["RestRequests", "RestStatus", "RestStoppedError"]

#: A request that is answered more slowly is given up: others wait behind it.
SILENCE_S, TOTAL_S = 10.0, 30.0
#: The part of the limit that backfill leaves to gaps and checks.
RESERVE = 0.1
#: How often a wait for weight looks whether another process has closed the host.
LOOK_AGAIN_S = 5.0
#: First and longest wait before the first trade of a day is requested again.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


class RestStoppedError(RangeBarError):
    """Raised when a queue is closed before a request is answered."""


class RestStatus(NamedTuple):
    """What health shows of a queue."""

    used_weight: int
    limit: int
    closed_for_s: float
    #: Requests that wait.
    waiting: int
    #: Answers by their HTTP status; "none" without one.
    statuses: dict[str, int]
    #: Why the last request failed; empty if it was answered.
    last_error: str


class _Kind(IntEnum):
    """What a request is for; the lower, the more urgent."""

    GAP = 0
    CHECK = 1
    FIRST = 2
    BACKFILL = 3


class _Failure(NamedTuple):
    """Why a request got no answer."""

    error: RangeBarError
    is_refused: bool
    #: Until when the host is closed, in monotonic time; None if it is not.
    closed_until: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A request that waits. Its outcome is taken in the thread of the queue."""

    kind: _Kind
    parameters: dict[str, str | int]
    #: Reads the answer. Errors of the package that it raises are failures.
    take: Callable[[Reply], None]
    failed: Callable[[_Failure], None]


class RestRequests:
    """A queue of requests to the REST interface of one market.

    It is made in the event loop in which the answers arrive. Requests can be added in any thread.

    Parameters
    ----------
    market
        "spot", "um" or "cm".
    url
        The base of the address; else that of the settings.
    cache_dir
        The cache folder, whose processes share what closes the host; else that of the settings.
    on_error
        Called in the loop with an error of this program, after which the queue is dead. Without it,
        the loop reports the error.

    Raises
    ------
    MissingExtraError
        The extra `fetch` is not installed.
    SettingError
        A setting is not valid.
    """

    def __init__(
        self,
        market: str,
        *,
        url: str | None = None,
        cache_dir: Path | str | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        import_extra("httpcore2", "fetch")
        from rangebar_polars.fetch._wire import Cancellation

        self._loop = asyncio.get_running_loop()
        self._on_error = _reraise if on_error is None else on_error
        self._cancellation = Cancellation()
        with request_context(caller=Caller.LIVE, cache_dir=cache_dir):
            self._client = RestClient(
                market, url=url, limits=_limits(), cancellation=self._cancellation
            )
        self._changed = threading.Condition()
        self._waiting: tuple[deque[_Job], ...] = tuple(deque() for _ in _Kind)
        self._is_closed = False
        self._last_error = ""
        self._thread = threading.Thread(target=self._work, name="rangebar-rest", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the requests, without its secrets."""
        return self._client.url

    @property
    def weight(self) -> int:
        """The weight of a request."""
        return self._client.host.weight

    @property
    def limit(self) -> int:
        """The weight that live bars may bring a minute to."""
        return self._client.limit

    @property
    def clock_skew_s(self) -> float | None:
        """Local time minus the exchange's, in seconds; None before its first answer."""
        return self._client.clock_skew_s

    def status(self) -> RestStatus:
        """Return what health shows."""
        return RestStatus(
            self._client.used(),
            self.limit,
            self._client.closed_for(),
            sum(map(len, self._waiting)),
            dict(self._client.statuses),
            self._last_error,
        )

    # Requests

    def request_page(
        self, symbol: str, request: Request, answer: RestAnswer, *, is_gap: bool
    ) -> None:
        """Request the trades from an id on."""
        self._add(
            _Job(
                _Kind.GAP if is_gap else _Kind.BACKFILL,
                {"symbol": symbol, "fromId": request.from_id, "limit": PAGE_IDS},
                partial(self._take_page, request, answer),
                partial(self._pass_failure, answer),
            )
        )

    def request_newest(self, symbol: str, answer: RestAnswer) -> None:
        """Request the newest id."""
        self._add(
            _Job(
                _Kind.CHECK,
                {"symbol": symbol, "limit": 1},
                partial(self._take_newest, symbol, answer),
                partial(self._pass_failure, answer),
            )
        )

    def first_id(self, symbol: str, day: date) -> int:
        """Request the id of REST's first trade of a UTC day, or that of the next trade without one.

        It waits, also for as long as REST does not answer, so it belongs into a thread.

        Raises
        ------
        RestStoppedError
            The queue was closed.
        SourceError, TickDataError
            The exchange rejects the symbol or the caller, or its trades are not valid.
        """
        failures = 0
        while True:
            try:
                return first_id_of_day(_Pages(self), symbol, day)
            except (TransientSourceError, CorruptSourceError):
                wait_s = doubled(FIRST_WAIT_S, failures, LONGEST_WAIT_S)
                failures += 1
                self._wait(max(wait_s, self._client.closed_for()))

    def reply(self, parameters: dict[str, str | int]) -> Reply:
        """Send a request for the first trade of a day, and wait for its answer.

        Raises
        ------
        RestStoppedError
            The queue was closed.
        SourceError
            There was no valid answer.
        """
        future: Future[Reply] = Future()
        self._add(
            _Job(
                _Kind.FIRST,
                parameters,
                future.set_result,
                lambda failure: future.set_exception(failure.error),
            )
        )
        return future.result()

    def close(self) -> None:
        """End all waits at once. No answer comes after it."""
        with self._changed:
            self._is_closed = True
            left = [*self._waiting[_Kind.FIRST]]
            for jobs in self._waiting:
                jobs.clear()
            self._changed.notify_all()
        self._cancellation.cancel()
        for job in left:
            job.failed(self._stopped())

    def _add(self, job: _Job) -> None:
        with self._changed:
            if not self._is_closed:
                self._waiting[job.kind].append(job)
                self._changed.notify_all()
                return
        if job.kind is _Kind.FIRST:
            job.failed(self._stopped())

    def _stopped(self) -> _Failure:
        return _Failure(
            RestStoppedError(f"requests to `{self.url}` were stopped"),
            is_refused=False,
            closed_until=None,
        )

    def _wait(self, seconds: float) -> None:
        """Wait, but not longer than until the queue is closed."""
        with self._changed:
            if self._changed.wait_for(lambda: self._is_closed, clock.real_seconds(seconds)):
                raise self._stopped().error

    # The thread

    def _work(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._client.close)
            stack.push(self._ended)
            while (job := self._next()) is not None:
                self._serve(*job)

    def _ended(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> bool:
        """Pass an error of this program to the loop."""
        if error is not None:
            self._post(partial(self._on_error, error))
        return True

    def _next(self) -> tuple[_Job, float] | None:
        """Wait until a request may be sent, and return the most urgent one; None when stopped.

        While the host is closed, requests fail at once. The second value says for how long.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._most_urgent() is not None)
                kind = self._most_urgent()
            if kind is None:
                return None
            closed_s, wait_s = self._client.closed_for(), 0.0
            if not closed_s:
                wait_s = self._client.take(1.0 - RESERVE if kind is _Kind.BACKFILL else 1.0)
            with self._changed:
                if wait_s > 0:
                    # A more urgent request may have a higher limit.
                    self._changed.wait_for(
                        partial(self._has_other_than, kind),
                        clock.real_seconds(min(wait_s, LOOK_AGAIN_S)),
                    )
                elif (first := self._most_urgent()) is not None:
                    return self._waiting[first].popleft(), closed_s

    def _most_urgent(self) -> _Kind | None:
        return next((kind for kind in _Kind if self._waiting[kind]), None)

    def _has_other_than(self, kind: _Kind) -> bool:
        return self._most_urgent() is not kind

    def _serve(self, job: _Job, closed_s: float) -> None:
        """Send a request, unless the host is closed, and pass on its outcome."""
        try:
            if closed_s > 0:
                raise self._client.blocked(closed_s, str(job.parameters["symbol"]))
            reply = self._client.send(job.parameters)
            self._last_error = ""
            job.take(reply)
        except RangeBarError as error:
            self._last_error = str(error).partition("\n")[0]
            job.failed(self._stopped() if self._is_closed else self._failure(error))

    def _failure(self, error: RangeBarError) -> _Failure:
        closed_s = self._client.closed_for()
        is_transient = isinstance(error, (TransientSourceError, CorruptSourceError))
        is_rejected = isinstance(error, SourceError) and not is_transient
        return _Failure(
            error,
            is_refused=is_rejected or isinstance(error, TooManyRequestsError),
            closed_until=clock.monotonic() + closed_s if closed_s > 0 else None,
        )

    # Answers

    def _take_page(self, request: Request, answer: RestAnswer, reply: Reply) -> None:
        trades = _trades_of(reply.body, self.url)
        self._post(partial(answer.page, request, trades, reply.sent_at))

    def _take_newest(self, symbol: str, answer: RestAnswer, reply: Reply) -> None:
        trades = _trades_of(reply.body, self.url)
        newest = max(trades, key=lambda trade: trade.id, default=None)
        if newest is None or (reply.date is None and newest.time_us == 0):
            sentence = f"`{self.url}` returns no newest trade of `{symbol}`"
            raise TransientSourceError(
                with_hint(sentence, "try again later"), symbol=symbol, url=self.url
            )
        # A server that does not say its time is at least as late as the trade.
        date = reply.date or datetime.fromtimestamp(newest.time_us // 1_000_000, UTC)
        self._post(partial(answer.newest, newest.id, date))

    def _pass_failure(self, answer: RestAnswer, failure: _Failure) -> None:
        is_unknown = isinstance(failure.error, UnknownSymbolError)
        self._post(
            partial(
                answer.failed,
                is_refused=failure.is_refused,
                closed_until=failure.closed_until,
                **({"unknown": str(failure.error)} if is_unknown else {}),
            )
        )

    def _post(self, call: Callable[[], None]) -> None:
        """Call a function in the loop, unless the queue is closed by then."""

        def deliver() -> None:
            if not self._is_closed:
                call()

        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(deliver)


class _Pages:
    """Sends the requests of a search through a queue."""

    def __init__(self, queue: RestRequests) -> None:
        self._queue = queue

    @property
    def url(self) -> str:
        return self._queue.url

    def ask(self, parse: Callable[[bytes, str], T], **parameters: str | int) -> T:
        return parse(self._queue.reply(parameters).body, self.url)


def _trades_of(body: bytes, url: str) -> TradeColumns:
    trades = TradeColumns()
    values: Any
    for column, values in zip(trades.columns, loose_page_of(body, url), strict=True):
        column.extend(values)
    return trades


def _limits() -> Limits:
    from rangebar_polars.fetch._wire import Limits

    chosen = settings()
    return Limits(
        min(chosen.http_timeout_s, SILENCE_S),
        min(chosen.http_total_timeout_s, TOTAL_S),
        chosen.http_min_bytes_per_s,
    )


def _reraise(error: BaseException) -> None:
    raise error
