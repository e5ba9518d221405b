"""Waits for the lock of another writer: who holds it, how long to wait, and what to say meanwhile."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars.config import settings
from rangebar_polars.exceptions import StorageError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LockWaitWarning", "beat", "sign", "wait_for_lock"]

_RETRY_S = 0.01
#: How often a wait is reported.
_REPORT_S = 5.0
_SIGN_BYTES = 1_000
_PLAIN_WORD = re.compile(r"\w[\w.:-]*")
_WORDS_OF_COMMAND = 3


class LockWaitWarning(UserWarning):
    """Another process or thread holds a lock that is waited for."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that took a lock, as it wrote itself into the file of the lock."""

    process: int
    host: str
    command: str

    def __str__(self) -> str:
        if self.host != socket.gethostname():
            return f"process {self.process} of `{self.host}` ({self.command})"
        if self.process == os.getpid():
            return f"another thread of this process ({self.command})"
        return f"process {self.process} ({self.command}){_state(self.process)}"


def sign(file: int) -> None:
    """Write this process into the file of a lock that it holds; a full disk does not matter."""
    lines = f"{os.getpid()}\n{socket.gethostname()}\n{_command()}\n"
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, lines.encode(errors="replace"))


def beat(path: Path) -> None:
    """Show those who wait for a lock that its holder makes progress."""
    with suppress(OSError):
        os.utime(path)


def wait_for_lock(try_lock: Callable[[], bool], file: int, path: Path) -> None:
    """Try to lock a file until it succeeds.

    The limit is the setting `tick_lock_wait_s`. It counts from the last progress of the holder, so
    that a long write is waited for and a stopped one is not. The calls do not block, since a wait
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
            raise _busy(path, limit_s)
        if now - reported >= _REPORT_S:
            reported = now
            words = f"waiting for `{path}` for {now - begun:.0f} s: locked by {_named(path)}"
            warnings.warn(words, LockWaitWarning, stacklevel=2)
        time.sleep(_RETRY_S)


def _busy(path: Path, limit_s: float) -> StorageError:
    return StorageError(
        with_hint(
            f"`{path}` is locked by {_named(path)}, which has made no progress for {limit_s:g} s",
            "resume or end that process (kill -CONT, or kill), then run it again; wait longer: "
            "RANGEBAR_TICK_LOCK_WAIT_S",
        )
    )


def _named(path: Path) -> str:
    """Return the holder of a lock in words."""
    try:
        with path.open("rb") as file:
            text = file.read(_SIGN_BYTES).decode(errors="replace")
    except OSError:
        text = ""
    lines = ["".join(filter(str.isprintable, line)) for line in text.splitlines()]
    if len(lines) < len(_Holder.__slots__) or not re.fullmatch(r"\d{1,10}", lines[0], re.ASCII):
        return "another process"
    return str(_Holder(int(lines[0]), lines[1], lines[2]))


def _command() -> str:
    """Return the name and the first plain words of the command; what follows may be secret."""
    name, *arguments = sys.argv if sys.argv and sys.argv[0] else [sys.executable or "python"]
    words = [Path(name).name if name not in ("-c", "-m") else f"python {name}"]
    for argument in arguments[:_WORDS_OF_COMMAND]:
        if not _PLAIN_WORD.fullmatch(argument):
            break
        words.append(argument)
    return " ".join(words)


def _state(process: int) -> str:
    """Return what is wrong with a process of this machine, where the platform tells."""
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
