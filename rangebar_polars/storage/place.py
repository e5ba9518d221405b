"""How bytes get a name: written aside, on the medium, read back, linked; never over another file."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import RangeBarError, StorageError, with_hint
from rangebar_polars.storage.disk import Step
from rangebar_polars.storage.layout import ACCESS_HINT, is_folder, temporary_name
from rangebar_polars.storage.lock_wait import beat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rangebar_polars.storage.disk import Disk
    from rangebar_polars.storage.layout import Shelf

__all__ = ["disk_errors", "make_folders", "place", "read_file", "sha256_of", "write_synced"]

_SPACE_HINT = "make room or give another folder: cache_dir=, or RANGEBAR_CACHE_DIR"
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def sha256_of(data: bytes | memoryview) -> str:
    """SHA-256 of bytes, in hex; other threads run meanwhile."""
    return hashlib.sha256(data).hexdigest()


def make_folders(shelf: Shelf, path: Path) -> None:
    """Make a folder of the store and those above it, so that they outlast a loss of power.

    One that is there already may have been made by a process that ended before it saw to that, so
    the first time it is met it is seen to again.
    """
    disk, chain = shelf.disk, []
    while not is_folder(path) or (path.is_relative_to(shelf.root) and path not in disk.lasting):
        chain.append(path)
        path = path.parent
    for folder in reversed(chain):
        try:
            disk.make_folder(folder)
        except FileExistsError as error:
            raise StorageError(f"`{folder}` is no folder; the store needs it to be one") from error
        disk.reached(Step.FOLDER_MADE)
    for folder in chain:
        disk.sync_folder(folder.parent)
    if chain:
        disk.reached(Step.FOLDERS_SYNCED)
        disk.lasting.update(chain)


def place(shelf: Shelf, folder: Path, data: memoryview, name_of: Callable[[str], str]) -> str:
    """Put bytes into a folder under the name that `name_of` makes of their SHA-256, which is given.

    Whenever the process or the machine ends, the name is not there or stands for all of the bytes.

    Raises
    ------
    FileExistsError
        The name is taken; the file there is as it was.
    StorageError
        The bytes could not be written; nothing has the name.
    """
    disk = shelf.disk
    with disk_errors(folder), ThreadPoolExecutor(1) as hasher:
        make_folders(shelf, folder)
        wanted = hasher.submit(sha256_of, data)
        temporary = folder / temporary_name(name_of("")[:40])
        try:
            write_synced(disk, temporary, data)
            sha256 = wanted.result()
            verify_content(disk, temporary, sha256)
            try:
                disk.link(temporary, folder / name_of(sha256))
                disk.reached(Step.LINKED)
            finally:
                # Who took the name may have ended before the folder was on the medium.
                disk.sync_folder(folder)
            disk.reached(Step.PLACE_SYNCED)
        finally:
            with suppress(OSError):
                disk.unlink(temporary)
        disk.reached(Step.TEMP_REMOVED)
        beat(shelf.lock_file)
    return sha256


def read_file(shelf: Shelf, path: Path) -> bytes:
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
        folders = (path.parent, shelf.root)  # either may be a link of the user
        if not any(target.is_relative_to(os.path.realpath(folder)) for folder in folders):
            raise StorageError(
                with_hint(
                    f"`{path}` is a link that leads out of the store, to `{target}`",
                    "put the file itself in its place",
                )
            )
    return shelf.disk.read(path)


def write_synced(disk: Disk, path: Path, data: memoryview) -> None:
    """Make a file of these bytes, which are on the medium then; its name may not be yet."""
    file = disk.create(path)
    try:
        disk.reached(Step.TEMP_CREATED)
        half = len(data) // 2
        disk.write(file, data[:half])
        disk.reached(Step.TEMP_HALF_WRITTEN)
        disk.write(file, data[half:])
        disk.reached(Step.TEMP_WRITTEN)
        disk.sync(file)
        disk.reached(Step.TEMP_SYNCED)
    finally:
        disk.close(file)


def verify_content(disk: Disk, path: Path, sha256: str) -> None:
    if sha256_of(disk.read(path)) != sha256:
        raise StorageError(
            with_hint(
                f"`{path}` does not hold the bytes that were written to it",
                "the medium or the memory is at fault; what was stored before is as it was",
            )
        )
    disk.reached(Step.TEMP_VERIFIED)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise errors of the operating system as a StorageError that names the path.

    FileExistsError passes: it says that a name is taken, which is no fault.
    """
    try:
        yield
    except (RangeBarError, FileExistsError):
        raise
    except OSError as error:
        where = error.filename if error.filename is not None else path
        reason = error.strerror or str(error)
        raise StorageError(
            with_hint(
                f"the store could not be written at `{where}`: {reason}",
                ACCESS_HINT if error.errno in _REFUSED else _SPACE_HINT,
            )
        ) from error
