"""What the engine needs of journals, builders, REST and consumers.

The parts do not know each other. Each of these protocols is filled by one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, datetime

    import polars as pl

    from rangebar_polars.live.protocol.gaps import Request
    from rangebar_polars.live.protocol.spans import MissingIds
    from rangebar_polars.live.protocol.trades import TradeColumns

__all__ = ["Builders", "Consumer", "Journal", "RestAnswer", "RestQueue"]


class Journal(Protocol):
    """The journals of one symbol: the engine says what, the journal knows the files and days."""

    def append_missing(self, spans: Sequence[MissingIds]) -> None:
        """Write records of missing ids, and sync them.

        Raises
        ------
        OSError
            Nothing of it counts as written. The file is closed; the next call opens the next number.
        """
        ...

    def append_trades(self, day: date, trades: TradeColumns) -> bytes:
        """Write a record of trades of one day, and return it for the builders.

        Raises
        ------
        OSError
            As for `append_missing`.
        """
        ...

    def append_late(self, trades: TradeColumns) -> None:
        """Write a record of trades whose ids were confirmed missing before."""
        ...

    def close_day(self, day: date) -> None:
        """Mark a day as closed."""
        ...

    def sync(self) -> None:
        """Sync all records that are written."""
        ...


class Builders(Protocol):
    """The builders of all series of one symbol."""

    def push(self, record: bytes) -> list[tuple[int, pl.DataFrame]] | None:
        """Push the trades of a record, and return the bars that end, by the index of their series."""
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

    def replace(self, index: int, state: bytes) -> None:
        """Go on from another state."""
        ...


class RestAnswer(Protocol):
    """Where the outcome of a request goes, in the event loop of the engine."""

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        """Take the trades of a page, invalid rows included."""
        ...

    def newest(self, newest_id: int, date: datetime) -> None:
        """Take REST's newest id and the `Date` header of the answer."""
        ...

    def failed(self, *, is_refused: bool, closed_until: float | None) -> None:
        """Note that there was no answer, and until when the host is closed, in monotonic time."""
        ...


class RestQueue(Protocol):
    """Requests to the REST interface of one host: gaps first, then freshness checks, then backfill."""

    def request_page(
        self, symbol: str, request: Request, answer: RestAnswer, *, is_gap: bool
    ) -> None:
        """Request the trades from an id on."""
        ...

    def request_newest(self, symbol: str, answer: RestAnswer) -> None:
        """Request the newest id."""
        ...

    def first_id(self, symbol: str, day: date) -> int:
        """Request the id of REST's first trade of a UTC day, or that of the next trade without one.

        It waits, also for as long as REST does not answer, so it belongs into a thread.

        Raises
        ------
        RestStoppedError
            The queue was closed.
        SourceError, TickDataError
            The exchange rejects the symbol or the caller, or its trades are not valid.
        """
        ...

    def close(self) -> None:
        """End all waits at once. No answer comes after it."""
        ...


class Consumer(Protocol):
    """A receiver of bars with a queue of its own. No call waits for it."""

    def queue(self, symbol: str, bars: pl.DataFrame) -> None:
        """Add bars of one symbol in the order of their ids."""
        ...

    def close(self, done: Callable[[], None]) -> None:
        """Drain the queue, save the cursors, and call `done`."""
        ...
