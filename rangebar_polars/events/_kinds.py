"""The events by name, and a class for each that the package emits with fixed fields."""

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
    "CoverageGap",
    "DownloadCompleted",
    "DownloadFailed",
    "DownloadStarted",
    "Event",
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
    "download": ("download_start", "download_complete", "download_failed", "tick_fetch_progress"),
    "tick_storage": (
        "ticks_written",
        "tick_file_quarantined",
        "tick_file_restored",
        "coverage_gap",
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
    ),
    "kintsugi": ("kintsugi_pass_complete", "gap_detected"),
}

#: The component that an event comes from, by the event's name.
EVENT_NAMES: Mapping[str, str] = MappingProxyType(
    {name: component for component, names in _BY_COMPONENT.items() for name in names}
)

#: Names of the events that tell of a failure.
FAILURES: frozenset[str] = frozenset(
    {name for name in EVENT_NAMES if name.endswith("_failed")}
    | {"symbol_not_registered", "symbol_coverage_mismatch", "threshold_violation"}
    | {"tick_file_quarantined", "coverage_gap", "gap_detected"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a symbol's data; each class names its fields."""

    name: ClassVar[str]
    is_failure: ClassVar[bool] = False

    symbol: str
    trace_id: str | None = field(default=None, kw_only=True)

    def details(self) -> dict[str, object]:
        """The fields of this class of event."""
        own = [item.name for item in fields(self) if item.name not in {"symbol", "trace_id"}]
        return {name: getattr(self, name) for name in own}


@dataclass(frozen=True, slots=True)
class SymbolNotRegistered(Event):
    """The gate met a symbol that the registry does not know, or that is not enabled."""

    name: ClassVar[str] = "symbol_not_registered"
    is_failure: ClassVar[bool] = True

    operation: str
    registered_count: int


@dataclass(frozen=True, slots=True)
class ThresholdViolation(Event):
    """A threshold below the symbol's minimum was asked for; both in decimal basis points."""

    name: ClassVar[str] = "threshold_violation"
    is_failure: ClassVar[bool] = True

    threshold_requested: int
    threshold_minimum: int
    asset_class: str


@dataclass(frozen=True, slots=True)
class DownloadStarted(Event):
    """A source is asked for a day."""

    name: ClassVar[str] = "download_start"

    day: date
    url: str


@dataclass(frozen=True, slots=True)
class DownloadCompleted(Event):
    """A source has given a day."""

    name: ClassVar[str] = "download_complete"

    day: date
    url: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DownloadFailed(Event):
    """A source has not given a day."""

    name: ClassVar[str] = "download_failed"
    is_failure: ClassVar[bool] = True

    day: date
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class TicksWritten(Event):
    """The tick store has new ticks."""

    name: ClassVar[str] = "ticks_written"

    days: Sequence[date]
    rows: int


@dataclass(frozen=True, slots=True)
class TickFileQuarantined(Event):
    """A stored file is not what was written; it was moved aside."""

    name: ClassVar[str] = "tick_file_quarantined"
    is_failure: ClassVar[bool] = True

    day: date
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class TickFileRestored(Event):
    """A quarantined file has its right bytes again, and its day is back in service."""

    name: ClassVar[str] = "tick_file_restored"

    day: date
    path: Path


@dataclass(frozen=True, slots=True)
class CoverageGap(Event):
    """Ids from `first_id` to `last_id` are missing."""

    name: ClassVar[str] = "coverage_gap"
    is_failure: ClassVar[bool] = True

    day: date
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """Days of a series up to `day` are in the bar cache, with the state after them."""

    name: ClassVar[str] = "checkpoint_saved"

    threshold: int
    segment: str
    day: date


@dataclass(frozen=True, slots=True)
class PopulationCompleted(Event):
    """Every day asked for is in the bar cache; `bars` of them are new."""

    name: ClassVar[str] = "population_complete"

    thresholds: Sequence[int]
    first_day: date
    last_day: date
    bars: int


@dataclass(frozen=True, slots=True)
class PopulationFailed(Event):
    """A population stopped; what it published is kept."""

    name: ClassVar[str] = "population_failed"
    is_failure: ClassVar[bool] = True

    thresholds: Sequence[int]
    first_day: date
    last_day: date
    reason: str


def event_name(event: str | type[Event]) -> str:
    """Name of an event, or of a class of events.

    Raises
    ------
    ValueError
        There is no event of that name.
    TypeError
        Neither a text nor a class of events.
    """
    if isinstance(event, type) and issubclass(event, Event):
        return event.name
    if not isinstance(event, str):
        raise TypeError(f"an event is named by a text; it is of type `{type(event).__name__}`")
    if event not in EVENT_NAMES:
        raise ValueError(unknown_choice("event", event, sorted(EVENT_NAMES)))
    return event
