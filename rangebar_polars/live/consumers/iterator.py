"""Bars that are taken one frame after another, by a loop or by coroutines."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Condition
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.live.consumers.delivery import Compute, Delivery, Finished, Offer, Wait
from rangebar_polars.live.consumers.replays import Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.delivery import DeliveryOptions, Step
    from rangebar_polars.live.consumers.replay import ReplaySource
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.interfaces import ConsumerStatus, SeriesBars, SeriesStart

__all__ = ["BarIterator"]


class BarIterator:
    """A queue of bars that `take` empties. It fills `interfaces.Consumer`, without stored cursors.

    A frame counts as delivered once it is taken. Bars are computed again in the thread that takes them,
    or for a coroutine in another one.

    Parameters
    ----------
    options
        How it behaves; `has_cursors` is False.
    frames
        Makes the frames.
    source
        Computes bars again. None if nothing is stored: then bars beyond `max_pending_bars` are an error.
    """

    def __init__(
        self, options: DeliveryOptions, frames: BarFrames, source: ReplaySource | None
    ) -> None:
        self.options = options
        self._delivery = Delivery(options, frames)
        self._condition = Condition()
        self._replays = None if source is None else Replays(source, self._delivery, self._condition)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._is_computing = False
        self._error: BaseException | None = None
        self._is_aborted = False

    # The interface of the engine

    def begin(
        self,
        symbol: str,
        starts: Sequence[SeriesStart],
        bars: Sequence[SeriesBars],
        applied_id: int,
    ) -> None:
        """Begin to receive the bars of a symbol."""
        with self._condition:
            self._delivery.begin(symbol, starts, bars, applied_id, None, clock.monotonic())
            self._notify()

    def queue(self, symbol: str, bars: Sequence[SeriesBars], applied_id: int) -> None:
        """Add bars of a symbol."""
        with self._condition:
            self._delivery.queue(symbol, bars, applied_id, clock.monotonic())
            self._notify()

    def live(self, symbol: str, applied_id: int) -> None:
        """Note that a symbol has become live."""
        with self._condition:
            self._delivery.live(symbol, applied_id, clock.monotonic())
            self._notify()

    def revised(self, symbol: str, series: BarSeries, number: int, applied_id: int) -> None:
        """Note that a series was computed again."""
        with self._condition:
            self._delivery.revised(symbol, series, number, applied_id)
            self._notify()

    def status(self) -> ConsumerStatus:
        """Return how it is doing."""
        with self._condition:
            return self._delivery.status(clock.monotonic())

    def close(self, done: Callable[[], None]) -> None:
        """End the iteration after the bars that are there; call `done` at once."""
        with self._condition:
            self._delivery.close(retries=True)
            self._notify()
        done()

    def abort(self) -> None:
        """End the iteration at once."""
        with self._condition:
            self._is_aborted = True
            self._notify()

    def fail(self, error: BaseException) -> None:
        """Raise an error in `take`, after the bars that are there."""
        with self._condition:
            self._error = error
            self._delivery.close()
            self._notify()

    # What takes the bars

    def take(self, timeout_s: float | None = None) -> pl.DataFrame | None:
        """Wait for the next frame, and return it; None at the end of the iteration.

        Raises
        ------
        TimeoutError
            There was no bar for `timeout_s` seconds.
        CoverageError
            Bars were dropped and cannot be computed again.
        """
        limit = None if timeout_s is None else clock.monotonic() + timeout_s
        while True:
            with self._condition:
                step = self._next()
                if isinstance(step, Wait):
                    self._condition.wait(_seconds(step.until, limit))
                    continue
            if isinstance(step, Compute):
                self._compute(step)
            else:
                return self._frame_of(step)

    async def take_async(self, timeout_s: float | None = None) -> pl.DataFrame | None:
        """Do the same in a coroutine. A call that is cancelled takes no frame."""
        limit = None if timeout_s is None else clock.monotonic() + timeout_s
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._condition:
            self._waiters.add(waiter)
        try:
            while True:
                waiter[1].clear()
                with self._condition:
                    step = self._next()
                if isinstance(step, Wait):
                    wait_s = _seconds(step.until, limit)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(waiter[1].wait(), wait_s)
                elif isinstance(step, Compute):
                    # It comes to its end even if this call is cancelled.
                    await asyncio.shield(asyncio.to_thread(self._compute, step))
                else:
                    return self._frame_of(step)
        finally:
            with self._condition:
                self._waiters.discard(waiter)

    def _next(self) -> Step:
        """Return the next step; the frame of an offer is taken."""
        if self._is_aborted:
            return Finished()
        now = clock.monotonic()
        step = self._delivery.next(now)
        if isinstance(step, Offer):
            self._delivery.returned(now)
        elif isinstance(step, Compute):
            if self._replays is None:
                raise _too_many(self.options.max_pending_bars, step.symbol)
            if self._is_computing:
                return Wait(None)
            self._is_computing = True
        return step

    def _compute(self, step: Compute) -> None:
        try:
            if self._replays is not None:
                self._replays.compute(step)
        finally:
            with self._condition:
                self._is_computing = False
                self._notify()

    def _frame_of(self, step: Step) -> pl.DataFrame | None:
        if isinstance(step, Offer):
            return step.offered.frame
        if self._error is not None:
            raise self._error
        for symbol, text in self._delivery.not_delivered.items():
            raise _not_computed(symbol, text)
        return None

    def _notify(self) -> None:
        self._condition.notify_all()
        for loop, event in self._waiters:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(event.set)


def _seconds(until: float | None, limit: float | None) -> float | None:
    """Return how long to wait until the first of two times.

    Raises
    ------
    TimeoutError
        The limit has passed.
    """
    now = clock.monotonic()
    if limit is not None and now >= limit:
        raise TimeoutError("no bar has ended in time")
    times = [time for time in (until, limit) if time is not None]
    return clock.real_seconds(max(0.0, min(times) - now)) if times else None


def _not_computed(symbol: str, text: str) -> CoverageError:
    sentence = f"the last bars of {symbol} cannot be computed again: {text}"
    hint = "their trades are stored: call `live_bars` again with `since`"
    return CoverageError(with_hint(sentence, hint), symbol=symbol)


def _too_many(most: int, symbol: str) -> CoverageError:
    sentence = f"more than {most} bars of {symbol} were not taken, and their trades are not stored"
    hint = 'take them faster; or leave out anchor="now", and bars are computed again from the store'
    return CoverageError(with_hint(sentence, hint), symbol=symbol)
