"""Coverage: whether days are complete, derived from the chain of ids in their manifests."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.exceptions import CoverageWarning
from rangebar_polars.sources import IDS_PER_MONTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from rangebar_polars.storage.manifest.entry import DayEntry, IdSpan

__all__ = [
    "COVERAGE_SCHEMA",
    "MISSING",
    "CoverageWarning",
    "DayCoverage",
    "Gap",
    "IdSpans",
    "chain",
    "coverage_frame",
]

#: The state of a day that the store does not hold.
MISSING = "missing"

#: Columns and dtypes of `TickStorage.coverage`.
COVERAGE_SCHEMA = pl.Schema(
    {
        "day": pl.Date(),
        "state": pl.String(),
        "rows": pl.Int64(),
        "first_id": pl.Int64(),
        "last_id": pl.Int64(),
        "missing_before": pl.Int64(),
        "reason": pl.String(),
    }
)

_LISTED = 3


class Gap(NamedTuple):
    """A span of missing ids, both ends included, and the day whose ticks they would be."""

    day: date
    first_id: int
    last_id: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DayCoverage:
    """What the store holds of a day, and the ids that are missing up to its end."""

    day: date
    state: str
    entry: DayEntry | None = None
    gaps: tuple[Gap, ...] = ()
    reason: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether the day is valid in the store."""
        return self.entry is not None and self.entry.is_stored


def chain(
    days: Sequence[date],
    entries: Mapping[date, DayEntry],
    *,
    is_quotes: bool,
    excuse: Callable[[date], str | None] = lambda _: None,
    check_end: bool = True,
) -> list[DayCoverage]:
    """Compute the coverage of successive days.

    Parameters
    ----------
    days
        The days of a span, in order.
    entries
        The manifest entries of these days and of the days around them.
    is_quotes
        Whether ids count the rows of a month's file.
    excuse
        Returns the reason why the gaps of a day are known and expected, or None.
    check_end
        Whether ids missing between the last day and the next one count as a gap of the last day,
        too: they may belong to either. Otherwise they belong to the later day, as inside the span.
    """
    breaks = _quote_breaks if is_quotes else _trade_breaks
    absent = IdSpans(span for entry in entries.values() for span in entry.source_absent)
    found = []
    before = _before(days[0], entries) if days else None
    for day in days:
        entry = entries.get(day)
        gaps: list[Gap] = []
        if entry is not None and entry.is_stored and entry.first_id is not None:
            gaps += breaks(before, (day, entry))
            gaps += [Gap(day, *span) for span in entry.id_gaps]
            before = day, entry
        elif entry is not None and entry.is_stored and entry.rows:
            before = None  # ticks without numbers: nothing is known of the ids before them
        if check_end and day == days[-1]:
            gaps += _after(day, entries, breaks)
        left = tuple(part for gap in gaps for part in _without(gap, absent))
        reason = excuse(day) if left else None
        found.append(_day(day, entry, () if reason else left, reason or ""))
    return found


def _day(day: date, entry: DayEntry | None, gaps: tuple[Gap, ...], excuse: str) -> DayCoverage:
    reasons = [entry.reason] if entry is not None and entry.reason else []
    reasons += [gap.reason or _describe_gap(gap) for gap in gaps[:_LISTED]]
    reasons += [f"and {len(gaps) - _LISTED:,} more spans"] if len(gaps) > _LISTED else []
    reasons += [excuse] if excuse else []
    if entry is not None and entry.source_absent:
        count = sum(last - first + 1 for first, last in entry.source_absent)
        reasons.append(f"{count:,} ids do not exist at the source")
    return DayCoverage(day, entry.state if entry else MISSING, entry, gaps, "; ".join(reasons))


def _describe_gap(gap: Gap) -> str:
    if gap.first_id == gap.last_id:
        return f"id {gap.first_id} is missing"
    return f"ids {gap.first_id} to {gap.last_id} are missing"


