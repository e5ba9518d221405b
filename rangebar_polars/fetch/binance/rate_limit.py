"""The request budget of a host, shared by all threads of the process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LONGEST_WAIT_S", "HostClosedError", "WeightBudget", "budget_of"]

#: Longest wait for a host that is closed.
LONGEST_WAIT_S = 90.0
_SHORTEST_WAIT_S = 0.001
# The part of a minute's weight that can be spent at once. The rest is added evenly, so that no 60
# seconds exceed the weight of a minute.
_BURST = 0.1
_FIRST_USE = ForkSafeLock()


class HostClosedError(RuntimeError):
    """Raised when a host rejects requests for longer than `LONGEST_WAIT_S`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the host is closed for another {seconds:.0f} s")
        self.seconds = seconds


class WeightBudget:
    """Token bucket of request weight, corrected by the usage that the host reports.

    Parameters
    ----------
    clock
        Monotonic clock in seconds.
    sleep
        Function that waits for a number of seconds.

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
        clock: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], None] = clock.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = ForkSafeLock()
        self._weight: float | None = None  # full until first used
        self._counted_at = clock()
        self._closed_until = clock()

    def spend(self, weight: int, *, per_minute: int) -> None:
        """Wait until the weight is available, and spend it.

        Raises
        ------
        HostClosedError
            The host stays closed for longer than `LONGEST_WAIT_S`.
        """
        while (wait := self._wait_for(weight, per_minute)) > 0:
            self._sleep(max(wait, _SHORTEST_WAIT_S))

    def close(self, seconds: float) -> None:
        """Block all requests for a number of seconds."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def correct(self, used: int, *, per_minute: int, seconds_left: float) -> None:
        """Adopt the host's count of this minute, which ends in `seconds_left`."""
        with self._lock:
            self._refill(per_minute)
            self._weight = min(self._weight or 0.0, float(per_minute - used))
        if used >= per_minute:
            self.close(seconds_left)

    def _wait_for(self, weight: int, per_minute: int) -> float:
        """Spend the weight and return 0, or return the seconds to wait."""
        with self._lock:
            closed = self._closed_until - self._clock()
            if closed > LONGEST_WAIT_S:
                raise HostClosedError(closed)
            if closed > 0:
                return closed
            rate, burst = self._refill(per_minute)
            available = self._weight or 0.0
            # A request that weighs more than a burst is sent when the bucket is full.
            needed = min(float(weight), burst)
            if available < needed:
                return (needed - available) / rate
            self._weight = available - weight
            return 0.0

    def _refill(self, per_minute: int) -> tuple[float, float]:
        """Add the weight since the last call; return the rate per second and the size of the bucket."""
        burst = per_minute * _BURST
        rate = (per_minute - burst) / 60
        now = self._clock()
        available = burst if self._weight is None else self._weight
        self._weight = min(burst, available + (now - self._counted_at) * rate)
        self._counted_at = now
        return rate, burst


@cache
def _budget(host: str) -> WeightBudget:  # noqa: ARG001 - the key of the cache
    return WeightBudget()


def budget_of(host: str) -> WeightBudget:
    """Return the budget that all threads of this process share for a host.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rate_limit import budget_of
    >>> budget_of("https://api.binance.com") is budget_of("https://api.binance.com")
    True
    """
    with _FIRST_USE:  # two threads could create one each
        return _budget(host)
