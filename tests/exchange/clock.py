"""The time at the exchange: a setting, which no wall clock moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from exchange.tape import instant_us
from rangebar_polars._utils.span import day_start, parse_day

if TYPE_CHECKING:
    from rangebar_polars._utils.span import When

__all__ = ["Clock"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """What time it is at the exchange."""

    def __init__(self, now: When) -> None:
        self.set(now)

    @property
    def now(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.now_us)

    def set(self, now: When) -> None:
        """Set the time; a date stands for its midnight."""
        moment = now if isinstance(now, datetime) else day_start(parse_day(now))
        #: Microseconds since 1970.
        self.now_us = instant_us(moment)

    def set_us(self, now_us: int) -> None:
        """Set the time in microseconds since 1970."""
        self.now_us = now_us

    def advance(self, step: timedelta) -> None:
        self.set(self.now + step)
