"""What the engine needs of journals, builders, REST and consumers.

The parts do not know each other. Each of these protocols is filled by one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, datetime

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.positions import Position
    from rangebar_polars.live.protocol.gaps import Request
    from rangebar_polars.live.protocol.spans import MissingIds
    from rangebar_polars.live.protocol.trades import TradeColumns

__all__ = [
    "Consumer",
    "ConsumerReports",
    "ConsumerStatus",
    "Journal",
    "RestAnswer",
    "RestQueue",
    "SeriesBars",
    "SeriesStart",
]


class Journal(Protocol):
    """The journals of one symbol: the engine says what, the journal knows the files and days."""

    @property
    def written_bytes(self) -> int:
        """Bytes that were written by this process."""
        ...

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

    def revision(self, text: str) -> None:
        """Write a record of a revision as JSON, and sync it with all records before it."""
        ...

    def sync(self) -> None:
        """Sync all records that are written."""
        ...

    def close(self) -> None:
        """Sync all records and close the files.

        Raises
        ------
        OSError
            A file cannot be synced.
        """
        ...


class RestAnswer(Protocol):
    """Where the outcome of a request goes, in the event loop of the engine."""

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        """Take the trades of a page, invalid rows included."""
        ...

    def newest(self, newest_id: int, date: datetime) -> None:
        """Take REST's newest id and the `Date` header of the answer."""
        ...

    def failed(self, *, is_refused: bool, closed_until: float | None, unknown: str = "") -> None:
        """Note that there was no answer, and until when the host is closed, in monotonic time.

        `unknown` says that the exchange does not have the symbol.
        """
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


class SeriesBars(NamedTuple):
    """Bars that have ended in a series, in the order of their ids."""

    #: Number of the threshold, in the order of the configuration.
    number: int
    series: BarSeries
    bars: pl.DataFrame


@dataclass(frozen=True, slots=True)
class SeriesStart:
    """A series whose bars a consumer begins to receive."""

    series: BarSeries
    #: The bars that are passed with it are all that ended after this id.
    after_id: int
    #: Number of the newest revision of the series.
    revision: int = 0
    #: Where a consumer without a cursor begins. None: where the symbol becomes live.
    begin: Position | None = None


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """How a consumer is doing."""

    name: str
    #: "callback", "ndjson" or "iterator".
    kind: str
    #: "ok", "lagging" or "failing".
    state: str
    #: Bars in memory that are not delivered.
    pending: int
    #: Age of the oldest bar that has ended and is not in the stored cursor.
    cursor_lag_s: float
    #: Bars that were delivered.
    delivered: int
    #: Calls that raised.
    failures: int
    last_error: str | None = None
    #: Bars that were skipped after failures.
    skipped: int = 0
    #: Seconds since the last call that raised; None without one.
    failed_ago_s: float | None = None


class ConsumerReports(Protocol):
    """Where a consumer says what happened, in its own thread. No call waits or raises."""

    def event(self, symbol: str, name: str, **fields: object) -> None:
        """Take an event: `consumer_failed` or `sidecar_new_series`."""
        ...

    def stop(self, reason: str, error: BaseException | None) -> None:
        """Stop in order: nobody reads the stream any more, or a call raised `error`.

        `error` is None for a stream that was closed. Otherwise it is what a callback raised, if it is no
        Exception, or an error of this program.
        """
        ...


class Consumer(Protocol):
    """A receiver of bars with a queue of its own. No call waits for it.

    The calls for a symbol come in the order in which its trades are applied, from any thread.
    """

    def begin(
        self,
        symbol: str,
        starts: Sequence[SeriesStart],
        bars: Sequence[SeriesBars],
        applied_id: int,
    ) -> None:
        """Begin to receive the bars of a symbol whose history is there, or begin again.

        Parameters
        ----------
        symbol
            The symbol.
        starts
            Its series, one for each threshold.
        bars
            For each series, all bars that ended after its `after_id`, up to `applied_id`. With
            `after_id` equal to `applied_id` there are none.
        applied_id
            The id up to which trades are applied.
        """
        ...

    def queue(self, symbol: str, bars: Sequence[SeriesBars], applied_id: int) -> None:
        """Add all bars of a symbol that ended since the last call, up to `applied_id`.

        Where no bar ended, no call is needed. Where bars are left out, call `begin`.
        """
        ...

    def live(self, symbol: str, applied_id: int) -> None:
        """Note that a symbol has become live, with the id up to which trades are applied."""
        ...

    def revised(self, symbol: str, series: BarSeries, number: int, applied_id: int) -> None:
        """Note that the current series of a threshold was computed again, as revision `number`.

        From now on, the source of replays gives the bars of the new computation, and `queue` those that end
        after `applied_id`.
        """
        ...

    def status(self) -> ConsumerStatus:
        """Return how it is doing."""
        ...

    def close(self, done: Callable[[], None]) -> None:
        """Drain the queue, save the cursors, and call `done` in the consumer's thread."""
        ...

    def abort(self) -> None:
        """Give up what is not delivered: the end of a `close` that takes too long."""
        ...
