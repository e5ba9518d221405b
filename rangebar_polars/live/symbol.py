"""One symbol: what arrives, what is applied, what is requested, and what it reports.

All methods belong to the thread of the engine's event loop. `advance` does whatever is due; the
engine calls it again at `due_at`, and after everything that arrives.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils import clock
from rangebar_polars.live.protocol.day_close import DayClose
from rangebar_polars.live.protocol.freshness import (
    AGAIN_S,
    Freshness,
    FreshnessCheck,
    StaleLimit,
)
from rangebar_polars.live.protocol.pacing import BatchPace
from rangebar_polars.live.protocol.sequencing import Feed, Page, Sequencing
from rangebar_polars.live.protocol.states import (
    Facts,
    Failure,
    Reason,
    State,
    StateTracker,
)
from rangebar_polars.live.protocol.trades import TradeColumns
from rangebar_polars.live.symbol_parts import (
    CheckAnswer,
    PageAnswer,
    SymbolCounters,
    SymbolRevision,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.interfaces import Journal, RestQueue
    from rangebar_polars.live.protocol.exchange_time import ExchangeTime
    from rangebar_polars.live.protocol.gaps import Request
    from rangebar_polars.live.protocol.sequencing import Batch, Offered
    from rangebar_polars.live.protocol.states import Status
    from rangebar_polars.live.protocol.trades import Trade
    from rangebar_polars.live.series import SeriesBars, SeriesGroup
    from rangebar_polars.live.symbol_parts import SymbolOptions, SymbolReports, SymbolRun

__all__ = ["LiveSymbol"]

#: Time between two attempts to write after a failure.
WRITE_AGAIN_S = 1.0
#: A written record is synced at most this long after.
SYNC_S = 1.0
#: Trades that wait while the symbol has no history yet.
MOST_EARLY = 200_000


class LiveSymbol:
    """The protocol of one symbol: sequencing, freshness, days and states.

    Parameters
    ----------
    name
        The symbol.
    options
        What the configuration says.
    rest
        The queue of the host.
    exchange_time
        The time of the exchange, which all symbols of a host share.
    reports
        Where it says what happened.
    """

    def __init__(
        self,
        name: str,
        options: SymbolOptions,
        rest: RestQueue,
        exchange_time: ExchangeTime,
        reports: SymbolReports[LiveSymbol],
    ) -> None:
        now = clock.monotonic()
        self.name = name
        self.counters = SymbolCounters()
        self.tracker = StateTracker(options.watchdog_timeout_s, now)
        self.freshness = Freshness(options.freshness_interval_s, now)
        self.stale = StaleLimit(options.stale_after_s, now)
        self.sequencing: Sequencing | None = None
        self.series: SeriesGroup | None = None
        #: Newest id of REST, and when it answered; None before.
        self.head_id: int | None = None
        self.head_checked_at: float | None = None
        #: The first day that is journalled, and bytes written to journals.
        self.live_from: date | None = None
        #: When the last batch was applied; None before.
        self.applied_at: float | None = None
        self.failure: Failure | None = None
        self.failure_text = ""
        self._options = options
        self._rest = rest
        self._exchange_time = exchange_time
        self._reports = reports
        self._pace = BatchPace()
        self._journal: Journal | None = None
        self._days: DayClose | None = None
        self._reasons: set[Reason] = set()
        self._arrived = TradeColumns()
        self._is_checking = False
        self._is_syncing = False
        self._is_stopped = False
        self._has_head = False
        self._may_apply = False
        self._write_at = self._head_at = float("-inf")
        self._unsynced_since: float | None = None
        self._written_at = float("-inf")
        self._late: list[TradeColumns] = []
        self._closed: list[date] = []
        #: What is computed again; None between revisions.
        self.revision: SymbolRevision | None = None

    # What happens to it

    def begin(self, run: SymbolRun) -> None:
        """Begin to apply trades after those that are stored."""
        self.sequencing = Sequencing(run.start, patience_s=self._options.gap_patience_s)
        self._close_journal()  # the symbol had failed
        self.series, self._journal = run.series, run.journal
        self._days = DayClose(run.open_day)
        self.live_from = run.live_from
        self.failure, self.failure_text = None, ""
        self._has_head, self._may_apply = False, True
        self.revision = None
        self.freshness.stale(clock.monotonic())

    def pause(self) -> None:
        """Store what can be applied, and keep what arrives from now on until `begin`."""
        self._apply_all()
        self._close_journal()
        self.sequencing, self._journal = None, None

    def fail(self, failure: Failure, text: str) -> None:
        """Note that the symbol cannot go on."""
        self.failure, self.failure_text = failure, text

    def stop(self) -> None:
        """End the work of this symbol."""
        self._is_stopped = True

    def note(self, reason: Reason, *, applies: bool) -> None:
        """Note whether a reason applies that the engine knows."""
        (self._reasons.add if applies else self._reasons.discard)(reason)

    def take(self, trade: Trade) -> None:
        """Take a trade of the stream. `advance` offers it."""
        if self.sequencing is None and len(self._arrived) >= MOST_EARLY:
            return
        self._arrived.append(*trade)

    def begin_revision(self, records: Sequence[tuple[BarSeries, str]]) -> SymbolRevision | None:
        """Write that series are computed again, and hold back their bars; None if that cannot be."""
        series, journal = self.series, self._journal
        if series is None or journal is None or self.failure is not None or self._is_stopped:
            return None
        indices = {one: series.index_of(one.spec) for one, _ in records}
        try:
            for _, text in records:
                journal.revision(text)
        except OSError as error:
            self._note_write_error(error, clock.monotonic())
            return None
        self.revision = SymbolRevision({one for one in indices.values() if one is not None})
        self.note(Reason.REVISING, applies=True)
        return self.revision

    def end_revision(self) -> None:
        """Report bars of all series again."""
        self.revision = None
        self.note(Reason.REVISING, applies=False)

    # Answers of REST

    def page(self, request: Request, trades: TradeColumns, sent_at: float) -> None:
        """Take a page of REST."""
        if self.sequencing is None:
            return
        self._note_rest(is_refused=False, is_unreachable=False)
        failpoint(Step.BACKFILL_PAGE)
        offered = self.sequencing.page(Page(request, trades, sent_at), clock.monotonic())
        self.counters.ids_backfilled += offered.accepted
        self._note(offered)

    def newest(self, newest_id: int, date: datetime) -> None:
        """Take REST's newest id."""
        now = clock.monotonic()
        self._is_checking = False
        self.head_id, self.head_checked_at = newest_id, now
        self._exchange_time.answered(date, now)
        self._note_rest(is_refused=False, is_unreachable=False)
        sequencing = self.sequencing
        if sequencing is None:
            return
        self._offer(now)
        found = self.freshness.answered(newest_id, sequencing.reached_id, now)
        if not self._has_head:
            self._has_head = True
            sequencing.expect(newest_id, now)
        elif found is FreshnessCheck.SILENT:
            sequencing.expect(newest_id, now)
            self._reports.silent(self)
        if found is FreshnessCheck.EQUAL:
            self._reports.found_equal(self)
            self._close_quiet_day(now)
        self._may_apply = True

    def failed(
        self, *, is_refused: bool, closed_until: float | None, was_check: bool, unknown: str = ""
    ) -> None:
        """Note that REST did not answer."""
        now = clock.monotonic()
        if unknown:
            self.fail(Failure.NOT_AT_SOURCE, unknown)
        self._note_rest(is_refused=is_refused, is_unreachable=not is_refused)
        if was_check:
            self._is_checking = False
            self.freshness.failed(now)
            self._head_at = now + AGAIN_S
        elif self.sequencing is not None:
            self.sequencing.failed(now, closed_until)

    def _note_rest(self, *, is_refused: bool, is_unreachable: bool) -> None:
        self.note(Reason.REST_REFUSED, applies=is_refused)
        self.note(Reason.REST_UNREACHABLE, applies=is_unreachable)

    # Time

    @property
    def due_at(self) -> float:
        """When `advance` has something to do, if nothing arrives."""
        if self._is_stopped:
            return float("inf")
        times = [self.tracker.due_at]
        if self._unsynced_since is not None and not self._is_syncing:
            times.append(max(self._unsynced_since + SYNC_S, self._write_at))
        if self.sequencing is None and self.head_id is None and not self._is_checking:
            times.append(self._head_at)
        if self.sequencing is not None and self.failure is None:
            times += [self.sequencing.due_at(), self.stale.due_at]
            if not self._is_checking:
                times.append(self.freshness.due_at)
            if self.has_batch:
                times.append(max(self._pace.due_at, self._write_at))
        return min((time for time in times if time is not None), default=float("inf"))

    @property
    def needs_head(self) -> bool:
        """Whether REST has to be asked for its newest id before the history is there."""
        return self.head_id is None and clock.monotonic() >= self._head_at

    @property
    def has_batch(self) -> bool:
        """Whether trades wait that may be applied next."""
        sequencing = self.sequencing
        if sequencing is None or self._is_stopped or self.failure is not None:
            return False
        return self._may_apply or len(self._arrived) > 0

    def advance(self) -> None:
        """Do what is due."""
        now = clock.monotonic()
        if self._is_stopped:
            self._update(now)
            return
        if self.sequencing is not None and self.failure is None:
            self._offer(now)
            if now >= max(self._pace.due_at, self._write_at):
                self._apply(now)
            self._request(clock.monotonic())
        self._check(clock.monotonic())
        self._update(clock.monotonic())

    def finish(self) -> None:
        """Apply all that has arrived and can be applied, and sync it."""
        self._apply_all()
        self._close_journal()
        self.stop()
        self._update(clock.monotonic())

    def _apply_all(self) -> None:
        if self.sequencing is not None and self.failure is None:
            self._offer(clock.monotonic())
            while self._apply(clock.monotonic()):
                pass

    @property
    def status(self) -> Status:
        """The state and its reason."""
        return self.tracker.status

    @property
    def journal_bytes(self) -> int:
        """Bytes that this process has written to journals."""
        return 0 if self._journal is None else self._journal.written_bytes

    @property
    def unsynced_s(self) -> float:
        """Age of the oldest record that is written and not synced."""
        since = self._unsynced_since
        return 0.0 if since is None else clock.monotonic() - since

    # Trades

    def _offer(self, now: float) -> None:
        sequencing = self.sequencing
        if sequencing is None or not len(self._arrived):
            return
        arrived, self._arrived = self._arrived, TradeColumns()
        self.freshness.delivered()
        self._note(sequencing.offer(arrived, now, Feed.STREAM))

    def _note(self, offered: Offered) -> None:
        self.counters.duplicates += offered.duplicates
        self.counters.messages_rejected += offered.rejected
        for conflict in offered.conflicts:
            self._reports.conflict(self, conflict)
        if len(offered.late):
            self._late.append(offered.late)
        self._may_apply = True

    def _apply(self, now: float) -> bool:
        """Apply the next batch, and return whether there was one."""
        sequencing, series, journal = self.sequencing, self.series, self._journal
        if sequencing is None or series is None or journal is None:
            return False
        batch = sequencing.next_batch(now)
        if batch is None and not (self._late or self._closed):
            self._may_apply = False
            return False
        try:
            while self._late:
                journal.append_late(self._late[0])
                self._written(now)
                self._reports.late(self, self._late.pop(0))
            while self._closed:
                journal.close_day(self._closed[0])
                self._reports.day_closed(self, self._closed.pop(0))
            record = None if batch is None else self._write(journal, batch, now)
        except OSError as error:
            if batch is not None:
                sequencing.abandoned(batch)
            self._note_write_error(error, now)
            return False
        self.note(Reason.DISK_FULL, applies=False)
        if batch is None:
            return True
        bars = []
        if batch.day is not None and record:
            bars = series.push(batch.day, record)
            if self.revision is not None:
                last_id = batch.trades.ids[-1]
                bars = self.revision.applied(batch.day, record, last_id, bars)
        failpoint(Step.PUSHED)
        sequencing.applied(batch)
        self._may_apply = sequencing.has_waiting
        done = clock.monotonic()
        self._pace.done(now, done)
        self._note_applied(batch, bars, done)
        return True

    def _write(self, journal: Journal, batch: Batch, now: float) -> bytes | None:
        if batch.missing:
            journal.append_missing(batch.missing)
        if batch.day is None:
            return None
        for day in self._days.applied(batch.day) if self._days is not None else ():
            self._closed.append(day)
        while self._closed:
            journal.close_day(self._closed[0])
            self._reports.day_closed(self, self._closed.pop(0))
        record = journal.append_trades(batch.day, batch.trades)
        self._written(now)
        return record

    def _written(self, now: float) -> None:
        self._written_at = now
        if self._unsynced_since is None:
            self._unsynced_since = now

    def _note_write_error(self, error: OSError, now: float) -> None:
        self._write_at = now + WRITE_AGAIN_S
        self.note(Reason.DISK_FULL, applies=True)
        self.failure_text = f"{errno.errorcode.get(error.errno or 0, 'EIO')}: {error}"

    def _note_applied(self, batch: Batch, bars: list[SeriesBars], now: float) -> None:
        sequencing = self.sequencing
        self.applied_at = now
        self.counters.times_raised += batch.raised
        for span in batch.missing:
            self.counters.ids_missing += span.ids
            self._reports.missing(self, span)
        if len(batch.trades):
            self.counters.trades += len(batch.trades)
            self.stale.applied(batch.trades.times_us, now)
        for found in bars:
            threshold = found.series.spec.threshold
            counted = self.counters.bars.get(threshold, 0)
            self.counters.bars[threshold] = counted + found.bars.height
        if bars:
            self._reports.bars(self, bars)
        if sequencing is not None and sequencing.has_failed:
            self.fail(Failure.INVALID_DATA, "100 trades in a row have invalid values")

    def _close_journal(self) -> None:
        if self._journal is None:
            return
        try:
            self._journal.close()
        except OSError as error:
            self._note_write_error(error, clock.monotonic())
        else:
            self._unsynced_since = None

    def synced(self, begun_at: float, error: OSError | None) -> None:
        """Note that the journal was synced by another thread, or not.

        Records that were written after `begun_at` may not be on the disk.
        """
        self._is_syncing = False
        if error is not None:
            self._note_write_error(error, clock.monotonic())
        elif self._unsynced_since is not None and self._unsynced_since <= begun_at:
            self._unsynced_since = begun_at if self._written_at > begun_at else None

    # Requests, checks and states

    def _request(self, now: float) -> None:
        sequencing = self.sequencing
        if sequencing is None:
            return
        for event in sequencing.gap_events(now):
            self.counters.gaps += not event.is_healed
            self._reports.gap(self, event)
        request = sequencing.next_request(now)
        if request is not None:
            is_gap = not sequencing.is_catching_up
            self._rest.request_page(
                self.name, request, PageAnswer(self, self._reports), is_gap=is_gap
            )
        journal, since = self._journal, self._unsynced_since
        if journal is None or since is None or self._is_syncing:
            return
        if now >= max(since + SYNC_S, self._write_at):
            self._is_syncing = True
            self._reports.sync(self, journal)

    def _check(self, now: float) -> None:
        if self.sequencing is not None and now >= self.stale.due_at:
            self.stale.checked(now)
            self.freshness.stale(now)
        # Before the history is there, the exchange has to say which day it is.
        is_due = now >= self.freshness.due_at if self.sequencing is not None else self.needs_head
        if is_due and not self._is_checking and self.failure is None:
            self._is_checking = True
            self._rest.request_newest(self.name, CheckAnswer(self, self._reports))

    def _close_quiet_day(self, now: float) -> None:
        time, sequencing = self._exchange_time.at(now), self.sequencing
        if time is None or sequencing is None or self._days is None:
            return
        has_gap = len(sequencing.gaps) > 0 or sequencing.buffered > 0
        self._closed += self._days.found_equal(time, has_gap=has_gap)

    def _update(self, now: float) -> None:
        sequencing = self.sequencing
        reasons = set(self._reasons)
        is_behind, is_needed = True, True
        if sequencing is not None:
            gaps = sequencing.gaps
            is_behind = not self._has_head or sequencing.is_catching_up or gaps.is_behind
            # Bars of trades that arrived before are not bars that end from now on.
            is_behind |= self._may_apply and self.status.state is State.BACKFILL
            is_needed = not self._has_head or len(gaps) > 0
            if gaps.is_reported:
                reasons.add(Reason.GAP)
            if self.freshness.is_silent:
                reasons.add(Reason.SILENT)
        facts = Facts(
            reasons=frozenset(reasons),
            is_rest_needed=is_needed,
            has_history=sequencing is not None,
            is_behind=is_behind,
            failure=self.failure,
            is_stopped=self._is_stopped,
        )
        for change in self.tracker.update(facts.status, now):
            self._reports.changed(self, change)
