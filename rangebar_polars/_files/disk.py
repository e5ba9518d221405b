"""The operations on files that a write consists of, one by one.

Everything that must survive a crash goes through a `Disk`, so that a test can pass one that records
the operations or fails at one of them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from rangebar_polars._files.locks import LockFile, sign_with_command, wait_for_lock
from rangebar_polars.exceptions import StorageError, with_hint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Disk", "rename_if_free"]

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# The folder and the umask decide who may use a file, as they do for other programs.
_FILE_MODE = 0o666


class Disk:
    """The operations on files, as the operating system performs them."""

    def __init__(self) -> None:
        #: Folders that this process has synced, so that they survive a loss of power.
        self.synced: set[Path] = set()

    def make_folder(self, path: Path) -> None:
        """Make a folder whose parent exists."""
        path.mkdir(exist_ok=True)

    def create(self, path: Path) -> int:
        """Create a file and open it for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags, _FILE_MODE)

    def write(self, file: int, data: memoryview) -> None:
        """Append all of the bytes."""
        while data:
            data = data[os.write(file, data) :]

    def sync(self, file: int) -> None:
        """Wait until the bytes of the file are on the disk."""
        os.fsync(file)

    def sync_data(self, file: int) -> None:
        """Wait until the bytes of the file are on the disk, but not its modification time."""
        getattr(os, "fdatasync", os.fsync)(file)

    def truncate(self, file: int, length: int) -> None:
        """Cut a file off after a number of bytes."""
        os.ftruncate(file, length)

    def close(self, file: int) -> None:
        """Close a file."""
        os.close(file)

    def read(self, path: Path) -> bytes:
        """Read all bytes of a regular file. A pipe would block, and a device might never end."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            return file.read()

    def link(self, source: Path, target: Path) -> None:
        """Give a file another name. Raise FileExistsError if the name is taken."""
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            rename_if_free(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file in one step, in place of another file of that name."""
        source.replace(target)

    def lock(self, path: Path) -> LockFile:
        """Open and lock a file, waiting for another holder as long as it makes progress."""
        file = LockFile(path)
        try:
            wait_for_lock(file.try_lock, file.descriptor, path)
            sign_with_command(file.descriptor)
        except BaseException:
            file.close()
            raise
        return file

    def unlock(self, file: LockFile) -> None:
        """Release a lock. In a forked child, which has no part in it, do nothing."""
        file.close()

    def unlink(self, path: Path) -> None:
        """Remove a file. A missing file is not an error."""
        path.unlink(missing_ok=True)

    def touch(self, path: Path) -> None:
        """Set the modification time of a file to now."""
        os.utime(path)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        if sys.platform == "win32":  # a folder cannot be opened there
            return
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def rename_if_free(source: Path, target: Path) -> None:
    """Rename a file in one step, unless the name is taken.

    Raises
    ------
    FileExistsError
        The name is taken.
    StorageError
        The file system has no such operation.
    """
    if sys.platform == "win32":  # where a rename never replaces
        source.rename(target)
        return
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(source), os.fsencode(target))
    if hasattr(library, "renameat2"):
        done = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
    elif hasattr(library, "renamex_np"):
        done = library.renamex_np(*names, ctypes.c_uint(4))
    else:
        done = -1
        ctypes.set_errno(errno.ENOSYS)
    if done == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        raise FileExistsError(code, os.strerror(code), str(target))
    raise StorageError(
        with_hint(
            f"the file system of `{target.parent}` can neither link nor rename without replacing: "
            f"{os.strerror(code)}",
            "use a folder on a local file system: cache_dir=, or RANGEBAR_CACHE_DIR",
        )
    )
