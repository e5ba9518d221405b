"""When a UTC day of a symbol is closed, so that no trade of it is expected any more."""

from __future__ import annotations

from datetime import UTC, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime

__all__ = ["DayClose"]

#: A quiet market closes the day before at this time of the exchange.
QUIET_UNTIL = time(0, 10)
_ONE_DAY = timedelta(days=1)


class DayClose:
    """The day of a symbol that is open, and what closes it.

    Parameters
    ----------
    open_day
        The first day that is not closed.

    Examples
    --------
    >>> from datetime import UTC, date, datetime
    >>> from rangebar_polars.live.protocol.day_close import DayClose
    >>> days = DayClose(date(2026, 11, 1))
    >>> days.applied(date(2026, 11, 1))
    []
    >>> days.found_equal(datetime(2026, 11, 2, 0, 9, tzinfo=UTC), has_gap=False)
    []
    >>> days.found_equal(datetime(2026, 11, 2, 0, 10, tzinfo=UTC), has_gap=False)
    [datetime.date(2026, 11, 1)]
    """

    def __init__(self, open_day: date) -> None:
        self.open_day = open_day

    def applied(self, day: date) -> list[date]:
        """Return the days that the first trade of a later day closes. It is applied: no gap is below."""
        return self._close_before(day)

    def found_equal(self, exchange_time: datetime, *, has_gap: bool) -> list[date]:
        """Return the days that a freshness check with equal ids closes.

        Parameters
        ----------
        exchange_time
            Time of the exchange when it answered.
        has_gap
            Whether a gap is open. It may contain trades of the day.
        """
        if has_gap:
            return []
        now = exchange_time.astimezone(UTC)
        today = now.date() if now.time() >= QUIET_UNTIL else now.date() - _ONE_DAY
        return self._close_before(today)

    def _close_before(self, day: date) -> list[date]:
        closed = [self.open_day + _ONE_DAY * at for at in range((day - self.open_day).days)]
        self.open_day = max(self.open_day, day)
        return closed
