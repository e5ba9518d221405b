"""Kernel locks on the series of a bar spec: a range of one file for each segment.

However many leases a process holds, it has one file open for each spec.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

from rangebar_polars._files.locks import LockFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import date
    from pathlib import Path

__all__ = ["SpecLocks"]

#: Bytes of the file that belong to a segment. They name the process that locked them last.
_RECORD_BYTES = 16
#: Days before 1970, of `date.toordinal`.
_EPOCH = 719_163


class SpecLocks:
    """Locks on segments of a bar spec, each held by at most one process or thread.

    The kernel releases them when the process ends, however it ends. Where the system cannot lock a
    range of an open file, a lock is on the whole spec.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: LockFile | None = None

    def try_acquire(self, segment_starts: Iterable[date]) -> date | None:
        """Lock all of the segments, or none.

        Returns
        -------
        date or None
            The first segment that another holder has, None if all are locked now.
        """
        starts = sorted(segment_starts)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = LockFile(self._path)
        try:
            taken = _first(starts, lambda start: not _try_lock(file, start))
            if taken is None:
                _write_holder(file.descriptor, starts)
                self._file = file
                return None
        except BaseException:
            file.close()
            raise
        file.close()
        return taken

    def first_taken(self, segment_starts: Iterable[date]) -> date | None:
        """Return the first of the segments that has a holder at this moment, if any."""
        try:
            file = LockFile(self._path, create=False)
        except FileNotFoundError:
            return None
        try:
            return _first(sorted(segment_starts), lambda start: _is_taken(file, start))
        finally:
            file.close()

    def release(self) -> None:
        """Release all locks. Do nothing if none is held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def holder(self, segment_start: date) -> int | None:
        """Return the process that locked a segment last, if the file names it."""
        try:
            with self._path.open("rb") as file:
                file.seek(_offset(segment_start))
                record = file.read(_RECORD_BYTES).strip(b"\0 \n")
        except OSError:
            return None
        return int(record) if record.isdigit() else None


def _first(starts: Iterable[date], is_taken: Callable[[date], bool]) -> date | None:
    return next((start for start in starts if is_taken(start)), None)


def _offset(segment_start: date) -> int:
    return (segment_start.toordinal() - _EPOCH) * _RECORD_BYTES


def _try_lock(file: LockFile, segment_start: date) -> bool:
    return file.try_lock_range(_offset(segment_start), _RECORD_BYTES)


def _is_taken(file: LockFile, segment_start: date) -> bool:
    return file.is_range_locked(_offset(segment_start), _RECORD_BYTES)


def _write_holder(descriptor: int, starts: Iterable[date]) -> None:
    """Name this process in the records. They only inform, so a full disk is not an error."""
    record = f"{os.getpid()}\n".encode().ljust(_RECORD_BYTES, b"\0")
    with suppress(OSError):
        for first, count in _runs(starts):
            os.lseek(descriptor, _offset(first), os.SEEK_SET)
            os.write(descriptor, record * count)


def _runs(starts: Iterable[date]) -> Iterator[tuple[date, int]]:
    """Yield each run of successive days as its first day and its length."""
    for _, run in groupby(enumerate(starts), lambda item: item[1].toordinal() - item[0]):
        days = [start for _, start in run]
        yield days[0], len(days)
