"""Names of all events, and a class for each event that the package emits with fixed fields."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from rangebar_polars.exceptions import unknown_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from pathlib import Path

__all__ = [
    "EVENT_NAMES",
    "FAILURES",
    "CheckpointSaved",
    "ChecksumFailed",
    "CoverageGap",
    "DownloadCompleted",
    "DownloadFailed",
    "DownloadStarted",
    "Event",
    "PluginEnrichCompleted",
    "PluginEnrichFailed",
    "PopulationCompleted",
    "PopulationFailed",
    "SymbolNotRegistered",
    "ThresholdViolation",
    "TickFileQuarantined",
    "TickFileRestored",
    "TicksWritten",
    "event_name",
]

_BY_COMPONENT = {
    "symbol_registry": ("symbol_not_registered", "symbol_coverage_mismatch"),
    "threshold_validation": ("threshold_violation",),
    "download": (
        "download_start",
        "download_complete",
        "download_failed",
        "tick_fetch_progress",
        "checksum_failed",
    ),
    "tick_storage": (
        "ticks_written",
        "tick_file_quarantined",
        "tick_file_restored",
        "coverage_gap",
        "journal_damaged",
    ),
    "cache_write": ("cache_write_start", "cache_write_complete", "cache_write_failed"),
    "validation": ("validation_complete", "validation_failed"),
    "checkpoint": ("checkpoint_saved", "checkpoint_restored", "checkpoint_restore_failed"),
    "population": ("population_complete", "population_failed", "migration_progress"),
    "strategy": ("strategy_init", "strategy_signal", "trade_complete", "backtest_complete"),
    "plugin": ("plugin_enrich_complete", "plugin_enrich_failed"),
    "sidecar": (
        "sidecar_started",
        "sidecar_stopped",
        "sidecar_checkpoint_saved",
        "sidecar_checkpoint_restored",
        "sidecar_live",
        "sidecar_degraded",
        "sidecar_stalled",
        "sidecar_failed",
        "sidecar_reconnected",
        "sidecar_new_series",
        "finalizing_behind",
        "consumer_failed",
        "trade_conflict",
        "trade_late",
        "trade_invalid",
        "archive_differs",
    ),
    "kintsugi": (
        "kintsugi_pass_complete",
        "gap_detected",
        "gap_healed",
        "gap_unrepairable",
        "archive_republished",
    ),
}

#: The component that an event comes from, by the event's name.
EVENT_NAMES: Mapping[str, str] = MappingProxyType(
    {name: component for component, names in _BY_COMPONENT.items() for name in names}
)

#: Names of the events that report a failure.
FAILURES: frozenset[str] = frozenset(
    {name for name in EVENT_NAMES if name.endswith("_failed")}
    | {"symbol_not_registered", "symbol_coverage_mismatch", "threshold_violation"}
    | {"tick_file_quarantined", "coverage_gap", "gap_detected", "gap_unrepairable"}
    | {"journal_damaged"}
    | {"sidecar_stalled", "finalizing_behind", "trade_conflict", "trade_invalid"}
    | {"archive_differs"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """Base class of events about the data of a symbol."""

    name: ClassVar[str]
    is_failure: ClassVar[bool] = False

    symbol: str
    trace_id: str | None = field(default=None, kw_only=True)

    def details(self) -> dict[str, object]:
        """Return the fields of the event except `symbol` and `trace_id`."""
        own = [item.name for item in fields(self) if item.name not in {"symbol", "trace_id"}]
        return {name: getattr(self, name) for name in own}


@dataclass(frozen=True, slots=True)
class SymbolNotRegistered(Event):
    """Emitted when the gate meets a symbol that is not registered or not enabled."""

    name: ClassVar[str] = "symbol_not_registered"
    is_failure: ClassVar[bool] = True

    operation: str
    registered_count: int


@dataclass(frozen=True, slots=True)
class ThresholdViolation(Event):
    """Emitted when a threshold is below the symbol's minimum, both in decimal basis points."""

    name: ClassVar[str] = "threshold_violation"
    is_failure: ClassVar[bool] = True

    threshold_requested: int
    threshold_minimum: int
    asset_class: str


