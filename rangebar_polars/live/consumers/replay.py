"""Bars that are computed again for a consumer, from its position up to the present."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import polars as pl

from rangebar_polars.live.consumers.positions import Position, series_from
from rangebar_polars.live.interfaces import SeriesBars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.frames import BarFrames

__all__ = ["Replay", "ReplaySource", "Replayed", "ReplayedRows"]

_LAST_ID = "last_agg_trade_id"


class Replayed(NamedTuple):
    """Some of the bars of a series, in order."""

    #: With at least the columns `BarFrames.needed`.
    bars: pl.DataFrame
    #: Up to this id, these bars and those before them are all.
    through_id: int


class ReplaySource(Protocol):
    """Computes bars of a series again, from stored bars and stored trades."""

    def bars_after(
        self, symbol: str, series: BarSeries, last_id: int, limit: int
    ) -> Iterator[Replayed]:
        """Yield the bars of a series that end after an id, at most `limit` at a time.

        The bar that the end of the segment ends is among them even if its last id is `last_id`. The
        last result reaches as far as trades were applied when the iteration began, or farther; there
        is at least one result, without bars if there are none.

        Raises
        ------
        RangeBarError, OSError
            The bars cannot be computed now. They are asked for again later.
        """
        ...


class ReplayedRows(NamedTuple):
    """Rows of all thresholds of a symbol, in the order of frames."""

    rows: pl.DataFrame
    #: By threshold: up to where these rows and those before them are all.
    positions: dict[int, Position]
    #: Whether it was the last: they reach the present.
    is_last: bool


class Replay:
    """Merges the bars of the series of a symbol in order.

    Parameters
    ----------
    source
        Computes the bars.
    frames
        Makes rows of them.
    symbol
        The symbol.
    positions
        Where to begin, by threshold.
    newest
        Returns the newest series of a threshold. It may change meanwhile.
    limit
        Most rows in memory.
    """

    def __init__(
        self,
        source: ReplaySource,
        frames: BarFrames,
        symbol: str,
        positions: Mapping[int, Position],
        newest: Callable[[int], BarSeries],
        limit: int,
    ) -> None:
        self._frames = frames
        most = max(1, limit // len(positions))

        def begin(series: BarSeries, last_id: int) -> Iterator[Replayed]:
            return iter(source.bars_after(symbol, series, last_id, most))

        self._chains = {
            threshold: _Chain(position, begin, frames, lambda t=threshold: newest(t))  # type: ignore[misc]
            for threshold, position in positions.items()
        }

    def next(self) -> ReplayedRows:
        """Return the next rows; none only with the last result.

        Raises
        ------
        RangeBarError, OSError
            As for `ReplaySource.bars_after`. The replay is at its end: begin another one.
        """
        chains = self._chains.values()
        while True:
            for chain in chains:
                if not chain.has_begun:
                    chain.pull()
            present = min((c.bound for c in chains if c.is_done), default=None)
            is_last = present is not None and all(c.is_done or c.bound >= present for c in chains)
            bound = min(chain.bound for chain in chains)
            rows = self._frames.merged([chain.take(bound) for chain in chains])
            if rows.height or is_last:
                positions = {name: chain.at(bound) for name, chain in self._chains.items()}
                return ReplayedRows(rows, positions, is_last)
            for chain in chains:
                if chain.bound == bound:
                    chain.pull()

    def close(self) -> None:
        """End the work of the source."""
        for chain in self._chains.values():
            chain.close()


class _Chain:
    """The bars of one threshold, from one series to the next."""

    def __init__(
        self,
        start: Position,
        begin: Callable[[BarSeries, int], Iterator[Replayed]],
        frames: BarFrames,
        newest: Callable[[], BarSeries],
    ) -> None:
        #: Up to this id, all rows have been pulled.
        self.bound = start.last_id
        self.has_begun = False
        self.is_done = False
        self._start = start
        self._begin, self._frames, self._newest = begin, frames, newest
        self._rows = frames.no_rows
        #: Anchor, last id and kind of the last row that was taken.
        self._last: tuple[object, ...] = ()
        self._series, self._place = start.series, start
        self._parts: Iterator[Replayed] | None = None
        self._was_newest = False

    def pull(self) -> None:
        """Take the next part of the source, or note that there is none."""
        self.has_begun = True
        while not self.is_done:
            if self._parts is None:
                # Before the source looks: what it then finds of an older series is all of it.
                self._was_newest = self._is_newest
                self._parts = self._begin(self._series, self._place.last_id)
            part = next(self._parts, None)
            if part is not None:
                self._add(part)
                return
            following = self._following()
            if following is None:
                self.is_done = True
            elif self._was_newest:
                self._read(Position(self._series, self.bound))
            else:
                # The place may lie in the next segment already, before its first bar.
                self._read(Position(following, self._start.last_id))

    def take(self, bound: int) -> pl.DataFrame:
        """Take the rows of bars up to an id."""
        rows = self._rows
        if not rows.height:
            return rows
        count = int((rows.get_column(_LAST_ID) <= bound).sum())
        self._rows = rows.slice(count)
        if count:
            self._last = rows.select("anchor", _LAST_ID, ~pl.col("is_closed")).row(count - 1)
        return rows.head(count)

    def at(self, bound: int) -> Position:
        """Return the position in which all rows up to an id were taken."""
        series = self._series
        if self._rows.height:
            anchor = self._rows.item(0, "anchor")
            known = series_from(self._start.series, self._series)
            series = next(one for one in known if one.anchor == anchor)
        # An id is that of an end of a segment only if its bar was taken.
        has_ended = self._last == (series.anchor, bound, True)
        position = Position(series, bound, has_ended)
        return max(self._start, position, key=lambda one: one.order)

    def close(self) -> None:
        """End the work of the source."""
        close = getattr(self._parts, "close", None)  # as generators have it
        if close is not None:
            close()

    def _read(self, place: Position) -> None:
        """Take the bars after a place next."""
        self._series, self._place = place.series, place
        self._parts = None

    def _add(self, part: Replayed) -> None:
        rows = self._frames.rows([SeriesBars(0, self._series, part.bars)])
        rows = self._frames.after(rows, {self._series.spec.threshold: self._place})
        self._rows = self._frames.merged([self._rows, rows])
        last = rows.item(-1, _LAST_ID) if rows.height else self.bound
        # After the end of a series, bars of the next one may end before `through_id`.
        reached = part.through_id if self._is_newest else last
        self.bound = max(self.bound, last, reached)

    @property
    def _is_newest(self) -> bool:
        return self._series.segment_start >= self._newest().segment_start

    def _following(self) -> BarSeries | None:
        """Return the series of the next segment, if it has begun."""
        found = list(series_from(self._series, self._newest()))
        return found[1] if len(found) > 1 else None
