"""Kernel locks on files: taking them, waiting for their holder, and naming it.

The kernel releases the locks of a process that ends, however it ends.
"""

from __future__ import annotations

import errno
import os
import random
import re
import socket
import struct
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.interrupts import raise_if_interrupted
from rangebar_polars._utils.fork import after_fork_in_child
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    LockWaitWarning,
    StorageError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FileLock",
    "LockFile",
    "LockWaitWarning",
    "beat",
    "deadline_after",
    "sign",
    "sign_with_command",
    "wait_a_little",
    "wait_for_lock",
]

# The folder and the umask decide who may use a lock file, as they do for other files.
_FILE_MODE = 0o666
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.05
_RETRY_S = 0.01
#: How often a wait is reported.
_REPORT_S = 5.0
_SIGNATURE_BYTES = 1_000
_PLAIN_ARGUMENT = re.compile(r"\w[\w.:-]*")
_COMMAND_ARGUMENTS = 3
# The C structure `flock`: type, origin, start, length, process.
_FLOCK = "hhqqi"
#: The length of a range that reaches to the end of the file, wherever that is.
_TO_THE_END = 0


class LockFile:
    """An open file and the locks on it, which belong to this process alone.

    The kernel ties the locks to the open file, which a forked child would share. It would keep a
    lock of a parent that was killed, so a child closes the file at once.
    """

    def __init__(self, path: Path, *, create: bool = True, writable: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR if writable else os.O_RDONLY
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        flags |= os.O_CREAT if create and writable else 0
        self._descriptor: int | None = os.open(path, flags, _FILE_MODE)
        self._has_ranges = False
        _OPEN.add(self)

    @property
    def descriptor(self) -> int:
        """The descriptor of the open file.

        Raises
        ------
        OSError
            The file is closed.
        """
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(self.path))
        return self._descriptor

    def try_lock(self, *, shared: bool = False) -> bool:
        """Lock the whole file, unless another holder has a lock on it."""
        return _try_lock(self.descriptor, shared=shared)

    def try_lock_range(self, start: int, length: int) -> bool:
        """Lock a range of bytes, unless another holder has a lock on one of them.

        Where the system cannot lock a range of an open file, the whole file is locked.
        """
        self._has_ranges = True
        return _try_lock_range(self.descriptor, start, length)

    def is_range_locked(self, start: int, length: int) -> bool:
        """Return whether another holder has a lock on a range at this moment."""
        return _is_range_locked(self.descriptor, start, length)

    def close(self) -> None:
        """Release all locks on the file and close it. A closed file is left alone."""
        descriptor, self._descriptor = self._descriptor, None
        _OPEN.discard(self)
        if descriptor is None:
            return
        try:
            # Closing is not enough: a forked child may not have closed the same open file yet.
            (_unlock_ranges if self._has_ranges else _unlock)(descriptor)
        finally:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child. The parent keeps the locks."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


#: The lock files that this process has open.
_OPEN: set[LockFile] = set()


def _abandon_all() -> None:
    for file in tuple(_OPEN):
        file.abandon()
    _OPEN.clear()


after_fork_in_child(_abandon_all)


class FileLock:
    """A lock that at most one process or thread of this machine holds.

    The file stays when the lock is released and names the last holder. Any number of holders can
    have a `shared` lock, but none beside a holder of an exclusive one.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._shared = shared
        self._file: LockFile | None = None

    def try_acquire(self) -> bool:
        """Take the lock, unless another holder has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = LockFile(self.path)
        try:
            if file.try_lock(shared=self._shared):
                self._file = file
                if not self._shared:
                    self.sign()
                return True
        except BaseException:
            self._file = None
            file.close()
            raise
        file.close()
        return False

    def sign(self, *notes: str) -> None:
        """Write this process, and notes about it, into the file of a lock that it holds."""
        if self._file is not None:
            with suppress(OSError):  # in a forked child it is closed
                sign(self._file.descriptor, *notes)

    def is_in_place(self) -> bool:
        """Return whether the lock is held, on the file that is at its path now."""
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.descriptor), self.path.stat())
        except OSError:
            return False

    def is_free(self) -> bool:
        """Return whether there is no holder at this moment."""
        probe = FileLock(self.path)
        if not probe.try_acquire():
            return False
        probe.release()
        return True

    def release(self) -> None:
        """Release the lock. Do nothing if it is not held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def holder(self) -> int | None:
        """Return the process that took the lock last, if the file names it."""
        signature = self._signature()
        return int(signature[0]) if signature and signature[0].isdigit() else None

    def holder_notes(self) -> list[str]:
        """Return the notes that the holder has written about itself."""
        return self._signature()[1:]

    def _signature(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return []


# Signatures


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that took a lock, as its signature in the lock file names it."""

    process: int
    host: str
    command: str

    def __str__(self) -> str:
        if self.host != socket.gethostname():
            return f"process {self.process} of `{self.host}` ({self.command})"
        if self.process == os.getpid():
            return f"another thread of this process ({self.command})"
        return f"process {self.process} ({self.command}){_process_state(self.process)}"


def sign(file: int, *lines: str) -> None:
    """Write the id of this process, and further lines, into the file of a lock that it holds.

    The signature only informs, so a full disk is not an error.
    """
    data = "".join(f"{line}\n" for line in (os.getpid(), *lines)).encode(errors="replace")
    with suppress(OSError):
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, data)
        os.ftruncate(file, len(data))


def sign_with_command(file: int) -> None:
    """Write this process, its machine and its command into the file of a lock that it holds."""
    sign(file, socket.gethostname(), _command())


