"""Forming bars that an iteration gives at an interval, between the bars that have ended."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    import polars as pl

    from rangebar_polars.live.frames import BarFrames

__all__ = ["FormingBars"]


class PartialBars(Protocol):
    """What knows the forming bars."""

    def partial(self, frames: BarFrames) -> list[pl.DataFrame]:
        """Return frames of the forming bars, one for each symbol."""
        ...


class FormingBars:
    """The forming bars that have changed since they were given last.

    Parameters
    ----------
    parts
        What knows them.
    frames
        Makes the frames.
    every_s
        Seconds between two looks; None for none.
    """

    def __init__(self, parts: PartialBars, frames: BarFrames, every_s: float | None) -> None:
        self._parts, self._frames, self._every_s = parts, frames, every_s
        self._due_at = clock.monotonic() + (every_s or 0.0)
        self._waiting: deque[pl.DataFrame] = deque()
        #: What was given last, by symbol.
        self._given: dict[str, pl.DataFrame] = {}

    def wait_s(self, longest_s: float) -> float:
        """Return how long to wait for bars that have ended, before `take` is called."""
        if self._every_s is None:
            return longest_s
        if self._waiting:
            return 0.0
        return max(0.0, min(longest_s, self._due_at - clock.monotonic()))

    def take(self) -> pl.DataFrame | None:
        """Return the next frame of forming bars; None if there is none now.

        Call it when no bar that has ended waits. Frames that were found come one at a time, as long
        as no bar ends.
        """
        if self._every_s is None:
            return None
        if self._waiting:
            return self._waiting.popleft()
        now = clock.monotonic()
        if now < self._due_at:
            return None
        self._due_at = now + self._every_s
        for frame in self._parts.partial(self._frames):
            if not frame.height:
                continue
            symbol = frame.item(0, "symbol")
            known = self._given.get(symbol)
            if known is None or not known.equals(frame):
                self._given[symbol] = frame
                self._waiting.append(frame)
        # Bars that have ended meanwhile come first: the next wait takes no time.
        return None

    def drop(self) -> None:
        """Forget the frames that were not given: a bar has ended after them."""
        while self._waiting:
            self._given.pop(self._waiting.popleft().item(0, "symbol"), None)
