"""Bars of one segment, a UTC day at a time, from where their computation stands.

Readers and populations compute by this alone, so that both give the same bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.columns import ENDINGS
from rangebar_polars.compute.builder import RangeBarBuilder
from rangebar_polars.exceptions import CheckpointError
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = [
    "ComputedDay",
    "Track",
    "compute_days",
    "forming",
    "is_readable",
    "new_builder",
    "no_bars",
    "orphan",
    "restored",
]

_TIME, _ID = "timestamp", "agg_trade_id"
#: What bars are made of; bid and ask of quotes are no part of them.
_INPUTS = (_TIME, "price", "quantity", _ID, "first_trade_id", "last_trade_id", "is_buyer_maker")


def new_builder(spec: BarSpec) -> RangeBarBuilder:
    """Builder of the bars of a segment from its anchor on, with every group of features.

    It knows of no reset: a segment has a builder of its own.
    """
    rules = spec.rules
    gap_us = rules.max_gap_us
    return RangeBarBuilder(
        spec.threshold,
        features="microstructure",
        incomplete="keep",
        prevent_same_timestamp_close=rules.prevent_same_timestamp_close,
        max_gap=None if gap_us is None else timedelta(microseconds=gap_us),
    )


def restored(state: bytes) -> RangeBarBuilder:
    """Builder that goes on from a state that was kept.

    Raises
    ------
    CheckpointError
        This version cannot read the state.
    """
    return RangeBarBuilder.from_checkpoint(state)


def is_readable(state: bytes) -> bool:
    """Whether this version can read a state that was kept."""
    try:
        restored(state)
    except CheckpointError:
        return False
    return True


@dataclass(slots=True)
class Track:
    """A series that is computed, its builder, and the first day whose ticks it has not had."""

    series: BarSeries
    builder: RangeBarBuilder
    first_day: date

    @property
    def start(self) -> datetime:
        """The instant from which on it takes ticks."""
        return max(day_start(self.first_day), self.series.anchor)


@dataclass(frozen=True, slots=True)
class ComputedDay:
    """What the ticks of a UTC day gave."""

    day: date
    #: Of each track the bars that ended in this day, or None if it has had the day before.
    bars: tuple[pl.DataFrame | None, ...]
    #: Ticks from the start of the tracks on.
    rows: int
    first_id: int | None
    last_id: int | None


def compute_days(
    held: TickSnapshot, tracks: Sequence[Track], last_day: date, *, end: datetime | None = None
) -> Iterator[ComputedDay]:
    """One pass over the ticks of the days from the lowest first day of the tracks to the last.

    Between two results, the builder of a track stands after the day that was given.

    Parameters
    ----------
    held
        The days, which have been judged: what the store lacks is taken as nothing.
    tracks
        Of one segment and market; each ignores ticks up to its own start.
    last_day
        The last day, of the same segment.
    end
        An instant of the last day at which to stop; else its end.

    Raises
    ------
    TickDataError
        A tick that is none.
    ParquetCorruptionError, SnapshotExpiredError
        A file of the store is not what it was.
    """
    start = min(track.start for track in tracks)
    stop = day_start(last_day + ONE_DAY) if end is None else end
    day = _Day(start.date(), tracks)
    for frame in held.frames(start, stop, _INPUTS):
        rest = frame
        while rest.height:
            count = _rows_before(rest, day.day + ONE_DAY)
            if count:
                day.take(rest[:count])
                rest = rest[count:]
            else:
                yield day.result()
                day = _Day(day.day + ONE_DAY, tracks)
    while day.day <= last_day:
        yield day.result()
        day = _Day(day.day + ONE_DAY, tracks)


def _rows_before(ticks: pl.DataFrame, day: date) -> int:
    """How many of the ticks, which are in order, lie before a day."""
    bound = day_start(day)
    times = ticks.get_column(_TIME)
    if times[-1] < bound:
        return ticks.height
    found: int = times.search_sorted(bound, side="left")
    return found


class _Day:
    """A day that is computed."""

    def __init__(self, day: date, tracks: Sequence[Track]) -> None:
        self.day = day
        self._tracks = tracks
        self._bars: list[list[pl.DataFrame]] = [[] for _ in tracks]
        self._rows = 0
        self._ids: list[int] = []

    def take(self, ticks: pl.DataFrame) -> None:
        """Push ticks of the day."""
        self._rows += ticks.height
        ids = ticks.get_column(_ID) if _ID in ticks.columns else None
        if ids is not None and ids.null_count() < ids.len():
            self._ids += [ids.min(), ids.max()]  # type: ignore[list-item]
        for track, bars in zip(self._tracks, self._bars, strict=True):
            if track.first_day <= self.day:
                bars.append(track.builder.push(_from(ticks, track.start)))

    def result(self) -> ComputedDay:
        """What the ticks of the day gave."""
        ids = self._ids
        return ComputedDay(
            self.day,
            tuple(map(self._of_track, self._tracks, self._bars)),
            self._rows,
            min(ids, default=None),
            max(ids, default=None),
        )

    def _of_track(self, track: Track, bars: list[pl.DataFrame]) -> pl.DataFrame | None:
        if track.first_day > self.day:
            return None
        return pl.concat(bars) if bars else no_bars()


def _from(ticks: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Ticks from an instant on; they are in order."""
    if ticks.item(0, _TIME) >= start:
        return ticks
    return ticks.filter(pl.col(_TIME) >= start)


@cache
def no_bars() -> pl.DataFrame:
    """No bar, with every column."""
    builder = RangeBarBuilder(100, features="microstructure", incomplete="keep")
    return builder.push(TRADES_SCHEMA.to_frame().select(_INPUTS))


def forming(builder: RangeBarBuilder) -> pl.DataFrame:
    """The bar that is forming, as it is; an empty frame if there is none."""
    bars = builder.partial()
    return bars if bars.width else no_bars()


def orphan(builder: RangeBarBuilder) -> pl.DataFrame:
    """The bar that is forming as one that the end of its segment ends."""
    return forming(builder).with_columns(ended_by=pl.lit("reset", pl.Enum(ENDINGS)))
