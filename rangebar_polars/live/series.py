"""The series of one symbol, one per threshold, and the bars that end in them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars._utils.span import day_start
from rangebar_polars.bar_series.days import new_builder
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.live.interfaces import SeriesBars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec

__all__ = ["Builders", "SeriesBars", "SeriesGroup", "fresh_state", "held_series"]


class Builders(Protocol):
    """The builders of all series of one symbol."""

    def push(
        self, record: bytes, index: int | None = None
    ) -> list[tuple[int, pl.DataFrame]] | None:
        """Push the trades of a record to all series, or to one.

        Return the bars that end, by the index of their series; None if none does.
        """
        ...

    def partial(self, index: int) -> pl.DataFrame:
        """Return the forming bar of a series; an empty frame without one."""
        ...

    def orphan(self, index: int) -> pl.DataFrame:
        """Return the forming bar as an orphan that a reset ends."""
        ...

    def checkpoint(self, index: int) -> bytes:
        """Return the state of a series."""
        ...

    def digest(self, index: int) -> str:
        """Return `bars_digest` of the state of a series."""
        ...

    def replace(self, index: int, state: bytes) -> None:
        """Go on from another state."""
        ...


def fresh_state(spec: BarSpec) -> bytes:
    """Return the state of a series before its first trade."""
    return new_builder(spec).checkpoint()


class SeriesGroup:
    """The current series of a symbol and their builders.

    When the first trade of a later segment comes, the forming bar of each series ends as an orphan,
    and the next series begins at the boundary.

    Parameters
    ----------
    series
        One per threshold.
    builders
        Builders in the state before the next trade, in the same order.
    """

    def __init__(self, series: Sequence[BarSeries], builders: Builders) -> None:
        self.series = list(series)
        #: Rises with each bar that ends, and with each series that is replaced. As long as it stays,
        #: forming bars have the same beginnings.
        self.changes = 0
        self._builders = builders

    def push(self, day: date, record: bytes) -> list[SeriesBars]:
        """Push the trades of a record, all of one day, and return the bars that end in them."""
        found = self._begin(day)
        for index, bars in self._builders.push(record) or ():
            found.append(SeriesBars(index, self.series[index], bars))
        self.changes += len(found)
        return found

    def push_one(self, index: int, day: date, record: bytes) -> list[SeriesBars]:
        """Push the trades of a record, all of one day, to one series."""
        found = self._begin(day, index)
        for number, bars in self._builders.push(record, index) or ():
            found.append(SeriesBars(number, self.series[number], bars))
        self.changes += len(found)
        return found

    def partial(self) -> list[SeriesBars]:
        """Return the forming bars."""
        return [
            SeriesBars(index, series, self._builders.partial(index))
            for index, series in enumerate(self.series)
        ]

    def states(self) -> list[bytes]:
        """Return the state of each series after the last trade."""
        return [self._builders.checkpoint(index) for index in range(len(self.series))]

    def index_of(self, spec: BarSpec) -> int | None:
        """Return the number of the series of a spec; None without one."""
        found = (index for index, one in enumerate(self.series) if one.spec == spec)
        return next(found, None)

    def replace(self, index: int, other: SeriesGroup) -> None:
        """Resume a series in the state of the only series of another group."""
        self.changes += 1
        self._builders.replace(index, other.states()[0])
        self.series[index] = other.series[0]

    def digests(self) -> dict[BarSeries, str]:
        """Return `bars_digest` of the state of each series."""
        return {one: self._builders.digest(index) for index, one in enumerate(self.series)}

    def _begin(self, day: date, only: int | None = None) -> list[SeriesBars]:
        """Replace the series whose segment has ended before a day; return their orphans."""
        found = []
        for index, series in enumerate(self.series):
            if only is not None and index != only:
                continue
            spec = series.spec
            segment = segment_of(day, spec.reset)
            if segment.start <= series.segment_start:
                continue
            orphan = self._builders.orphan(index)
            if orphan.height:
                found.append(SeriesBars(index, series, orphan))
            self.changes += 1
            self._builders.replace(index, fresh_state(spec))
            self.series[index] = spec.series(day_start(segment.start))
        return found


def held_series(spec: BarSpec, known: Mapping[str, Any]) -> list[BarSeries]:
    """Return the series of a spec that a state file names, the earliest anchor first."""
    found = []
    for one in known.get("held") or ():
        if not isinstance(one, dict) or one.get("threshold") != spec.threshold:
            continue
        if one.get("config_id") != spec.rules.id or one.get("reset") != spec.reset:
            continue
        try:
            found.append(spec.series(datetime.fromisoformat(str(one.get("anchor")))))
        except (ValueError, RangeBarError):
            continue
    return sorted(found, key=lambda series: series.anchor_us)
