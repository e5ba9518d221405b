"""Freshness checks of one symbol: whether REST is ahead of what has arrived.

Equal ids prove a quiet market. If REST is ahead, and what has arrived has still not reached its
first answer ten seconds later, the stream is silent.
"""

from __future__ import annotations

import random
from collections import deque
from enum import Enum
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rangebar_polars.live.protocol.backoff import Uniform

__all__ = ["Freshness", "FreshnessCheck", "StaleLimit", "check_interval_s"]

SHORTEST_INTERVAL_S = 60.0
#: Each interval differs by up to this part of it.
JITTER = 0.2
#: The part of the REST weight of a minute that all checks of a process may take.
BUDGET_SHARE = 0.1
#: Time until the second look at a symbol that REST is ahead of, and until a check that failed.
AGAIN_S = 10.0
#: The automatic limit of `StaleLimit`, from the median interval between trades.
INTERVALS, SHORTEST_STALE_S, LONGEST_STALE_S = 20, 30.0, 900.0
_TIMES = 256


def check_interval_s(symbols: int, weight: int, per_minute: int) -> float:
    """Return the interval of a symbol's checks, so that all of them take a tenth of the REST budget.

    Parameters
    ----------
    symbols
        Symbols that are checked.
    weight
        Weight of the request of a check.
    per_minute
        Weight that a minute allows.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.freshness import check_interval_s
    >>> check_interval_s(10, 4, 4_500), check_interval_s(200, 20, 1_800)
    (60.0, 1333.3333333333333)
    """
    return max(SHORTEST_INTERVAL_S, 60.0 * symbols * weight / (per_minute * BUDGET_SHARE))


class FreshnessCheck(Enum):
    """What a freshness check shows."""

    #: REST has nothing that has not arrived.
    EQUAL = "equal"
    #: REST is ahead; the next check decides.
    AHEAD = "ahead"
    #: REST was ahead before, and its newest trade of then has arrived since.
    FOLLOWING = "following"
    #: REST is ahead, and its newest trade of then has still not arrived.
    SILENT = "silent"


class Freshness:
    """When the next check of a symbol is due, and what its checks show.

    Parameters
    ----------
    interval_s
        Time between two checks, see `check_interval_s`.
    now
        Monotonic time in seconds.
    uniform
        Source of jitter.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.freshness import Freshness
    >>> freshness = Freshness(60.0, now=0.0, uniform=lambda low, high: 0.0)
    >>> freshness.due_at
    60.0
    >>> freshness.answered(newest_id=12, reached_id=9, now=60.0).name, freshness.due_at
    ('AHEAD', 70.0)
    >>> freshness.answered(newest_id=15, reached_id=11, now=70.0).name, freshness.is_silent
    ('SILENT', True)
    """

    def __init__(self, interval_s: float, now: float, *, uniform: Uniform = random.uniform) -> None:
        self.interval_s = interval_s
        self._uniform = uniform
        #: Newest id of the first answer that was ahead.
        self._ahead_id: int | None = None
        #: Whether the stream is silent, until it delivers a trade or a check finds equal ids.
        self.is_silent = False
        #: When the next check is due.
        self.due_at = self._next(now)

    def answered(self, newest_id: int, reached_id: int, now: float) -> FreshnessCheck:
        """Judge REST's newest id.

        Parameters
        ----------
        newest_id
            The newest id of REST.
        reached_id
            The highest id that is applied or that the stream has delivered. While a gap is open,
            trades wait above it, and the stream is not silent.
        now
            Monotonic time in seconds.
        """
        if newest_id <= reached_id:
            self._ahead_id, self.is_silent = None, False
            self.due_at = self._next(now)
            return FreshnessCheck.EQUAL
        if self._ahead_id is None:
            self._ahead_id = newest_id
            self.due_at = now + AGAIN_S
            return FreshnessCheck.AHEAD
        is_silent = reached_id < self._ahead_id
        self._ahead_id = None
        self.is_silent = self.is_silent or is_silent
        self.due_at = self._next(now)
        return FreshnessCheck.SILENT if is_silent else FreshnessCheck.FOLLOWING

    def failed(self, now: float) -> None:
        """Note that a check got no answer."""
        self.due_at = now + AGAIN_S

    def delivered(self) -> None:
        """Note that the stream has delivered a trade."""
        self.is_silent = False

    def stale(self, now: float) -> None:
        """Make a check due at once, unless a second look is pending."""
        if self._ahead_id is None:
            self.due_at = min(self.due_at, now)

    def _next(self, now: float) -> float:
        return now + self.interval_s * (1.0 + self._uniform(-JITTER, JITTER))


class StaleLimit:
    """When a symbol without trades is to be checked at once.

    Parameters
    ----------
    stale_after_s
        The limit; None for 20 times the median interval between trades, from 30 to 900 s.
    now
        Monotonic time in seconds.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.freshness import StaleLimit
    >>> limit = StaleLimit(None, now=0.0)
    >>> limit.applied([0, 4_000_000, 8_000_000], now=8.0)
    >>> limit.limit_s, limit.due_at
    (80.0, 88.0)
    """

    def __init__(self, stale_after_s: float | None, now: float) -> None:
        self._stale_after_s = stale_after_s
        self._times_us: deque[int] = deque(maxlen=_TIMES)
        self._since = now
        #: None where it has to be computed.
        self._limit_s: float | None = None

    @property
    def limit_s(self) -> float:
        """Time without a trade after which the symbol is checked."""
        if self._limit_s is None:
            self._limit_s = self._computed()
        return self._limit_s

    def _computed(self) -> float:
        if self._stale_after_s is not None:
            return self._stale_after_s
        times = self._times_us
        if len(times) < 2:  # noqa: PLR2004 - an interval has two ends
            return LONGEST_STALE_S
        # Half of the intervals are at least as long as the median, and the sum of all is longer. So a
        # busy symbol needs no median, which is asked for after each message.
        if INTERVALS * (times[-1] - times[0]) / 1e6 < SHORTEST_STALE_S * (len(times) - 1) / 2:
            return SHORTEST_STALE_S
        step_s = median(after - before for before, after in pairwise(times)) / 1e6
        return min(LONGEST_STALE_S, max(SHORTEST_STALE_S, INTERVALS * step_s))

    @property
    def due_at(self) -> float:
        """When a check is due, unless a trade arrives."""
        return self._since + self.limit_s

    def applied(self, times_us: Iterable[int], now: float) -> None:
        """Note applied trades by their times."""
        self._times_us.extend(times_us)
        self._limit_s, self._since = None, now

    def checked(self, now: float) -> None:
        """Note that a check was made for want of trades."""
        self._since = now
