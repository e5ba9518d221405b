"""The status of a session: for its HTTP interface, its state files and the service manager."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.finalizing.digests import digest_values, digests_of
from rangebar_polars.live.health.board import LiveCounts, StatusBoard
from rangebar_polars.live.health.process import ProcessFacts
from rangebar_polars.live.health.status import (
    ConnectionStatus,
    ConsumerState,
    ConsumerStatus,
    HelperStatus,
    LiveStatus,
    NotifyStatus,
    ProcessState,
    RestStatus,
    SeriesStatus,
    SymbolStatus,
    overall_state,
)
from rangebar_polars.live.health.stored import state_content
from rangebar_polars.notify.sending import notification_counts
from rangebar_polars.storage.live.journal_file import pin_journals
from rangebar_polars.storage.live.state_file import day_of, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers import BarConsumer
    from rangebar_polars.live.consumers.iterator import BarIterator
    from rangebar_polars.live.engine import LiveEngine
    from rangebar_polars.live.finalizing.passes import Finalizer
    from rangebar_polars.live.helper.client import Helper
    from rangebar_polars.live.log import LiveLog
    from rangebar_polars.live.network.backfill import RestRequests
    from rangebar_polars.live.plan import LivePlan
    from rangebar_polars.live.series import SeriesBars, SeriesGroup
    from rangebar_polars.live.stored.history import StoredHistory
    from rangebar_polars.live.symbol import LiveSymbol
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["Reporter"]

#: How often a state file is written.
STATE_S = 5.0
_CLOSED = "is_closed"


@dataclass(slots=True)
class _Bars:
    """The bars of a series that have ended."""

    day: date | None = None
    today: int = 0
    last_close: datetime | None = None


@dataclass(slots=True)
class _Known:
    """What is known of a symbol beside its protocol."""

    live_from: date | None = None
    #: Size of the journals of days that are not finalized, when it was measured; None before.
    journal_bytes: int | None = None
    by_threshold: dict[int, _Bars] = field(default_factory=dict)
    #: The group and its `changes` to which `forming` belongs: the beginnings of the forming bars.
    formed: tuple[SeriesGroup, int] | None = None
    forming: list[datetime | None] = field(default_factory=list)
    #: All series that the writers of this symbol have held.
    held: dict[tuple[int, str, int, str], dict[str, Any]] = field(default_factory=dict)
    #: What an earlier writer says of days, until this one knows.
    finalized_through: date | None = None
    digests: list[Any] = field(default_factory=list)


class Reported(Protocol):
    """The session that is reported."""

    plan: LivePlan
    storage: TickStorage
    history: StoredHistory
    engine: LiveEngine
    rest: RestRequests | None
    log: LiveLog
    helper: Helper
    finalizer: Finalizer | None

    @property
    def consumers(self) -> Sequence[BarConsumer | BarIterator]:
        """The consumers."""
        ...


class Reporter:
    """Puts together what a session says about itself. The loop calls it; files are written in a thread.

    Parameters
    ----------
    session
        The session.
    """

    def __init__(self, session: Reported) -> None:
        self._session = session
        self._facts = ProcessFacts(session.storage.root.parent)
        # The state file names the series of earlier writers. It is read before it is written.
        self._known = {name: self._read(name) for name in session.plan.symbols}
        self._written_at = float("-inf")
        self._has_changed = False
        self.health_address: str | None = None
        first = LiveStatus(process=self._facts.status(ProcessState.STARTING))
        self.board = StatusBoard(first, self._counts)
        self._wake = threading.Condition()
        self._waiting: dict[str, dict[str, Any]] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._write_all, name="rangebar-state", daemon=True)
        self._thread.start()

    def _read(self, symbol: str) -> _Known:
        known = _Known()
        content = read_state(self._session.history.folder(symbol)) or {}
        for one in content.get("held") or ():
            if isinstance(one, dict):
                key = (one.get("threshold"), one.get("reset"), one.get("config_id"))
                known.held[(*key, one.get("anchor"))] = one  # type: ignore[index]
        known.finalized_through = day_of(content.get("finalized_through"))
        known.digests = digest_values(digests_of(content))
        return known

    # What the session says

    def begun(self, symbol: LiveSymbol) -> None:
        """Note the series of a symbol."""
        known = self._known[symbol.name]
        if symbol.series is not None:
            self._hold(known, symbol.series.series)
        known.live_from = symbol.live_from
        self._has_changed = True

    def bars(self, symbol: LiveSymbol, bars: Sequence[SeriesBars]) -> None:
        """Count bars."""
        known = self._known[symbol.name]
        for one in bars:
            if not one.bars.height:
                continue
            counted = known.by_threshold.setdefault(one.series.spec.threshold, _Bars())
            last_close = one.bars.get_column("close_time")[-1]
            if counted.day != last_close.date():
                counted.day, counted.today = last_close.date(), 0
            counted.today += one.bars.height
            counted.last_close = last_close
        if symbol.series is not None:
            self._hold(known, symbol.series.series)

    def note_change(self) -> None:
        """Have the state files written at the next turn."""
        self._has_changed = True

    def turned(self, engine: LiveEngine, *, is_stopping: bool = False) -> None:
        """Renew the status, and every five seconds or after a change the state files."""
        now = clock.monotonic()
        symbols = [self._symbol(engine, one, now) for one in engine.symbols.values()]
        state = overall_state(symbols, is_stopping=is_stopping)
        rest = self._session.rest
        process = self._facts.status(
            state, clock_skew_s=None if rest is None else rest.clock_skew_s
        )
        status = LiveStatus(
            process=process,
            symbols=symbols,
            connections=self._connections(engine, now),
            consumers=[self._consumer(one.status(), now) for one in self._session.consumers],
            rest=self._rest(),
            helper=HelperStatus(**asdict(self._session.helper.facts)),
            notify=_notified(),
        )
        self.board.put(status)
        if self._has_changed or now >= self._written_at + STATE_S:
            self._has_changed, self._written_at = False, now
            for symbol in symbols:
                known = self._known[symbol.symbol]
                content = state_content(
                    symbol,
                    process,
                    live_from=known.live_from,
                    health_address=self.health_address,
                )
                content["held"] = list(known.held.values())
                content["digests"] = self._digests(symbol.symbol)
                self._put(symbol.symbol, content)

    def close(self) -> None:
        """Write the last state of each symbol, and end the thread."""
        self._has_changed = True
        self.turned(self._session.engine, is_stopping=True)
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()
        self._thread.join()

    # Parts of the status

    def _symbol(self, engine: LiveEngine, symbol: LiveSymbol, now: float) -> SymbolStatus:
        tracker, venue = symbol.tracker, self._session.plan.venue
        known = self._known[symbol.name]
        sequencing = symbol.sequencing
        left = None
        if sequencing is not None and symbol.head_id is not None:
            left = max(0, symbol.head_id - sequencing.applied_id)
        streams, finalizer = engine.streams_of(symbol.name), self._session.finalizer
        return SymbolStatus(
            symbol=symbol.name,
            source=venue.source,
            market=venue.market,
            state=tracker.status.state,
            reason=tracker.status.reason,
            since=_wall(tracker.since, now),
            detail=symbol.failure_text or ("" if streams is None else streams.last_error),
            applied_id=None if sequencing is None else sequencing.applied_id,
            applied_at=_wall(symbol.applied_at, now),
            head_id=symbol.head_id,
            head_checked_at=_wall(symbol.head_checked_at, now),
            freshness_interval_s=symbol.freshness.interval_s,
            backfill_left_ids=left,
            lag_s=None if streams is None else streams.lag_s,
            last_trade_age_s=None if symbol.applied_at is None else now - symbol.applied_at,
            gaps_open=0 if sequencing is None else len(sequencing.gaps),
            buffered_trades=0 if sequencing is None else sequencing.buffered,
            journal_bytes=symbol.journal_bytes
            if known.journal_bytes is None
            else known.journal_bytes,
            unsynced_s=symbol.unsynced_s,
            series=self._series(symbol, known),
            ready_until=tracker.ready_until,
            finalized_through=self._finalized_through(symbol.name),
            unfinalized_days=None if finalizer is None else finalizer.unfinalized_days(symbol.name),
        )

    def _finalized_through(self, symbol: str) -> date | None:
        finalizer = self._session.finalizer
        found = None if finalizer is None else finalizer.finalized_through(symbol)
        return self._known[symbol].finalized_through if found is None else found

    def _digests(self, symbol: str) -> list[Any]:
        finalizer = self._session.finalizer
        found = None if finalizer is None else finalizer.digests(symbol)
        return self._known[symbol].digests if found is None else digest_values(found)

    @staticmethod
    def _series(symbol: LiveSymbol, known: _Known) -> list[SeriesStatus]:
        group = symbol.series
        if group is None:
            return []
        formed = group, group.changes
        if known.formed != formed or None in known.forming:
            # Frames of forming bars take far more time than all else of the status.
            known.formed, known.forming = formed, [_opened(one.bars) for one in group.partial()]
        found = []
        for series, opened in zip(group.series, known.forming, strict=True):
            spec = series.spec
            bars = known.by_threshold.get(spec.threshold, _Bars())
            found.append(
                SeriesStatus(
                    threshold=spec.threshold,
                    reset=spec.reset,
                    segment=series.segment.name,
                    anchor=series.anchor,
                    bars=bars.today,
                    last_close=bars.last_close,
                    forming_since=opened,
                )
            )
        return found

    @staticmethod
    def _connections(engine: LiveEngine, now: float) -> list[ConnectionStatus]:
        return [
            ConnectionStatus(
                url=one.shown_url,
                age_s=0.0 if one.opened_at is None else now - one.opened_at,
                last_message_age_s=None
                if one.last_message_at is None
                else now - one.last_message_at,
            )
            for streams in engine.streams
            for one in streams.connections
        ]

    @staticmethod
    def _consumer(status: Any, now: float) -> ConsumerStatus:  # noqa: ANN401 - of the interfaces
        failed_at = None if status.failed_ago_s is None else now - status.failed_ago_s
        return ConsumerStatus(
            name=status.name,
            kind=status.kind,
            state=ConsumerState(status.state),
            pending=status.pending,
            cursor_lag_s=status.cursor_lag_s,
            delivered=status.delivered,
            failures=status.failures,
            last_error=status.last_error or "",
            last_failing_at=now if status.state == "failing" else failed_at,
        )

    def _rest(self) -> RestStatus:
        rest = self._session.rest
        if rest is None:
            return RestStatus()
        found = rest.status()
        return RestStatus(
            used_weight=found.used_weight, limit=found.limit, closed_for_s=found.closed_for_s
        )

    def _counts(self) -> LiveCounts:
        session, market = self._session, self._session.plan.venue.market
        reconnects: dict[tuple[str, str], int] = {}
        for streams in session.engine.streams:
            for reason, number in list(streams.reconnects.items()):
                key = (market, reason)
                reconnects[key] = reconnects.get(key, 0) + number
        statuses = {} if session.rest is None else session.rest.status().statuses
        return LiveCounts(
            symbols={
                (name, market): symbol.counters
                for name, symbol in list(session.engine.symbols.items())
            },
            reconnects=reconnects,
            rest_requests=statuses,
            consumer_failures={
                one.options.name: one.status().failures for one in session.consumers
            },
        )

    # State files

    @staticmethod
    def _hold(known: _Known, series: Sequence[BarSeries]) -> None:
        for one in series:
            spec, anchor = one.spec, one.anchor.isoformat()
            key = (spec.threshold, spec.reset, spec.rules.id, anchor)
            if key not in known.held:
                names = ("threshold", "reset", "config_id", "anchor")
                known.held[key] = dict(zip(names, key, strict=True))

    def _put(self, symbol: str, content: dict[str, Any]) -> None:
        with self._wake:
            self._waiting[symbol] = content
            self._wake.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._is_closed or self._waiting)
                if not self._waiting:
                    return
                symbol, content = self._waiting.popitem()
            folder = self._session.history.folder(symbol)
            finalizer = self._session.finalizer
            through = None if finalizer is None else finalizer.finalized_through(symbol)
            try:
                first_day = None if through is None else through + ONE_DAY
                size = sum(one.length for one in pin_journals(folder, first_day))
                self._known[symbol].journal_bytes = size
                write_state(folder, {**content, "journal_bytes": size})
            except StorageError as error:
                self._session.log.event(
                    "state_not_written", symbol, is_failure=True, error=str(error)
                )


def _opened(bars: pl.DataFrame) -> datetime | None:
    """Return the time at which a forming bar began."""
    return bars.get_column("open_time")[0] if bars.height else None


def _notified() -> NotifyStatus:
    counts = notification_counts().values()
    return NotifyStatus(
        sent=sum(one.sent for one in counts),
        coalesced=sum(one.coalesced for one in counts),
        failed=sum(one.failed for one in counts),
    )


def _wall(at: float | None, now: float) -> datetime | None:
    """Return the wall time of a monotonic time."""
    if at is None:
        return None
    return (clock.utc_now() - timedelta(seconds=now - at)).astimezone(UTC)
