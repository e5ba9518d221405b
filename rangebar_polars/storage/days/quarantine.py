"""Quarantine: faulty files are moved aside under the lock, and restored once their bytes are right."""

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
from rangebar_polars.sources import is_user_source
from rangebar_polars.storage.days.day_file import FileFaultError, read_verified
from rangebar_polars.storage.files.content_file import make_folders, move_aside, read_file
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.layout import listed, month_of, write_hint
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
    """Quarantine a day whose file is faulty.

    Returns
    -------
    DayEntry or None
        The valid entry of the day, if another reader or writer has repaired it meanwhile.

    Raises
    ------
    SnapshotExpiredError
        The newest manifest names another file, and this one is gone.
    StorageError
        The file could not be moved.
    """
    with writing(symbol_dir):
        return set_aside_locked(symbol_dir, day, entry, fault)


def set_aside_locked(
    symbol_dir: SymbolDir, day: date, entry: DayEntry, fault: FileFaultError
) -> DayEntry | None:
    """Do the same as `set_aside`, for a caller that holds the lock."""
    now = read_manifest(symbol_dir, month_of(day)).days.get(day)
    is_replaced = now is None or now.file != entry.file
    if now is not None and not is_replaced and not now.is_stored:
        return _restore_locked(symbol_dir, day)
    try:
        read_verified(symbol_dir, day, entry)
    except FileFaultError as still:
        fault = still
    else:
        return entry
    if is_replaced:
        return _entry_of_replaced(symbol_dir, day, entry, now, fault)
    path = fault.path if fault.is_gone else move_aside(symbol_dir, fault.path)
    change = entry.quarantined(fault.reason)
    update_manifest(symbol_dir, month_of(day), lambda _: {day: change})
    emit(TickFileQuarantined(symbol_dir.symbol, day=day, path=path, reason=fault.reason))
    return None


def _entry_of_replaced(
    symbol_dir: SymbolDir, day: date, entry: DayEntry, now: DayEntry | None, fault: FileFaultError
) -> DayEntry:
    """Return the current entry of a day of an older manifest, if it has the same rows."""
    if not fault.is_gone:
        path = move_aside(symbol_dir, fault.path)
        emit(TickFileQuarantined(symbol_dir.symbol, day=day, path=path, reason=fault.reason))
    if now is None or not now.is_stored or now.content != entry.content:
        raise expired(symbol_dir, day, fault)
    return now


def heal(
    symbol_dir: SymbolDir, days: Iterable[date], entries: Mapping[date, DayEntry]
) -> dict[date, DayEntry]:
    """Restore quarantined days whose bytes are right again.

    If the store cannot be written, a day whose file is right and in its place is still returned.

    Returns
    -------
    dict
        The restored days, with their entries.
    """
    healed = {}
    for day in days:
        entry = entries.get(day)
        if entry is None or entry.is_stored:
            continue
        found = _right_file(symbol_dir, day, entry)
        if found is None:
            continue
        try:
            restored = restore(symbol_dir, day)
        except StorageError as error:
            _LOG.warning("%s of %s could not be restored: %s", day, symbol_dir.label, error)
            is_in_place = found == symbol_dir.day_file(day, entry.file)
            restored = entry.restored() if is_in_place else None
        if restored is not None:
            healed[day] = restored
    return healed


def restore(symbol_dir: SymbolDir, day: date) -> DayEntry | None:
    """Restore a quarantined day.

    Returns
    -------
    DayEntry or None
        The valid entry of the day, or None if its bytes are neither in its place nor in the
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
    if entry is None or entry.is_stored:
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
    """Return a file with the bytes of an entry: in its place, or in quarantine."""
    for path in _copies(symbol_dir, day, entry):
        try:
            if path.stat().st_size == entry.bytes:
                data = read_file(symbol_dir, path)
                if sha256_of(data) == entry.sha256:
                    return path
        except OSError:  # a copy that is missing or unreadable is not the right one
            continue
    return None


def _copies(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> Iterator[Path]:
    if not entry.file:
        return
    yield symbol_dir.day_file(day, entry.file)
    name = re.compile(rf"{re.escape(entry.file)}(\.[0-9]+)?")
    yield from (path for path in listed(symbol_dir.quarantine) if name.fullmatch(path.name))


def _put_back(symbol_dir: SymbolDir, found: Path, path: Path) -> None:
    """Move a file out of the quarantine, and another file that is in its place into it."""
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


def _again_hint(symbol_dir: SymbolDir, day: date) -> str:
    if is_user_source(symbol_dir.source):
        return f"{write_hint(symbol_dir)}, with the whole day"
    return (
        f"fetch the day again: rangebar fetch {symbol_dir.symbol} {day} {day}; write it again "
        "if the ticks are your own"
    )


def corruption(symbol_dir: SymbolDir, day: date, fault: FileFaultError) -> ParquetCorruptionError:
    """Return the error for a day whose file is faulty and could not be replaced."""
    return ParquetCorruptionError(
        with_hint(
            f"the file of {day} of {symbol_dir.label}, `{fault.path}`, is not what was written: "
            f"{fault.reason}",
            f"{_again_hint(symbol_dir, day)}; the faulty file is in `{symbol_dir.quarantine}`",
        ),
        path=fault.path,
        reason=fault.reason,
    )


def expired(symbol_dir: SymbolDir, day: date, fault: FileFaultError) -> SnapshotExpiredError:
    """Return the error for a lazy frame whose file has been removed."""
    return SnapshotExpiredError(
        with_hint(
            f"the file of {day} of {symbol_dir.label} that this plan reads, `{fault.path.name}`, "
            "has been replaced and removed since the plan was made",
            f'make the plan again: scan_ticks("{symbol_dir.symbol}", start, end)',
        )
    )
