"""A running engine with its store, consumers and reports: what `live_bars` and `run_sidecar` start."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, microseconds
from rangebar_polars.bar_series.identity import instant_of
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.events import EVENT_NAMES, FAILURES, emit_hook
from rangebar_polars.live.consumers import BarConsumer
from rangebar_polars.live.consumers.positions import Position
from rangebar_polars.live.engine import EngineOptions, LiveEngine
from rangebar_polars.live.finalizing.digests import digests_of, later_digests
from rangebar_polars.live.finalizing.passes import Finalizer, FinalizingOptions
from rangebar_polars.live.finalizing.revising import revise, run_in
from rangebar_polars.live.helper.choosing import states_for
from rangebar_polars.live.helper.client import Helper
from rangebar_polars.live.helper.states import UnitStates
from rangebar_polars.live.interfaces import SeriesStart
from rangebar_polars.live.log import LiveLog
from rangebar_polars.live.network.backfill import RestRequests
from rangebar_polars.live.plan import NOW
from rangebar_polars.live.protocol.freshness import check_interval_s
from rangebar_polars.live.protocol.states import State
from rangebar_polars.live.reporting import Reporter
from rangebar_polars.live.series import held_series
from rangebar_polars.live.stored.history import HistoryOptions, StoredHistory
from rangebar_polars.live.symbol_parts import SymbolOptions
from rangebar_polars.notify.sending import send_status
from rangebar_polars.storage.live.state_file import read_state
from rangebar_polars.storage.live.writer_lock import WAIT_S, WriterLock
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import polars as pl

    from rangebar_polars.live.consumers.iterator import BarIterator
    from rangebar_polars.live.engine import Prepared
    from rangebar_polars.live.finalizing.revising import Revision
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.health.systemd import ServiceManager
    from rangebar_polars.live.helper.base import StoredStates
    from rangebar_polars.live.helper.choosing import CacheUse
    from rangebar_polars.live.plan import LivePlan
    from rangebar_polars.live.series import SeriesBars
    from rangebar_polars.live.symbol import LiveSymbol
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["LiveSession", "SessionOptions", "following_history"]

#: Every id lies after it.
_BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session behaves, apart from what it streams."""

    cache_dir: Path | str | None = None
    fills_gaps: bool = True
    gap_patience_s: float = 30.0
    stale_after_s: float | None = None
    max_lag_s: float = 10.0
    watchdog_timeout_s: float = 300.0
    shutdown_timeout_s: float = 20.0
    is_verbose: bool = False
    dsn: str | None = field(default=None, repr=False)
    #: Whether the bar cache is used.
    cache: CacheUse = "existing"
    finalizes: bool = True
    finalize_interval_s: float = 900.0
    heartbeat_s: float | None = None


@dataclass(slots=True)
class _Ending:
    """Why a session ends."""

    reason: str = ""
    error: BaseException | None = None


