"""Replacing a connection: the new one opens first, and the old one closes when it is redundant."""

from __future__ import annotations

import random
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rangebar_polars.live.protocol.backoff import Uniform

__all__ = ["Decision", "ReplaceReason", "Replacement", "end_of_life"]

#: A connection is replaced at this age, before the exchange ends it after 24 h.
AGE_S, AGE_JITTER_S = 23 * 3_600.0, 600.0
#: Time after which a new connection is judged by any sign of life.
LIMIT_S = 60.0


class ReplaceReason(Enum):
    """Why a connection is replaced."""

    SILENT = "silent"
    LAGGING = "lagging"
    SHUTDOWN = "server_shutdown"
    AGE = "age"
    TIME_UNIT = "time_unit"


class Decision(Enum):
    """What happens to the two connections."""

    KEEP_BOTH = "keep_both"
    CLOSE_OLD = "close_old"
    DROP_NEW = "drop_new"


def end_of_life(opened_at: float, uniform: Uniform = random.uniform) -> float:
    """Return when a connection is replaced because of its age.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.replacement import end_of_life
    >>> end_of_life(0.0, uniform=lambda low, high: high)
    83400.0
    """
    return opened_at + AGE_S + uniform(-AGE_JITTER_S, AGE_JITTER_S)


class Replacement:
    """A new connection beside the old one, both of which feed the sequencing.

    Parameters
    ----------
    opened_at
        When the new connection was opened, in monotonic seconds.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.replacement import Replacement
    >>> both = Replacement(opened_at=0.0)
    >>> both.old_delivered("BTCUSDT")
    >>> both.new_delivered("BTCUSDT", first_id=12, applied_id=10)
    >>> both.decide(now=1.0).name  # 11 may have been lost between the two
    'KEEP_BOTH'
    >>> both.new_delivered("BTCUSDT", first_id=13, applied_id=12)
    >>> both.decide(now=2.0).name
    'CLOSE_OLD'
    """

    def __init__(self, opened_at: float) -> None:
        self._opened_at = opened_at
        #: Symbols with trades since then, and those of them for which the new connection suffices.
        self._traded: set[str] = set()
        self._joined: set[str] = set()
        self._is_alive = False

    def old_delivered(self, symbol: str) -> None:
        """Note a trade of the old connection."""
        self._traded.add(symbol)

    def new_delivered(self, symbol: str, first_id: int, applied_id: int) -> None:
        """Note trades of the new connection by their lowest id.

        Parameters
        ----------
        symbol
            Their symbol.
        first_id
            The lowest id among them.
        applied_id
            The applied id at that moment.
        """
        self._traded.add(symbol)
        self._is_alive = True
        if first_id <= applied_id + 1:
            self._joined.add(symbol)

    def found_equal(self) -> None:
        """Note that a freshness check of one of the symbols has found equal ids."""
        self._is_alive = True

    def decide(self, now: float) -> Decision:
        """Return what to do with the two connections."""
        if self._traded and self._traded == self._joined:
            return Decision.CLOSE_OLD
        if now < self._opened_at + LIMIT_S:
            return Decision.KEEP_BOTH
        return Decision.CLOSE_OLD if self._is_alive else Decision.DROP_NEW
