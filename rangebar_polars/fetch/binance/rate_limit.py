"""The request budget of a host, shared by all threads of the process."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import ForkSafeLock
from rangebar_polars.fetch.source import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LONGEST_WAIT_S",
    "HostClosedError",
    "MinuteWeight",
    "WeightBudget",
    "budget_of",
    "limit_of",
]

#: Longest wait for a host that is closed.
LONGEST_WAIT_S = 90.0
MINUTE_S = 60.0
#: The weight that the exchange allows in a minute on the spot market.
EXCHANGE_LIMIT = 6_000
_SHARES = {Caller.LIVE: 1.5, Caller.OTHER: 1.0, Caller.HELPER: 0.5}
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


class MinuteWeight:
    """The request weight of the last minute, by our own count and by that of the host.

    Our count is of the last 60 s, so it is never below that of the host's minute, wherever that
    begins. The host counts all programs at the address; its figure holds until its minute ends.
    Times are monotonic, in seconds.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rate_limit import MinuteWeight
    >>> minute = MinuteWeight()
    >>> minute.spend(20, now=0.0)
    >>> minute.used(now=1.0), minute.wait_s(20, limit=30, now=1.0)
    (20, 59.0)
    >>> minute.report(500, sent_at=0.0, now=1.0, seconds_left=12.0)
    >>> minute.used(now=1.0), minute.wait_s(20, limit=510, now=1.0), minute.used(now=13.0)
    (500, 12.0, 20)
    """

    def __init__(self) -> None:
        self._spent: deque[tuple[float, int]] = deque()
        self._ours = 0
        self._reported, self._sent_at, self._reported_until = 0, float("-inf"), float("-inf")

    def spend(self, weight: int, now: float) -> None:
        """Note a request."""
        self._forget(now)
        self._spent.append((now, weight))
        self._ours += weight

    def report(self, used: int, sent_at: float, now: float, seconds_left: float) -> None:
        """Note the count of the host in the answer to a request, whose minute ends in `seconds_left`."""
        if sent_at >= self._sent_at:
            self._reported, self._sent_at = used, sent_at
            self._reported_until = now + seconds_left

    def used(self, now: float) -> int:
        """Return the larger of the two counts."""
        self._forget(now)
        return max(self._ours, self._by_host(now))

    def wait_s(self, weight: int, limit: int, now: float) -> float:
        """Return how long to wait until a request keeps the limit, if no other is sent meanwhile.

        A request that weighs more than the limit is sent when nothing else is in the minute.
        """
        self._forget(now)
        room = limit - min(weight, limit)
        free_at = now
        ours = self._ours
        for spent_at, spent in self._spent:
            if ours <= room:
                break
            ours -= spent
            free_at = spent_at + MINUTE_S
        if self._by_host(now) > room:
            free_at = max(free_at, self._reported_until)
        return max(0.0, free_at - now)

    def _by_host(self, now: float) -> int:
        """Return the last count of the host, with the requests that it cannot know."""
        if now >= self._reported_until:
            return 0
        since = 0
        for spent_at, spent in reversed(self._spent):
            if spent_at <= self._sent_at:
                break
            since += spent
        return self._reported + since

    def _forget(self, now: float) -> None:
        while self._spent and now >= self._spent[0][0] + MINUTE_S:
            self._ours -= self._spent.popleft()[1]


def limit_of(caller: Caller, per_minute: int, share: float) -> int:
    """Return the weight that a caller may bring the minute to.

    Parameters
    ----------
    caller
        Live bars use half as much again as populations and fetches, their helper half as much. So
        a population leaves room for live bars.
    per_minute
        The setting `rest_weight_per_minute`. Only if it says so itself, the limit is above that of
        the exchange.
    share
        The limit of the host relative to that of the spot market.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rate_limit import limit_of
    >>> from rangebar_polars.fetch.source import Caller
    >>> [limit_of(caller, 3_000, share) for share in (1.0, 0.4) for caller in Caller]
    [4500, 3000, 1500, 1800, 1200, 600]
    """
    limit = int(per_minute * share * _SHARES[caller])
    most = int(max(per_minute, EXCHANGE_LIMIT) * share)
    return max(1, min(limit, most))


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
        self._minute = MinuteWeight()
        self._weight: float | None = None  # full until first used
        self._counted_at = clock()
        self._closed_until = clock()

    def spend(
        self, weight: int, *, per_minute: int, before: Callable[[], object] | None = None
    ) -> None:
        """Wait until the weight is available at an even rate, and spend it.

        Parameters
        ----------
        before
            Called before each look, for example to note that another process has closed the host.

        Raises
        ------
        HostClosedError
            The host stays closed for longer than `LONGEST_WAIT_S`.
        """
        while True:
            if before is not None:
                before()
            closed_s = self.closed_for()
            if closed_s > LONGEST_WAIT_S:
                raise HostClosedError(closed_s)
            wait_s = closed_s or self.take(weight, per_minute=per_minute, is_even=True)
            if wait_s <= 0:
                return
            self._sleep(max(wait_s, _SHORTEST_WAIT_S))

    def take(self, weight: int, *, per_minute: int, is_even: bool = False) -> float:
        """Spend the weight and return 0, or return the seconds to wait.

        Parameters
        ----------
        is_even
            Whether the weight of a minute is to be spent at an even rate.
        """
        with self._lock:
            now = self._clock()
            wait_s = self._minute.wait_s(weight, per_minute, now)
            if wait_s > 0:
                return wait_s
            if is_even:
                rate, burst = self._refill(per_minute)
                available = self._weight or 0.0
                # A request that weighs more than a burst is sent when the bucket is full.
                needed = min(float(weight), burst)
                if available < needed:
                    return (needed - available) / rate
                self._weight = available - weight
            self._minute.spend(weight, now)
            return 0.0

    def close(self, seconds: float) -> None:
        """Block all requests for a number of seconds."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def closed_for(self) -> float:
        """Return for how many seconds the host stays closed; 0 if it is open."""
        with self._lock:
            return max(0.0, self._closed_until - self._clock())

    def used(self) -> int:
        """Return the weight of this minute, by our count or that of the host."""
        with self._lock:
            return self._minute.used(self._clock())

    def now(self) -> float:
        """Return the time of this budget."""
        return self._clock()

    def correct(self, used: int, *, per_minute: int, sent_at: float, seconds_left: float) -> None:
        """Adopt the host's count of this minute, which ends in `seconds_left`.

        Parameters
        ----------
        sent_at
            When the request was sent whose answer has the count, in the time of this budget.
        """
        with self._lock:
            self._minute.report(used, sent_at, self._clock(), seconds_left)
            self._refill(per_minute)
            self._weight = min(self._weight or 0.0, float(max(0, per_minute - used)))

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
