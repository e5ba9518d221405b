"""How far a consumer has come in the bars of a threshold, from one series to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import day_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars.bar_series.identity import BarSeries

__all__ = ["Position", "continues", "series_from"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two bars of a series.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.consumers.positions import Position
    >>> series = BarSpec.of("BTCUSDT", 250).series(date(2026, 1, 1))
    >>> Position(series, 7).order < Position(series, 7, has_ended=True).order
    True
    """

    series: BarSeries
    #: Last id of the bar before the place. Bars that end later lie after it.
    last_id: int
    #: Whether that bar was one that the end of the segment ended. Its id may be that of a place before.
    has_ended: bool = False

    @property
    def order(self) -> tuple[int, int, bool]:
        """A key that rises from place to place."""
        return self.series.anchor_us, self.last_id, self.has_ended


def continues(series: BarSeries, before: BarSeries) -> bool:
    """Return whether a series takes over the position in another one.

    It does if it is the same, or if it begins where its segment begins and that is a later one.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.consumers.positions import continues
    >>> spec = BarSpec.of("BTCUSDT", 250, reset="month")
    >>> first = spec.series(date(2026, 10, 9))
    >>> continues(spec.series(date(2026, 11, 1)), first)
    True
    >>> continues(spec.series(date(2026, 11, 2)), first)
    False
    """
    if series.spec != before.spec:
        return False
    if series == before:
        return True
    is_later = series.segment_start > before.segment_start
    return is_later and series.anchor == day_start(series.segment_start)


def series_from(before: BarSeries, last: BarSeries) -> Iterator[BarSeries]:
    """Yield a series and those of the next segments, up to one that continues it.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.consumers.positions import series_from
    >>> spec = BarSpec.of("BTCUSDT", 250, reset="month")
    >>> found = series_from(spec.series(date(2026, 10, 9)), spec.series(date(2026, 12, 1)))
    >>> [str(series.anchor.date()) for series in found]
    ['2026-10-09', '2026-11-01', '2026-12-01']
    """
    series = before
    yield series
    while series.segment_start < last.segment_start:
        end = series.segment.end
        if end is None:
            return
        series = series.spec.series(day_start(end))
        yield series
