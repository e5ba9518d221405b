"""The lock of a folder that several processes use in turn."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from rangebar_polars._files.locks import FileLock, wait_a_little

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FolderLock"]

_LOG = logging.getLogger("rangebar_polars.clickhouse")

#: Longer than a waiting process sleeps.
_LET_GO_S = 1.0
#: How long a holder that does not use the folder may take to release it.
_HAND_OVER_S = 10.0
#: How often a wait is reported.
_REPORT_S = 5.0
_IDLE = "idle"


class FolderLock:
    """The lock of a folder, whose holder can see whether others wait for it.

    A holder that has the lock without using the folder marks it as idle. A waiting process takes a
    shared lock on a second file, which the kernel releases when the process ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        self._queue = folder.with_name(f"{folder.name}.wanted")

    def acquire(self, wait_s: float) -> bool:
        """Take the lock, waiting up to `wait_s` seconds for a holder that uses the folder.

        A holder that does not use it gets the time to hand it over, however short the wait.
        """
        if self._lock.try_acquire():
            return True
        begun = reported = time.monotonic()
        waiting, is_queued = FileLock(self._queue, shared=True), False
        try:
            while not self._lock.try_acquire():
                is_queued = is_queued or waiting.try_acquire()
                limit_s = max(wait_s, _HAND_OVER_S) if self.is_idle() else wait_s
                if not wait_a_little(begun + limit_s):
                    return False
                if time.monotonic() - reported >= _REPORT_S:
                    reported = time.monotonic()
                    self._report(reported - begun)
            return True
        finally:
            waiting.release()

    def _report(self, waited_s: float) -> None:
        holder = self.holder()
        process = "another process" if holder is None else f"process {holder}"
        _LOG.warning("waiting %.0f s for %s, held by %s", waited_s, self._folder, process)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def set_idle(self, is_idle: bool) -> None:  # noqa: FBT001
        """Mark the folder as idle or in use, while this process holds the lock."""
        self._lock.sign(*[_IDLE] * is_idle)

    def is_idle(self) -> bool:
        """Check whether the holder has marked the folder as idle."""
        return self._lock.holder_notes() == [_IDLE]

    def is_in_place(self) -> bool:
        """Check whether the held lock is still the one that others would take."""
        return self._lock.is_in_place()

    def holder(self) -> int | None:
        """Return the process that took the lock last, if it is known."""
        return self._lock.holder()

    def is_free(self) -> bool:
        """Check whether the lock is free at this moment."""
        return self._lock.is_free()

    def is_wanted(self) -> bool:
        """Check whether a process waits for the lock."""
        return self._queue.exists() and not FileLock(self._queue).is_free()

    def let_others_go_first(self) -> None:
        """Wait a moment, after a release, until a waiting process has the lock."""
        deadline = time.monotonic() + _LET_GO_S
        while self.is_wanted() and self.is_free() and wait_a_little(deadline):
            pass
