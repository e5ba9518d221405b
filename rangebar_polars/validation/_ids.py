"""Spans of ids, and ids that number the rows of a month."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.sources import IDS_PER_MONTH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["is_next_month", "month_of", "without"]

_MONTHS_OF_YEAR = 100


def without(first: int, last: int, absent: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a span of ids that lie in none of the sorted spans."""
    for low, high in absent:
        if high < first:
            continue
        if low > last:
            break
        if low > first:
            yield first, low - 1
        first = max(first, high + 1)
    if first <= last:
        yield first, last


def is_next_month(before: int, first: int) -> bool:
    """Return whether an id is that of the first quote of the next month."""
    is_first = first % IDS_PER_MONTH == 0
    return is_first and _month_number(month_of(first)) == _month_number(month_of(before)) + 1


def month_of(quote_id: int) -> int:
    """Return the month of a quote's id, as 100 times the year plus the month."""
    return quote_id // IDS_PER_MONTH


def _month_number(month: int) -> int:
    year, of_year = divmod(month, _MONTHS_OF_YEAR)
    return 12 * year + of_year
