"""How bytes get a name: written aside, on the medium, read back, linked; never over another file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import (
    disk_errors,
    sha256_of,
    temporary_name,
    verify_content,
    write_synced,
)
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.locks import beat
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.storage.layout import is_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["make_folders", "move_aside", "place", "read_file"]


def make_folders(symbol_dir: SymbolDir, path: Path) -> None:
    """Make a folder of the store and those above it, so that they outlast a loss of power.

    One that is there already may have been made by a process that ended before it saw to that, so
    the first time it is met it is seen to again.
    """
    disk, chain = symbol_dir.disk, []
    while not is_folder(path) or (
        path.is_relative_to(symbol_dir.root) and path not in disk.lasting
    ):
        chain.append(path)
        path = path.parent
    for folder in reversed(chain):
        try:
            disk.make_folder(folder)
        except FileExistsError as error:
            raise StorageError(f"`{folder}` is no folder; the store needs it to be one") from error
        failpoint(Step.FOLDER_MADE)
    for folder in chain:
        disk.sync_folder(folder.parent)
    if chain:
        failpoint(Step.FOLDERS_SYNCED)
        disk.lasting.update(chain)


def place(
    symbol_dir: SymbolDir, folder: Path, data: memoryview, name_of: Callable[[str], str]
) -> str:
    """Put bytes into a folder under the name that `name_of` makes of their SHA-256, which is given.

    Whenever the process or the machine ends, the name is not there or stands for all of the bytes.

    Raises
    ------
    FileExistsError
        The name is taken; the file there is as it was.
    StorageError
        The bytes could not be written; nothing has the name.
    """
    disk = symbol_dir.disk
    with disk_errors(folder), ThreadPoolExecutor(1) as hasher:
        make_folders(symbol_dir, folder)
        wanted = hasher.submit(sha256_of, data)
        temporary = folder / temporary_name(name_of("")[:40])
        try:
            write_synced(disk, temporary, data)
            sha256 = wanted.result()
            verify_content(disk, temporary, sha256)
            try:
                disk.link(temporary, folder / name_of(sha256))
                failpoint(Step.LINKED)
            finally:
                # Who took the name may have ended before the folder was on the medium.
                disk.sync_folder(folder)
            failpoint(Step.PLACE_SYNCED)
        finally:
            with suppress(OSError):
                disk.unlink(temporary)
        failpoint(Step.TEMP_REMOVED)
        beat(symbol_dir.lock_file)
    return sha256


def read_file(symbol_dir: SymbolDir, path: Path) -> bytes:
    """Read a file of the store, but not what a link to a place outside of it leads to.

    Raises
    ------
    StorageError
        The path is a link that leads out of the store.
    OSError
        The file cannot be read, or is not a regular file.
    """
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        folders = (path.parent, symbol_dir.root)  # either may be a link of the user
        if not any(target.is_relative_to(os.path.realpath(folder)) for folder in folders):
            raise StorageError(
                with_hint(
                    f"`{path}` is a link that leads out of the store, to `{target}`",
                    "put the file itself in its place",
                )
            )
    return symbol_dir.disk.read(path)


def move_aside(symbol_dir: SymbolDir, path: Path) -> Path:
    """Move a file into the quarantine, under a name that no other file there has."""
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
            if target.samefile(path):  # of a process that ended before it took the other name away
                return target
            number += 1
        else:
            return target
