"""Forked processes: detection of inherited state that does not work in a child.

A fork copies the memory of a process but only one of its threads. Thread pools of the parent have
no threads in the child, so work passed to them never ends. Locks that other threads held are never
released. Polars starts its pool at its first query.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread, get_ident
from typing import TYPE_CHECKING
from weakref import WeakSet

from rangebar_polars.exceptions import ForkedProcessError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ForkSafeLock", "after_fork_in_child", "fork_count", "raise_if_forked"]
__all__ += ["raise_if_inherited"]

#: How long a child waits for Polars to answer a query of one row.
_PROBE_LIMIT_S = 10.0
# Threads of Polars that run queries. A clean-up thread is started at the import already.
_POOL_THREAD = re.compile(r"polars-\d+|async-executor.*")
_HINT = (
    'start the process without forking: multiprocessing.get_context("spawn"), or fork before '
    "the first query"
)


class _Process:
    """The state that this process inherited from its parents."""

    def __init__(self) -> None:
        #: Forks between this process and the one that imported the package.
        self.forks = 0
        #: Process id of the parent that forked.
        self.parent = 0
        self._had_pool_at_fork = False
        self._has_lost_pool = False
        self._has_working_pool = False
        self._probe: Thread | None = None

    def before_fork(self) -> None:
        self.parent = os.getpid()
        self._had_pool_at_fork = any(map(_POOL_THREAD.fullmatch, _thread_names()))

    def after_fork_in_child(self) -> None:
        self.forks += 1
        self._has_lost_pool |= self._had_pool_at_fork
        self._has_working_pool = False
        self._probe = None
        for lock in tuple(_LOCKS):
            lock.renew()

    def has_pool(self) -> bool:
        """Return whether Polars answers in this forked process."""
        if self._has_working_pool or self._has_lost_pool:
            return self._has_working_pool
        # Thread names are not available on every platform, and a variable can change them.
        limit_s = 0.0
        if self._probe is None:
            self._probe = Thread(target=_query, name="rangebar-probe", daemon=True)
            self._probe.start()
            limit_s = _PROBE_LIMIT_S
        self._probe.join(limit_s)
        self._has_working_pool = not self._probe.is_alive()
        return self._has_working_pool


def _thread_names() -> list[str]:
    """Return the names of all threads of this process, where the platform lists them."""
    names = []
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # the thread has ended
                names.append((task / "comm").read_text(errors="replace").strip())
    return names


def _query() -> None:
    import polars as pl

    frame = pl.DataFrame({"probe": [1, 2]})
    frame.filter(pl.col("probe") > 1)
    frame.lazy().select(pl.col("probe") + 1).collect(engine="streaming")


class ForkSafeLock:
    """A mutex that is free in a forked child, whichever thread of the parent held it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._owner: int | None = None
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = get_ident()

    def __exit__(self, *_: object) -> None:
        # A thread that forks while it holds the lock does not hold the new lock of the child.
        if self._owner == get_ident():
            self._owner = None
            self._lock.release()

    def renew(self) -> None:
        """Replace the lock by a free lock."""
        self._lock, self._owner = Lock(), None


_LOCKS: WeakSet[ForkSafeLock] = WeakSet()
_process = _Process()


def fork_count() -> int:
    """Return the number of forks since the package was imported, as this process sees it.

    An object that owns threads or connections remembers the number and compares it before use.

    Examples
    --------
    >>> from rangebar_polars._utils.fork import fork_count
    >>> fork_count()
    0
    """
    return _process.forks


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Call a function in every later forked child, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def raise_if_forked(operation: str) -> None:
    """Raise if an operation would hang, because this forked child has no threads of Polars.

    Raises
    ------
    ForkedProcessError
        The parent used Polars before it forked.

    Examples
    --------
    >>> from rangebar_polars._utils.fork import raise_if_forked
    >>> raise_if_forked("scan_ticks")
    """
    if _process.forks and not _process.has_pool():
        raise ForkedProcessError(
            with_hint(
                f"`{operation}` cannot run in process {os.getpid()}: it was forked from process "
                f"{_process.parent}, which had used Polars, and has no threads of Polars",
                _HINT,
            )
        )


def raise_if_inherited(forks: int, operation: str) -> None:
    """Raise if the operation was begun in a parent of this process.

    Parameters
    ----------
    forks
        `fork_count()` when the operation began.
    operation
        Name of the operation, for the message.

    Raises
    ------
    ForkedProcessError
        Another process began the operation.
    """
    if _process.forks != forks:
        raise ForkedProcessError(
            with_hint(
                f"`{operation}` was begun in process {_process.parent} and cannot be continued in "
                f"process {os.getpid()}, which was forked from it",
                "begin it again in this process",
            )
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_child=_process.after_fork_in_child,
    )
