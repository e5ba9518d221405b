"""When and where to connect next: jittered waits, a budget of connects, and a list of addresses."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: A number between two others, such as `random.uniform`.
    Uniform = Callable[[float, float], float]

__all__ = ["Backoff", "Bases", "ConnectBudget", "doubled"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 60.0
#: Time connected after which applied trades end a series of failures.
HEALTHY_S = 60.0
#: Connects of a process in any span of this length.
MOST_CONNECTS, SPAN_S = 60, 300.0
_MOST_DOUBLINGS = 32


def doubled(first_s: float, times: int, longest_s: float) -> float:
    """Return a wait that doubles a number of times up to a limit.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.backoff import doubled
    >>> [doubled(0.5, times, 30.0) for times in (0, 1, 5, 6, 900)]
    [0.5, 1.0, 16.0, 30.0, 30.0]
    """
    return min(longest_s, first_s * 2.0 ** min(times, _MOST_DOUBLINGS))


class Backoff:
    """Waits before one connection is opened again: full jitter on 0.25 s · 2ⁿ, at most 60 s.

    Parameters
    ----------
    uniform
        Source of jitter.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.backoff import Backoff
    >>> backoff = Backoff(uniform=lambda low, high: high)
    >>> [backoff.failed(now=100.0) for _ in range(3)]
    [100.25, 100.5, 101.0]
    """

    def __init__(self, uniform: Uniform = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0
        self._connected_at: float | None = None

    def failed(self, now: float, retry_after_s: float = 0.0) -> float:
        """Note a failure or a disconnect, and return when to connect again.

        Parameters
        ----------
        now
            Monotonic time in seconds.
        retry_after_s
            How long the server asked to wait.
        """
        wait_s = self._uniform(0.0, doubled(FIRST_WAIT_S, self._failures, LONGEST_WAIT_S))
        self._failures += 1
        self._connected_at = None
        return now + max(wait_s, retry_after_s)

    def connected(self, now: float) -> None:
        """Note that the connection is open."""
        self._connected_at = now

    def applied(self, now: float) -> None:
        """Note applied trades. A minute after the connect they end the series of failures."""
        if self._connected_at is not None and now >= self._connected_at + HEALTHY_S:
            self._failures = 0


class ConnectBudget:
    """The connects of a process: at most 60 in any 5 minutes.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.backoff import ConnectBudget
    >>> budget = ConnectBudget()
    >>> for second in range(60):
    ...     budget.spend(float(second))
    >>> budget.free_at(59.0)
    300.0
    """

    def __init__(self, most: int = MOST_CONNECTS, span_s: float = SPAN_S) -> None:
        self._span_s = span_s
        self._begun: deque[float] = deque(maxlen=most)

    def free_at(self, now: float) -> float:
        """Return the earliest time at which a connect is allowed."""
        if len(self._begun) < (self._begun.maxlen or 0):
            return now
        return max(now, self._begun[0] + self._span_s)

    def spend(self, now: float) -> None:
        """Note a connect.

        Raises
        ------
        ValueError
            The budget does not allow it now.
        """
        if now < self.free_at(now):
            raise ValueError(f"no connect is allowed before {self.free_at(now)}")
        self._begun.append(now)


class Bases:
    """Addresses of a stream, of which the next one is tried after each failure.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.backoff import Bases
    >>> bases = Bases(["wss://one", "wss://two"])
    >>> bases.current, bases.next(), bases.next()
    ('wss://one', 'wss://two', 'wss://one')
    """

    def __init__(self, bases: Sequence[str]) -> None:
        if not bases:
            raise ValueError("`bases` must name at least one address")
        self._bases = tuple(bases)
        self._at = 0

    @property
    def current(self) -> str:
        """The address to connect to."""
        return self._bases[self._at]

    def next(self) -> str:
        """Move on to the next address, and return it."""
        self._at = (self._at + 1) % len(self._bases)
        return self.current