class LiveSession:
    """Streams symbols as their writer.

    Parameters
    ----------
    plan
        What it streams.
    options
        How it behaves.
    """

    def __init__(self, plan: LivePlan, options: SessionOptions) -> None:
        self.plan = plan
        self.options = options
        self.storage = TickStorage(options.cache_dir)
        self.log = LiveLog()
        self.ending = _Ending()
        self.helper = Helper(options.cache_dir, options.dsn)
        self.states = states_for(
            options.cache, self.helper, self._folder, cache_dir=options.cache_dir, dsn=options.dsn
        )
        self.finalizer: Finalizer | None = None
        if options.finalizes:
            has_cache = isinstance(self.states, UnitStates)
            self.finalizer = Finalizer(
                FinalizingOptions(options.finalize_interval_s, has_cache),
                plan.venue,
                self.helper,
                self.states,
                self.event,
                self._revise,
            )
        #: Numbers of the newest revisions, by symbol.
        self._revisions: dict[str, int] = {}
        self.history = StoredHistory(
            HistoryOptions(
                plan.specs, anchor_of(plan), plan.since, plan.anchor == NOW, options.fills_gaps
            ),
            self.storage,
            plan.venue,
            self.states,
            self._now,
        )
        self.engine = LiveEngine(
            EngineOptions(plan.venue.market, plan.symbols, self._symbol_options, options.max_lag_s),
            self.history,
            self._make_rest,
            self,
        )
        self.rest: RestRequests | None = None
        self.service_manager: ServiceManager | None = None
        self.reporter: Reporter | None = None
        self._consumers: list[BarConsumer | BarIterator] = []
        self._locks: list[WriterLock] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        # A signal handler may stop the session while the same thread does.
        self._lock = threading.RLock()
        self._heartbeat_at = clock.monotonic()

    def _folder(self, symbol: str) -> SymbolDir:
        return self.storage.symbol_dir(symbol, *self.plan.venue)

    @property
    def _symbol_options(self) -> SymbolOptions:
        options = self.options
        return SymbolOptions(
            options.gap_patience_s, options.stale_after_s, options.watchdog_timeout_s
        )

    # Start

    def open(
        self,
        consumers: Sequence[BarConsumer | BarIterator],
        locks: Sequence[WriterLock] | None = None,
        *,
        wait_s: float = WAIT_S,
        keeps_locks: bool = False,
    ) -> None:
        """Take the locks of the symbols, unless they are given, and read the cursors of consumers.

        A symbol that `live_bars` of another process streams is claimed. With `keeps_locks`, the end
        of the session leaves the locks to the caller.

        Raises
        ------
        LeaseError
            Another process streams one of them, also if `stop` was called meanwhile.
        StorageError
            A file cannot be made or read.
        """
        folders = [self.history.folder(symbol) for symbol in self.plan.symbols]
        if locks is None:
            locks = WriterLock.take_all(
                folders, wait_s=wait_s, is_stopped=lambda: bool(self.ending.reason), claims=True
            )
        self._locks = [] if keeps_locks else list(locks)
        try:
            for consumer in consumers:
                if isinstance(consumer, BarConsumer):
                    consumer.load(self.plan.symbols)
                self._consumers.append(consumer)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the locks."""
        while self._locks:
            self._locks.pop().release()

    def _make_rest(self) -> RestRequests:
        self.rest = RestRequests(
            self.plan.venue.market,
            cache_dir=self.options.cache_dir,
            on_error=lambda error: self.stop("a request failed", error),
        )
        self.history.rest = self.rest
        self.engine.freshness_interval_s = check_interval_s(
            len(self.plan.symbols), self.rest.weight, self.rest.limit
        )
        return self.rest

    def _now(self) -> datetime:
        """Return the time of the exchange, or that of the last applied trade if it is later."""
        found = self.engine.exchange_time.at(clock.monotonic()) or clock.utc_now()
        symbols = self.engine.symbols.values()
        last_us = max((one.sequencing.highest_us for one in symbols if one.sequencing), default=0)
        return max(found, instant_of(last_us))

    def prepare_reports(self) -> None:
        """Begin to put together the status."""
        if self.reporter is None:
            self.reporter = Reporter(self)

    # Run

    async def run(self) -> None:
        """Stream until `stop` is called; then deliver what is there, and release the locks.

        What ended a consumer or is an error of this program is raised.
        """
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            if self.ending.reason:
                self._stop.set()
        self.prepare_reports()
        try:
            await self.engine.run(self._stop)
        finally:
            await asyncio.shield(self._close())
        if self.ending.error is not None:
            raise self.ending.error

    def stop(self, reason: str = "stopped", error: BaseException | None = None) -> None:
        """End the session in order. It can be called in any thread, and again."""
        with self._lock:
            if not self.ending.reason:
                self.ending.reason, self.ending.error = reason, error
            loop, event = self._loop, self._stop
        if loop is not None and event is not None and not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        all_done = asyncio.Event()
        # Whoever iterates closes a queue itself: other symbols may go on.
        closing = [one for one in self._consumers if isinstance(one, BarConsumer)]
        left = len(closing)

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                all_done.set()

        for consumer in closing:
            consumer.close(partial(_call_in, loop, done))
        if closing:
            limit_s = clock.real_seconds(self.options.shutdown_timeout_s)
            try:
                async with asyncio.timeout(limit_s):
                    await all_done.wait()
            except TimeoutError:
                for consumer in closing:
                    consumer.abort()
                await all_done.wait()
        if self.reporter is not None:
            await asyncio.to_thread(self.reporter.close)
        self.log.flush(everything=True)
        if len(closing) == len(self._consumers):
            # Whoever iterates may still read bars with it.
            await asyncio.to_thread(self.helper.close)
        if self.finalizer is not None:
            await asyncio.to_thread(self.finalizer.close)
        await asyncio.to_thread(self.release)

    # Reports of the engine

    def begin(self, symbol: LiveSymbol, prepared: Prepared) -> None:
        """Let consumers begin with the series of a symbol."""
        if self.reporter is not None:
            self.reporter.begun(symbol)
        applied_id = prepared.run.start.applied_id
        series = prepared.run.series.series
        if not series:
            return
        revisions = prepared.revisions or (0,) * len(series)
        self._revisions[symbol.name] = max(revisions)
        starts = [
            SeriesStart(
                one,
                applied_id,
                revision,
                begin=None if first is None else Position(first, _BEFORE_ALL),
            )
            for one, first, revision in zip(series, prepared.begins, revisions, strict=True)
        ]
        for consumer in self._consumers:
            consumer.begin(symbol.name, starts, [], applied_id)
        for one, base in zip(series, prepared.bases, strict=False):
            if base.last_id is not None:
                day, spec = base.first_day - ONE_DAY, one.spec
                fields = {"threshold": spec.threshold, "day": day}
                segment = segment_of(day, spec.reset).name
                self.event(symbol.name, "sidecar_checkpoint_restored", segment=segment, **fields)
        if self.finalizer is not None:
            self._begin_finalizing(self.finalizer, symbol.name, prepared)

    def _begin_finalizing(self, finalizer: Finalizer, symbol: str, prepared: Prepared) -> None:
        known, run = read_state(self._folder(symbol)) or {}, prepared.run
        series = run.series.series
        bases = dict(zip(series, prepared.bases, strict=False))
        through = run.live_from - ONE_DAY
        with suppress(ValueError):
            through = min(through, date.fromisoformat(str(known.get("finalized_through"))))
        finalizer.begin(
            symbol,
            finalized_through=through,
            open_day=run.open_day,
            series=series,
            held=[held for one in series for held in held_series(one.spec, known)],
            bases=bases,
            digests=later_digests(digests_of(known), bases),
        )

    def next_revision(self, symbol: str) -> int:
        """Return a number above those of earlier revisions of a symbol."""
        number = max(int(clock.unix_seconds()), self._revisions.get(symbol, 0) + 1)
        self._revisions[symbol] = number
        return number

    def in_loop(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it returns
        """Run a function in the thread of the event loop, and return what it returns."""
        if self._loop is None:
            raise CancelledError
        return run_in(self._loop, function)

    def _revise(self, symbol: str, revisions: Sequence[Revision]) -> bool:
        return revise(self, self.engine.symbols[symbol], revisions)

    def day_closed(self, symbol: LiveSymbol, day: date) -> None:
        """Have a closed day finalized."""
        if self.finalizer is not None and symbol.series is not None:
            self.finalizer.day_closed(symbol.name, day, symbol.series.digests())

    def bars(self, symbol: LiveSymbol, bars: list[SeriesBars]) -> None:
        """Pass bars to the consumers."""
        applied_id = symbol.sequencing.applied_id if symbol.sequencing is not None else -1
        for consumer in self._consumers:
            consumer.queue(symbol.name, bars, applied_id)
        if self.options.is_verbose:
            self._log_bars(symbol.name, bars)
        if self.reporter is not None:
            self.reporter.bars(symbol, bars)

    def _log_bars(self, symbol: str, bars: list[SeriesBars]) -> None:
        columns = ("close_time", "open", "high", "low", "close", "volume")
        for one in bars:
            threshold = one.series.spec.threshold
            for row in one.bars.select(columns).iter_rows(named=True):
                self.log.line("bar", symbol, threshold=threshold, **row)

    def live(self, symbol: LiveSymbol) -> None:
        """Tell consumers that a symbol is live."""
        if symbol.sequencing is not None:
            for consumer in self._consumers:
                consumer.live(symbol.name, symbol.sequencing.applied_id)

    def event(self, symbol: str, name: str, **fields: object) -> None:
        """Log and emit an event. Consumers call it in their threads, too."""
        self.log.event(name, symbol, is_failure=name in FAILURES, **fields)  # type: ignore[arg-type]
        if name in EVENT_NAMES:
            emit_hook(name, symbol, **fields)  # type: ignore[arg-type]
        if self.reporter is not None:
            self.reporter.note_change()

    def turned(self, engine: LiveEngine) -> None:
        """Write the status about once a second."""
        self.log.flush()
        if self.reporter is not None:
            self.reporter.turned(engine)
        if self.finalizer is not None and self.finalizer.error is not None:
            self.stop("finalizing failed", self.finalizer.error)
        if self.service_manager is not None:
            self.service_manager.turned(self._described)
        self._send_heartbeat()
        until = self.plan.until
        if until is not None and all(_has_reached(one, until) for one in engine.symbols.values()):
            self.stop("until")

    def _send_heartbeat(self) -> None:
        """Notify that the session runs, at the interval of the options."""
        interval_s, now = self.options.heartbeat_s, clock.monotonic()
        if interval_s is not None and now >= self._heartbeat_at + interval_s:
            self._heartbeat_at = now
            send_status(f"rangebar sidecar: {self._described()}")

    def _described(self) -> str:
        """Return a line for the service manager."""
        states = [one.status.state.value for one in self.engine.symbols.values()]
        counted = {state: states.count(state) for state in dict.fromkeys(states)}
        return ", ".join(f"{count} {state}" for state, count in counted.items())

    @property
    def failure(self) -> str:
        """Why no symbol can go on; empty while one can."""
        symbols = list(self.engine.symbols.values())
        if not symbols or any(one.status.state is not State.FAILED for one in symbols):
            return ""
        return "; ".join(f"{one.name}: {one.status.reason}: {one.failure_text}" for one in symbols)

    def statuses(self) -> list[dict[str, Any]]:
        """Return the status of each symbol."""
        if self.reporter is None:
            return []
        return [symbol.to_dict() for symbol in self.reporter.board.status().symbols]

    def partial(self, frames: BarFrames) -> list[pl.DataFrame]:
        """Return frames of the forming bars, from any thread."""
        found = []
        for name, symbol in list(self.engine.symbols.items()):
            if symbol.series is not None:
                rows = frames.forming(symbol.series.partial())
                found.append(frames.frame(name, rows))
        return found

    @property
    def consumers(self) -> list[BarConsumer | BarIterator]:
        """The consumers."""
        return self._consumers


def _has_reached(symbol: LiveSymbol, instant: datetime) -> bool:
    """Return whether a trade at or after an instant is applied, and its bars are there."""
    sequencing, group = symbol.sequencing, symbol.series
    if sequencing is None or group is None or not group.series:
        return False
    return sequencing.highest_us >= microseconds(instant)


def anchor_of(plan: LivePlan) -> Literal["segment"] | datetime | None:
    """Return the anchor of the series; None where other rules choose them."""
    anchor = plan.anchor
    return anchor if anchor == "segment" or isinstance(anchor, datetime) else None


def following_history(plan: LivePlan, storage: TickStorage, states: StoredStates) -> StoredHistory:
    """Return what is stored of symbols that another process writes."""
    options = HistoryOptions(
        plan.specs, anchor_of(plan), plan.since, plan.anchor == NOW, fills_gaps=False
    )
    return StoredHistory(options, storage, plan.venue, states, clock.utc_now)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)
