"""The status of a running sidecar as `/health` shows it, and what follows for `/live` and `/ready`.

A status is made in the thread of the event loop and read in others, so nothing in it changes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from rangebar_polars._utils.address import scrubbed
from rangebar_polars.live.protocol.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rangebar_polars.live.protocol.states import Failure, Reason

__all__ = [
    "ConnectionStatus",
    "ConsumerState",
    "ConsumerStatus",
    "HelperStatus",
    "LiveStatus",
    "NotReady",
    "NotifyStatus",
    "ProcessState",
    "ProcessStatus",
    "RestStatus",
    "SeriesStatus",
    "SymbolStatus",
    "is_live",
    "json_value",
    "overall_state",
    "readiness",
    "time_text",
]

#: `/live` fails once the event loop has been blocked for longer.
BLOCKED_S = 30.0
#: `/ready` fails while a record that is not synced is older.
UNSYNCED_S = 10.0
#: `/ready` fails for so long after a consumer was failing.
CONSUMER_FAILED_S = 60.0

#: Fields that are no part of `/health`.
_HIDDEN: Mapping[str, bool] = {"hidden": True}
_FLOAT_DIGITS = 3
#: Errors of other libraries can be long.
_LONGEST_TEXT = 500


class ProcessState(StrEnum):
    """The state of a whole sidecar."""

    STARTING = "starting"
    LIVE = "live"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPING = "stopping"


class ConsumerState(StrEnum):
    """What a consumer is doing."""

    OK = "ok"
    LAGGING = "lagging"
    FAILING = "failing"


class _Status:
    """Base class of the parts of a status."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the values that `/health` shows, as JSON has them; times are in UTC."""
        return {
            one.name: json_value(getattr(self, one.name))
            for one in fields(self)  # type: ignore[arg-type] # every subclass is a dataclass
            if not one.metadata.get("hidden")
        }

    def to_json(self) -> str:
        """Return the same as a line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus(_Status):
    """A series of bars.

    Parameters
    ----------
    threshold
        In decimal basis points.
    reset
        Where the series starts again: "year", "month", "week", "day", or None.
    segment
        Name of the segment, such as "2026".
    anchor
        Where its first bar begins.
    bars
        Bars that ended on the UTC day of the last applied trade.
    last_close
        When the last bar ended; None before the first one.
    forming_since
        When the forming bar began; None without one.
    """

    threshold: int
    reset: str | None
    segment: str
    anchor: datetime
    bars: int = 0
    last_close: datetime | None = None
    forming_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolStatus(_Status):
    """A symbol.

    Parameters
    ----------
    symbol, source, market
        What is streamed.
    state, reason, since
        What it does, why, and since when.
    detail
        The reason in words, for example what a user can do about a failure.
    applied_id, applied_at
        The applied id, and when the last batch was applied.
    head_id, head_checked_at
        REST's newest id, and when REST said so.
    freshness_interval_s
        Time between two freshness checks.
    backfill_left_ids, backfill_left_s
        Ids that a backfill has still to request, and how long that is expected to take.
    lag_s
        How late the last message was.
    last_trade_age_s
        Time since the last trade arrived.
    gaps_open, buffered_trades
        Gaps, and trades in memory that wait for them.
    journal_bytes
        Size of the journals of days that are not finalized.
    unsynced_s
        Age of the oldest record that is written and not synced.
    finalized_through
        The last day of the days that are finalized without a break.
    series
        One per threshold.
    ready_until
        Until when the symbol counts as ready, in monotonic time (`StateTracker.ready_until`).
    unfinalized_days
        Closed days after `finalized_through`.
    """

    symbol: str
    source: str = "binance"
    market: str = "spot"
    state: State = State.HISTORY
    reason: Reason | Failure | None = None
    since: datetime | None = None
    detail: str = ""
    applied_id: int | None = None
    applied_at: datetime | None = None
    head_id: int | None = None
    head_checked_at: datetime | None = None
    freshness_interval_s: float | None = None
    backfill_left_ids: int | None = None
    backfill_left_s: float | None = None
    lag_s: float | None = None
    last_trade_age_s: float | None = None
    gaps_open: int = 0
    buffered_trades: int = 0
    journal_bytes: int = 0
    unsynced_s: float = 0.0
    finalized_through: date | None = None
    series: Sequence[SeriesStatus] = ()
    ready_until: float = field(default=-math.inf, metadata=_HIDDEN)
    unfinalized_days: int | None = field(default=None, metadata=_HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatus(_Status):
    """An open connection, with its address without the query."""

    url: str
    age_s: float
    last_message_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus(_Status):
    """A consumer.

    Parameters
    ----------
    name, kind
        Its name, and "callback", "ndjson" or "iterator".
    state
        What it does.
    pending
        Bars in its queue.
    cursor_lag_s
        Time between the last bar that ended and the last one that was delivered.
    delivered, failures
        Bars delivered, and calls that raised. The numbers never fall.
    last_error
        The last error in one line.
    last_failing_at
        When it was last `failing`, in monotonic time; the present while it is.
    """

    name: str
    kind: str
    state: ConsumerState = ConsumerState.OK
    pending: int = 0
    cursor_lag_s: float | None = None
    delivered: int = 0
    failures: int = 0
    last_error: str = ""
    last_failing_at: float | None = field(default=None, metadata=_HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestStatus(_Status):
    """The REST interface: weight used in this minute, the limit, and how long it stays closed."""

    used_weight: int = 0
    limit: int | None = None
    closed_for_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperStatus(_Status):
    """The process that populates and finalizes: "off", "idle", "running" or "failed"."""

    state: str = "off"
    last_run_at: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyStatus(_Status):
    """Notifications that were sent, merged into others, and lost."""

    sent: int = 0
    coalesced: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus(_Status):
    """The process, and the machine around it.

    Parameters
    ----------
    status
        The state of all symbols together.
    version, pid, host
        Version of the package, process id, and name of the machine.
    started_at, now
        Start of the process, and the time of this status.
    clock_skew_s
        The machine's time less that of the exchange; None before the first answer.
    loop_lag_s
        How late the event loop is.
    rss_bytes, disk_free_bytes
        Memory of the process, and space where the cache folder is.
    """

    status: ProcessState
    version: str
    pid: int
    host: str
    started_at: datetime
    now: datetime
    clock_skew_s: float | None = None
    loop_lag_s: float = 0.0
    rss_bytes: int | None = None
    disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStatus(_Status):
    """All that `/health` shows. The fields of the process stand at the top of its JSON.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from rangebar_polars.live.health.status import LiveStatus, ProcessState, ProcessStatus
    >>> at = datetime(2026, 11, 1, tzinfo=UTC)
    >>> process = ProcessStatus(
    ...     status=ProcessState.STARTING, version="1", pid=7, host="box", started_at=at, now=at
    ... )
    >>> shown = LiveStatus(process=process).to_dict()
    >>> shown["status"], shown["now"], shown["symbols"], shown["helper"]["state"]
    ('starting', '2026-11-01T00:00:00.000000Z', [], 'off')
    """

    process: ProcessStatus
    symbols: Sequence[SymbolStatus] = ()
    connections: Sequence[ConnectionStatus] = ()
    consumers: Sequence[ConsumerStatus] = ()
    rest: RestStatus = RestStatus()
    helper: HelperStatus = HelperStatus()
    notify: NotifyStatus = NotifyStatus()

    def to_dict(self) -> dict[str, Any]:
        """Return the values that `/health` shows, as JSON has them; times are in UTC."""
        # The argument of `super` is not found in a class with slots, which is made twice.
        parts = _Status.to_dict(self)
        return {**parts.pop("process"), **parts}


def time_text(time: datetime) -> str:
    """Return a time in UTC with six digits and `Z`.

    Examples
    --------
    >>> from datetime import datetime, timedelta, timezone
    >>> from rangebar_polars.live.health.status import time_text
    >>> time_text(datetime(2026, 11, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    '2026-11-01T00:00:00.000000Z'
    """
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def json_value(value: object) -> Any:  # noqa: ANN401 - whatever JSON can have
    """Return a value of a status as JSON has it, without secrets of addresses."""
    match value:
        case _Status():
            found: Any = value.to_dict()
        case StrEnum():
            found = value.value
        case str():
            # An error of another library may contain an address with its secrets.
            found = scrubbed(str(value))[:_LONGEST_TEXT]
        case float():
            found = round(value, _FLOAT_DIGITS) if math.isfinite(value) else None
        case datetime():
            found = time_text(value)
        case date():
            found = value.isoformat()
        case list() | tuple():
            found = [json_value(one) for one in value]
        case dict():
            found = {str(name): json_value(one) for name, one in value.items()}
        case _:
            found = value
    return found


def is_live(blocked_s: float) -> bool:
    """Return whether the event loop has turned within 30 s, given the time since it last did."""
    return blocked_s <= BLOCKED_S


class NotReady(NamedTuple):
    """A reason why a sidecar is not ready, and what it concerns: a symbol, a consumer or neither."""

    reason: str
    symbol: str | None = None
    consumer: str | None = None
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the values that are there."""
        values = {**self._asdict(), "detail": scrubbed(self.detail)[:_LONGEST_TEXT]}
        return {name: value for name, value in values.items() if value}


def readiness(status: LiveStatus, now: float, blocked_s: float = 0.0) -> list[NotReady]:
    """Return why a sidecar is not ready; nothing if it is.

    It is not ready while a symbol has never been `live` or has not been for more than 5 s (a
    revision counts as live), while a consumer has been `failing` within 60 s, while a record that
    is not synced is older than 10 s, and while it starts, stops or is blocked.

    Parameters
    ----------
    status
        The newest status.
    now
        Monotonic time in seconds.
    blocked_s
        Time since the event loop last turned.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from rangebar_polars.live.health.status import LiveStatus, ProcessState, ProcessStatus
    >>> from rangebar_polars.live.health.status import SymbolStatus, readiness
    >>> from rangebar_polars.live.protocol.states import Reason, State
    >>> at = datetime(2026, 11, 1, tzinfo=UTC)
    >>> process = ProcessStatus(
    ...     status=ProcessState.DEGRADED, version="1", pid=7, host="box", started_at=at, now=at
    ... )
    >>> symbol = SymbolStatus(
    ...     symbol="BTCUSDT", state=State.DEGRADED, reason=Reason.REST_REFUSED, ready_until=20.0
    ... )
    >>> status = LiveStatus(process=process, symbols=[symbol])
    >>> readiness(status, now=20.0)
    []
    >>> readiness(status, now=20.1)[0].to_dict()
    {'reason': 'rest_refused', 'symbol': 'BTCUSDT'}
    """
    found = []
    if not is_live(blocked_s):
        found.append(NotReady("loop_blocked", detail=f"for {blocked_s:.0f} s"))
    if status.process.status is ProcessState.STOPPING:
        found.append(NotReady("stopping"))
    elif not status.symbols:
        found.append(NotReady("starting"))
    for symbol in status.symbols:
        if now > symbol.ready_until:
            # A symbol that has just become live, or whose revision has, has no reason.
            reason = symbol.state.value if symbol.reason is None else symbol.reason.value
            found.append(NotReady(reason, symbol=symbol.symbol, detail=symbol.detail))
        if symbol.unsynced_s > UNSYNCED_S:
            text = f"a record is not synced for {symbol.unsynced_s:.0f} s"
            found.append(NotReady("unsynced", symbol=symbol.symbol, detail=text))
    for consumer in status.consumers:
        failed_at = consumer.last_failing_at
        if failed_at is not None and now - failed_at <= CONSUMER_FAILED_S:
            detail = consumer.last_error
            found.append(NotReady("failing", consumer=consumer.name, detail=detail))
    return found


def overall_state(symbols: Sequence[SymbolStatus], *, is_stopping: bool = False) -> ProcessState:
    """Return the state of a sidecar from those of its symbols.

    Examples
    --------
    >>> from rangebar_polars.live.health.status import SymbolStatus, overall_state
    >>> from rangebar_polars.live.protocol.states import State
    >>> overall_state([SymbolStatus(symbol="BTCUSDT", state=State.LIVE)]).value
    'live'
    >>> overall_state([]).value
    'starting'
    """
    states = [symbol.state for symbol in symbols]
    # A symbol that has been live and backfills has lost something; others are starting.
    has_lost = any(
        symbol.state in (State.HISTORY, State.BACKFILL) and symbol.ready_until > -math.inf
        for symbol in symbols
    )
    if is_stopping:
        return ProcessState.STOPPING
    if states and all(state is State.FAILED for state in states):
        return ProcessState.FAILED
    if has_lost or any(state in (State.DEGRADED, State.FAILED, State.STOPPED) for state in states):
        return ProcessState.DEGRADED
    is_whole = bool(states) and all(state is State.LIVE for state in states)
    return ProcessState.LIVE if is_whole else ProcessState.STARTING
