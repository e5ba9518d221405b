"""Frames to whoever iterates: one frame waits, and the next one is handed over after it."""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.live.consumers.ndjson import AbortedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from rangebar_polars.live.consumers.cursors import Cursor

__all__ = ["FrameReceiver", "NoCursors"]


class FrameReceiver:
    """Hands frames over to another thread, one at a time.

    While nobody takes the frame, the consumer waits. Its queue fills, and what does not fit is
    computed again later.
    """

    kind = "iterator"

    def __init__(self) -> None:
        self._condition = Condition()
        self._frame: pl.DataFrame | None = None
        self._is_ended = False
        self._is_aborted = False
        self._waiters: list[Callable[[], None]] = []

    def deliver(self, frame: pl.DataFrame, delivered: Callable[[int], None]) -> None:
        """Hand a frame over, once the one before is taken.

        Raises
        ------
        AbortedError
            `abort` was called.
        """
        del delivered
        with self._condition:
            self._condition.wait_for(lambda: self._frame is None or self._is_aborted)
            if self._is_aborted:
                raise AbortedError
            self._frame = frame
        self._notify()

    def abort(self) -> None:
        """Give up what is not taken."""
        with self._condition:
            self._is_aborted = True
        self._notify()

    def close(self) -> None:
        """Note that no more frames come."""
        with self._condition:
            self._is_ended = True
        self._notify()

    def take(self) -> pl.DataFrame | None:
        """Return the frame that waits; None if there is none now."""
        with self._condition:
            frame, self._frame = self._frame, None
            self._condition.notify_all()
            return frame

    def wait(self, seconds: float | None) -> bool:
        """Wait for a frame or the end; return whether there is one of them."""
        real_s = None if seconds is None else clock.real_seconds(seconds)
        with self._condition:
            return self._condition.wait_for(lambda: self._has_news, real_s)

    def call_on_news(self, function: Callable[[], None]) -> None:
        """Call a function once, when there is a frame or the end; at once if there is."""
        with self._condition:
            if not self._has_news:
                self._waiters.append(function)
                return
        function()

    @property
    def is_over(self) -> bool:
        """Whether all frames were taken and no more come."""
        with self._condition:
            return (self._is_ended or self._is_aborted) and self._frame is None

    @property
    def _has_news(self) -> bool:
        return self._frame is not None or self._is_ended or self._is_aborted

    def wake(self) -> None:
        """Wake those who wait, although nothing came."""
        self._notify()

    def _notify(self) -> None:
        with self._condition:
            waiters, self._waiters = self._waiters, []
            self._condition.notify_all()
        for function in waiters:
            function()


class NoCursors:
    """The positions of a consumer that begins anew each time."""

    def load(self, symbol: str) -> Cursor | None:
        """Return None: there is no cursor."""
        del symbol
        return None

    def save(self, symbol: str, cursor: Cursor) -> None:
        """Do nothing."""

    def sweep(self, symbol: str) -> None:
        """Do nothing."""
