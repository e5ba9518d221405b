"""Files that are not what they were: set aside under the lock, never removed, never read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.events import TickFileQuarantined, emit
from rangebar_polars.exceptions import ParquetCorruptionError, SnapshotExpiredError, with_hint
from rangebar_polars.storage.days import FileFaultError, read_proved
from rangebar_polars.storage.disk import Step
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.lock import writing
from rangebar_polars.storage.manifest import read_manifest, update_manifest
from rangebar_polars.storage.place import disk_errors, make_folders

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from rangebar_polars.storage.entry import DayEntry
    from rangebar_polars.storage.layout import Shelf

__all__ = ["corruption", "expired", "move_aside", "set_aside", "set_aside_locked"]


def set_aside(shelf: Shelf, day: date, entry: DayEntry, fault: FileFaultError) -> DayEntry | None:
    """Take a day with a faulty file out of service.

    Returns
    -------
    DayEntry or None
        What stands for the day now, if another reader or writer has mended it meanwhile.

    Raises
    ------
    SnapshotExpiredError
        The file is not that of the newest manifest, and gone.
    StorageError
        It could not be moved.
    """
    with writing(shelf):
        return set_aside_locked(shelf, day, entry, fault)


def set_aside_locked(
    shelf: Shelf, day: date, entry: DayEntry, fault: FileFaultError
) -> DayEntry | None:
    """The same for one who holds the lock."""
    now = read_manifest(shelf, month_of(day)).days.get(day)
    is_replaced = now is None or now.file != entry.file
    if now is not None and not is_replaced and not now.is_kept:
        return None
    try:
        read_proved(shelf, day, entry)
    except FileFaultError as still:
        fault = still
    else:
        return entry
    if is_replaced:
        return _of_another_time(shelf, day, entry, now, fault)
    path = fault.path if fault.is_gone else move_aside(shelf, fault.path)
    change = entry.quarantined(fault.reason)
    update_manifest(shelf, month_of(day), lambda _: {day: change})
    emit(TickFileQuarantined(shelf.symbol, day=day, path=path, reason=fault.reason))
    return None


def _of_another_time(
    shelf: Shelf, day: date, entry: DayEntry, now: DayEntry | None, fault: FileFaultError
) -> DayEntry:
    """What stands for a day of an older manifest, if it has the same rows."""
    if not fault.is_gone:
        path = move_aside(shelf, fault.path)
        emit(TickFileQuarantined(shelf.symbol, day=day, path=path, reason=fault.reason))
    if now is None or not now.is_kept or now.content != entry.content:
        raise expired(shelf, day, fault)
    return now


def move_aside(shelf: Shelf, path: Path) -> Path:
    """Move a file into the quarantine, under a name that no other file there has."""
    with disk_errors(path):
        make_folders(shelf, shelf.quarantine)
        target = _link_aside(shelf, path)
        shelf.disk.sync_folder(shelf.quarantine)
        shelf.disk.reached(Step.FILE_QUARANTINED)
        shelf.disk.unlink(path)
        shelf.disk.sync_folder(path.parent)
        shelf.disk.reached(Step.QUARANTINE_SYNCED)
    return target


def _link_aside(shelf: Shelf, path: Path) -> Path:
    number = 1
    while True:
        target = shelf.quarantine / (path.name if number == 1 else f"{path.name}.{number}")
        try:
            shelf.disk.link(path, target)
        except FileExistsError:
            if target.samefile(path):  # of a process that ended before it took the other name away
                return target
            number += 1
        else:
            return target


def corruption(shelf: Shelf, day: date, fault: FileFaultError) -> ParquetCorruptionError:
    """The error for a day whose file is faulty and could not be had again."""
    return ParquetCorruptionError(
        with_hint(
            f"the file of {day} of {shelf.label}, `{fault.path}`, is not what was written: "
            f"{fault.reason}",
            f"fetch the day again: rangebar fetch {shelf.symbol} {day} {day}; or, of your own "
            f"ticks, write it again; the file itself is kept in `{shelf.quarantine}`",
        ),
        path=fault.path,
        reason=fault.reason,
    )


def expired(shelf: Shelf, day: date, fault: FileFaultError) -> SnapshotExpiredError:
    """The error for a plan that is older than what is kept."""
    return SnapshotExpiredError(
        with_hint(
            f"the file of {day} of {shelf.label} that this plan was made with, `{fault.path.name}`, "
            "has been replaced and removed since",
            f'make the plan anew: scan_ticks("{shelf.symbol}", start, end)',
        )
    )
