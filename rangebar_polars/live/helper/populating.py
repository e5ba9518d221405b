"""Population of exactly the series that are streamed."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.ingest.newest_day import Clamp
from rangebar_polars.populate.plan import Request
from rangebar_polars.populate.populate import populate_requests
from rangebar_polars.populate.state import PopulationOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries

__all__ = ["populate_exactly"]


def populate_exactly(
    series: Sequence[BarSeries],
    first_day: date,
    clamp: Clamp,
    *,
    cache_dir: str | None,
    dsn: str | None,
) -> None:
    """Store the days of series from their frontiers to the day of a clamp.

    Parameters
    ----------
    series
        Series of one symbol that begin at 00:00 UTC.
    first_day
        The earliest frontier of them.
    clamp
        The last day.
    cache_dir, dsn
        The cache.

    Raises
    ------
    PopulationError, LeaseError, CacheError
        As for `populate_cache_resumable`.
    """
    requests = []
    ordered = sorted(series, key=lambda one: (one.segment_start, one.spec.reset))
    for (start, _), found in groupby(ordered, key=lambda one: (one.segment_start, one.spec.reset)):
        group = list(found)
        end = group[0].segment.end
        last_day = clamp.day if end is None else min(clamp.day, end - ONE_DAY)
        begin = max(start, first_day, min(one.first_day for one in group))
        if begin <= last_day:
            specs = tuple(one.spec for one in group)
            own = Clamp(last_day, clamp.requested, clamp.why, clamp.is_certain)
            requests.append(Request(specs, begin, own, series=tuple(group)))
    if requests:
        options = PopulationOptions(cache_dir, dsn, notify=False, verbose=False)
        populate_requests(requests, options)
