"""How much a host may be asked: one budget for all threads of the process."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from rangebar_polars._utils.fork import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LONGEST_WAIT_S", "HostClosedError", "WeightBudget", "budget_of"]

#: A host that stays closed for longer is not waited for.
LONGEST_WAIT_S = 90.0
_SHORTEST_WAIT_S = 0.001
# What may be spent at once, of the weight of a minute; the rest flows in evenly, so that no 60
# seconds see more than the weight of a minute.
_BURST = 0.1
_FIRST_USE = ForkSafeLock()


class HostClosedError(RuntimeError):
    """A host has asked to be left alone for longer than is worth waiting."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the host is closed for another {seconds:.0f} s")
        self.seconds = seconds


class WeightBudget:
    """Token bucket of request weight, corrected by what the host says has been used.

    Parameters
    ----------
    clock
        Seconds that never run back.
    sleep
        Waits for so many seconds.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rate_limit import WeightBudget
    >>> waits = []
    >>> now = [0.0]
    >>> def sleep(seconds):
    ...     waits.append(seconds)
    ...     now[0] += seconds
    >>> budget = WeightBudget(clock=lambda: now[0], sleep=sleep)
    >>> for _ in range(16):
    ...     budget.spend(4, per_minute=600)
    >>> [round(seconds, 3) for seconds in waits]
    [0.444]
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = ForkSafeLock()
        self._weight: float | None = None  # full until first used
        self._counted_at = clock()
        self._closed_until = clock()

    def spend(self, weight: int, *, per_minute: int) -> None:
        """Take weight out of the budget, after waiting until it is there.

        Raises
        ------
        HostClosedError
            The host stays closed for longer than `LONGEST_WAIT_S`.
        """
        while (wait := self._wait_for(weight, per_minute)) > 0:
            self._sleep(max(wait, _SHORTEST_WAIT_S))

    def close(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def correct(self, used: int, *, per_minute: int, seconds_left: float) -> None:
        """Take over the weight used in this minute, by the host's count, which ends in `seconds_left`."""
        with self._lock:
            self._refill(per_minute)
            self._weight = min(self._weight or 0.0, float(per_minute - used))
        if used >= per_minute:
            self.close(seconds_left)

    def _wait_for(self, weight: int, per_minute: int) -> float:
        """Seconds to wait before the weight may be spent; 0 where it has been."""
        with self._lock:
            closed = self._closed_until - self._clock()
            if closed > LONGEST_WAIT_S:
                raise HostClosedError(closed)
            if closed > 0:
                return closed
            rate, burst = self._refill(per_minute)
            have = self._weight or 0.0
            # A request that weighs more than a burst goes out when the bucket is full.
            need = min(float(weight), burst)
            if have < need:
                return (need - have) / rate
            self._weight = have - weight
            return 0.0

    def _refill(self, per_minute: int) -> tuple[float, float]:
        """Let weight flow in until now; what flows in per second, and what the bucket holds."""
        burst = per_minute * _BURST
        rate = (per_minute - burst) / 60
        now = self._clock()
        have = burst if self._weight is None else self._weight
        self._weight = min(burst, have + (now - self._counted_at) * rate)
        self._counted_at = now
        return rate, burst


@cache
def _budget(host: str) -> WeightBudget:  # noqa: ARG001 - the key of the cache
    return WeightBudget()


def budget_of(host: str) -> WeightBudget:
    """The budget that all threads of this process share for a host.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rate_limit import budget_of
    >>> budget_of("https://api.binance.com") is budget_of("https://api.binance.com")
    True
    """
    with _FIRST_USE:  # or two threads would make one each
        return _budget(host)