@dataclass(frozen=True, slots=True)
class DownloadStarted(Event):
    """Emitted when the download of a day starts."""

    name: ClassVar[str] = "download_start"

    day: date
    url: str


@dataclass(frozen=True, slots=True)
class DownloadCompleted(Event):
    """Emitted when the download of a day is complete."""

    name: ClassVar[str] = "download_complete"

    day: date
    url: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DownloadFailed(Event):
    """Emitted when the download of a day fails."""

    name: ClassVar[str] = "download_failed"
    is_failure: ClassVar[bool] = True

    day: date
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChecksumFailed(Event):
    """Emitted when an archive does not have its published SHA-256, also after a second download."""

    name: ClassVar[str] = "checksum_failed"
    is_failure: ClassVar[bool] = True

    day: date
    url: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class TicksWritten(Event):
    """Emitted when ticks are written to the tick store."""

    name: ClassVar[str] = "ticks_written"

    days: Sequence[date]
    rows: int


@dataclass(frozen=True, slots=True)
class TickFileQuarantined(Event):
    """Emitted when a corrupt file of the tick store is quarantined."""

    name: ClassVar[str] = "tick_file_quarantined"
    is_failure: ClassVar[bool] = True

    day: date
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class TickFileRestored(Event):
    """Emitted when a quarantined file is intact again and its day is restored."""

    name: ClassVar[str] = "tick_file_restored"

    day: date
    path: Path


@dataclass(frozen=True, slots=True)
class CoverageGap(Event):
    """Emitted when ids from `first_id` to `last_id` are missing."""

    name: ClassVar[str] = "coverage_gap"
    is_failure: ClassVar[bool] = True

    day: date
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """Emitted when the bars of a series up to `day` are in the cache, with a checkpoint."""

    name: ClassVar[str] = "checkpoint_saved"

    threshold: int
    segment: str
    day: date


@dataclass(frozen=True, slots=True)
class PopulationCompleted(Event):
    """Emitted when a population is complete, with the number of new bars in `bars`."""

    name: ClassVar[str] = "population_complete"

    thresholds: Sequence[int]
    first_day: date
    last_day: date
    bars: int


@dataclass(frozen=True, slots=True)
class PopulationFailed(Event):
    """Emitted when a population stops early. Published bars stay in the cache."""

    name: ClassVar[str] = "population_failed"
    is_failure: ClassVar[bool] = True

    thresholds: Sequence[int]
    first_day: date
    last_day: date
    reason: str


@dataclass(frozen=True, slots=True)
class PluginEnrichCompleted(Event):
    """Emitted when a plugin has computed its columns of `rows` bars of a series."""

    name: ClassVar[str] = "plugin_enrich_complete"

    provider: str
    version: str
    threshold: int
    rows: int


@dataclass(frozen=True, slots=True)
class PluginEnrichFailed(Event):
    """Emitted when a plugin cannot be loaded or fails, once a call and plugin."""

    name: ClassVar[str] = "plugin_enrich_failed"
    is_failure: ClassVar[bool] = True

    provider: str
    version: str
    reason: str


def event_name(event: str | type[Event]) -> str:
    """Return the name of an event or of an event class.

    Raises
    ------
    ValueError
        There is no event of that name.
    TypeError
        The argument is neither text nor an event class.
    """
    if isinstance(event, type) and issubclass(event, Event):
        return event.name
    if not isinstance(event, str):
        raise TypeError(
            f"`event` must be a name or an event class; it is of type `{type(event).__name__}`"
        )
    if event not in EVENT_NAMES:
        raise ValueError(unknown_choice("event", event, sorted(EVENT_NAMES)))
    return event
