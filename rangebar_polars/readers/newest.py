"""The newest bars of a symbol: their end, and what to say if bars or days are missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start, parse_span
from rangebar_polars.exceptions import CoverageError, CoverageWarning, with_hint
from rangebar_polars.readers.hints import (
    missing_bars,
    missing_days_warning,
    python_call,
    with_remedy,
)
from rangebar_polars.readers.plan import newest_end
from rangebar_polars.readers.request import MAX_COMPUTED_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars._utils.span import When
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["end_of", "newest_warnings"]

#: More bars than any span of time has.
_MANY = 10**15


def end_of(end_date: When | None) -> datetime | None:
    """Return the end of the bars, at most now; None without an `end_date`."""
    if end_date is None:
        return None
    return min(parse_span("1971-01-01", end_date).end, clock.utc_now())


def newest_warnings(
    request: ReadRequest,
    bars: pl.DataFrame,
    reads: Sequence[SegmentRead],
    *,
    allow_fewer: bool = False,
) -> list[CoverageWarning]:
    """Return warnings for days without bars between the newest bars and after them, or few bars.

    Raises
    ------
    CoverageError
        There are fewer bars than requested, which is not allowed. It names the call that stores
        enough.
    """
    found = [*_hole_warnings(request, bars, reads), *_early_end_warnings(request, reads)]
    if request.count is None or bars.height >= request.count:
        return found
    return [*found, _fewer(request, bars, reads, allowed=allow_fewer)]


def _fewer(
    request: ReadRequest,
    bars: pl.DataFrame,
    reads: Sequence[SegmentRead],
    *,
    allowed: bool,
) -> CoverageWarning:
    """Return the warning for fewer bars than requested, or raise the error if it is not allowed."""
    error = _too_few(request, bars, reads)
    if not allowed:
        raise error
    return CoverageWarning(str(error).partition("\n")[0])


def _hole_warnings(
    request: ReadRequest, bars: pl.DataFrame, reads: Sequence[SegmentRead]
) -> list[CoverageWarning]:
    """Return a warning for days without stored bars between the newest bars."""
    count = request.count or 0
    closes = bars.get_column("close_time")
    days: list[date] = []
    for older, newer in pairwise(reads):
        start = newer.span.start
        # Days before the oldest of the bars are no hole.
        if older.span.end < start and int((closes >= start).sum()) < count:
            days += Span(older.span.end, start).days()
    return [missing_days_warning(request, days)] if days else []


def _early_end_warnings(
    request: ReadRequest, reads: Sequence[SegmentRead]
) -> list[CoverageWarning]:
    """Return a warning if bars without a requested end do not reach the newest tick.

    They then end with the stored ones, as more days follow than a read computes.
    """
    end = reads[-1].span.end
    if not request.is_open or reads[-1].ticks is not None:
        return []
    newest = newest_end(request)
    days = Span(end, newest).days() if newest is not None and newest > end else []
    if len(days) <= MAX_COMPUTED_DAYS:
        return []
    spec = request.spec
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps end with {days[0] - ONE_DAY}: the "
        f"{len(days):,} days after it are not cached, and a read computes at most "
        f"{MAX_COMPUTED_DAYS}"
    )
    missing = missing_bars(request, days[0], days[-1])
    return [with_remedy(CoverageWarning(with_hint(sentence, python_call(missing))), missing)]


def _too_few(
    request: ReadRequest, bars: pl.DataFrame, reads: Sequence[SegmentRead]
) -> CoverageError:
    """Return the error for fewer bars than requested; it names the call that stores enough."""
    spec, count, height = request.spec, request.count or 0, bars.height
    first, end = reads[0].span.start, reads[-1].span.end
    per_bar = (end - first) / height if height else 30 * ONE_DAY / min(count, _MANY)
    earlier = _earlier(request, end, per_bar)
    missing = missing_bars(request, earlier, reads[-1].span.last_day)
    sentence = (
        f"{spec.symbol} at {spec.threshold} dbps has `{height:,}` bars from {first:%Y-%m-%d} to "
        f"{end:%Y-%m-%d}, not {count:,}"
    )
    hint = f"populate more of the cache: {python_call(missing)}; or accept fewer: allow_fewer=True"
    return with_remedy(CoverageError(with_hint(sentence, hint), symbol=spec.symbol), missing)


def _earlier(request: ReadRequest, end: datetime, per_bar: timedelta) -> date:
    """Return a day before the requested number of bars and a quarter, or the symbol's first day."""
    first_day = request.first_day
    limit = datetime(1971, 1, 1, tzinfo=UTC) if first_day is None else day_start(first_day)
    seconds = per_bar.total_seconds() * min(request.count or 0, _MANY) * 1.25
    most = (end - limit).total_seconds()
    return max(limit, end - timedelta(seconds=min(seconds, most))).date()
