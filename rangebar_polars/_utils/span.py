"""Half-open spans of UTC time, and their parsing from the arguments `start` and `end`."""

from __future__ import annotations

import json
import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from rangebar_polars._text import shown
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

__all__ = [
    "ONE_DAY",
    "Span",
    "When",
    "day_start",
    "describe_days",
    "microseconds",
    "parse_day",
    "parse_instant",
    "parse_span",
]


#: A day or an instant; those of pandas are datetimes.
When: TypeAlias = "date | datetime | str | np.datetime64"

ONE_DAY = timedelta(days=1)
_ONE_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_FIRST = re.compile(r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})")
_COMPACT = re.compile(r"[0-9]{8}")
_DAY_FIRST = re.compile(r"([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})")
_MONTH = re.compile(r"([0-9]{4})[-/.]?([0-9]{2})")
_MONTHS = 12
#: Units of NumPy that are longer than a day.
_LONG_UNITS = ("Y", "M", "W", "D")
#: Days with a day before and after them, so that adding a day never leaves the calendar.
_EARLIEST, _LATEST = date(1, 1, 2), date(9998, 12, 31)
#: Runs of days that a message lists.
_LISTED = 5
_HINT = (
    'take a date ("2024-03-01" means that whole UTC day) or a time ("2024-03-01 12:00"; without a '
    "time zone it is UTC)"
)


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


def parse_instant(value: When, name: str) -> datetime:
    """Return an instant in UTC; of a date, its 00:00 UTC.

    Examples
    --------
    >>> from rangebar_polars._utils.span import parse_instant
    >>> parse_instant("2024-03-01 12:00", "before").isoformat()
    '2024-03-01T12:00:00+00:00'
    """
    return _instant(value, name)[0]


def parse_span(start: When, end: When) -> Span:
    """Parse a span of two dates, both days included, or of two instants, the second excluded.

    Dates and instants may be of Python, pandas or NumPy, or text. An instant without a time zone is
    UTC.

    Raises
    ------
    ValueError
        A value is not a date, or the end is not after the start.
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
    if isinstance(value, str):
        return _parsed(value, name)
    if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
        return _of_numpy(value, name)
    if isinstance(value, datetime):
        return _in_utc(value, name), False
    if isinstance(value, date):
        return day_start(value), True
    raise TypeError(
        with_hint(f"`{name}` must be a date; it is of type `{type(value).__name__}`", _HINT)
    )


def _in_utc(value: datetime, name: str) -> datetime:
    """Return a plain datetime in UTC. A time without a zone is UTC.

    Nanoseconds of pandas are rounded up: a tick, in microseconds, is then on the same side.
    """
    if value != value:  # noqa: PLR0124 - NaT of pandas
        raise _not_a_date(value, name)
    nanosecond = getattr(value, "nanosecond", 0)
    plain = datetime(
        *(value.year, value.month, value.day, value.hour, value.minute, value.second),
        value.microsecond,
        tzinfo=UTC if value.tzinfo is None else value.tzinfo,
        fold=value.fold,
    )
    instant = plain.astimezone(UTC)
    return instant + _ONE_MICROSECOND if nanosecond else instant


def _of_numpy(value: Any, name: str) -> tuple[datetime, bool]:  # noqa: ANN401
    """Convert a datetime64: one of days is a day, one of a smaller unit an instant in UTC."""
    unit = value.dtype.str.partition("[")[2].rstrip("]")
    if unit == "D" and isinstance(value.item(), date):
        return day_start(value.item()), True
    rounded = value.astype("datetime64[us]")
    if isinstance(rounded.item(), datetime) and unit not in _LONG_UNITS:
        plain = rounded.item().replace(tzinfo=UTC)
        return plain + _ONE_MICROSECOND if rounded < value else plain, False
    raise _not_a_date(value, name)


def _parsed(value: str, name: str) -> tuple[datetime, bool]:
    """Parse a day ("2024-03-01", "20240301", "2024/3/1") or an instant of ISO 8601."""
    text = value.strip()
    try:
        found = _YEAR_FIRST.fullmatch(text)
        if found is not None:
            return day_start(date(*map(int, found.groups()))), True
        if _COMPACT.fullmatch(text):
            return day_start(date.fromisoformat(text)), True
        return _in_utc(datetime.fromisoformat(text), name), False
    except ValueError:
        raise _not_a_date(value, name) from None


def _not_a_date(value: object, name: str) -> ValueError:
    hint = _meant(value.strip()) if isinstance(value, str) else None
    return ValueError(
        with_hint(f"`{name}` is `{shown(value)}`, which is not a date", hint or _HINT)
    )


def _meant(text: str) -> str | None:
    """Return the hint for a date that is written in another way, if it is one."""
    month = _MONTH.fullmatch(text)
    if month is not None:
        year, number = map(int, month.groups())
        if 1 <= number <= _MONTHS:
            last = monthrange(year, number)[1]
            start, end = f"{year:04}-{number:02}-01", f"{year:04}-{number:02}-{last}"
            return f'take "{start}" to "{end}" for the whole month'
    day_first = _DAY_FIRST.fullmatch(text)
    if day_first is not None:
        first, second, year = map(int, day_first.groups())
        days = dict.fromkeys(
            f"{year:04}-{month:02}-{day:02}"
            for day, month in ((first, second), (second, first))
            if 1 <= month <= _MONTHS and 1 <= day <= monthrange(year, month)[1]
        )
        if days:
            return f"take {' or '.join(json.dumps(day) for day in days)}"
    return None


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
