"""Atomic writes of files, and the errors of the disk as errors of the store."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.arguments.checks import ACCESS_HINT, is_folder
from rangebar_polars.exceptions import RangeBarError, StorageError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars._files.disk import Disk

__all__ = [
    "disk_errors",
    "make_synced_folders",
    "replace_synced",
    "sha256_of",
    "temporary_name",
    "temporary_pid",
    "verify_content",
    "write_synced",
]


_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.[0-9a-f]{8}\.tmp")


def temporary_name(name: str) -> str:
    """Return a name for a file while it is written, which no other writer uses."""
    return f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def temporary_pid(name: str) -> int | None:
    """Return the process that wrote a temporary file, or None for any other name."""
    match = _TEMPORARY.fullmatch(name)
    return int(match.group(2)) if match else None


_SPACE_HINT = "free some space, or use another folder: cache_dir=, or RANGEBAR_CACHE_DIR"
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def sha256_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes in hex. Other threads run meanwhile."""
    return hashlib.sha256(data).hexdigest()


def write_synced(disk: Disk, path: Path, data: memoryview) -> None:
    """Write bytes to a new file and sync them. The name of the file is not synced."""
    file = disk.create(path)
    try:
        failpoint(Step.TEMP_CREATED)
        half = len(data) // 2
        disk.write(file, data[:half])
        failpoint(Step.TEMP_HALF_WRITTEN)
        disk.write(file, data[half:])
        failpoint(Step.TEMP_WRITTEN)
        disk.sync(file)
        failpoint(Step.TEMP_SYNCED)
    finally:
        disk.close(file)


def replace_synced(disk: Disk, path: Path, data: memoryview) -> None:
    """Replace the content of a file in one step, or create it; its folder exists.

    If the process or the machine stops meanwhile, the file is the old or the new one, complete.
    """
    temporary = path.parent / temporary_name(path.name)
    try:
        write_synced(disk, temporary, data)
        os.replace(temporary, path)  # noqa: PTH105 - as long as a disk has no such operation
        failpoint(Step.LINKED)
        disk.sync_folder(path.parent)
        failpoint(Step.PLACE_SYNCED)
    finally:
        with suppress(OSError):
            disk.unlink(temporary)


def make_synced_folders(disk: Disk, root: Path, path: Path) -> None:
    """Make a folder and its parents, so that they survive a loss of power.

    A process may have ended between making a folder and syncing it. So every existing folder from
    `root` on is synced the first time that this process uses it.

    Raises
    ------
    StorageError
        A file has the name of one of the folders.
    """
    chain = []
    while not is_folder(path) or (path.is_relative_to(root) and path not in disk.synced):
        chain.append(path)
        path = path.parent
    for folder in reversed(chain):
        try:
            disk.make_folder(folder)
        except FileExistsError as error:
            raise StorageError(f"`{folder}` is not a folder, where the store needs one") from error
        failpoint(Step.FOLDER_MADE)
    for folder in chain:
        disk.sync_folder(folder.parent)
    if chain:
        failpoint(Step.FOLDERS_SYNCED)
        disk.synced.update(chain)


def verify_content(disk: Disk, path: Path, sha256: str) -> None:
    """Read a file back and check its SHA-256.

    Raises
    ------
    StorageError
        The file holds other bytes.
    """
    if sha256_of(disk.read(path)) != sha256:
        raise StorageError(
            with_hint(
                f"`{path}` does not hold the bytes that were written to it",
                "the disk or the memory is faulty; the stored ticks are unchanged",
            )
        )
    failpoint(Step.TEMP_VERIFIED)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise errors of the operating system as a StorageError that names the path.

    FileExistsError passes: a taken name is not a fault.
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
