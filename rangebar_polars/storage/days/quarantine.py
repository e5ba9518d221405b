"""Files that are not what was written: set aside under the lock, and taken back once they are right."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import disk_errors, sha256_of
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.events import TickFileQuarantined, TickFileRestored, emit
from rangebar_polars.exceptions import (
    ParquetCorruptionError,
    SnapshotExpiredError,
    StorageError,
    with_hint,
)
from rangebar_polars.storage.days.day_file import FileFaultError, read_proved
from rangebar_polars.storage.files.content_file import make_folders, move_aside, read_file
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.layout import listed, month_of
from rangebar_polars.storage.manifest.versions import read_manifest, update_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["corruption", "expired", "heal", "restore", "set_aside", "set_aside_locked"]


_LOG = logging.getLogger("rangebar_polars.storage")


def set_aside(
    symbol_dir: SymbolDir, day: date, entry: DayEntry, fault: FileFaultError
) -> DayEntry | None:
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
    with writing(symbol_dir):
        return set_aside_locked(symbol_dir, day, entry, fault)


def set_aside_locked(
    symbol_dir: SymbolDir, day: date, entry: DayEntry, fault: FileFaultError
) -> DayEntry | None:
    """The same for one who holds the lock."""
    now = read_manifest(symbol_dir, month_of(day)).days.get(day)
    is_replaced = now is None or now.file != entry.file
    if now is not None and not is_replaced and not now.is_kept:
        return _restore_locked(symbol_dir, day)
    try:
        read_proved(symbol_dir, day, entry)
    except FileFaultError as still:
        fault = still
    else:
        return entry
    if is_replaced:
        return _of_another_time(symbol_dir, day, entry, now, fault)
    path = fault.path if fault.is_gone else move_aside(symbol_dir, fault.path)
    change = entry.quarantined(fault.reason)
    update_manifest(symbol_dir, month_of(day), lambda _: {day: change})
    emit(TickFileQuarantined(symbol_dir.symbol, day=day, path=path, reason=fault.reason))
    return None


def _of_another_time(
    symbol_dir: SymbolDir, day: date, entry: DayEntry, now: DayEntry | None, fault: FileFaultError
) -> DayEntry:
    """What stands for a day of an older manifest, if it has the same rows."""
    if not fault.is_gone:
        path = move_aside(symbol_dir, fault.path)
        emit(TickFileQuarantined(symbol_dir.symbol, day=day, path=path, reason=fault.reason))
    if now is None or not now.is_kept or now.content != entry.content:
        raise expired(symbol_dir, day, fault)
    return now


def heal(
    symbol_dir: SymbolDir, days: Iterable[date], entries: Mapping[date, DayEntry]
) -> dict[date, DayEntry]:
    """Take back quarantined days whose bytes are right again.

    Where the store cannot be written, a file that is right in its place can be read nevertheless.

    Returns
    -------
    dict
        The days that are back in service, with their entries.
    """
    healed = {}
    for day in days:
        entry = entries.get(day)
        if entry is None or entry.is_kept:
            continue
        found = _right_file(symbol_dir, day, entry)
        if found is None:
            continue
        try:
            restored = restore(symbol_dir, day)
        except StorageError as error:
            _LOG.warning("%s of %s was not taken back: %s", day, symbol_dir.label, error)
            is_in_place = found == symbol_dir.day_file(day, entry.file)
            restored = entry.restored() if is_in_place else None
        if restored is not None:
            healed[day] = restored
    return healed


def restore(symbol_dir: SymbolDir, day: date) -> DayEntry | None:
    """Take a quarantined day back into service.

    Returns
    -------
    DayEntry or None
        What stands for the day now; None if its right bytes are neither in its place nor in the
        quarantine.

    Raises
    ------
    StorageError
        The store could not be written.
    """
    with writing(symbol_dir):
        return _restore_locked(symbol_dir, day)


def _restore_locked(symbol_dir: SymbolDir, day: date) -> DayEntry | None:
    entry = read_manifest(symbol_dir, month_of(day)).days.get(day)
    if entry is None or entry.is_kept:
        return entry
    found = _right_file(symbol_dir, day, entry)
    if found is None:
        return None
    path = symbol_dir.day_file(day, entry.file)
    if found != path:
        _put_back(symbol_dir, found, path)
    restored = entry.restored()
    update_manifest(symbol_dir, month_of(day), lambda _: {day: restored})
    emit(TickFileRestored(symbol_dir.symbol, day=day, path=path))
    return restored


def _right_file(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> Path | None:
    """Return the file that has the bytes of an entry: in its place, or set aside."""
    for path in _copies(symbol_dir, day, entry):
        try:
            if path.stat().st_size == entry.bytes:
                data = read_file(symbol_dir, path)
                if sha256_of(data) == entry.sha256:
                    return path
        except OSError:  # a copy that is away, or cannot be read, is not the right one
            continue
    return None


def _copies(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> Iterator[Path]:
    if not entry.file:
        return
    yield symbol_dir.day_file(day, entry.file)
    name = re.compile(rf"{re.escape(entry.file)}(\.[0-9]+)?")
    yield from (path for path in listed(symbol_dir.quarantine) if name.fullmatch(path.name))


def _put_back(symbol_dir: SymbolDir, found: Path, path: Path) -> None:
    """Move a file out of the quarantine; another one that is in its place gives way."""
    with disk_errors(path):
        make_folders(symbol_dir, path.parent)
        try:
            symbol_dir.disk.link(found, path)
        except FileExistsError:
            move_aside(symbol_dir, path)
            symbol_dir.disk.link(found, path)
        symbol_dir.disk.sync_folder(path.parent)
        failpoint(Step.FILE_PUT_BACK)
        symbol_dir.disk.unlink(found)
        symbol_dir.disk.sync_folder(symbol_dir.quarantine)


def corruption(symbol_dir: SymbolDir, day: date, fault: FileFaultError) -> ParquetCorruptionError:
    """The error for a day whose file is faulty and could not be had again."""
    return ParquetCorruptionError(
        with_hint(
            f"the file of {day} of {symbol_dir.label}, `{fault.path}`, is not what was written: "
            f"{fault.reason}",
            f"fetch the day again: rangebar fetch {symbol_dir.symbol} {day} {day}; or, of your own "
            f"ticks, write it again; the file itself is kept in `{symbol_dir.quarantine}`",
        ),
        path=fault.path,
        reason=fault.reason,
    )


def expired(symbol_dir: SymbolDir, day: date, fault: FileFaultError) -> SnapshotExpiredError:
    """The error for a plan that is older than what is kept."""
    return SnapshotExpiredError(
        with_hint(
            f"the file of {day} of {symbol_dir.label} that this plan was made with, `{fault.path.name}`, "
            "has been replaced and removed since",
            f'make the plan anew: scan_ticks("{symbol_dir.symbol}", start, end)',
        )
    )
