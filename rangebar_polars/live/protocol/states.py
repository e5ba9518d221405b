"""The state of a symbol, from the facts about it, and what its changes report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Change", "ChangeKind", "Facts", "Failure", "Reason", "State", "StateTracker", "Status"]

#: A failed symbol is started again after this time.
RETRY_S = 600.0
#: How long a symbol that has been live may be away before `/ready` says so.
READY_S = 5.0


class State(StrEnum):
    """What a symbol is doing."""

    HISTORY = "history"
    BACKFILL = "backfill"
    LIVE = "live"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPED = "stopped"


class Reason(StrEnum):
    """Why a symbol is degraded. Of several reasons, the first in this order is shown."""

    DISK_FULL = "disk_full"
    CACHE_UNAVAILABLE = "cache_unavailable"
    REST_REFUSED = "rest_refused"
    REST_UNREACHABLE = "rest_unreachable"
    DISCONNECTED = "disconnected"
    SILENT = "silent"
    LAGGING = "lagging"
    GAP = "gap"
    TIME_UNIT = "time_unit"
    REVISING = "revising"


class Failure(StrEnum):
    """Why a symbol has failed. It is started again every ten minutes."""

    INVALID_DATA = "invalid_data"
    COVERAGE = "coverage"
    GIVEN_DAY = "given_day"
    NOT_AT_SOURCE = "not_at_source"


class Status(NamedTuple):
    """A state with its reason, as `/health` shows them."""

    state: State
    reason: Reason | Failure | None = None

    def __str__(self) -> str:
        return self.state if self.reason is None else f"{self.state}({self.reason})"


_NEEDED = frozenset({Reason.REST_REFUSED, Reason.REST_UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is the case for a symbol now.

    Parameters
    ----------
    reasons
        All reasons that apply. REST that refuses or cannot be reached counts only while it is needed.
    is_rest_needed
        Whether ids wait for an answer of REST.
    has_history
        Whether the state after the last whole day is there.
    is_behind
        Whether a backfill is under way.
    failure
        Why the symbol has failed.
    is_stopped
        Whether the symbol has been stopped.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.states import Facts, Reason
    >>> str(Facts(reasons=frozenset({Reason.GAP, Reason.REST_REFUSED})).status)
    'degraded(gap)'
    >>> reasons = frozenset({Reason.GAP, Reason.REST_REFUSED})
    >>> str(Facts(reasons=reasons, is_rest_needed=True).status)
    'degraded(rest_refused)'
    """

    reasons: frozenset[Reason] = frozenset()
    is_rest_needed: bool = False
    has_history: bool = True
    is_behind: bool = False
    failure: Failure | None = None
    is_stopped: bool = False

    @property
    def status(self) -> Status:
        """The state that follows."""
        if self.is_stopped:
            return Status(State.STOPPED)
        if self.failure is not None:
            return Status(State.FAILED, self.failure)
        ignored = frozenset() if self.is_rest_needed else _NEEDED
        for reason in Reason:
            if reason in self.reasons - ignored:
                return Status(State.DEGRADED, reason)
        if not self.has_history:
            return Status(State.HISTORY)
        return Status(State.BACKFILL if self.is_behind else State.LIVE)


class ChangeKind(StrEnum):
    """The event that a change of state emits."""

    LIVE = "sidecar_live"
    DEGRADED = "sidecar_degraded"
    FAILED = "sidecar_failed"
    STALLED = "sidecar_stalled"


class Change(NamedTuple):
    """A change to report, and how long the symbol was not live before it."""

    kind: ChangeKind
    status: Status
    away_s: float


class StateTracker:
    """The states of one symbol over time.

    Parameters
    ----------
    watchdog_s
        A symbol that is not live for longer is reported as stalled, once.
    now
        Monotonic time in seconds.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.states import Facts, Reason, StateTracker
    >>> tracker = StateTracker(watchdog_s=300.0, now=0.0)
    >>> [change.kind.value for change in tracker.update(Facts().status, now=2.0)]
    ['sidecar_live']
    >>> status = Facts(reasons=frozenset({Reason.SILENT})).status
    >>> [str(change.status) for change in tracker.update(status, now=9.0)]
    ['degraded(silent)']
    >>> tracker.is_ready(now=14.0), tracker.is_ready(now=14.1)
    (True, False)
    """

    def __init__(self, watchdog_s: float, now: float) -> None:
        self.status = Status(State.HISTORY)
        #: Since when the symbol has this status.
        self.since = now
        self._watchdog_s = watchdog_s
        self._has_been_live = False
        #: Since when it is not live, and since when not ready: a revision counts as ready.
        self._away_since: float | None = now
        self._unready_since: float | None = now
        self._is_stalled = False

    @property
    def retry_at(self) -> float | None:
        """When a failed symbol is started again; None if it has not failed."""
        return self.since + RETRY_S if self.status.state is State.FAILED else None

    @property
    def due_at(self) -> float | None:
        """When `update` reports a stall although the status stays the same."""
        if self._away_since is None or self._is_stalled or self.status.state is State.STOPPED:
            return None
        return self._away_since + self._watchdog_s

    def update(self, status: Status, now: float) -> list[Change]:
        """Note the status, and return what to report. Call it again at `due_at`."""
        changes = []
        if status != self.status:
            self.status, self.since = status, now
            kind = _KINDS.get(status.state)
            if kind is not None:
                changes.append(Change(kind, status, self._away_s(now)))
        self._note_presence(status, now)
        due_at = self.due_at
        if due_at is not None and now >= due_at:
            self._is_stalled = True
            changes.append(Change(ChangeKind.STALLED, status, self._away_s(now)))
        return changes

    @property
    def ready_until(self) -> float:
        """Until when the symbol counts as ready: infinite while it is live or revises."""
        if not self._has_been_live:
            return float("-inf")
        return float("inf") if self._unready_since is None else self._unready_since + READY_S

    def is_ready(self, now: float) -> bool:
        """Return whether the symbol is live, or was within the last five seconds."""
        return now <= self.ready_until

    def _note_presence(self, status: Status, now: float) -> None:
        is_live = status.state is State.LIVE
        if is_live:
            self._has_been_live, self._is_stalled, self._away_since = True, False, None
        elif self._away_since is None:
            self._away_since = now
        if is_live or status.reason is Reason.REVISING:
            self._unready_since = None
        elif self._unready_since is None:
            self._unready_since = now

    def _away_s(self, now: float) -> float:
        return 0.0 if self._away_since is None else now - self._away_since


_KINDS = {
    State.LIVE: ChangeKind.LIVE,
    State.DEGRADED: ChangeKind.DEGRADED,
    State.FAILED: ChangeKind.FAILED,
}
