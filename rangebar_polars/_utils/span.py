"""Half-open spans of UTC time, and their parsing from the arguments `start` and `end`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ONE_DAY",
    "Span",
    "When",
    "day_start",
    "describe_days",
    "microseconds",
    "parse_day",
    "parse_span",
]


When: TypeAlias = "date | datetime | str"

ONE_DAY = timedelta(days=1)
_ONE_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
#: Days with a day before and after them, so that adding a day never leaves the calendar.
_EARLIEST, _LATEST = date(1, 1, 2), date(9998, 12, 31)
#: Runs of days that a message lists.
_LISTED = 5
_HINT = 'take a date ("2024-03-01" means that whole UTC day) or a datetime with a time zone'


@dataclass(frozen=True, slots=True)
class Span:
    """The UTC time from `start` (included) to `end` (excluded)."""

    start: datetime
    end: datetime

    @property
    def first_day(self) -> date:
        """The UTC day of the start."""
        return self.start.date()

    @property
    def last_day(self) -> date:
        """The UTC day of the last instant."""
        return (self.end - _ONE_MICROSECOND).date()

    def days(self) -> list[date]:
        """Return every UTC day that the span touches."""
        count = (self.last_day - self.first_day).days + 1
        return [self.first_day + timedelta(days=offset) for offset in range(count)]


def day_start(day: date) -> datetime:
    """Return 00:00 UTC of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Return the microseconds from 1970 to an instant.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from rangebar_polars._utils.span import microseconds
    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (instant - _EPOCH) // _ONE_MICROSECOND


def parse_day(value: When, name: str = "day") -> date:
    """Return the UTC day of a date, of its text, or of an instant.

    Examples
    --------
    >>> from rangebar_polars._utils.span import parse_day
    >>> parse_day("2024-02-29")
    datetime.date(2024, 2, 29)
    """
    instant, _ = _instant(value, name)
    return instant.date()


def parse_span(start: When, end: When) -> Span:
    """Parse a span of two dates, both days included, or of two instants, the second excluded.

    Raises
    ------
    ValueError
        A value is not a date, a datetime has no time zone, or the end is not after the start.
    TypeError
        A value is not a date, a datetime or text.

    Examples
    --------
    >>> from rangebar_polars._utils.span import parse_span
    >>> span = parse_span("2024-02-28", "2024-03-01")
    >>> len(span.days()), span.end.isoformat()
    (3, '2024-03-02T00:00:00+00:00')
    """
    first, _ = _instant(start, "start")
    last, whole_day = _instant(end, "end")
    if whole_day:
        last += ONE_DAY
    if last <= first:
        hint = "swap them" if whole_day or last < first else _HINT
        raise ValueError(with_hint(f"`end` ({end}) is not after `start` ({start})", hint))
    return Span(first, last)


def _without_zone(value: object, name: str, remedy: str) -> ValueError:
    return ValueError(
        with_hint(f"`{name}` is `{value}`, a time without a zone", f"write {remedy} if it is UTC")
    )


def _instant(value: object, name: str) -> tuple[datetime, bool]:
    """Return the instant in UTC, and whether the value is a whole day."""
    try:
        instant, whole_day = _converted(value, name)
    except OverflowError as error:
        raise _out_of_range(value, name) from error
    if not _EARLIEST <= instant.date() <= _LATEST:
        raise _out_of_range(value, name)
    return instant, whole_day


def _out_of_range(value: object, name: str) -> ValueError:
    sentence = f"`{name}` is `{value}`, which is too close to an end of the calendar"
    return ValueError(with_hint(sentence, f"take a day from {_EARLIEST} to {_LATEST}"))


def _converted(value: object, name: str) -> tuple[datetime, bool]:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _without_zone(value, name, f"{name}.replace(tzinfo=datetime.UTC)")
        return value.astimezone(UTC), False
    if isinstance(value, date):
        return day_start(value), True
    if not isinstance(value, str):
        raise TypeError(
            with_hint(f"`{name}` must be a date; it is of type `{type(value).__name__}`", _HINT)
        )
    text = value.strip()
    try:
        if _DAY.fullmatch(text):
            return day_start(date.fromisoformat(text)), True
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(with_hint(f"`{name}` is `{value}`, which is not a date", _HINT)) from error
    if parsed.tzinfo is None:
        raise _without_zone(value, name, f"`{text}Z`")
    return _converted(parsed, name)


def describe_days(days: Iterable[date]) -> str:
    """Describe days as runs of successive days, and only the first runs if there are many.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars._utils.span import describe_days
    >>> describe_days([date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 5)])
    '2024-03-01 to 2024-03-02, 2024-03-05'
    """
    runs: list[list[date]] = []
    for day in sorted(set(days)):
        if runs and runs[-1][-1] + ONE_DAY == day:
            runs[-1][1:] = [day]
        else:
            runs.append([day])
    texts = [" to ".join(day.isoformat() for day in run) for run in runs]
    more = f" and {len(texts) - _LISTED:,} more spans" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more
