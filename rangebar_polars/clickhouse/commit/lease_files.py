"""Kernel locks on the series of a family: a part of one file for each segment.

However many leases a process holds, it has one file open for each family.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import date
    from pathlib import Path

__all__ = ["SpecLocks"]

#: Bytes of the file that belong to a segment; they name the process that locked them last.
_RECORD = 16
#: Days before 1970, of `date.toordinal`.
_EPOCH = 719_163
# The C structure `flock`: type, origin, start, length, process.
_FLOCK = "hhqqi"
#: The length of a lock that reaches to the end of the file, wherever that is.
_TO_THE_END = 0


class SpecLocks:
    """Locks on segments of a family, of which each has one holder of all processes and threads.

    The kernel frees them when the process ends, however it ends. Where it has no locks on parts of
    a file that belong to an open file (systems other than Linux), a lock is on the whole family.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._process = 0

    def try_acquire(self, segment_starts: Iterable[date]) -> date | None:
        """Lock segments; if another holder has one of them, nothing is locked and it is returned."""
        starts = sorted(segment_starts)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            taken = _first(starts, lambda start: not _try_lock(descriptor, start))
        except BaseException:
            os.close(descriptor)
            raise
        if taken is not None:
            # Closing frees what was locked already: no other process has this open file.
            os.close(descriptor)
            return taken
        _write_holder(descriptor, starts)
        self._descriptor, self._process = descriptor, os.getpid()
        _HELD.add(self)
        return None

    def first_taken(self, segment_starts: Iterable[date]) -> date | None:
        """The first of the segments that a holder has at this moment, if any."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _first(sorted(segment_starts), lambda start: _is_taken(descriptor, start))
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Unlock everything; nothing happens if nothing is locked."""
        descriptor, self._descriptor = self._descriptor, None
        _HELD.discard(self)
        if descriptor is None:
            return
        # Closing would not do: a forked child may have the same open file.
        if self._process == os.getpid():
            _unlock(descriptor)
        os.close(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child, so that the locks are the parent's alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def holder(self, segment_start: date) -> int | None:
        """Process that locked a segment last, if the file names it."""
        try:
            with self._path.open("rb") as file:
                file.seek(_place(segment_start))
                words = file.read(_RECORD).strip(b"\0 \n")
        except OSError:
            return None
        return int(words) if words.isdigit() else None


def _first(starts: Iterable[date], is_taken: Callable[[date], bool]) -> date | None:
    return next((start for start in starts if is_taken(start)), None)


def _place(segment_start: date) -> int:
    return (segment_start.toordinal() - _EPOCH) * _RECORD


def _try_lock(descriptor: int, segment_start: date) -> bool:
    import fcntl

    try:
        _request(descriptor, "F_OFD_SETLK", fcntl.F_WRLCK, _place(segment_start), _RECORD)
    except _NoPartsError:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_taken(descriptor: int, segment_start: date) -> bool:
    import fcntl

    place = _place(segment_start)
    try:
        found = _request(descriptor, "F_OFD_GETLK", fcntl.F_WRLCK, place, _RECORD)
    except _NoPartsError:
        # The probe is an open file of its own, and closing it frees the lock.
        return not _try_lock(descriptor, segment_start)
    kind: int = struct.unpack_from("h", found)[0]
    return kind != fcntl.F_UNLCK


def _unlock(descriptor: int) -> None:
    import fcntl

    try:
        _request(descriptor, "F_OFD_SETLK", fcntl.F_UNLCK, 0, _TO_THE_END)
    except _NoPartsError:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class _NoPartsError(Exception):
    """The system cannot lock parts of an open file."""


def _request(descriptor: int, name: str, kind: int, start: int, length: int) -> bytes:
    """Ask the kernel for a lock on a part of a file."""
    import fcntl

    command: int | None = getattr(fcntl, name, None)
    if command is None:
        raise _NoPartsError
    asked = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
    try:
        return fcntl.fcntl(descriptor, command, asked)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise _NoPartsError from error
        raise


def _write_holder(descriptor: int, starts: Iterable[date]) -> None:
    """Name this process in the records; it only informs, and a disk may be full."""
    record = f"{os.getpid()}\n".encode().ljust(_RECORD, b"\0")
    with suppress(OSError):
        for first, count in _runs(starts):
            os.pwrite(descriptor, record * count, _place(first))


def _runs(starts: Iterable[date]) -> Iterator[tuple[date, int]]:
    """Days that follow one another: the first, and how many."""
    for _, run in groupby(enumerate(starts), lambda item: item[1].toordinal() - item[0]):
        days = [start for _, start in run]
        yield days[0], len(days)


#: The locks of this process; the kernel ties them to open files, which a fork would share.
_HELD: set[SpecLocks] = set()


def _abandon_all() -> None:
    for locks in tuple(_HELD):
        locks.abandon()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
