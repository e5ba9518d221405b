"""Atomic placement of files: written aside, synced, read back and linked, never over another file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import (
    disk_errors,
    make_synced_folders,
    sha256_of,
    temporary_name,
    verify_content,
    write_synced,
)
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.locks import beat
from rangebar_polars.exceptions import StorageError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["make_folders", "move_aside", "place", "read_file"]


def make_folders(symbol_dir: SymbolDir, path: Path) -> None:
    """Make a folder of the store and its parents, so that they survive a loss of power."""
    make_synced_folders(symbol_dir.disk, symbol_dir.root, path)


def place(
    symbol_dir: SymbolDir, folder: Path, data: memoryview, name_of: Callable[[str], str]
) -> str:
    """Write bytes to a new file, and return their SHA-256, of which `name_of` makes the name.

    Whenever the process or the machine ends, either there is no such file or it is complete.

    Raises
    ------
    FileExistsError
        The name is taken. The existing file is unchanged.
    StorageError
        The bytes could not be written. There is no file with the name.
    """
    disk = symbol_dir.disk
    with disk_errors(folder), ThreadPoolExecutor(1) as hasher:
        make_folders(symbol_dir, folder)
        hashed = hasher.submit(sha256_of, data)
        temporary = folder / temporary_name(name_of("")[:40])
        try:
            write_synced(disk, temporary, data)
            sha256 = hashed.result()
            verify_content(disk, temporary, sha256)
            try:
                disk.link(temporary, folder / name_of(sha256))
                failpoint(Step.LINKED)
            finally:
                # The process that took the name may have ended before it synced the folder.
                disk.sync_folder(folder)
            failpoint(Step.PLACE_SYNCED)
        finally:
            with suppress(OSError):
                disk.unlink(temporary)
        failpoint(Step.TEMP_REMOVED)
        beat(symbol_dir.lock_file)
    return sha256


def read_file(symbol_dir: SymbolDir, path: Path) -> bytes:
    """Read a file of the store. Links out of the store are not followed.

    Raises
    ------
    StorageError
        The path is a link out of the store.
    OSError
        The file cannot be read, or is not a regular file.
    """
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        folders = (path.parent, symbol_dir.root)  # the user may have made either a link
        if not any(target.is_relative_to(os.path.realpath(folder)) for folder in folders):
            raise StorageError(
                with_hint(
                    f"`{path}` is a link that leads out of the store, to `{target}`",
                    "replace the link by the file itself",
                )
            )
    return symbol_dir.disk.read(path)


def move_aside(symbol_dir: SymbolDir, path: Path) -> Path:
    """Move a file into the quarantine under a free name, and return its new path."""
    with disk_errors(path):
        make_folders(symbol_dir, symbol_dir.quarantine)
        target = _link_aside(symbol_dir, path)
        symbol_dir.disk.sync_folder(symbol_dir.quarantine)
        failpoint(Step.FILE_QUARANTINED)
        symbol_dir.disk.unlink(path)
        symbol_dir.disk.sync_folder(path.parent)
        failpoint(Step.QUARANTINE_SYNCED)
    return target


def _link_aside(symbol_dir: SymbolDir, path: Path) -> Path:
    number = 1
    while True:
        target = symbol_dir.quarantine / (path.name if number == 1 else f"{path.name}.{number}")
        try:
            symbol_dir.disk.link(path, target)
        except FileExistsError:
            if target.samefile(path):  # a process ended between linking and unlinking
                return target
            number += 1
        else:
            return target
