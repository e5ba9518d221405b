"""The time of the exchange, which decides which day it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

__all__ = ["ExchangeTime"]


class ExchangeTime:
    """The last `Date` header of REST, and monotonic time since then.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from rangebar_polars.live.protocol.exchange_time import ExchangeTime
    >>> time = ExchangeTime()
    >>> time.answered(datetime(2026, 11, 1, 23, 59, 58, tzinfo=UTC), now=100.0)
    >>> str(time.at(103.0)), str(time.today(last_trade_us=None))
    ('2026-11-02 00:00:01+00:00', '2026-11-01')
    """

    def __init__(self) -> None:
        self._date: datetime | None = None
        self._answered_at = 0.0

    def answered(self, date: datetime, now: float) -> None:
        """Note a `Date` header and when its answer arrived."""
        self._date, self._answered_at = date, now

    def at(self, now: float) -> datetime | None:
        """Return the time of the exchange; None before its first answer."""
        if self._date is None:
            return None
        return self._date + timedelta(seconds=now - self._answered_at)

    def today(self, last_trade_us: int | None) -> date | None:
        """Return the UTC day of the later of the last applied trade and the last `Date` header.

        Parameters
        ----------
        last_trade_us
            Time of the last applied trade in microseconds since 1970; None without one.
        """
        times = [self._date]
        if last_trade_us is not None:
            times.append(datetime.fromtimestamp(last_trade_us // 1_000_000, UTC))
        return max(
            (time.astimezone(UTC).date() for time in times if time is not None), default=None
        )
