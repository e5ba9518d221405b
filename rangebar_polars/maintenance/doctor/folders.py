"""Checks of the folders: whether they can be written, have space, and their file system has locks."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.disk import Disk
from rangebar_polars._files.locks import LockFile
from rangebar_polars._utils.arguments.checks import ACCESS_HINT, is_folder, require_folder
from rangebar_polars.config import config_folder, settings
from rangebar_polars.maintenance.doctor.findings import Finding
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_cache_folder", "check_config_folder", "check_event_log"]

FOLDERS = "folders"
#: Free bytes below which a population will not go far, or nowhere.
LITTLE, NOTHING = 2 * 10**9, 10**8


def check_cache_folder(cache_dir: str | Path | None = None) -> Iterator[Finding]:
    """Check the cache folder, with files that are removed again."""
    folder = settings(cache_dir=cache_dir).cache_dir
    require_folder(folder)
    place = _existing(folder)
    if place == folder:
        fault = _write_fault(folder)
    else:
        fault = None if os.access(place, os.W_OK | os.X_OK) else f"`{place}` cannot be written"
    if fault is not None:
        yield Finding(FOLDERS, "cache folder", "problem", fault, ACCESS_HINT)
        return
    made = "" if place == folder else ", which the first fetch makes"
    yield Finding(FOLDERS, "cache folder", "ok", f"{folder}{made}")
    yield _space(place)


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if is_folder(path))


def _write_fault(folder: Path) -> str | None:
    """Return why the store cannot work in a folder; None if a file can be made, linked and locked."""
    disk = Disk()
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
            file = Path(name) / "file"
            file.write_bytes(b"doctor")
            disk.link(file, file.with_name("link"))
            lock = LockFile(file)
            try:
                return None if lock.try_lock() else f"a file in `{folder}` cannot be locked"
            finally:
                lock.close()
    except OSError as error:
        what = error.strerror or str(error).partition("\n")[0]
        return f"a file in `{folder}` cannot be written, linked and locked: {what}"


def _space(place: Path) -> Finding:
    """Report the free space."""
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < NOTHING:
        return Finding(FOLDERS, "space", "problem", text, "free space, or move the folder")
    state = "note" if free < LITTLE else "ok"
    return Finding(FOLDERS, "space", state, text)  # type: ignore[arg-type]


def check_config_folder() -> Iterator[Finding]:
    """Check the file of settings and that of symbols."""
    chosen = settings()
    is_there = chosen.config.is_file()
    yield Finding(FOLDERS, "settings file", "ok", f"{chosen.config}{'' if is_there else ' (none)'}")
    entries = get_symbol_entries()
    own = chosen.symbols or f"{config_folder() / 'symbols.toml'} (none)"
    yield Finding(FOLDERS, "symbols file", "ok", f"{own}; {len(entries):,} symbols are registered")


def check_event_log() -> Iterator[Finding]:
    """Check the file of events, if one is set."""
    path = settings().event_log
    if path is None:
        return
    parent = _existing(path.absolute().parent)
    is_writable = os.access(path if path.exists() else parent, os.W_OK)
    with suppress(OSError):
        is_writable &= not path.is_dir()
    if is_writable:
        yield Finding(FOLDERS, "event log", "ok", str(path))
    else:
        text = f"`{path}` cannot be written"
        yield Finding(FOLDERS, "event log", "problem", text, "RANGEBAR_EVENT_LOG names the file")