def _command() -> str:
    """Return the program and its first plain arguments. What follows may be secret."""
    name, *arguments = sys.argv if sys.argv and sys.argv[0] else [sys.executable or "python"]
    words = [Path(name).name if name not in ("-c", "-m") else f"python {name}"]
    for argument in arguments[:_COMMAND_ARGUMENTS]:
        if not _PLAIN_ARGUMENT.fullmatch(argument):
            break
        words.append(argument)
    return " ".join(words)


def _describe_holder(path: Path) -> str:
    """Return the holder of a lock as a phrase for messages."""
    try:
        with path.open("rb") as file:
            text = file.read(_SIGNATURE_BYTES).decode(errors="replace")
    except OSError:
        text = ""
    lines = ["".join(filter(str.isprintable, line)) for line in text.splitlines()]
    if len(lines) < len(_Holder.__slots__) or not re.fullmatch(r"\d{1,10}", lines[0], re.ASCII):
        return "another process"
    return str(_Holder(int(lines[0]), lines[1], lines[2]))


def _process_state(process: int) -> str:
    """Return why a process of this machine makes no progress, where the platform says."""
    if sys.platform == "win32":  # where signal 0 ends a process
        return ""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except ProcessLookupError:
        return ", which has ended and left the lock to a child"
    except OSError:
        return ""
    return ", which is stopped" if state[:1] in (["T"], ["t"]) else ""


# Waiting


def beat(path: Path) -> None:
    """Show the processes that wait for a lock that its holder makes progress."""
    with suppress(OSError):
        os.utime(path)


def wait_for_lock(try_lock: Callable[[], bool], file: int, path: Path) -> None:
    """Try to lock a file until it succeeds.

    The limit is the setting `tick_lock_wait_s`. It counts from the last progress of the holder:
    a long write is waited for, a stopped one is not. The attempts do not block, because a wait
    inside the system call could not be interrupted from the keyboard.

    Raises
    ------
    StorageError
        The holder has made no progress for too long.
    """
    if try_lock():
        return
    limit_s = settings().tick_lock_wait_s
    begun = reported = active = time.monotonic()
    progress = os.fstat(file).st_mtime_ns
    while not try_lock():
        now, seen = time.monotonic(), os.fstat(file).st_mtime_ns
        if seen != progress:
            active, progress = now, seen
        if now - active >= limit_s:
            raise _no_progress(path, limit_s)
        if now - reported >= _REPORT_S:
            reported = now
            holder = _describe_holder(path)
            text = f"waiting for `{path}` for {now - begun:.0f} s: locked by {holder}"
            warnings.warn(text, LockWaitWarning, stacklevel=2)
        time.sleep(_RETRY_S)


def _no_progress(path: Path, limit_s: float) -> StorageError:
    return StorageError(
        with_hint(
            f"`{path}` is locked by {_describe_holder(path)}, which has made no progress for "
            f"{limit_s:g} s",
            "resume or end that process (kill -CONT, or kill), then run it again; wait longer: "
            "RANGEBAR_TICK_LOCK_WAIT_S",
        )
    )


def deadline_after(seconds: float) -> float:
    """Return the deadline for `wait_a_little` that lies a number of seconds ahead."""
    return time.monotonic() + seconds


def wait_a_little(deadline: float) -> bool:
    """Wait for a short random time. Return False at once if the deadline has passed."""
    raise_if_interrupted()
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    # Jitter, so that the waiters for one lock do not all try it at the same moments.
    time.sleep(min(left, random.uniform(_SHORTEST_WAIT_S, _LONGEST_WAIT_S)))  # noqa: S311
    return True


# Calls of the kernel


class _NoRangesError(Exception):
    """The system cannot lock a range of an open file."""


if sys.platform == "win32":

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        if shared:
            raise OSError(errno.ENOTSUP, "no shared locks on this system")
        return _try_lock_range(descriptor, 0, 1)

    def _try_lock_range(descriptor: int, start: int, length: int) -> bool:
        import msvcrt

        os.lseek(descriptor, start, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, length)
        except OSError:
            return False
        return True

    def _is_range_locked(descriptor: int, start: int, length: int) -> bool:
        import msvcrt

        if not _try_lock_range(descriptor, start, length):
            return True
        os.lseek(descriptor, start, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, length)
        return False

    def _unlock(_descriptor: int) -> None:
        """Do nothing: closing the file releases its locks."""

    _unlock_ranges = _unlock

else:

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _try_lock_range(descriptor: int, start: int, length: int) -> bool:
        import fcntl

        try:
            _control_range(descriptor, "F_OFD_SETLK", fcntl.F_WRLCK, start, length)
        except _NoRangesError:
            return _try_lock(descriptor)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _is_range_locked(descriptor: int, start: int, length: int) -> bool:
        import fcntl

        try:
            found = _control_range(descriptor, "F_OFD_GETLK", fcntl.F_WRLCK, start, length)
        except _NoRangesError:
            if not _try_lock(descriptor):
                return True
            _unlock(descriptor)
            return False
        kind: int = struct.unpack_from("h", found)[0]
        return kind != fcntl.F_UNLCK

    def _unlock(descriptor: int) -> None:
        """Release the lock on an open file for every process that shares it."""
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _unlock_ranges(descriptor: int) -> None:
        """Release the locks on all ranges of an open file."""
        import fcntl

        try:
            _control_range(descriptor, "F_OFD_SETLK", fcntl.F_UNLCK, 0, _TO_THE_END)
        except _NoRangesError:
            _unlock(descriptor)

    def _control_range(descriptor: int, name: str, kind: int, start: int, length: int) -> bytes:
        """Pass a lock on a range of a file to the kernel, and return its answer."""
        import fcntl

        command: int | None = getattr(fcntl, name, None)
        if command is None:
            raise _NoRangesError
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
        try:
            return fcntl.fcntl(descriptor, command, request)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise _NoRangesError from error
            raise
