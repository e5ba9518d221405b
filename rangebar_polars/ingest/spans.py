"""The span of a request, and which of its days must be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import Span, parse_span
from rangebar_polars.exceptions import with_hint
from rangebar_polars.symbol_registry import validate_and_clamp_start_date

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from rangebar_polars._utils.span import When

__all__ = ["days_to_fetch", "span_of_symbol", "span_to_now"]

_OF_THE_USER = frozenset({"given"})
_COMPLETE = _OF_THE_USER | {"final", "absent_confirmed"}


def span_to_now(start: When, end: When) -> Span:
    """Parse a span and cut its end to now.

    Raises
    ------
    ValueError
        The span is not valid, or lies in the future.
    """
    span = parse_span(start, end)
    now = clock.utc_now()
    if span.start >= now:
        raise ValueError(
            f"`start` ({start}) lies in the future; it is now {now:%Y-%m-%d %H:%M} UTC"
        )
    return Span(span.start, min(span.end, now))


def span_of_symbol(symbol: str, start: When, end: When) -> Span:
    """Parse a span, and cut it to the time from the symbol's effective start to now.

    Raises
    ------
    ValueError
        The span is not valid, lies in the future, or ends before the effective start.
    """
    span = span_to_now(start, end)
    first = parse_span(validate_and_clamp_start_date(symbol, start), clock.utc_now()).start
    if first >= span.end:
        sentence = f"`end` ({end}) lies before the first day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"it starts on {first:%Y-%m-%d}"))
    return Span(first, span.end)


def days_to_fetch(
    days: Iterable[date], states: Mapping[date, str], today: date, *, refresh: bool = False
) -> list[date]:
    """Return the days up to today that the store does not hold, or that may have grown.

    With `refresh`, every day that the user did not write.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.ingest.spans import days_to_fetch
    >>> days = [date(2024, 1, day) for day in (1, 2, 3, 4)]
    >>> states = {days[0]: "final", days[1]: "tail"}
    >>> [day.day for day in days_to_fetch(days, states, today=days[2])]
    [2, 3]
    """
    complete = _OF_THE_USER if refresh else _COMPLETE
    return [day for day in days if day <= today and states.get(day) not in complete]
