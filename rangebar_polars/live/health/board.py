"""The seam between the event loop and those who ask about it from other threads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rangebar_polars.live.health.status import LiveStatus

__all__ = ["Counts", "HealthSource", "LiveCounts", "LoopHeartbeat", "StatusBoard"]

#: How often the loop touches its heartbeat.
TOUCH_S = 1.0


class LoopHeartbeat:
    """When the event loop last turned. The loop touches it about once a second.

    Examples
    --------
    >>> from rangebar_polars.live.health.board import LoopHeartbeat
    >>> heartbeat = LoopHeartbeat(now=100.0)
    >>> heartbeat.touch(now=101.5)
    >>> heartbeat.lag_s(now=101.5), heartbeat.lag_s(now=106.5), heartbeat.blocked_s(now=106.5)
    (0.5, 4.0, 5.0)
    """

    def __init__(self, *, interval_s: float = TOUCH_S, now: float | None = None) -> None:
        self._interval_s = interval_s
        self._touched_at = clock.monotonic() if now is None else now
        self._late_s = 0.0

    def touch(self, now: float | None = None) -> None:
        """Note that the loop turns."""
        now = clock.monotonic() if now is None else now
        self._late_s = max(0.0, now - self._touched_at - self._interval_s)
        self._touched_at = now

    def blocked_s(self, now: float | None = None) -> float:
        """Return the time since the last touch."""
        return max(0.0, (clock.monotonic() if now is None else now) - self._touched_at)

    def lag_s(self, now: float | None = None) -> float:
        """Return how late the last touch was, or the next one is by now, whichever is longer."""
        return max(self._late_s, self.blocked_s(now) - self._interval_s)


class Counts(Protocol):
    """Numbers of one symbol. They never fall; `SymbolCounters` has them."""

    trades: int
    duplicates: int
    gaps: int
    ids_backfilled: int
    ids_missing: int
    messages_rejected: int
    #: By threshold.
    bars: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCounts:
    """Numbers of a sidecar. They never fall.

    Parameters
    ----------
    symbols
        By symbol and market.
    reconnects
        Connections that ended, by market and reason.
    rest_requests
        By status, such as "200", or "error" without an answer.
    consumer_failures
        By consumer.
    notifications
        By service and outcome.
    """

    symbols: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    reconnects: Mapping[tuple[str, str], int] = field(default_factory=dict)
    rest_requests: Mapping[str, int] = field(default_factory=dict)
    consumer_failures: Mapping[str, int] = field(default_factory=dict)
    notifications: Mapping[tuple[str, str], int] = field(default_factory=dict)


class HealthSource(Protocol):
    """What the HTTP interface asks, from threads of its own. No call waits for the loop."""

    @property
    def heartbeat(self) -> LoopHeartbeat:
        """The heartbeat of the loop."""
        ...

    def status(self) -> LiveStatus:
        """Return the newest status."""
        ...

    def counts(self) -> LiveCounts:
        """Return the numbers as they are now."""
        ...


class StatusBoard:
    """The newest status, which the loop puts here and other threads read.

    Parameters
    ----------
    first
        The status before the loop puts one here.
    counts
        Returns the numbers; called from other threads.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from rangebar_polars.live.health.board import StatusBoard
    >>> from rangebar_polars.live.health.status import LiveStatus, ProcessState, ProcessStatus
    >>> at = datetime(2026, 11, 1, tzinfo=UTC)
    >>> process = ProcessStatus(
    ...     status=ProcessState.STARTING, version="1", pid=7, host="box", started_at=at, now=at
    ... )
    >>> board = StatusBoard(LiveStatus(process=process))
    >>> board.status().process.status.value
    'starting'
    """

    def __init__(self, first: LiveStatus, counts: Callable[[], LiveCounts] = LiveCounts) -> None:
        self._newest = first
        self._counts = counts
        self._heartbeat = LoopHeartbeat()

    @property
    def heartbeat(self) -> LoopHeartbeat:
        """The heartbeat of the loop."""
        return self._heartbeat

    def put(self, status: LiveStatus) -> None:
        """Replace the status, and touch the heartbeat. The loop calls it about once a second."""
        self._newest = status
        self._heartbeat.touch()

    def status(self) -> LiveStatus:
        """Return the newest status, with the lag of the loop of now."""
        newest = self._newest
        lag_s = self._heartbeat.lag_s()
        return replace(newest, process=replace(newest.process, loop_lag_s=lag_s))

    def counts(self) -> LiveCounts:
        """Return the numbers as they are now."""
        return self._counts()
