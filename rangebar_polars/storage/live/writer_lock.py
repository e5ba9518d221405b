"""The lock of a symbol's writer: the one process that streams it into a store."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import disk_errors, replace_synced
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.locks import FileLock, LockFile, deadline_after, wait_a_little
from rangebar_polars._files.processes import is_running
from rangebar_polars.exceptions import LeaseError, StorageError, with_hint
from rangebar_polars.storage.files.content_file import make_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["WAIT_S", "WriterLock", "claimant", "has_writer", "writer_process"]

#: How long a starting writer tries to get a lock that is held.
WAIT_S = 10.0
#: No process id has more digits.
_LONGEST_ID = 18


def _never() -> bool:
    return False


def _lock_file(symbol_dir: SymbolDir) -> Path:
    return symbol_dir.live / ".writer"


class WriterLock:
    """The lock of the writer of a symbol, which this process holds.

    The kernel releases it when the process ends, however it ends. A forked child has no part in it.
    """

    def __init__(self, symbol_dir: SymbolDir, lock: FileLock) -> None:
        self.symbol_dir = symbol_dir
        self._lock = lock

    @classmethod
    def try_take(cls, symbol_dir: SymbolDir) -> Self | None:
        """Take the lock; return None if it is held.

        Raises
        ------
        StorageError
            The file cannot be made or opened.
        """
        path = _lock_file(symbol_dir)
        lock = FileLock(path)
        with disk_errors(path):
            make_folders(symbol_dir, symbol_dir.live)
            if not lock.try_acquire():
                return None
            if not lock.is_in_place():  # the file was removed meanwhile
                lock.release()
                return None
        failpoint(Step.LOCK_TAKEN)
        return cls(symbol_dir, lock)

    @classmethod
    def take(cls, symbol_dir: SymbolDir, *, wait_s: float = WAIT_S) -> Self:
        """Take the lock, trying again for some seconds if it is held.

        Raises
        ------
        LeaseError
            Another process holds it; the message names that process.
        StorageError
            As for `try_take`.
        """
        return cls._take(symbol_dir, deadline_after(wait_s))

    @classmethod
    def _take(
        cls,
        symbol_dir: SymbolDir,
        deadline: float,
        is_stopped: Callable[[], bool] = _never,
        *,
        claims: bool = False,
    ) -> Self:
        lock = cls.try_take(symbol_dir)
        if lock is not None:
            return lock
        with _claiming(symbol_dir) if claims else nullcontext():
            while (lock := cls.try_take(symbol_dir)) is None:
                if is_stopped() or not wait_a_little(deadline):
                    raise _held(symbol_dir)
        return lock

    @classmethod
    def take_all(
        cls,
        symbol_dirs: Sequence[SymbolDir],
        *,
        wait_s: float = WAIT_S,
        is_stopped: Callable[[], bool] = _never,
        claims: bool = False,
    ) -> list[WriterLock]:
        """Take the locks of several symbols, all or none, within one wait.

        The wait ends early once `is_stopped` returns True. With `claims`, a writer that gives way to
        services is asked to release the lock.

        Raises
        ------
        LeaseError, StorageError
            As for `take`.
        """
        deadline = deadline_after(wait_s)
        # In one order, so that two processes do not wait for each other.
        ordered = sorted(symbol_dirs, key=lambda one: str(one.folder))
        with ExitStack() as undo:
            taken = [
                undo.enter_context(cls._take(one, deadline, is_stopped, claims=claims))
                for one in ordered
            ]
            undo.pop_all()
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock. Do nothing if it is released already."""
        self._lock.release()
        failpoint(Step.LOCK_RELEASED)


@contextmanager
def _claiming(symbol_dir: SymbolDir) -> Iterator[None]:
    """Say in a file, for the time of the block, that this process waits for a lock."""
    path = _claim_file(symbol_dir)
    with disk_errors(path):
        replace_synced(symbol_dir.disk, path, memoryview(str(os.getpid()).encode()))
    try:
        yield
    finally:
        # Somebody who waits, too, may have written it since.
        if _claiming_process(path) == os.getpid():
            path.unlink(missing_ok=True)


def _claim_file(symbol_dir: SymbolDir) -> Path:
    return symbol_dir.live / ".claim"


def _claiming_process(path: Path) -> int | None:
    try:
        text = path.read_bytes()[:_LONGEST_ID]
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def claimant(symbol_dir: SymbolDir) -> int | None:
    """Return the process that waits for the lock of a symbol and asks its writer to release it.

    A claim of this process, or of one that has ended, does not count.
    """
    process = _claiming_process(_claim_file(symbol_dir))
    if process is None or process == os.getpid() or not is_running(process):
        return None
    return process


def has_writer(symbol_dir: SymbolDir) -> bool:
    """Return whether a process holds the lock of a symbol at this moment.

    Raises
    ------
    StorageError
        The lock cannot be tried.
    """
    path = _lock_file(symbol_dir)
    try:
        file = LockFile(path, create=False, writable=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"the lock `{path}` cannot be opened: {reason}") from error
    try:
        return not file.try_lock(shared=True)
    finally:
        file.close()


def writer_process(symbol_dir: SymbolDir) -> int | None:
    """Return the id of the process that took the lock last, if the lock's file names it."""
    return FileLock(_lock_file(symbol_dir)).holder()


def _held(symbol_dir: SymbolDir) -> LeaseError:
    process = writer_process(symbol_dir)
    if process is None:
        holder, end = "another process", "stop that process"
    elif process == os.getpid():
        holder, end = f"this process ({process})", "close what streams it in this process"
    else:
        holder, end = f"process {process}", f"stop it (kill {process})"
    return LeaseError(
        with_hint(
            f"{symbol_dir.label} is already streamed into `{symbol_dir.root}` by {holder}",
            f"{end}, or use another folder: cache_dir=, or RANGEBAR_CACHE_DIR",
        ),
        holder=holder,
    )
