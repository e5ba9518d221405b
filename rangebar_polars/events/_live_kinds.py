"""Events about live bars: the state of a symbol, its trades, its series, and finalizing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rangebar_polars.events._kinds import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from pathlib import Path

__all__ = [
    "ArchiveDiffers",
    "ConsumerFailed",
    "FinalizingBehind",
    "GapDetected",
    "GapHealed",
    "JournalDamaged",
    "SidecarCheckpointRestored",
    "SidecarCheckpointSaved",
    "SidecarDegraded",
    "SidecarFailed",
    "SidecarLive",
    "SidecarNewSeries",
    "SidecarReconnected",
    "SidecarStalled",
    "SidecarStarted",
    "SidecarStopped",
    "SymbolCoverageMismatch",
    "TradeConflict",
    "TradeInvalid",
    "TradeLate",
]


@dataclass(frozen=True, slots=True)
class SidecarStarted(Event):
    """Emitted when a process has become the writer of a symbol."""

    name: ClassVar[str] = "sidecar_started"

    market: str
    thresholds: Sequence[int]


@dataclass(frozen=True, slots=True)
class SidecarStopped(Event):
    """Emitted when a writer has stopped in order."""

    name: ClassVar[str] = "sidecar_stopped"

    reason: str


@dataclass(frozen=True, slots=True)
class _StateChanged(Event):
    """A new state of a symbol, with its reason and the seconds since the symbol was last live."""

    state: str
    reason: str
    away_s: float


@dataclass(frozen=True, slots=True)
class SidecarLive(_StateChanged):
    """Emitted when a symbol becomes live."""

    name: ClassVar[str] = "sidecar_live"


@dataclass(frozen=True, slots=True)
class SidecarDegraded(_StateChanged):
    """Emitted when a symbol is no longer live, or for another reason than before."""

    name: ClassVar[str] = "sidecar_degraded"


@dataclass(frozen=True, slots=True)
class SidecarStalled(_StateChanged):
    """Emitted when a symbol has not been live for `watchdog_timeout_s`."""

    name: ClassVar[str] = "sidecar_stalled"
    is_failure: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SidecarFailed(_StateChanged):
    """Emitted when a symbol cannot continue. It is started again every ten minutes."""

    name: ClassVar[str] = "sidecar_failed"
    is_failure: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class SidecarReconnected(Event):
    """Emitted when another connection has replaced that of a symbol."""

    name: ClassVar[str] = "sidecar_reconnected"

    reason: str
    away_s: float


@dataclass(frozen=True, slots=True)
class SidecarNewSeries(Event):
    """Emitted when a series begins that continues no stored one."""

    name: ClassVar[str] = "sidecar_new_series"

    threshold: int
    segment: str
    anchor: datetime


@dataclass(frozen=True, slots=True)
class SidecarCheckpointRestored(Event):
    """Emitted when a live series starts from the state after a whole day."""

    name: ClassVar[str] = "sidecar_checkpoint_restored"

    threshold: int
    segment: str
    day: date


@dataclass(frozen=True, slots=True)
class SidecarCheckpointSaved(Event):
    """Emitted when a streamed day is finalized."""

    name: ClassVar[str] = "sidecar_checkpoint_saved"

    day: date


@dataclass(frozen=True, slots=True)
class FinalizingBehind(Event):
    """Emitted when the days from `day` on cannot be finalized for long, with a command that helps."""

    name: ClassVar[str] = "finalizing_behind"
    is_failure: ClassVar[bool] = True

    day: date
    reason: str
    command: str


@dataclass(frozen=True, slots=True)
class ConsumerFailed(Event):
    """Emitted when a consumer has rejected a frame repeatedly. The log has the traceback."""

    name: ClassVar[str] = "consumer_failed"
    is_failure: ClassVar[bool] = True

    consumer: str
    first_id: int
    last_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TradeConflict(Event):
    """Emitted when two trades of one id differ. The first one counts."""

    name: ClassVar[str] = "trade_conflict"
    is_failure: ClassVar[bool] = True

    id: int


@dataclass(frozen=True, slots=True)
class TradeLate(Event):
    """Emitted when trades arrive whose ids were confirmed missing before."""

    name: ClassVar[str] = "trade_late"

    first_id: int
    trades: int


@dataclass(frozen=True, slots=True)
class TradeInvalid(Event):
    """Emitted when the exchange has a trade that is not valid, also by REST."""

    name: ClassVar[str] = "trade_invalid"
    is_failure: ClassVar[bool] = True

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class JournalDamaged(Event):
    """Emitted when a journal has records that cannot be read. Their ids are requested again."""

    name: ClassVar[str] = "journal_damaged"
    is_failure: ClassVar[bool] = True

    day: date
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class ArchiveDiffers(Event):
    """Emitted when the archive of a day differs from the stream, with the first differing ids.

    The other fields are the numbers of live bars that the archive changes, adds and removes.
    """

    name: ClassVar[str] = "archive_differs"
    is_failure: ClassVar[bool] = True

    day: date
    ids: Sequence[int]
    bars_changed: int
    bars_added: int
    bars_removed: int


@dataclass(frozen=True, slots=True)
class GapDetected(Event):
    """Emitted when ids have not arrived although a higher one has."""

    name: ClassVar[str] = "gap_detected"
    is_failure: ClassVar[bool] = True

    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class GapHealed(Event):
    """Emitted when every id of a gap has arrived or is confirmed missing."""

    name: ClassVar[str] = "gap_healed"

    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class SymbolCoverageMismatch(Event):
    """Emitted when a symbol has a live series in the store that a sidecar does not stream."""

    name: ClassVar[str] = "symbol_coverage_mismatch"
    is_failure: ClassVar[bool] = True

    reason: str
