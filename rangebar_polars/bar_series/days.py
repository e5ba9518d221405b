"""The computation of bars of one segment, a UTC day at a time.

Readers and populations both use it, so that they compute the same bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.columns import ENDINGS
from rangebar_polars.bar_series.featured import FeaturedBuilder, newest_ticks
from rangebar_polars.bar_series.features import NO_FEATURES
from rangebar_polars.compute.builder import StoredTicksBuilder
from rangebar_polars.exceptions import CheckpointError
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date, datetime
    from typing import Any

    from rangebar_polars.bar_series.featured import BarBuilder
    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.compute.builder import RangeBarBuilder
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = [
    "ComputedDay",
    "Replay",
    "Track",
    "compute_days",
    "forming",
    "is_readable",
    "new_builder",
    "no_bars",
    "orphan",
    "restored",
    "resumed",
]

_TIME, _ID = "timestamp", "agg_trade_id"
#: Columns that bars are computed from. The bid and ask of quotes are not among them.
_INPUTS = (_TIME, "price", "quantity", _ID, "first_trade_id", "last_trade_id", "is_buyer_maker")


def new_builder(
    spec: BarSpec, features: FeatureSet = NO_FEATURES, names: Sequence[str] | None = None
) -> BarBuilder:
    """Return a builder for the bars of a segment, with core, microstructure and optional groups.

    It has no reset, since each segment has its own builder. `names` are the columns of the optional
    groups to compute; None for all of them.
    """
    options = _options(spec)
    plain = StoredTicksBuilder(features="microstructure", **options)
    return FeaturedBuilder(plain, features, names, **options) if features else plain


def _options(spec: BarSpec) -> dict[str, Any]:
    """Return the options of every builder of a spec."""
    rules = spec.rules
    gap_us = rules.max_gap_us
    return {
        "threshold": spec.threshold,
        "incomplete": "keep",
        "prevent_same_timestamp_close": rules.prevent_same_timestamp_close,
        "max_gap": None if gap_us is None else timedelta(microseconds=gap_us),
    }


def restored(state: bytes) -> RangeBarBuilder:
    """Return a builder that resumes from a stored state, without optional groups.

    Raises
    ------
    CheckpointError
        This version cannot load the state.
    """
    return StoredTicksBuilder.from_checkpoint(state)


@dataclass(frozen=True, slots=True)
class Replay:
    """The newest ticks before a day, which a builder with optional groups needs to resume there."""

    #: Returns a snapshot of stored ticks that has a day.
    days: Callable[[date], TickSnapshot]
    #: Number of ticks.
    count: int


def resumed(
    series: BarSeries,
    state: bytes,
    day: date,
    features: FeatureSet,
    replay: Replay,
    names: Sequence[str] | None = None,
) -> BarBuilder:
    """Return a builder that resumes at the start of a day, with optional groups if there are any.

    Parameters
    ----------
    series
        The series.
    state
        The stored state after the day before.
    day
        The day.
    features, names
        As for `new_builder`.
    replay
        The ticks to push again; unused without optional groups.

    Raises
    ------
    CheckpointError
        This version cannot load the state.
    ReplayError
        The ticks do not give the bar that was forming when the state was stored.
    """
    plain = restored(state)
    if not features:
        return plain
    builder = FeaturedBuilder(plain, features, names, **_options(series.spec))
    last_day = day - ONE_DAY
    builder.resume(newest_ticks(replay.days, series.first_day, last_day, replay.count, _INPUTS))
    return builder


def is_readable(state: bytes) -> bool:
    """Return whether this version can load a stored state."""
    try:
        restored(state)
    except CheckpointError:
        return False
    return True


@dataclass(slots=True)
class Track:
    """A series under computation: its builder, and the first day that the builder has not seen."""

    series: BarSeries
    builder: BarBuilder
    first_day: date

    @property
    def start(self) -> datetime:
        """The instant at which its ticks begin."""
        return max(day_start(self.first_day), self.series.anchor)


@dataclass(frozen=True, slots=True)
class ComputedDay:
    """The bars of a UTC day, and the ticks that they were computed from."""

    day: date
    #: For each track, the bars that ended on this day; None if the track starts later.
    bars: tuple[pl.DataFrame | None, ...]
    #: Number of ticks.
    rows: int
    first_id: int | None
    last_id: int | None


def compute_days(
    ticks: TickSnapshot, tracks: Sequence[Track], last_day: date, *, end: datetime | None = None
) -> Iterator[ComputedDay]:
    """Compute the days of several series in one pass over the ticks.

    After each result, the builders are in the state after its day.

    Parameters
    ----------
    ticks
        Checked days: a missing tick counts as no tick.
    tracks
        Series of one segment and market. Each ignores ticks before its own start.
    last_day
        The last day, in the same segment.
    end
        An instant of the last day at which to stop. Default: the end of the day.

    Raises
    ------
    TickDataError
        A row is not a valid tick.
    ParquetCorruptionError, SnapshotExpiredError
        A file of the store is corrupt, or was replaced and removed.
    """
    start = min(track.start for track in tracks)
    stop = day_start(last_day + ONE_DAY) if end is None else end
    day = _Day(start.date(), tracks)
    for frame in ticks.frames(start, stop, _INPUTS):
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
    """Return the number of ticks before a day; the ticks are in order."""
    bound = day_start(day)
    times = ticks.get_column(_TIME)
    if times[-1] < bound:
        return ticks.height
    count: int = times.search_sorted(bound, side="left")
    return count


class _Day:
    """A day under computation."""

    def __init__(self, day: date, tracks: Sequence[Track]) -> None:
        self.day = day
        self._tracks = tracks
        self._bars: list[list[pl.DataFrame]] = [[] for _ in tracks]
        self._rows = 0
        self._ids: list[int] = []

    def take(self, ticks: pl.DataFrame) -> None:
        """Push ticks of the day into the builders."""
        self._rows += ticks.height
        ids = ticks.get_column(_ID) if _ID in ticks.columns else None
        if ids is not None and ids.null_count() < ids.len():
            self._ids += [ids.min(), ids.max()]  # type: ignore[list-item]
        for track, bars in zip(self._tracks, self._bars, strict=True):
            if track.first_day <= self.day:
                bars.append(track.builder.push(_from(ticks, track.start)))

    def result(self) -> ComputedDay:
        """Return the bars of the day."""
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
        return pl.concat(bars) if bars else _no_bars_of(track.builder)


def _from(ticks: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Return the ticks that do not lie before an instant; the ticks are in order."""
    if ticks.item(0, _TIME) >= start:
        return ticks
    return ticks.filter(pl.col(_TIME) >= start)


@cache
def no_bars() -> pl.DataFrame:
    """Return an empty frame with every column of core and microstructure."""
    return _nothing(StoredTicksBuilder(100, features="microstructure", incomplete="keep"))


def _no_bars_of(builder: BarBuilder) -> pl.DataFrame:
    """Return an empty frame with the columns that a builder of stored bars gives."""
    if not isinstance(builder, FeaturedBuilder):
        return no_bars()
    return no_bars().hstack(_no_features(builder.names))


@cache
def _no_features(names: tuple[str, ...]) -> pl.DataFrame:
    return _nothing(StoredTicksBuilder(100, features=names, incomplete="keep")).select(names)


def _nothing(builder: RangeBarBuilder) -> pl.DataFrame:
    return builder.push(TRADES_SCHEMA.to_frame().select(_INPUTS))


def forming(builder: BarBuilder) -> pl.DataFrame:
    """Return the forming bar; an empty frame without one."""
    bars = builder.partial()
    return bars if bars.height else _no_bars_of(builder)


def orphan(builder: BarBuilder) -> pl.DataFrame:
    """Return the forming bar as an orphan that the end of its segment ends."""
    return forming(builder).with_columns(ended_by=pl.lit("reset", pl.Enum(ENDINGS)))
