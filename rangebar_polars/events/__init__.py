"""Events that the package emits about its work, and hooks that receive them.

An event goes to the standard logger `rangebar_polars`, to the file of the setting `event_log`, to the
callbacks registered for it, to the services that `rangebar_polars.notify` has enabled, and to Pushover
if it is an alert and the user has set Pushover keys. None of them can stop or delay the work.
"""

from __future__ import annotations

import logging

from rangebar_polars.events._hooks import (
    clear_hooks,
    connect_notifier,
    emit,
    emit_hook,
    flush_hooks,
    register_for_all,
    register_for_failures,
    register_hook,
    unregister_hook,
)
from rangebar_polars.events._kinds import (
    EVENT_NAMES,
    FAILURES,
    CheckpointSaved,
    ChecksumFailed,
    CoverageGap,
    DownloadCompleted,
    DownloadFailed,
    DownloadStarted,
    Event,
    PluginEnrichCompleted,
    PluginEnrichFailed,
    PopulationCompleted,
    PopulationFailed,
    SymbolNotRegistered,
    ThresholdViolation,
    TickFileQuarantined,
    TickFileRestored,
    TicksWritten,
)
from rangebar_polars.events._live_kinds import (
    ArchiveDiffers,
    ConsumerFailed,
    FinalizingBehind,
    GapDetected,
    GapHealed,
    JournalDamaged,
    SidecarCheckpointRestored,
    SidecarCheckpointSaved,
    SidecarDegraded,
    SidecarFailed,
    SidecarLive,
    SidecarNewSeries,
    SidecarReconnected,
    SidecarStalled,
    SidecarStarted,
    SidecarStopped,
    SymbolCoverageMismatch,
    TradeConflict,
    TradeInvalid,
    TradeLate,
)
from rangebar_polars.events._payload import HookPayload, generate_trace_id

__all__ = ["EVENT_NAMES", "FAILURES", "Event", "HookPayload", "emit", "generate_trace_id"]
__all__ += ["clear_hooks", "connect_notifier", "emit_hook", "flush_hooks", "register_for_all"]
__all__ += ["register_for_failures", "register_hook", "unregister_hook"]
__all__ += ["CheckpointSaved", "ChecksumFailed", "PopulationCompleted", "PopulationFailed"]
__all__ += ["CoverageGap", "DownloadCompleted", "DownloadFailed", "DownloadStarted"]
__all__ += ["PluginEnrichCompleted", "PluginEnrichFailed"]
__all__ += ["SymbolNotRegistered", "ThresholdViolation", "TickFileQuarantined"]
__all__ += ["TickFileRestored", "TicksWritten"]
__all__ += ["ArchiveDiffers", "ConsumerFailed", "FinalizingBehind", "GapDetected", "GapHealed"]
__all__ += ["JournalDamaged", "SidecarCheckpointRestored", "SidecarCheckpointSaved"]
__all__ += ["SidecarDegraded", "SidecarFailed", "SidecarLive", "SidecarNewSeries"]
__all__ += ["SidecarReconnected", "SidecarStalled", "SidecarStarted", "SidecarStopped"]
__all__ += ["SymbolCoverageMismatch", "TradeConflict", "TradeInvalid", "TradeLate"]

# The application decides where log records go.
logging.getLogger("rangebar_polars").addHandler(logging.NullHandler())
