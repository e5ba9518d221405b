"""What a symbol is given, what it counts, and where it says what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from datetime import date, datetime

    from rangebar_polars.live.interfaces import Journal
    from rangebar_polars.live.protocol.buffer import Conflict
    from rangebar_polars.live.protocol.gaps import GapEvent, Request
    from rangebar_polars.live.protocol.sequencing import Start
    from rangebar_polars.live.protocol.spans import MissingIds
    from rangebar_polars.live.protocol.states import Change
    from rangebar_polars.live.protocol.trades import TradeColumns
    from rangebar_polars.live.series import SeriesBars, SeriesGroup

__all__ = [
    "CheckAnswer",
    "PageAnswer",
    "SymbolCounters",
    "SymbolOptions",
    "SymbolReports",
    "SymbolRevision",
    "SymbolRun",
]


#: The symbol that reports.
SymbolT_contra = TypeVar("SymbolT_contra", contravariant=True)


class SymbolOptions(NamedTuple):
    """What the configuration says about every symbol."""

    gap_patience_s: float = 30.0
    stale_after_s: float | None = None
    watchdog_timeout_s: float = 300.0
    freshness_interval_s: float = 60.0


class SymbolReports(Protocol[SymbolT_contra]):
    """Where a symbol says what happened. No call waits or raises."""

    def bars(self, symbol: SymbolT_contra, bars: list[SeriesBars]) -> None:
        """Take bars that have ended."""
        ...

    def changed(self, symbol: SymbolT_contra, change: Change) -> None:
        """Take a change of the state."""
        ...

    def gap(self, symbol: SymbolT_contra, event: GapEvent) -> None:
        """Take a gap that is detected or healed."""
        ...

    def missing(self, symbol: SymbolT_contra, span: MissingIds) -> None:
        """Take ids that are confirmed missing."""
        ...

    def conflict(self, symbol: SymbolT_contra, conflict: Conflict) -> None:
        """Take two different trades of one id."""
        ...

    def late(self, symbol: SymbolT_contra, trades: TradeColumns) -> None:
        """Take trades whose ids were confirmed missing before."""
        ...

    def day_closed(self, symbol: SymbolT_contra, day: date) -> None:
        """Take a day of which no trade is expected any more."""
        ...

    def silent(self, symbol: SymbolT_contra) -> None:
        """Replace the connection, which delivers nothing although REST is ahead."""
        ...

    def found_equal(self, symbol: SymbolT_contra) -> None:
        """Note that a freshness check has found nothing that has not arrived."""
        ...

    def sync(self, symbol: SymbolT_contra, journal: Journal) -> None:
        """Sync the journal in another thread, and pass the outcome to `LiveSymbol.synced`."""
        ...

    def wake(self, symbol: SymbolT_contra) -> None:
        """Call `LiveSymbol.advance` soon."""
        ...


@dataclass(slots=True)
class SymbolCounters:
    """Numbers for metrics. They never fall."""

    trades: int = 0
    duplicates: int = 0
    gaps: int = 0
    ids_backfilled: int = 0
    ids_missing: int = 0
    messages_rejected: int = 0
    times_raised: int = 0
    #: By threshold.
    bars: dict[int, int] = field(default_factory=dict)


class AppliedRecord(NamedTuple):
    """A record of trades that was applied."""

    day: date
    record: bytes
    last_id: int


@dataclass(slots=True)
class SymbolRevision:
    """Series that are computed again while trades are applied."""

    #: Numbers of the series.
    held: set[int]
    #: The records since it began, or since they were taken.
    records: list[AppliedRecord] = field(default_factory=list)

    def applied(
        self, day: date, record: bytes, last_id: int, bars: list[SeriesBars]
    ) -> list[SeriesBars]:
        """Keep a record, and return the bars of other series."""
        self.records.append(AppliedRecord(day, record, last_id))
        return [one for one in bars if one.number not in self.held]

    def take(self) -> list[AppliedRecord]:
        """Return the records that were kept, and keep new ones."""
        taken, self.records = self.records, []
        return taken


@dataclass(slots=True)
class SymbolRun:
    """What a symbol has once its history is there."""

    start: Start
    series: SeriesGroup
    journal: Journal
    #: First day that is not closed.
    open_day: date
    #: First day whose trades may come from a stream.
    live_from: date


class Answered(Protocol):
    """What takes the answers of REST."""

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        """Take a page."""
        ...

    def newest(self, newest_id: int, date: datetime) -> None:
        """Take REST's newest id."""
        ...

    def failed(
        self, *, is_refused: bool, closed_until: float | None, was_check: bool, unknown: str = ""
    ) -> None:
        """Note that there was no answer."""
        ...


class PageAnswer:
    """Where the answer to a request of a symbol goes."""

    _was_check = False

    def __init__(self, symbol: Answered, reports: SymbolReports[Any]) -> None:
        self._symbol = symbol
        self._reports = reports

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        """Take a page."""
        self._symbol.page(request, trades, sent_at)
        self._reports.wake(self._symbol)

    def newest(self, newest_id: int, date: datetime) -> None:
        """Take REST's newest id."""
        self._symbol.newest(newest_id, date)
        self._reports.wake(self._symbol)

    def failed(self, *, is_refused: bool, closed_until: float | None, unknown: str = "") -> None:
        """Note that there was no answer."""
        self._symbol.failed(
            is_refused=is_refused,
            closed_until=closed_until,
            was_check=self._was_check,
            unknown=unknown,
        )
        self._reports.wake(self._symbol)


class CheckAnswer(PageAnswer):
    """The same for a freshness check."""

    _was_check = True
