"""The time at the exchange: a setting, which no wall clock moves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from exchange.tape import instant_us
from rangebar_polars._utils.span import day_start, parse_day

if TYPE_CHECKING:
    from datetime import timedelta

    from rangebar_polars._utils.span import When

__all__ = ["Clock"]


class Clock:
    """What time it is at the exchange."""

    def __init__(self, now: When) -> None:
        self.set(now)

    @property
    def now(self) -> datetime:
        return self._now

    @property
    def now_us(self) -> int:
        return instant_us(self._now)

    def set(self, now: When) -> None:
        """Set the time; a date stands for its midnight."""
        moment = now if isinstance(now, datetime) else day_start(parse_day(now))
        instant_us(moment)
        self._now = moment

    def advance(self, step: timedelta) -> None:
        self.set(self._now + step)
