"""The lock of a folder that several processes share, one after the other."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from rangebar_polars._files.locks import FileLock, wait_a_little

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FolderLock"]

_LOG = logging.getLogger("rangebar_polars.clickhouse")

#: Longer than those who wait sleep.
_LET_GO_S = 1.0
#: How long a holder that does not use the folder may take to give it away.
_HAND_OVER_S = 10.0
#: How often a wait is reported.
_REPORT_S = 5.0
_IDLE = "idle"


class FolderLock:
    """The lock of a folder, whose holder can see that others wait for it.

    A holder that keeps the lock without using the folder says so. Others announce that they wait by
    a shared lock on a second file, which the kernel takes back when they end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        self._queue = folder.with_name(f"{folder.name}.wanted")

    def acquire(self, wait_s: float) -> bool:
        """Take the lock, waiting up to `wait_s` seconds for a holder that uses the folder.

        A holder that does not use it is given the time to hand it over, however short the wait.
        """
        if self._lock.try_acquire():
            return True
        begun = reported = time.monotonic()
        want, is_queued = FileLock(self._queue, shared=True), False
        try:
            while not self._lock.try_acquire():
                is_queued = is_queued or want.try_acquire()
                limit_s = max(wait_s, _HAND_OVER_S) if self.is_idle() else wait_s
                if not wait_a_little(begun + limit_s):
                    return False
                if time.monotonic() - reported >= _REPORT_S:
                    reported = time.monotonic()
                    self._report(reported - begun)
            return True
        finally:
            want.release()

    def _report(self, waited_s: float) -> None:
        holder = self.holder()
        who = "another process" if holder is None else f"process {holder}"
        _LOG.warning("waiting %.0f s for %s, held by %s", waited_s, self._folder, who)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def set_idle(self, is_idle: bool) -> None:  # noqa: FBT001
        """Say whether the folder is used, while this process holds the lock."""
        self._lock.sign(*[_IDLE] * is_idle)

    def is_idle(self) -> bool:
        """Whether the holder says that it does not use the folder."""
        return self._lock.holder_notes() == [_IDLE]

    def is_in_place(self) -> bool:
        """Whether the lock that is held is still the one that others would take."""
        return self._lock.is_in_place()

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
