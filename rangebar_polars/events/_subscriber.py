"""A subscriber, whose callback runs in a thread of its own."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import AbstractContextManager
from threading import Condition, Thread
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rangebar_polars.events._payload import HookPayload

__all__ = ["WAITING_LIMIT", "Subscriber"]

_LOG = logging.getLogger("rangebar_polars.events")

#: Payloads that may wait for a slow subscriber. Further ones are dropped.
WAITING_LIMIT = 1000


class _LogErrors(AbstractContextManager[None]):
    """Logs an exception of a callback with its traceback, and suppresses it."""

    def __init__(self, callback: Callable[[HookPayload], object], event: str) -> None:
        self._callback = callback
        self._event = event

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is not None:
            message = "the subscriber %r failed on the event `%s`"
            _LOG.error(message, self._callback, self._event, exc_info=error)
        return True


class Subscriber:
    """A callback, and a thread that runs while payloads wait for it."""

    def __init__(self, callback: Callable[[HookPayload], object]) -> None:
        self.callback = callback
        self.events: set[str] = set()
        self._waiting: deque[HookPayload] = deque()
        self._changed = Condition()
        self._worker: Thread | None = None

    def deliver(self, payload: HookPayload) -> None:
        """Queue the payload for the callback, after all earlier ones."""
        with self._changed:
            if len(self._waiting) >= WAITING_LIMIT:
                message = "the subscriber %r is too slow: an event `%s` was dropped"
                _LOG.warning(message, self.callback, payload.event)
                return
            self._waiting.append(payload)
            if self._worker is None or not self._worker.is_alive():
                self._start()

    def discard_waiting(self) -> None:
        """Drop the waiting payloads; a running call continues."""
        with self._changed:
            self._waiting.clear()

    def restart(self) -> None:
        """Reset the subscriber in a forked child; the parent delivers what was waiting."""
        self._waiting.clear()
        self._changed = Condition()
        self._worker = None

    def flush(self, timeout_s: float) -> bool:
        """Wait until all payloads are delivered; return False on a timeout."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._worker is None, clock.real_seconds(timeout_s)
            )

    def _start(self) -> None:
        worker = Thread(target=self._work, name="rangebar-subscriber", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter is shutting down, or there are too many threads
            self._waiting.clear()
            _LOG.warning(
                "no thread could be started for the subscriber %r", self.callback, exc_info=True
            )
        else:
            self._worker = worker

    def _work(self) -> None:
        while (payload := self._next()) is not None:
            with _LogErrors(self.callback, payload.event):
                self.callback(payload)

    def _next(self) -> HookPayload | None:
        """Take the next payload; without one the thread ends."""
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._worker = None
            self._changed.notify_all()
            return None
