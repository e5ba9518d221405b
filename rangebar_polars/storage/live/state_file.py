"""The state file of a symbol's writer, which other processes read."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.atomic import disk_errors, temporary_name, temporary_pid
from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.storage.files.content_file import make_folders
from rangebar_polars.storage.layout import listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["day_of", "read_state", "remove_unfinished", "state_age_s", "state_path", "write_state"]

_NAME = "state.json"


def state_path(symbol_dir: SymbolDir) -> Path:
    """Return the path of the state file."""
    return symbol_dir.live / _NAME


def write_state(
    symbol_dir: SymbolDir, state: Mapping[str, Any], *, is_durable: bool = False
) -> None:
    """Replace the state file. It is the old or the new one, complete, if the process ends meanwhile.

    Parameters
    ----------
    symbol_dir
        The folder of the symbol, whose writer lock this process holds.
    state
        Values that JSON knows.
    is_durable
        Whether the file survives a loss of power from now on. Otherwise, it may then be empty.

    Raises
    ------
    StorageError
        The file cannot be written. The old one stays.
    """
    disk, path = symbol_dir.disk, state_path(symbol_dir)
    data = json.dumps(state, separators=(",", ":")).encode()
    temporary = path.parent / temporary_name(_NAME)
    with disk_errors(path):
        make_folders(symbol_dir, path.parent)
        try:
            file = disk.create(temporary)
            try:
                disk.write(file, memoryview(data))
                if is_durable:
                    disk.sync(file)
            finally:
                disk.close(file)
            disk.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                disk.unlink(temporary)
            raise
        if is_durable:
            disk.sync_folder(path.parent)
    failpoint(Step.STATE_FILE_WRITTEN)


def read_state(symbol_dir: SymbolDir) -> dict[str, Any] | None:
    """Read the state file. None means that there is no information: no file, or not a readable one."""
    try:
        state = json.loads(symbol_dir.disk.read(state_path(symbol_dir)))
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def day_of(value: object) -> date | None:
    """Return the UTC day of a date or an instant in a state file; None if the value is neither.

    Examples
    --------
    >>> from rangebar_polars.storage.live.state_file import day_of
    >>> str(day_of("2026-11-02T23:00:00-05:00")), day_of(None)
    ('2026-11-03', None)
    """
    try:
        at = datetime.fromisoformat(str(value))
        return at.date() if at.tzinfo is None else at.astimezone(UTC).date()
    except (ValueError, OverflowError):
        return None


def state_age_s(symbol_dir: SymbolDir) -> float | None:
    """Return the seconds since the state file was written; None without one.

    Its modification time is compared with that of a file that is made now, since the clock of the
    machine may be another than that of the file system.
    """
    try:
        written = state_path(symbol_dir).stat().st_mtime
    except OSError:
        return None
    return max(0.0, _now_of_files(symbol_dir.live) - written)


def _now_of_files(folder: Path) -> float:
    """Return the modification time of a file made now; the machine's time where none can be made."""
    path = folder / temporary_name("now")
    try:
        file = Disk().create(path)
    except OSError:
        return time.time()
    try:
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        with suppress(OSError):
            path.unlink()


def remove_unfinished(symbol_dir: SymbolDir) -> int:
    """Remove what writers left behind that ended while they wrote the state; return the number of files.

    The caller holds the writer lock.
    """
    count = 0
    for path in listed(symbol_dir.live):
        if temporary_pid(path.name) is not None and path.name.startswith(f".{_NAME}."):
            symbol_dir.disk.unlink(path)
            count += 1
    return count
