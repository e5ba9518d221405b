"""The lock of a folder that several processes share, one after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.files import FileLock, wait_a_little

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FolderLock"]

#: Longer than those who wait sleep.
_LET_GO_S = 1.0


class FolderLock:
    """The lock of a folder, whose holder can see that others wait for it."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        self._queue = folder.with_name(f"{folder.name}.wanted")

    def acquire(self, wait_s: float) -> bool:
        """Take the lock, waiting up to so many seconds for it."""
        if self._lock.try_acquire():
            return True
        deadline = time.monotonic() + wait_s
        want, is_queued = FileLock(self._queue, shared=True), False
        try:
            while not self._lock.try_acquire():
                is_queued = is_queued or want.try_acquire()
                if not wait_a_little(deadline):
                    return False
            return True
        finally:
            want.release()

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def holder(self) -> int | None:
        """Process that took the lock last, if that is known."""
        return self._lock.holder()

    def is_free(self) -> bool:
        """Whether nobody has the lock at this moment."""
        return self._lock.is_free()

    def is_wanted(self) -> bool:
        """Whether anybody waits for the lock."""
        return self._queue.exists() and not FileLock(self._queue).is_free()

    def let_others_go_first(self) -> None:
        """Wait a moment, after a release, until one of those who wait has the lock."""
        deadline = time.monotonic() + _LET_GO_S
        while self.is_wanted() and self.is_free() and wait_a_little(deadline):
            pass
