"""One subscriber: its calls, in order, in a thread of its own."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import AbstractContextManager
from threading import Condition, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rangebar_polars.events._payload import HookPayload

__all__ = ["WAITING_LIMIT", "Subscriber"]

_LOG = logging.getLogger("rangebar_polars.events")

#: Payloads that wait for a slow subscriber; further ones are not delivered to it.
WAITING_LIMIT = 1000


class _TheirFault(AbstractContextManager[None]):
    """Whatever a callback raises is logged with its traceback, and ends there."""

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
    """A callback, and a thread that lives while there is something to deliver to it."""

    def __init__(self, callback: Callable[[HookPayload], object]) -> None:
        self.callback = callback
        self.events: set[str] = set()
        self._waiting: deque[HookPayload] = deque()
        self._changed = Condition()
        self._worker: Thread | None = None

    def deliver(self, payload: HookPayload) -> None:
        """Call the callback with the payload, soon and after all before it."""
        with self._changed:
            if len(self._waiting) >= WAITING_LIMIT:
                message = "the subscriber %r is too slow: an event `%s` was not delivered to it"
                _LOG.warning(message, self.callback, payload.event)
                return
            self._waiting.append(payload)
            if self._worker is None or not self._worker.is_alive():
                self._start()

    def forget(self) -> None:
        """Deliver nothing more; a call that has begun goes on."""
        with self._changed:
            self._waiting.clear()

    def restart(self) -> None:
        """Begin again in a forked child; what waited is delivered by the parent."""
        self._waiting.clear()
        self._changed = Condition()
        self._worker = None

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is delivered; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._worker is None, timeout_s)

    def _start(self) -> None:
        worker = Thread(target=self._work, name="rangebar-subscriber", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter is about to end, or there are too many threads
            self._waiting.clear()
            _LOG.warning("no thread for the subscriber %r", self.callback, exc_info=True)
        else:
            self._worker = worker

    def _work(self) -> None:
        while (payload := self._next()) is not None:
            with _TheirFault(self.callback, payload.event):
                self.callback(payload)

    def _next(self) -> HookPayload | None:
        """The payload whose turn it is; without one the thread ends."""
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._worker = None
            self._changed.notify_all()
            return None
