"""Segments of a series: the spans between two resets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import NoneType
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds
from rangebar_polars.exceptions import unknown_choice, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EARLIEST", "Segment", "parts", "reset_mode", "reset_of", "segment_of", "segments"]


#: The one segment of a series without resets begins here.
_FIRST_DAY = date(1970, 1, 1)


#: First and last day that can be stored.
EARLIEST, LATEST = date(1971, 1, 1), date(2148, 12, 31)


_MODES = {
    None: "none",
    "none": "none",
    "year": "year",
    "1y": "year",
    "month": "month",
    "1mo": "month",
    "week": "week",
    "1w": "1w",
    "day": "day",
    "1d": "day",
}


def reset_mode(reset: str | None, name: str = "reset") -> str:
    """Return the stored name of a reset mode; "1w" begins on Monday, "week" on Sunday.

    `name` is the name of the argument, for the error.

    Raises
    ------
    ValueError
        The value is not a reset mode.

    Examples
    --------
    >>> from rangebar_polars.bar_series.segments import reset_mode
    >>> reset_mode("1mo"), reset_mode(None)
    ('month', 'none')
    """
    value: object = reset
    mode = _MODES.get(reset) if isinstance(value, (str, NoneType)) else None
    if mode is None:
        raise ValueError(unknown_choice(name, str(reset), [mode for mode in _MODES if mode]))
    return mode


def reset_of(ouroboros: str | None, ouroboros_mode: str | None) -> str:
    """Return the stored name of the reset mode of the arguments `ouroboros` and `ouroboros_mode`.

    Raises
    ------
    ValueError
        A value is not a reset mode, or the two differ.

    Examples
    --------
    >>> from rangebar_polars.bar_series.segments import reset_of
    >>> reset_of("year", None), reset_of("year", "month")
    ('year', 'month')
    """
    first = reset_mode(ouroboros, "ouroboros")
    if ouroboros_mode is None:
        return first
    second = reset_mode(ouroboros_mode, "ouroboros_mode")
    if first not in ("year", second):
        sentence = f"`ouroboros` is `{ouroboros}`, and `ouroboros_mode` is `{ouroboros_mode}`"
        raise ValueError(
            with_hint(sentence, "these are two names for one argument: leave one of them out")
        )
    return second


@dataclass(frozen=True, slots=True)
class Segment:
    """The UTC days from one reset, included, to the next, excluded."""

    reset: str
    start: date
    #: None without resets.
    end: date | None

    @property
    def name(self) -> str:
        """The year, the month, or the first day; "all" without resets.

        Examples
        --------
        >>> from datetime import date
        >>> from rangebar_polars.bar_series.segments import segment_of
        >>> segment_of(date(2024, 3, 9), "month").name, segment_of(date(2024, 3, 9), None).name
        ('2024-03', 'all')
        """
        lengths = {"none": 0, "year": 4, "month": 7}
        return self.start.isoformat()[: lengths.get(self.reset, 10)] or "all"

    @property
    def start_us(self) -> int:
        """The start in microseconds since 1970."""
        return microseconds(day_start(self.start))

    @property
    def end_us(self) -> int | None:
        """The end in microseconds since 1970; None without one."""
        return None if self.end is None else microseconds(day_start(self.end))

    def __contains__(self, day: date) -> bool:
        return self.start <= day and (self.end is None or day < self.end)

    def cut(self, span: Span) -> Span:
        """Return the part of a span that lies in the segment; the span must touch it."""
        end = span.end if self.end is None else min(span.end, day_start(self.end))
        return Span(max(span.start, day_start(self.start)), end)


def segment_of(instant: date, reset: str | None) -> Segment:
    """Return the segment of a day, or of an instant with a time zone.

    Raises
    ------
    ValueError
        The value is not a reset mode, or the cache cannot store the day.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.segments import segment_of
    >>> segment_of(date(2024, 3, 9), "week")
    Segment(reset='week', start=datetime.date(2024, 3, 3), end=datetime.date(2024, 3, 10))
    """
    mode = reset_mode(reset)
    day = instant.astimezone(UTC).date() if isinstance(instant, datetime) else instant
    if not EARLIEST <= day <= LATEST:
        raise ValueError(f"the cache stores days from `{EARLIEST}` to `{LATEST}`, not `{day}`")
    return Segment(mode, *_bounds(day, mode))


def _bounds(day: date, mode: str) -> tuple[date, date | None]:
    match mode:
        case "none":
            return _FIRST_DAY, None
        case "year":
            return date(day.year, 1, 1), date(day.year + 1, 1, 1)
        case "month":
            following = day.replace(day=28) + timedelta(days=4)
            return day.replace(day=1), following.replace(day=1)
        case "day":
            return day, day + ONE_DAY
    since_first = day.weekday() if mode == "1w" else day.isoweekday() % 7
    start = day - timedelta(days=since_first)
    return start, start + timedelta(days=7)


def segments(span: Span, reset: str | None) -> list[Segment]:
    """Return the segments that a span touches, in order.

    Examples
    --------
    >>> from rangebar_polars._utils.span import parse_span
    >>> from rangebar_polars.bar_series.segments import segments
    >>> [s.name for s in segments(parse_span("2023-12-31", "2024-01-01"), "year")]
    ['2023', '2024']
    """
    return list(_walk(span, reset))


def _walk(span: Span, reset: str | None) -> Iterator[Segment]:
    segment = segment_of(span.first_day, reset)
    yield segment
    while segment.end is not None and segment.end <= span.last_day:
        segment = segment_of(segment.end, reset)
        yield segment


def parts(span: Span, reset: str | None) -> list[tuple[Segment, Span]]:
    """Return the segments that a span touches, each with the part of the span that lies in it."""
    return [(segment, segment.cut(span)) for segment in segments(span, reset)]
