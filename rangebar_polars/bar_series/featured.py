"""A builder of stored bars with optional feature groups.

The bars and the stored state come from a builder without the groups, so that they are the same with
and without them. A second builder, over the same ticks, computes the columns of the groups. Its state
is not stored: to resume it, the newest ticks are pushed again, from the opening of a bar on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars._utils.arguments.durations import MOST_RECORDS
from rangebar_polars._utils.span import ONE_DAY, day_start, microseconds
from rangebar_polars.compute.builder import StoredTicksBuilder
from rangebar_polars.exceptions import RangeBarError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date, datetime
    from typing import Any

    import polars as pl

    from rangebar_polars._utils.arguments.durations import Window
    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.compute.builder import RangeBarBuilder
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = ["BarBuilder", "FeaturedBuilder", "ReplayError", "newest_ticks", "replay_of"]

#: A builder with or without optional feature groups.
BarBuilder: TypeAlias = "RangeBarBuilder | FeaturedBuilder"

#: The number of a bar, which counts from the first push of a builder.
_NUMBER = "bar_id"


class ReplayError(RangeBarError, ValueError):
    """The ticks before a resume do not give the bar that was forming when its state was stored."""


class FeaturedBuilder:
    """Builds the bars of a series with its optional feature groups.

    Parameters
    ----------
    plain
        A builder of the bars without the groups, in the state to start from.
    features
        The groups and their window.
    names
        The columns to compute; None for all of the groups.
    options
        The options of the plain builder.
    """

    def __init__(
        self,
        plain: RangeBarBuilder,
        features: FeatureSet,
        names: Sequence[str] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self._plain = plain
        #: The columns of the groups.
        self.names = features.names if names is None else tuple(names)
        window = None if features.window is None else str(features.window)
        self._featured = StoredTicksBuilder(features=list(self.names), lookback=window, **options)
        self._openings = _Openings(features.window)

    def resume(self, ticks: Iterable[pl.DataFrame]) -> None:
        """Push the ticks again that precede the state of the plain builder.

        Raises
        ------
        ReplayError
            They do not give the forming bar of the plain builder.
        TickDataError
            A row is not a valid tick.
        """
        for frame in ticks:
            self._openings.add(self._featured.push(frame))
        expected, found = self._plain.partial(), self._featured.partial()
        same = [name for name in expected.columns if name in found.columns and name != _NUMBER]
        is_same = found.height == expected.height and (
            not found.height or found.select(same).equals(expected.select(same))
        )
        if not is_same:
            raise ReplayError("the stored ticks do not give the bar that was forming then")

    def push(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Add ticks and return the bars that end in them, with the columns of the groups."""
        bars, featured = self._plain.push(ticks), self._featured.push(ticks)
        self._openings.add(featured)
        return self._joined(bars, featured)

    def partial(self) -> pl.DataFrame:
        """Return the forming bar, with the columns of the groups."""
        return self._joined(self._plain.partial(), self._featured.partial())

    def checkpoint(self) -> bytes:
        """Return the state of the builder without the groups."""
        return self._plain.checkpoint()

    def replay(self, end: datetime) -> int:
        """Return the number of newest ticks before an instant that a resume there pushes again."""
        return self._openings.replay(self._featured.partial(), microseconds(end))

    def _joined(self, bars: pl.DataFrame, featured: pl.DataFrame) -> pl.DataFrame:
        # Of another height, they would be bars of other ticks.
        return bars.hstack(featured.select(self.names))


class _Openings:
    """Where bars opened, in records from the first tick, as far back as a later window may begin."""

    def __init__(self, window: Window | None) -> None:
        self._window = window
        #: Position of the first record after the last ended bar.
        self._end = 0
        #: Position and time of the opening of each ended bar.
        self._ended: deque[tuple[int, int]] = deque()

    def add(self, bars: pl.DataFrame) -> None:
        """Add the bars that end in a push."""
        if not bars.height:
            return
        times = bars.get_column("open_time").dt.epoch("us")
        for count, open_us in zip(bars.get_column("agg_record_count"), times, strict=True):
            self._ended.append((self._end, open_us))
            self._end += count

    def replay(self, forming: pl.DataFrame, end_us: int) -> int:
        """Return how many records precede an instant, from the opening of a bar on.

        They are those of the forming bar, and of all bars that its window, or that of the next bar,
        reaches into.
        """
        count, open_us = 0, end_us
        if forming.height:
            count = forming.item(0, "agg_record_count")
            open_us = forming.get_column("open_time").dt.epoch("us").item(0)
        first = self._first(open_us)
        while self._ended and self._ended[0][0] < first:
            self._ended.popleft()
        return self._end + count - first

    def _first(self, open_us: int) -> int:
        """Return the position of the newest opening that is no later than the window of a bar.

        The bar opens at `open_us`, after the last ended bar.
        """
        window = self._window
        if window is None:
            return self._end
        for closed, (position, time) in enumerate(reversed(self._ended), start=1):
            match window.kind:
                case "records":
                    reaches = self._end - position >= window.count
                case "bars":
                    reaches = closed >= window.count
                case _:
                    # A tick at the very limit belongs to the window, as do those of its time.
                    reaches = (open_us - time) * 1000 > window.count
            if reaches or self._end - position >= MOST_RECORDS:
                return position
        return self._ended[0][0] if self._ended else self._end


def replay_of(builder: BarBuilder, end: datetime) -> int:
    """Return the number of newest ticks before an instant that a resume there pushes again.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.bar_series.featured import replay_of
    >>> replay_of(rb.RangeBarBuilder(250), datetime(2024, 1, 1, tzinfo=UTC))
    0
    """
    return builder.replay(end) if isinstance(builder, FeaturedBuilder) else 0


def newest_ticks(
    days: Callable[[date], TickSnapshot],
    first_day: date,
    last_day: date,
    count: int,
    columns: Sequence[str],
) -> Iterator[pl.DataFrame]:
    """Yield the newest ticks up to the end of a day, in order.

    Parameters
    ----------
    days
        Returns a snapshot that has a day.
    first_day
        The first day of the series. There are no ticks before it.
    last_day
        The last day.
    count
        Number of ticks. Fewer are given if there are no more.
    columns
        Their columns.
    """
    day, left = last_day + ONE_DAY, count
    while left > 0 and day > first_day:
        day -= ONE_DAY
        left -= sum(frame.height for frame in _ticks_on(days(day), day, columns[:1]))
    # Ticks of the first of the days that precede the wanted ones.
    skip = max(0, -left)
    while count and day <= last_day:
        for frame in _ticks_on(days(day), day, columns):
            rest = frame[skip:]
            skip = max(0, skip - frame.height)
            if rest.height:
                yield rest
        day += ONE_DAY


def _ticks_on(ticks: TickSnapshot, day: date, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    return ticks.frames(day_start(day), day_start(day + ONE_DAY), columns)
