"""Kernel locks on files, which a process cannot outlive."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rangebar_polars._files.interrupts import raise_if_interrupted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock", "wait_a_little"]

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.05


class FileLock:
    """A lock that one holder at a time has, of all processes and threads of this machine.

    The kernel frees it when its process ends, however it ends. The file stays, and says who has
    had the lock last. A `shared` one any number may have, but not beside a holder that is not.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._shared = shared
        self._descriptor: int | None = None
        self._process = 0

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it."""
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            kind = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._process = descriptor, os.getpid()
        _HELD.add(self)
        if not self._shared:
            self.sign()
        return True

    def sign(self, *words: str) -> None:
        """Write this process into the file of a lock that is held, and words about the holder."""
        if self._descriptor is not None:
            line = " ".join((str(os.getpid()), *words)).encode("ascii") + b"\n"
            # Who it is only informs, and a disk may be full.
            with suppress(OSError):
                os.pwrite(self._descriptor, line, 0)
                os.ftruncate(self._descriptor, len(line))

    def is_in_place(self) -> bool:
        """Whether the file of a lock that is held is the one at its path, not a removed one."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def is_free(self) -> bool:
        """Whether nobody has the lock at this moment."""
        probe = FileLock(self.path)
        if not probe.try_acquire():
            return False
        probe.release()
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        import fcntl

        descriptor, self._descriptor = self._descriptor, None
        _HELD.discard(self)
        if descriptor is None:
            return
        # Closing would not do: a forked child may have the same open file.
        if self._process == os.getpid():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child, so that the lock is the parent's alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Process that took the lock last, if the file says so."""
        words = self._signed()
        return int(words[0]) if words and words[0].isdigit() else None

    def holder_words(self) -> list[str]:
        """What the holder has written about itself."""
        return self._signed()[1:]

    def _signed(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return []


#: The locks of this process; the kernel ties them to open files, which a fork would share.
_HELD: set[FileLock] = set()


def _abandon_all() -> None:
    for lock in tuple(_HELD):
        lock.abandon()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


def wait_a_little(deadline: float) -> bool:
    """Wait for a random moment; False if the deadline has passed already."""
    raise_if_interrupted()
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    # Jitter, so that those who wait for one lock do not ask for it at the same moments.
    time.sleep(min(left, random.uniform(_SHORTEST_WAIT_S, _LONGEST_WAIT_S)))  # noqa: S311
    return True
