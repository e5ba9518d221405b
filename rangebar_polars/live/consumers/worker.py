"""A consumer with a thread that delivers and a thread that stores cursors."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Protocol

from rangebar_polars._files.failpoints import Step as FailpointStep
from rangebar_polars._files.failpoints import failpoint
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.consumers.delivery import (
    Compute,
    Delivery,
    Finished,
    Offer,
    Save,
    Wait,
)
from rangebar_polars.live.consumers.ndjson import AbortedError, StreamClosedError
from rangebar_polars.live.consumers.replays import Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.cursors import Cursor, CursorStore
    from rangebar_polars.live.consumers.delivery import ConsumerFailed, DeliveryOptions, Unsaved
    from rangebar_polars.live.consumers.replay import ReplaySource
    from rangebar_polars.live.consumers.symbol_bars import Offered
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.interfaces import (
        ConsumerReports,
        ConsumerStatus,
        SeriesBars,
        SeriesStart,
    )

__all__ = ["BarConsumer", "Receiver"]

_LOG = logging.getLogger("rangebar_polars.live")
#: A cursor is stored so long after the one before, and so long after a failure.
SAVE_EVERY_S, SAVE_AGAIN_S = 0.5, 1.0


class Receiver(Protocol):
    """What takes frames, in the thread of a consumer."""

    def deliver(self, frame: pl.DataFrame, delivered: Callable[[int], None]) -> None:
        """Take a frame, and say in between how many more of its bars were delivered."""
        ...

    def abort(self) -> None:
        """Give up a `deliver` that takes too long. Called in another thread."""
        ...

    def close(self) -> None:
        """End what the receiver has started."""
        ...


class _ReceiverError(Exception):
    """Carries what a receiver raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class BarConsumer:
    """Delivers bars to a receiver. It fills `interfaces.Consumer`.

    Parameters
    ----------
    options
        How it behaves.
    frames
        Makes the frames.
    receiver
        Takes them.
    reports
        Where it says what happened.
    cursors
        Stores its positions.
    source
        Computes bars again.
    """

    def __init__(
        self,
        options: DeliveryOptions,
        frames: BarFrames,
        receiver: Receiver,
        reports: ConsumerReports,
        cursors: CursorStore,
        source: ReplaySource,
    ) -> None:
        self.options = options
        self._delivery = Delivery(options, frames)
        self._receiver, self._reports = receiver, reports
        self._cursors = cursors
        self._condition = Condition()
        self._replays = Replays(source, self._delivery, self._condition)
        self._saving = Lock()
        self._loaded: dict[str, Cursor | None] = {}
        self._is_aborted = False
        self._has_ended = False
        self._done: Callable[[], None] | None = None
        name = f"rangebar-{options.kind}-{options.name}"
        self._threads = [
            Thread(target=self._deliver_all, name=name, daemon=True),
            Thread(target=self._save_all, name=f"{name}-cursors", daemon=True),
        ]

    def load(self, symbols: Sequence[str]) -> None:
        """Read the cursors of symbols, and begin to work.

        The caller holds the writer locks of the symbols. `begin` takes no other symbol.

        Raises
        ------
        StorageError
            A cursor is damaged, or cannot be read.
        """
        for symbol in symbols:
            self._cursors.sweep(symbol)
            self._loaded[symbol] = self._cursors.load(symbol)
        for thread in self._threads:
            thread.start()

    # The interface of the engine

    def begin(
        self,
        symbol: str,
        starts: Sequence[SeriesStart],
        bars: Sequence[SeriesBars],
        applied_id: int,
    ) -> None:
        """Begin to receive the bars of a symbol."""
        now = clock.monotonic()
        cursor = self._loaded[symbol]
        with self._condition:
            new = self._delivery.begin(symbol, starts, bars, applied_id, cursor, now)
            self._condition.notify_all()
        for series in new:
            self._reports.event(
                symbol,
                "sidecar_new_series",
                consumer=self.options.name,
                threshold=series.spec.threshold,
                segment=series.segment.name,
                anchor=series.anchor,
            )

    def queue(self, symbol: str, bars: Sequence[SeriesBars], applied_id: int) -> None:
        """Add bars of a symbol."""
        with self._condition:
            self._delivery.queue(symbol, bars, applied_id, clock.monotonic())
            self._condition.notify_all()

    def live(self, symbol: str, applied_id: int) -> None:
        """Note that a symbol has become live."""
        with self._condition:
            self._delivery.live(symbol, applied_id, clock.monotonic())
            self._condition.notify_all()

    def revised(self, symbol: str, series: BarSeries, number: int, applied_id: int) -> None:
        """Note that a series was computed again."""
        with self._condition:
            self._delivery.revised(symbol, series, number, applied_id)
            self._condition.notify_all()

    def status(self) -> ConsumerStatus:
        """Return how it is doing."""
        with self._condition:
            return self._delivery.status(clock.monotonic())

    def close(self, done: Callable[[], None]) -> None:
        """Drain the queue, save the cursors, and call `done` in a thread of the consumer."""
        with self._condition:
            self._done = done
            self._delivery.close()
            self._condition.notify_all()
        if not self._loaded:  # it has never begun
            done()

    def abort(self) -> None:
        """Give up what is not delivered; the cursors are saved, and `done` is called."""
        with self._condition:
            self._is_aborted = True
            self._condition.notify_all()
        self._receiver.abort()

    # The thread that delivers

    def _deliver_all(self) -> None:
        with ExitStack() as stack:
            stack.push(self._report_end)
            while self._deliver_next():
                pass
        self._replays.close()
        self._receiver.close()
        with self._condition:
            self._has_ended = True
            self._condition.notify_all()

    def _report_end(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Report what ends the thread; the engine stops, and raises it if it is a fault of ours."""
        if isinstance(error, StreamClosedError):
            self._reports.stop(f"nobody reads the stream: {error}", None)
        elif error is not None and not isinstance(error, AbortedError):
            _LOG.error("consumer `%s` ends", self.options.name, exc_info=error)
            self._reports.stop(f"consumer `{self.options.name}` ended: {error!r}", error)
        return True

    def _deliver_next(self) -> bool:
        """Do the next step; return whether there may be others."""
        with self._condition:
            if self._is_aborted:
                return False
            now = clock.monotonic()
            step = self._delivery.next(now)
            if isinstance(step, Wait):
                wait_s = None if step.until is None else clock.real_seconds(step.until - now)
                self._condition.wait(wait_s)
                return True
        match step:
            case Finished():
                return False
            case Save(symbol):
                self._save_first(symbol)
            case Compute():
                self._replays.compute(step)
            case Offer(offered):
                self._offer(offered)
        return True

    def _offer(self, offered: Offered) -> None:
        try:
            self._pass_on(offered)
        except _ReceiverError as raised:
            self._note_raised(raised.error)
            return
        failpoint(FailpointStep.DELIVERED)
        with self._condition:
            # After `abort`, the cursors may be stored already.
            if not self._is_aborted:
                self._delivery.returned(clock.monotonic())
            self._condition.notify_all()

    def _pass_on(self, offered: Offered) -> None:
        try:
            self._receiver.deliver(offered.frame.clone(), self._partly_delivered)
        except (StreamClosedError, AbortedError):
            raise
        except Exception as error:
            raise _ReceiverError(error) from error

    def _partly_delivered(self, count: int) -> None:
        failpoint(FailpointStep.DELIVERED)
        with self._condition:
            if not self._is_aborted:
                self._delivery.partly_delivered(count, clock.monotonic())
            self._condition.notify_all()

    def _note_raised(self, error: Exception) -> None:
        with self._condition:
            failed = self._delivery.raised(f"{type(error).__name__}: {error}", clock.monotonic())
        if failed is None:
            _LOG.warning("consumer `%s` raised %r", self.options.name, error)
            return
        self._report(failed, error)

    def _report(self, failed: ConsumerFailed, error: Exception) -> None:
        ids = f"{failed.first_id} to {failed.last_id}"
        message = "consumer `%s` failed at bars of %s that end in ids %s"
        _LOG.error(message, self.options.name, failed.symbol, ids, exc_info=error)
        self._reports.event(
            failed.symbol,
            "consumer_failed",
            consumer=self.options.name,
            first_id=failed.first_id,
            last_id=failed.last_id,
            bars=failed.bars,
            is_skipped=failed.is_skipped,
            error=f"{type(error).__name__}: {error}",
        )

    # Cursors

    def _save_first(self, symbol: str) -> None:
        """Store the cursor of a symbol before its first bar, or wait a moment."""
        with self._condition:
            one = self._delivery.cursor(symbol)
        if one is not None and not self._save([one]):
            with self._condition:
                self._condition.wait_for(lambda: self._is_aborted, clock.real_seconds(SAVE_AGAIN_S))

    def _save_all(self) -> None:
        """Store cursors until the consumer has ended, then once more, and call `done`."""
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_over or bool(self._delivery.unsaved()))
                if self._is_over:
                    break
                found = self._delivery.unsaved()
            is_saved = self._save(found)
            wait_s = SAVE_EVERY_S if is_saved else SAVE_AGAIN_S
            with self._condition:
                self._condition.wait_for(lambda: self._is_over, clock.real_seconds(wait_s))
        with self._condition:
            names = self._delivery.symbols
            last = [self._delivery.cursor(name, is_closed=True) for name in names]
        self._save([one for one in last if one is not None])
        if self._done is not None:
            self._done()

    @property
    def _is_over(self) -> bool:
        return self._done is not None and (self._has_ended or self._is_aborted)

    def _save(self, cursors: Sequence[Unsaved]) -> bool:
        """Store cursors; return whether all are stored."""
        is_saved = True
        # Two threads store cursors. A cursor never goes back.
        with self._saving:
            for one in cursors:
                with self._condition:
                    is_newer = self._delivery.symbols[one.symbol].saved_version > one.version
                if is_newer:
                    continue
                try:
                    self._cursors.save(one.symbol, one.cursor)
                except StorageError as error:
                    is_saved = False
                    _LOG.warning("the cursor of %s is not stored: %s", one.symbol, error)
                    with self._condition:
                        self._delivery.last_error = str(error)
                    continue
                with self._condition:
                    self._delivery.saved(one.symbol, one.version, clock.monotonic())
                    self._condition.notify_all()
        return is_saved
