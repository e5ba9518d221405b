"""Trades as time passes: the clock of the exchange moves, and streams send what happens."""

from __future__ import annotations

import heapq
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from exchange.clock import EPOCH
from exchange.stream_messages import messages
from exchange.tape import instant_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from exchange.clock import Clock
    from exchange.stream_messages import Message
    from exchange.streams import Streams
    from exchange.tape import Tape
    from rangebar_polars._utils.span import When

__all__ = ["Live", "Playback"]

#: Messages are made for so many trades at a time.
CHUNK = 2_000
#: How often a running clock moves when there is no trade.
TICK_S = 0.005


class Playback:
    """Plays the tapes of an exchange."""

    def __init__(self, tapes: list[Tape], clock: Clock, streams: Streams) -> None:
        self._tapes = tapes
        self._clock = clock
        self._streams = streams
        self._lock = threading.Lock()
        self.stopping = threading.Event()

    def play(
        self, until: When | timedelta, *, rate: float | None = None, speed: float | None = None
    ) -> int:
        """Send the trades of (now, until], move the clock with them, and return their number.

        Without `rate` (messages a second) and `speed` (seconds of the exchange in a second) it does
        so as fast as it can. It ends early when the exchange is closed.
        """
        if rate is not None and speed is not None:
            raise ValueError("give `rate` or `speed`, not both")
        with self._lock:
            if isinstance(until, timedelta):
                until_us = self._clock.now_us + until // timedelta(microseconds=1)
            else:
                until_us = instant_us(until)
            began_us, began_s = self._clock.now_us, time.monotonic()

            def due_s(count: int, time_us: int) -> float:
                if rate is not None:
                    return began_s + count / rate
                return began_s + (time_us - began_us) / 1e6 / speed if speed else began_s

            return self._play(until_us, due_s)

    def _play(self, until_us: int, due_s: Callable[[int, int], float]) -> int:
        count = 0
        for message in self._between(self._clock.now_us, until_us):
            if not self._wait(due_s(count, message.time_us)):
                return count
            self._clock.set_us(message.time_us)
            self._streams.publish(message)
            self._streams.tick()
            count += 1
        self._wait(due_s(count, until_us))
        self._clock.set_us(until_us)
        self._streams.tick()
        return count

    def _wait(self, until_s: float) -> bool:
        wait_s = until_s - time.monotonic()
        return not (self.stopping.is_set() if wait_s <= 0 else self.stopping.wait(wait_s))

    def _between(self, after_us: int, until_us: int) -> Iterator[Message]:
        """Messages of all tapes in the order of their times, of one tape in that of its ids."""
        parts = [self._of(tape, after_us, until_us) for tape in self._tapes]
        if len(parts) == 1:
            return parts[0]
        return heapq.merge(*parts, key=lambda message: message.time_us)

    @staticmethod
    def _of(tape: Tape, after_us: int, until_us: int) -> Iterator[Message]:
        low, high = (tape.rows_to(us) for us in (after_us, until_us))
        for start in range(low, high, CHUNK):
            yield from messages(tape, tape.ticks.slice(start, min(CHUNK, high - start)))

    def live(self, speed: float = 1.0) -> Live:
        """Start a thread in which the time of the exchange passes."""
        return Live(self, self._clock, speed)


class Live:
    """The running time of an exchange, until `stop` or the end of its `with`."""

    def __init__(self, playback: Playback, clock: Clock, speed: float) -> None:
        self.speed = speed
        #: Trades sent so far.
        self.count = 0
        self._playback = playback
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exchange-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the clock stand still again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began_us, began_s = self._clock.now_us, time.monotonic()
        while not (self._stop.wait(TICK_S) or self._playback.stopping.is_set()):
            passed_us = int((time.monotonic() - began_s) * self.speed * 1e6)
            self.count += self._playback.play(moment(began_us + passed_us))


def moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)
