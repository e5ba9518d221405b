"""Events that the package emits about its work, and hooks that receive them.

An event goes to the standard logger `rangebar_polars`, to the file of the setting `event_log`, to the
callbacks registered for it, and to Pushover if it is an alert and the user has set Pushover keys. None
of them can stop or delay the work.
"""

from __future__ import annotations

import logging

from rangebar_polars.events._hooks import (
    clear_hooks,
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
from rangebar_polars.events._payload import HookPayload, generate_trace_id

__all__ = ["EVENT_NAMES", "FAILURES", "Event", "HookPayload", "emit", "generate_trace_id"]
__all__ += ["clear_hooks", "emit_hook", "flush_hooks", "register_for_all", "register_for_failures"]
__all__ += ["register_hook", "unregister_hook"]
__all__ += ["CheckpointSaved", "PopulationCompleted", "PopulationFailed"]
__all__ += ["CoverageGap", "DownloadCompleted", "DownloadFailed", "DownloadStarted"]
__all__ += ["PluginEnrichCompleted", "PluginEnrichFailed"]
__all__ += ["SymbolNotRegistered", "ThresholdViolation", "TickFileQuarantined"]
__all__ += ["TickFileRestored", "TicksWritten"]

# The application decides where log records go.
logging.getLogger("rangebar_polars").addHandler(logging.NullHandler())
