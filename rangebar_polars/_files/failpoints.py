"""Failpoints: the named steps of a change at which a process may end, for tests that cut it off there."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Step", "failpoint", "is_observed", "on_failpoint"]


class Step(StrEnum):
    """A moment between two effects that outlast the process."""

    # Files: the tick store and local checkpoints.
    LOCKED = "disk.locked"
    FOLDER_MADE = "disk.folder_made"
    FOLDERS_SYNCED = "disk.folders_synced"
    STALE_TEMP_REMOVED = "disk.stale_temp_removed"
    TEMP_CREATED = "disk.temp_created"
    TEMP_HALF_WRITTEN = "disk.temp_half_written"
    TEMP_WRITTEN = "disk.temp_written"
    TEMP_SYNCED = "disk.temp_synced"
    TEMP_VERIFIED = "disk.temp_verified"
    LINKED = "disk.linked"
    PLACE_SYNCED = "disk.place_synced"
    TEMP_REMOVED = "disk.temp_removed"
    DAYS_PLACED = "disk.days_placed"
    REPLACED_TOUCHED = "disk.replaced_touched"
    MANIFEST_COMMITTED = "disk.manifest_committed"
    FILE_QUARANTINED = "disk.file_quarantined"
    QUARANTINE_SYNCED = "disk.quarantine_synced"
    FILE_PUT_BACK = "disk.file_put_back"
    GARBAGE_REMOVED = "disk.garbage_removed"

    # Live bars: the writer lock of a symbol, its journals and its state file.
    LOCK_TAKEN = "live.lock_taken"
    JOURNALS_RECOVERED = "live.journals_recovered"
    JOURNAL_CREATED = "live.journal_created"
    RECORD_HALF_WRITTEN = "live.record_half_written"
    RECORD_WRITTEN = "live.record_written"
    RECORD_SYNCED = "live.record_synced"
    MISSING_WRITTEN = "live.missing_written"
    DAY_CLOSED = "live.day_closed"
    DAY_COMPACTED = "live.day_compacted"
    DAY_FINAL = "live.day_final"
    UNITS_STORED = "live.units_stored"
    REVISION_WRITTEN = "live.revision_written"
    REVISED = "live.revised"
    STATE_FILE_WRITTEN = "live.state_file_written"
    LOCK_RELEASED = "live.lock_released"

    # Live bars: the protocol of a symbol, and its connections.
    STATE_READY = "live.state_ready"
    CONNECTED = "live.connected"
    BACKFILL_PAGE = "live.backfill_page"
    PUSHED = "live.pushed"
    CONNECTION_REPLACED = "live.connection_replaced"

    # The bar cache, and a population that fills it.
    LEASES_TAKEN = "cache.leases_taken"
    CACHE_OPENED = "cache.cache_opened"
    COLUMNS_ADDED = "cache.columns_added"
    BARS_BEFORE = "cache.bars_before"
    BARS_INSERTED = "cache.bars_inserted"
    BARS_PROVED = "cache.bars_proved"
    UNITS_INSERTED = "cache.units_inserted"
    UNITS_PROVED = "cache.units_proved"
    GENERATION_OPENED = "cache.generation_opened"
    GENERATION_PUBLISHED = "cache.generation_published"
    GENERATION_DISCARDED = "cache.generation_discarded"
    CHECKPOINTS_WRITTEN = "cache.checkpoints_written"

    # A repair pass.
    TASK_PLANNED = "repair.task_planned"
    TICKS_FILLED = "repair.ticks_filled"
    JOURNAL_COMPACTED = "repair.journal_compacted"
    REBUILT = "repair.rebuilt"
    VERIFIED = "repair.verified"
    LEDGER_WRITTEN = "repair.ledger_written"
    LOCAL_COPY_WRITTEN = "cache.local_copy_written"
    LEASES_RELEASED = "cache.leases_released"

    # Live bars: a consumer has taken bars, and its cursor says so.
    DELIVERED = "live.delivered"
    CURSOR_SAVED = "live.cursor_saved"

    @property
    def area(self) -> str:
        """The part of the package that reaches the step: `disk`, `cache` or `live`."""
        return self.value.partition(".")[0]


# A list of the process, not a context variable: steps are reached in worker threads, too.
_OBSERVERS: list[Callable[[Step], object]] = []


def failpoint(step: Step) -> None:
    """Report that a step is reached to the observers of this process."""
    for observer in tuple(_OBSERVERS):
        observer(step)


def is_observed() -> bool:
    """Return whether an observer is there, for which a step that is one call is done in two."""
    return bool(_OBSERVERS)


@contextmanager
def on_failpoint(observer: Callable[[Step], object]) -> Iterator[None]:
    """Call a function at every step that any thread of this process reaches.

    The function runs in the thread that reached the step. It may raise there, or end the process.

    Examples
    --------
    >>> from rangebar_polars._files.failpoints import Step, failpoint, on_failpoint
    >>> with on_failpoint(print):
    ...     failpoint(Step.BARS_PROVED)
    cache.bars_proved
    """
    _OBSERVERS.append(observer)
    try:
        yield
    finally:
        _OBSERVERS.remove(observer)