def _before(day: date, entries: Mapping[date, DayEntry]) -> tuple[date, DayEntry] | None:
    """Return the nearest day with ids before a span, or None if a day between is not stored."""
    earlier = day - ONE_DAY
    while (entry := entries.get(earlier)) is not None and entry.is_stored:
        if entry.last_id is not None:
            return earlier, entry
        if entry.rows:
            return None
        earlier -= ONE_DAY
    return None


def _after(
    day: date,
    entries: Mapping[date, DayEntry],
    breaks: Callable[[tuple[date, DayEntry] | None, tuple[date, DayEntry]], list[Gap]],
) -> list[Gap]:
    """Return the gaps between the last day of a span and the next day, which may be of either."""
    entry, later_day = entries.get(day), day + ONE_DAY
    later = entries.get(later_day)
    if entry is None or later is None or not (entry.is_stored and later.is_stored):
        return []
    if entry.last_id is None or later.first_id is None:
        return []
    return [gap._replace(day=day) for gap in breaks((day, entry), (later_day, later))]


def _trade_breaks(before: tuple[date, DayEntry] | None, here: tuple[date, DayEntry]) -> list[Gap]:
    day, entry = here
    if before is None or entry.first_id is None or before[1].last_id is None:
        return []
    if before[1].last_id + 1 >= entry.first_id:
        return []
    return [Gap(day, before[1].last_id + 1, entry.first_id - 1)]


def _quote_breaks(before: tuple[date, DayEntry] | None, here: tuple[date, DayEntry]) -> list[Gap]:
    """Return the gap before a day of quotes.

    The rows of a month's file must be consecutive across days, from its first row on.
    """
    day, entry = here
    if before is None or entry.first_id is None or before[1].last_id is None:
        return []
    month, row = divmod(entry.first_id, IDS_PER_MONTH)
    if before[1].last_id // IDS_PER_MONTH != month:
        is_first_row = row <= 1  # rows are counted from 0 or from 1
        return [] if is_first_row else [Gap(day, month * IDS_PER_MONTH + 1, entry.first_id - 1)]
    if before[1].origin.sha256 != entry.origin.sha256:
        reason = f"it is from another edition of the month's file than {before[0]}"
        return [Gap(day, before[1].last_id + 1, entry.first_id - 1, reason)]
    return _trade_breaks(before, here)


def _without(gap: Gap, absent: IdSpans) -> list[Gap]:
    """Return the parts of a gap whose ids the source has."""
    if gap.reason:
        return [gap]
    spans = absent.missing_from((gap.first_id, gap.last_id))
    return [gap._replace(first_id=first, last_id=last) for first, last in spans]


class IdSpans:
    """A set of ids as sorted disjoint spans, so that a lookup is a binary search.

    Examples
    --------
    >>> from rangebar_polars.storage.coverage import IdSpans
    >>> IdSpans([(5, 6), (1, 2), (2, 2)]).missing_from((1, 10))
    [(3, 4), (7, 10)]
    """

    def __init__(self, spans: Iterable[IdSpan] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(spans):
            if self._lasts and first <= self._lasts[-1]:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def missing_from(self, span: IdSpan) -> list[IdSpan]:
        """Return the parts of a span of ids that are not in the set."""
        left = []
        low, high = span
        for index in range(bisect_left(self._lasts, low), len(self._firsts)):
            first, last = self._firsts[index], self._lasts[index]
            if first > high:
                break
            if first > low:
                left.append((low, first - 1))
            low = last + 1
        return [*left, (low, high)] if low <= high else left


def coverage_frame(days: Iterable[DayCoverage]) -> pl.DataFrame:
    """Return the coverage of days as a frame.

    `missing_before` is the number of ids missing between the end of the day before and the end of
    this one.
    """
    rows = [
        (
            item.day,
            item.state,
            item.entry.rows if item.entry is not None and item.is_stored else 0,
            item.entry.first_id if item.entry is not None else None,
            item.entry.last_id if item.entry is not None else None,
            sum(gap.last_id - gap.first_id + 1 for gap in item.gaps) if item.is_stored else None,
            item.reason or None,
        )
        for item in days
    ]
    return pl.DataFrame(rows, schema=COVERAGE_SCHEMA, orient="row")
