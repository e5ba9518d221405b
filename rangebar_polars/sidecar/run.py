"""`run_sidecar`: a session that runs until it is stopped, with consumers, health and signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.exceptions import LeaseError, with_hint
from rangebar_polars.live.consumers import (
    BarConsumer,
    CallbackReceiver,
    CursorStore,
    DeliveryOptions,
    NdjsonReceiver,
    boot_id,
)
from rangebar_polars.live.frames import BarFrames
from rangebar_polars.live.health.server import open_health_server
from rangebar_polars.live.health.stored import WRITER_GONE, stored_statuses
from rangebar_polars.live.health.systemd import ServiceManager
from rangebar_polars.live.plan import plan_live, require_platform
from rangebar_polars.live.session import LiveSession, SessionOptions
from rangebar_polars.sidecar.config import DefaultPort, SidecarConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rangebar_polars.live.health.server import HealthServer
    from rangebar_polars.live.plan import LivePlan

__all__ = ["SidecarReport", "check_sidecar", "run_sidecar", "run_sidecar_async"]

STOPPED = 0
#: A second signal ends the process with this plus its number.
SIGNALLED = 128
#: How long the end waits for messages of notifications.
LAST_MESSAGES_S = 5.0


@dataclass(frozen=True, slots=True)
class SidecarReport:
    """What a sidecar has done. `int(report)` is the exit status of the command.

    Parameters
    ----------
    exit_code
        0 if it was stopped.
    reason
        What stopped it.
    trades, bars
        Applied trades, and bars that have ended.
    seconds
        How long it ran.
    symbols
        The last status of each symbol, as `/health` shows it.
    undelivered
        Bars that consumers did not receive, by consumer.
    """

    exit_code: int
    reason: str
    trades: int = 0
    bars: int = 0
    seconds: float = 0.0
    symbols: list[dict[str, Any]] = field(default_factory=list, repr=False)
    undelivered: dict[str, int] = field(default_factory=dict)

    def __int__(self) -> int:
        return self.exit_code


def run_sidecar(config: SidecarConfig | None = None) -> SidecarReport:
    """Stream symbols and deliver their bars until the process is told to stop.

    In the main thread it handles SIGTERM and SIGINT: the first one stops it in order, a second one at
    once. In another thread, use `run_sidecar_async` with a `stop` event.

    Parameters
    ----------
    config
        What it streams; by default, the settings `RANGEBAR_STREAMING_…`.

    Raises
    ------
    SettingError, ValueError
        A setting or an argument is not valid.
    SymbolNotRegisteredError, ThresholdError
        The gate refuses a symbol, or a threshold is too low.
    MissingExtraError
        An extra is not installed.
    LeaseError
        Another process streams one of the symbols.

    Examples
    --------
    >>> from rangebar_polars.sidecar import SidecarConfig, run_sidecar
    >>> config = SidecarConfig(symbols=["BTCUSDT"], thresholds=[250], on_bars=print)
    >>> report = run_sidecar(config)  # doctest: +SKIP
    """
    sidecar = _Sidecar(SidecarConfig.from_settings() if config is None else config)
    with _signals(sidecar):
        return asyncio.run(sidecar.run(None))


async def run_sidecar_async(
    config: SidecarConfig, *, stop: asyncio.Event | None = None
) -> SidecarReport:
    """Stream symbols and deliver their bars until `stop` is set or the task is cancelled.

    Coroutine functions of `on_bars` run in the loop of the caller. It installs no signal handler.

    Parameters
    ----------
    config
        What it streams.
    stop
        What stops it in order.

    Raises
    ------
    SettingError, ValueError, SymbolNotRegisteredError, ThresholdError, MissingExtraError, LeaseError
        As for `run_sidecar`.
    """
    return await _Sidecar(config).run(stop, asyncio.get_running_loop())


def check_sidecar(config: SidecarConfig) -> LivePlan:
    """Check a configuration as `run_sidecar` does, without locks, ports and connections."""
    if not isinstance(config, SidecarConfig):
        kind = type(config).__name__
        hint = 'SidecarConfig(symbols=["BTCUSDT"], thresholds=[250])'
        raise TypeError(
            with_hint(f"`config` must be a SidecarConfig; it is of type `{kind}`", hint)
        )
    for module in ("websockets", "msgspec", "prometheus_client"):
        import_extra(module, "live")
    import_extra("httpcore2", "fetch")
    require_platform()
    return plan_live(
        list(config.symbols),
        list(config.thresholds),  # type: ignore[arg-type]
        source=config.source,
        market=config.market,
        reset=reset_of(config.ouroboros, config.ouroboros_mode),
        prevent_same_timestamp_close=config.prevent_same_timestamp_close,
        anchor=config.anchor,
    )


class _Sidecar:
    """A session with the consumers of a configuration."""

    def __init__(self, config: SidecarConfig) -> None:
        raise_if_forked("run_sidecar")
        self._config = config
        self.plan = check_sidecar(config)
        self.session = LiveSession(
            self.plan,
            SessionOptions(
                cache_dir=config.cache_dir,
                fills_gaps=config.gap_fill_on_startup,
                gap_patience_s=config.gap_patience_s,
                stale_after_s=config.stale_after_s,
                max_lag_s=config.max_lag_s,
                watchdog_timeout_s=config.watchdog_timeout_s,
                shutdown_timeout_s=config.shutdown_timeout_s,
                is_verbose=config.verbose,
                dsn=config.dsn,
                cache="use" if config.cache else "off",
                finalizes=config.finalize,
                finalize_interval_s=config.finalize_interval_s,
                heartbeat_s=config.heartbeat_s,
            ),
        )

    async def run(
        self, stop: asyncio.Event | None, loop: asyncio.AbstractEventLoop | None = None
    ) -> SidecarReport:
        """Run until it is stopped, and return the report."""
        begun_at = clock.monotonic()
        stopper = None if stop is None else asyncio.ensure_future(self._when_set(stop))
        try:
            if not await self._open(loop):
                return self._report(clock.monotonic() - begun_at)
            await self._stream()
        finally:
            if stopper is not None:
                stopper.cancel()
        return self._report(clock.monotonic() - begun_at)

    async def _open(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Take the locks, and return whether they were taken before the session was stopped."""
        session, consumers = self.session, self._consumers(loop)
        opening = asyncio.ensure_future(asyncio.to_thread(session.open, consumers))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread must not take a lock that nobody releases.
            session.stop("cancelled")
            await asyncio.gather(opening, return_exceptions=True)
            session.release()
            raise
        except LeaseError:
            if not session.ending.reason:
                raise
            return False
        return True

    async def _stream(self) -> None:
        """Stream until it is stopped, with the health interface and the service manager."""
        config, session = self._config, self.session
        manager, server = ServiceManager.from_environment(), None
        stop_notifying = await asyncio.to_thread(_notify, config.notify)
        try:
            session.prepare_reports()
            server = self._open_health()
            if manager is not None:
                manager.ready()
                session.service_manager = manager
            for symbol in self.plan.symbols:
                fields = {"market": self.plan.venue.market, "thresholds": self.plan.thresholds}
                session.event(symbol, "sidecar_started", **fields)
            await asyncio.to_thread(self._report_others)
            await session.run()
        finally:
            if manager is not None:
                manager.stopping()
            if server is not None:
                await asyncio.to_thread(server.close)
            await asyncio.to_thread(session.release)
            for symbol in self.plan.symbols:
                session.event(symbol, "sidecar_stopped", reason=session.ending.reason)
            await asyncio.to_thread(stop_notifying)

    def _report_others(self) -> None:
        """Report symbols that were streamed into the store, and that no process streams now."""
        for one in stored_statuses(self.session.storage.root):
            is_own = (one.source, one.market) == tuple(self.plan.venue)
            if is_own and one.symbol not in self.plan.symbols and one.state == WRITER_GONE:
                reason = "its trades were streamed into the store, and no process streams it now"
                self.session.event(one.symbol, "symbol_coverage_mismatch", reason=reason)

    async def _when_set(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.session.stop("stop was set")

    def _consumers(self, loop: asyncio.AbstractEventLoop | None) -> list[BarConsumer]:
        config, session = self._config, self.session
        features = "microstructure" if config.include_microstructure else "core"
        frames = BarFrames(
            self.plan.thresholds, features, include_orphans=config.include_orphaned_bars
        )
        receivers: list[Any] = []
        if config.on_bars is not None:
            receivers.append(CallbackReceiver(config.on_bars, config.consumer, loop))
        if config.ndjson is not False:
            stream = sys.stdout if config.ndjson is True else config.ndjson
            receivers.append(NdjsonReceiver(stream))
        return [
            BarConsumer(
                DeliveryOptions(
                    config.consumer,
                    receiver.kind,
                    max_pending_bars=config.max_pending_bars,
                    skips=config.on_error == "skip",
                    boot=boot_id(),
                ),
                frames,
                receiver,
                session,
                CursorStore(config.cache_dir, config.consumer, receiver.kind, self.plan.venue),
                session.history,
            )
            for receiver in receivers
        ]

    def _open_health(self) -> HealthServer | None:
        config, reporter = self._config, self.session.reporter
        if reporter is None:
            return None
        port = config.health_port
        server = open_health_server(
            config.health_host,
            port,
            reporter.board,
            is_required=not isinstance(port, DefaultPort),
        )
        if server is not None:
            reporter.health_address = server.address
        return server

    def _report(self, seconds: float) -> SidecarReport:
        session = self.session
        counters = [symbol.counters for symbol in session.engine.symbols.values()]
        undelivered = {
            f"{one.options.name}.{one.options.kind}": one.status().pending
            for one in session.consumers
        }
        return SidecarReport(
            STOPPED,
            session.ending.reason or "stopped",
            trades=sum(one.trades for one in counters),
            bars=sum(sum(one.bars.values()) for one in counters),
            seconds=seconds,
            symbols=session.statuses(),
            undelivered={name: count for name, count in undelivered.items() if count},
        )


def _notify(choice: str) -> Callable[[], None]:
    """Send failures to the services of the settings; return what ends it."""
    from rangebar_polars.events import flush_hooks
    from rangebar_polars.notify import disable_notifications, enable_notifications

    if choice == "off" or not enable_notifications():
        return lambda: None

    def end() -> None:
        flush_hooks(LAST_MESSAGES_S)
        disable_notifications()

    return end


@contextmanager
def _signals(sidecar: _Sidecar) -> Iterator[None]:
    """Stop a sidecar in order at the first SIGTERM or SIGINT, and the process at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if received:
            logging.shutdown()
            _exit(SIGNALLED + number)
        received.append(number)
        sidecar.session.stop(signal.Signals(number).name)

    numbers = [signal.SIGTERM, signal.SIGINT]
    before = {number: signal.signal(number, stop) for number in numbers}
    if hasattr(signal, "SIGHUP"):
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(status: int) -> None:
    import os

    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
