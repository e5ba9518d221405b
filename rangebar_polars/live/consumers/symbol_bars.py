"""The bars of one symbol on their way to a consumer: queued, computed again, taken and delivered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.consumers.cursors import Cursor, Mark
from rangebar_polars.live.consumers.positions import Position, continues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.replay import ReplayedRows
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.interfaces import SeriesBars, SeriesStart

__all__ = ["Offered", "SymbolBars"]

_LAST_ID = "last_agg_trade_id"
#: Small frames take far more memory than their bars. This many of them are joined into one.
MOST_PIECES = 256
#: Most bars of one call.
MOST_ROWS = 1_000


class Offered(NamedTuple):
    """Bars that a consumer receives in one call."""

    symbol: str
    frame: pl.DataFrame
    #: The same bars with the columns of their place.
    rows: pl.DataFrame
    #: Numbers of the revisions whose first bar is marked, by threshold.
    revised: dict[int, int]
    #: The computation that they belong to.
    epoch: int
    #: When the oldest of them arrived, or was found to be missing; None if unknown.
    since: float | None = None

    def rest(self, count: int) -> Offered:
        """Return the bars after the first ones."""
        done = set(self.rows.head(count).get_column("threshold").unique())
        revised = {name: number for name, number in self.revised.items() if name not in done}
        return self._replace(
            frame=self.frame.slice(count), rows=self.rows.slice(count), revised=revised
        )


@dataclass(slots=True)
class _Threshold:
    """The bars of one threshold."""

    newest: BarSeries
    #: Place after the last bar that was taken to be delivered.
    taken: Position
    #: Place after the last bar that was delivered.
    delivered: Position
    #: Anchor and id of the place after which all bars are in the queue.
    queued_after: tuple[int, int]
    #: The same of the place up to which all bars were taken. The bars of later series are not among
    #: them, even those that ended before the id.
    complete_to: tuple[int, int] = (0, 0)
    #: Number of the newest revision, and of the last one that was marked.
    revision: int = 0
    marked: int = 0

    @property
    def is_incomplete(self) -> bool:
        """Whether bars after those that were taken are not in the queue."""
        _, after_id = self.queued_after
        # No bar of any series ended between the bars that were taken.
        return self.taken.last_id < after_id and self.complete_to < self.queued_after


@dataclass(slots=True)
class SymbolBars:
    """What a consumer knows of a symbol. All bars of a threshold after its `taken` are to come.

    They are in the queue, or, if some of them are not, computed again first.
    """

    name: str
    frames: BarFrames
    #: The cursor that it began with, or a new one; None until the symbol is live.
    cursor: Cursor | None
    boot: str
    by_threshold: dict[int, _Threshold] = field(default_factory=dict)
    #: Newest series by threshold, also before the symbol is live.
    newest: dict[int, BarSeries] = field(default_factory=dict)
    #: Up to this id, all bars have arrived.
    applied_id: int = -1
    #: Bars that ended up to this id are marked as replayed.
    replay_until: int = -1
    #: Whether all bars are marked as replayed until the symbol is live.
    replays_until_live: bool = False
    #: Rises when bars in hand belong to an older computation.
    epoch: int = 0
    #: Since when bars are computed again; None while they are not.
    lagging_since: float | None = None
    #: Whether the cursor must be written before the next bar is delivered.
    saves_first: bool = False
    #: Rises with each change of the cursor.
    version: int = 0
    saved_version: int = 0
    unsaved_since: float | None = None
    #: When the oldest bar in the queue arrived.
    queued_since: float | None = None
    #: Bars up to this id may arrive although they were taken: a replay reads what is just applied.
    _taken_until: int = -1
    _revisions: dict[int, int] = field(default_factory=dict)
    _pieces: list[SeriesBars] = field(default_factory=list)
    _rows: pl.DataFrame | None = None
    _replayed: pl.DataFrame | None = None
    _count: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether bars are of no interest until the symbol is live."""
        return not self.by_threshold

    @property
    def pending(self) -> int:
        """The number of bars in memory."""
        return self._count + self.has_replayed

    @property
    def has_replayed(self) -> int:
        """The number of bars in memory that were computed again."""
        return 0 if self._replayed is None else self._replayed.height

    @property
    def queued(self) -> int:
        """The number of bars in the queue."""
        return self._count

    @property
    def has_queued(self) -> bool:
        """Whether there are bars in the queue."""
        return self._count > 0

    @property
    def is_incomplete(self) -> bool:
        """Whether bars after those that were taken are not in the queue."""
        return any(one.is_incomplete for one in self.by_threshold.values())

    @property
    def positions(self) -> dict[int, Position]:
        """The places from which bars are computed again, by threshold."""
        return {name: one.taken for name, one in self.by_threshold.items()}

    # What arrives

    def begin(self, starts: Sequence[SeriesStart], applied_id: int, now: float) -> list[BarSeries]:
        """Begin to receive the bars of series, or begin again after the symbol had failed.

        Return the series that take over no position although the symbol has a cursor.
        """
        self.applied_id = applied_id
        self.newest = {start.series.spec.threshold: start.series for start in starts}
        self._revisions = {start.series.spec.threshold: start.revision for start in starts}
        self._clear_bars()
        self.epoch += 1
        known, self.by_threshold = self.by_threshold, {}
        if self.cursor is None:
            if any(start.begin is None for start in starts):
                return []
            self.cursor = Cursor(applied_id, (), self.boot)
        new = []
        for start in starts:
            mark = self._mark(known, start)
            if mark is None:
                place = start.begin
                if place is None:
                    place = Position(start.series, applied_id)
                    new.append(start.series)
                mark = Mark(place, start.revision)
            self._add(start, mark)
        # From now on, what the file says about the end of the consumer does not hold.
        self.saves_first = True
        self._changed(now)
        return new

    def live(self, applied_id: int, now: float) -> None:
        """Note that the symbol has become live."""
        if self.replays_until_live:
            self.replays_until_live = False
            self.replay_until = max(self.replay_until, applied_id)
        self.applied_id = max(applied_id, self.applied_id)
        if not self.is_waiting or not self.newest:
            return
        self.cursor = Cursor(applied_id, (), self.boot)
        for threshold, series in self.newest.items():
            revision, place = self._revisions[threshold], Position(series, applied_id)
            after = series.anchor_us, applied_id
            one = _Threshold(series, place, place, after, revision=revision, marked=revision)
            self.by_threshold[threshold] = one
        self.saves_first = True
        self._changed(now)

    def queue(self, bars: Sequence[SeriesBars], applied_id: int, now: float) -> None:
        """Add all bars that ended since the last call, up to an id.

        Raises
        ------
        ValueError
            The applied id falls.
        """
        if applied_id < self.applied_id:
            raise ValueError(f"the applied id of {self.name} falls from {self.applied_id}")
        for one in bars:
            self._note_newest(one.series)
        self.applied_id = applied_id
        if not self.is_waiting:
            self._take_in([one for one in bars if one.bars.height], now)

    def stored(self, bars: Sequence[SeriesBars], now: float) -> None:
        """Add bars that ended in ids that are noted already; leave out those that were taken."""
        if not self.is_waiting:
            self._take_in([one for one in bars if one.bars.height], now)
            self._join()

    def revised(self, series: BarSeries, number: int, applied_id: int) -> None:
        """Note that a series was computed again: bars that were not delivered are of no use."""
        threshold = series.spec.threshold
        if number <= self._revisions.get(threshold, 0):
            return
        self._note_newest(series)
        self._revisions[threshold] = number
        self.applied_id = max(applied_id, self.applied_id)
        one = self.by_threshold.get(threshold)
        if one is None:
            return
        one.revision = number
        self._clear_bars()
        self.epoch += 1
        for other in self.by_threshold.values():
            other.taken, other.complete_to = other.delivered, (0, 0)
            other.queued_after = other.newest.anchor_us, self.applied_id

    # What goes

    def drop_queue(self) -> None:
        """Drop the bars in the queue; they are computed again."""
        if self.has_queued:
            self._pieces.clear()
            self._rows, self._count, self.queued_since = None, 0, None
            for one in self.by_threshold.values():
                place = one.newest.anchor_us, self.applied_id
                one.queued_after = max(one.queued_after, place)

    def replayed(self, found: ReplayedRows) -> None:
        """Take in bars that were computed again."""
        self._replayed = found.rows if found.rows.height else None
        for position in self._ends(found.rows):
            self._taken(position.series.spec.threshold, position)
        for threshold, place in found.complete_to.items():
            one = self.by_threshold[threshold]
            one.complete_to = max(one.complete_to, place)
        if not self.is_incomplete:
            self.lagging_since = None
            self._join()

    def offer(self) -> Offered | None:
        """Take the next bars to deliver: those computed again, then those of the queue."""
        rows = self._replayed
        if rows is None:
            if self.is_incomplete or not self._count:
                return None
            if self._taken_until >= 0:
                self._join()
            rows = self._merged()
            self._rows = rows.slice(MOST_ROWS)
            self._count = self._rows.height
        else:
            self._replayed = rows.slice(MOST_ROWS) if rows.height > MOST_ROWS else None
        rows = rows.head(MOST_ROWS)
        since = self.queued_since if self.lagging_since is None else self.lagging_since
        for position in self._ends(rows):
            self._taken(position.series.spec.threshold, position)
        if not self._count:
            self.queued_since = None
            self._all_taken()
        if not rows.height:
            return None
        return self._offered(rows, since)

    def delivered(self, offered: Offered, count: int, now: float) -> None:
        """Note that the first bars of an offer were delivered, or skipped."""
        rows = offered.rows.head(count)
        for position in self._ends(rows):
            threshold = position.series.spec.threshold
            one = self.by_threshold.get(threshold)
            if one is None or not continues(one.newest, position.series):
                continue
            one.delivered = max(one.delivered, position, key=lambda place: place.order)
            one.marked = max(one.marked, offered.revised.get(threshold, 0))
            self._taken(threshold, one.delivered)
        if offered.epoch != self.epoch:
            # The queue was filled again meanwhile, from the place before.
            self._join()
        self._changed(now if offered.since is None else offered.since)

    # The cursor

    def current_cursor(self, *, is_closed: bool = False) -> Cursor | None:
        """Return the cursor after the bars that were delivered; None before there is one."""
        if self.cursor is None:
            return None
        marks = [Mark(one.delivered, one.marked) for one in self.by_threshold.values()]
        cursor = self.cursor.with_marks(marks)
        return replace(cursor, boot=self.boot, is_closed=is_closed)

    def saved(self, version: int, now: float) -> None:
        """Note that the cursor of a version is written."""
        self.saved_version = max(version, self.saved_version)
        if self.saved_version == self.version:
            self.saves_first, self.unsaved_since = False, None
        else:
            self.unsaved_since = now

    def _changed(self, since: float) -> None:
        self.version += 1
        if self.unsaved_since is None:
            self.unsaved_since = since

    def _mark(self, known: Mapping[int, _Threshold], start: SeriesStart) -> Mark | None:
        """Return the mark that a series takes over; None if there is none."""
        one = known.get(start.series.spec.threshold)
        if one is not None:
            mark: Mark | None = Mark(one.delivered, one.marked)
        else:
            mark = None if self.cursor is None else self.cursor.mark(start.series.spec)
        if mark is None or not continues(start.series, mark.position.series):
            return None
        return mark

    # Rows

    def _note_newest(self, series: BarSeries) -> None:
        threshold = series.spec.threshold
        if series.anchor_us > self.newest[threshold].anchor_us:
            self.newest[threshold] = series
            if threshold in self.by_threshold:
                self.by_threshold[threshold].newest = series

    def _add(self, start: SeriesStart, mark: Mark) -> None:
        one = _Threshold(
            start.series,
            mark.position,
            mark.position,
            (start.series.anchor_us, start.after_id),
            revision=start.revision,
            marked=mark.revision,
        )
        self.by_threshold[start.series.spec.threshold] = one

    def _take_in(self, pieces: Sequence[SeriesBars], now: float) -> None:
        self._pieces += pieces
        count = sum(one.bars.height for one in pieces)
        self._count += count
        if count and self.queued_since is None:
            self.queued_since = now
        if len(self._pieces) >= MOST_PIECES:
            self._merged()

    def _merged(self) -> pl.DataFrame:
        """Join the pieces of the queue, and return its rows."""
        rows = self.frames.no_rows if self._rows is None else self._rows
        if self._pieces:
            rows = self.frames.merged([rows, self.frames.rows(self._pieces)])
            self._pieces.clear()
        self._rows, self._count = rows, rows.height
        return rows

    def _join(self) -> None:
        """Drop rows of the queue that were taken already, now and as long as some may arrive."""
        taken = max((one.taken.last_id for one in self.by_threshold.values()), default=-1)
        self._taken_until = taken if taken >= self.applied_id else -1
        if self._count:
            self._rows = self.frames.after(self._merged(), self.positions)
            self._count = self._rows.height
            if not self._count:
                self.queued_since = None

    def _all_taken(self) -> None:
        for threshold, one in self.by_threshold.items():
            if not one.is_incomplete:
                self._taken(threshold, Position(one.newest, self.applied_id))

    def _taken(self, threshold: int, position: Position) -> None:
        one = self.by_threshold[threshold]
        one.taken = max(one.taken, position, key=lambda place: place.order)

    def _clear_bars(self) -> None:
        self._pieces.clear()
        self._rows = self._replayed = None
        self._count, self.queued_since = 0, None

    def _ends(self, rows: pl.DataFrame) -> list[Position]:
        """Return the places after the last row of each threshold."""
        found: dict[int, Position] = {}
        thresholds = rows.get_column("threshold").to_list()
        for row in range(len(thresholds) - 1, -1, -1):
            threshold = thresholds[row]
            if threshold not in found:
                series = self._series(threshold, rows.get_column("anchor")[row])
                last_id = rows.get_column(_LAST_ID)[row]
                is_closed = rows.get_column("is_closed")[row]
                found[threshold] = Position(series, last_id, not is_closed)
                if len(found) == len(self.newest):
                    break
        return list(found.values())

    def _series(self, threshold: int, anchor: object) -> BarSeries:
        newest = self.newest[threshold]
        if newest.anchor == anchor:
            return newest
        return newest.spec.series(anchor)  # type: ignore[arg-type]

    def _offered(self, rows: pl.DataFrame, since: float | None) -> Offered:
        present = set(rows.get_column("threshold").unique())
        revised = {
            threshold: one.revision
            for threshold, one in self.by_threshold.items()
            if one.revision > one.marked and threshold in present
        }
        until = None if self.replay_until < 0 else self.replay_until
        if self.replays_until_live:
            until = max(self.applied_id, rows.item(-1, _LAST_ID))
        frame = self.frames.frame(self.name, rows, replay_until=until, revised=tuple(revised))
        return Offered(self.name, frame, rows, revised, self.epoch, since)
