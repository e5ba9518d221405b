"""Bars from the journals of a writer in another process, without a connection of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import microseconds
from rangebar_polars.exceptions import CacheError, StorageError, WorkerLostError
from rangebar_polars.live.consumers.positions import Position
from rangebar_polars.live.finalizing.revising import revision_of
from rangebar_polars.live.health.stored import stored_status
from rangebar_polars.live.interfaces import SeriesStart
from rangebar_polars.live.protocol.states import State
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.live.journal import encode_frame
from rangebar_polars.storage.live.journal_file import JournalSchemaError
from rangebar_polars.storage.live.journal_tail import JournalTail
from rangebar_polars.storage.live.live_days import chain_end
from rangebar_polars.storage.live.writer_lock import has_writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.interfaces import Consumer
    from rangebar_polars.live.stored.history import Followed, StoredHistory
    from rangebar_polars.storage.live.journal_file import JournalContent

__all__ = ["Follower"]

#: How often journals are read, how often a writer is looked for, and the wait after an error.
POLL_S, LOOK_S, AGAIN_S = 0.02, 0.2, 1.0
#: How often a follower that takes over looks whether there is a writer.
WRITER_S = 1.0
TIME = "timestamp"
#: Every id lies after it.
_BEFORE_ALL = -1


class Follower:
    """Computes the bars of one symbol from the journals of its writer, in a thread.

    When the writer ends, it waits. It goes on when there is a writer again.

    Parameters
    ----------
    symbol
        The symbol.
    history
        What is stored.
    consumer
        Receives the bars.
    until
        Where it ends, once a trade at or after it is read.
    ends_if_free_s
        Seconds without a writer after which it ends; None if it waits for another writer.
    """

    def __init__(
        self,
        symbol: str,
        history: StoredHistory,
        consumer: Consumer,
        until: datetime | None = None,
        *,
        ends_if_free_s: float | None = None,
    ) -> None:
        self.symbol = symbol
        self._history, self._consumer = history, consumer
        self._until_us = None if until is None else microseconds(until)
        self._folder = history.folder(symbol)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._followed: Followed | None = None
        self._pending = TRADES_SCHEMA.to_frame()
        self._missing: list[tuple[int, int]] = []
        self._is_live = False
        self._failure = ""
        #: Whether it has ended because there was no writer.
        self.is_free = False
        self._ends_if_free_s = ends_if_free_s
        self._free_since: float | None = None
        self._looked_at = float("-inf")

    def run(self) -> None:
        """Follow until it is stopped."""
        found = self._begun()
        if found is None:
            return
        followed, first_day = found
        tail = JournalTail(self._folder, first_day)
        while not self._has_ended(followed):
            try:
                contents = tail.poll()
            except JournalSchemaError as error:
                self._failure = str(error)
                return
            except StorageError as error:
                self._failure = str(error)
                self._wait(AGAIN_S)
                continue
            self._failure = ""
            with self._lock:
                self._take(followed, contents)
            followed = self._revised(followed, contents)
            if not contents:
                if not self._is_live:
                    self._is_live = True
                    self._consumer.live(self.symbol, followed.applied_id)
                self._wait(POLL_S)

    def stop(self, reason: str = "", error: BaseException | None = None) -> None:
        """End `run`. It can be called in any thread, and again."""
        del reason, error
        self._stopped.set()

    @property
    def failure(self) -> str:
        """Why it cannot go on; empty while it can."""
        return self._failure

    def statuses(self) -> list[dict[str, Any]]:
        """Return the status of the symbol as the files of its writer show it."""
        found = stored_status(self._folder).to_dict()
        if not self._is_live and found["state"] == State.LIVE.value:
            # The writer is live, and this reader has not caught up yet.
            found["state"] = State.HISTORY.value
        return [found]

    def partial(self, frames: BarFrames) -> list[pl.DataFrame]:
        """Return a frame of the forming bars, from any thread."""
        with self._lock:
            if self._followed is None:
                return []
            rows = frames.forming(self._followed.group.partial())
        return [frames.frame(self.symbol, rows)]

    def _begun(self) -> tuple[Followed, date] | None:
        """Wait until there are trades to begin with; None if it is stopped before."""
        while not self._stopped.is_set() and not self._is_free():
            try:
                found = self._history.followed(self.symbol)
            except (StorageError, CacheError, WorkerLostError) as error:
                self._failure, found = str(error), None
                self._wait(AGAIN_S)
            if found is not None:
                self._failure = ""
                with self._lock:
                    self._followed = found
                starts = [
                    SeriesStart(
                        series,
                        found.applied_id,
                        found.revision,
                        begin=None if first is None else Position(first, _BEFORE_ALL),
                    )
                    for series, first in zip(found.group.series, found.begins, strict=True)
                ]
                self._consumer.begin(self.symbol, starts, [], found.applied_id)
                return found, found.first_day
            self._wait(LOOK_S)
        return None

    def _revised(self, followed: Followed, contents: Sequence[JournalContent]) -> Followed:
        """Compute the series again that used trades of a day that the writer has revised."""
        texts = [text for one in contents for text in one.revisions]
        records = [one for one in map(revision_of, texts) if one and one.number > followed.revision]
        if not records:
            return followed
        number = max(one.number for one in records)
        revised = {
            series.spec
            for series in followed.group.series
            if any(_has_used(series, one.day) for one in records)
        }
        if not revised:
            followed.revision = number
            return followed
        while not self._stopped.is_set():
            try:
                again = self._history.followed_again(self.symbol, followed)
            except (StorageError, CacheError, WorkerLostError) as error:
                self._failure, again = str(error), None
            # What was read of the journals is stored; until it can be read again, bars wait.
            if again is None or again.applied_id < followed.applied_id:
                self._wait(AGAIN_S)
                continue
            self._failure = ""
            again.revision = max(again.revision, number)
            with self._lock:
                self._followed = again
            for series in again.group.series:
                if series.spec in revised:
                    self._consumer.revised(self.symbol, series, number, again.applied_id)
            return again
        return followed

    def _has_ended(self, followed: Followed) -> bool:
        has_reached = self._until_us is not None and followed.highest_us >= self._until_us
        return has_reached or self._stopped.is_set() or self._is_free()

    def _is_free(self) -> bool:
        """Return whether it ends because there has been no writer for some time."""
        now = clock.monotonic()
        if self._ends_if_free_s is None or now < self._looked_at + WRITER_S:
            return self.is_free
        self._looked_at = now
        if has_writer(self._folder):
            self._free_since = None
        elif self._free_since is None:
            self._free_since = now
        else:
            self.is_free = now >= self._free_since + self._ends_if_free_s
        return self.is_free

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(clock.real_seconds(seconds))

    def _take(self, followed: Followed, contents: Sequence[JournalContent]) -> None:
        """Push the next trades as far as no id is missing."""
        if not contents:
            return
        after_id = followed.applied_id
        trades = pl.concat([self._pending, *(one.trades for one in contents)])
        trades = trades.filter(pl.col(ID) > after_id)
        if not trades.get_column(ID).is_sorted():
            trades = trades.sort(ID, maintain_order=True)
        # Of several with one id, the last counts, as for readers.
        is_last = (pl.col(ID) != pl.col(ID).shift(-1)).fill_null(value=True)
        trades = trades.filter(is_last)
        self._missing += [(span.first, span.last) for one in contents for span in one.missing]
        self._missing = [span for span in self._missing if span[1] > after_id]
        end_id = chain_end(after_id, trades.get_column(ID), self._missing)
        ready = trades.filter(pl.col(ID) <= end_id)
        self._pending = trades.filter(pl.col(ID) > end_id)
        bars = []
        for day, part in _by_day(ready):
            bars += followed.group.push(day, encode_frame(part))
        followed.applied_id = end_id
        if ready.height:
            followed.highest_us = int(ready.get_column(TIME).dt.epoch("us")[-1])
        if bars:
            self._consumer.queue(self.symbol, bars, end_id)


def _has_used(series: BarSeries, day: date) -> bool:
    """Return whether trades of a day belong to a series."""
    end = series.segment.end
    return series.first_day <= day and (end is None or day < end)


def _by_day(trades: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield the trades of each UTC day."""
    if not trades.height:
        return
    days = trades.get_column(TIME).dt.date()
    if days[0] == days[-1]:
        yield days[0], trades
        return
    for part in trades.with_columns(day=days).partition_by("day", maintain_order=True):
        yield part.item(0, "day"), part.drop("day")
