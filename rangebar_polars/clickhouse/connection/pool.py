"""The pool of open connections: all calls of a process on one cache share a connection.

The embedded engine leaves threads and files behind each time it is closed, so a folder stays open
after a call. A thread closes it when another process waits for it, or after an idle time.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._files.interrupts import raise_if_interrupted
from rangebar_polars._utils.fork import after_fork_in_child, raise_if_forked
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.clickhouse.connection.descriptors import (
    descriptors,
    raise_descriptor_limit,
    refuse_without_descriptors,
)
from rangebar_polars.exceptions import (
    CacheError,
    CacheForkedError,
    CacheOpeningsWarning,
    CacheUnavailableError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.connection import Connection
    from rangebar_polars.clickhouse.connection.dsn import Target

__all__ = ["ConnectionPool"]

_LOG = logging.getLogger("rangebar_polars.clickhouse")

#: How often a call that waits for another one checks for an interrupt.
_POLL_S = 0.1
#: How often the closing thread checks an idle folder: the longer it is idle, the less often.
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.02, 0.5
#: How long a fork or the end of the process waits for a thread that opens or closes a cache.
_SETTLE_S = 5.0
#: The number of times that the idle time doubles.
_MOST_DOUBLINGS = 10
#: The engine leaves some threads, files and a megabyte or two behind whenever it is closed.
_MANY_OPENINGS = 1_000
_TOO_MANY_OPENINGS = with_hint(
    f"this process has opened the embedded bar cache {_MANY_OPENINGS:,} times; the engine leaves "
    "threads, files and memory behind each time, until the process can start no more",
    "keep it open over many calls, `with rb.open_cache():`, or use a server",
)


@dataclass(slots=True)
class _Entry:
    """A connection of the pool and the calls that use it."""

    #: None while the connection is being opened or closed.
    connection: Connection | None = None
    is_embedded: bool = False
    #: The thread of each call that uses it.
    threads: list[int] = field(default_factory=list)
    #: How long it may stay open without a call; 0 for a server.
    idle_s: float = 0.0
    #: When its last call ended, by the monotonic clock; None while a call uses it.
    idle_since: float | None = None
    is_closing: bool = False
    #: Whether a call failed, after which the engine has to be started again.
    has_failed: bool = False


class ConnectionPool:
    """The open connections of a process, each with the calls that use it.

    The first call opens a connection. When the last call ends, a connection to a server is closed,
    and a folder stays open for the next call. A process can host one embedded engine, which has
    one folder. A forked child cannot use the engine of its parent.
    """

    def __init__(self) -> None:
        #: How often this process has opened an embedded cache.
        self.count = 0
        #: Files that earlier engines had left open before the last opening.
        self._left_behind: int | None = 0
        self._has_hosted_engine = False
        #: Whether this process was forked from one that had an engine or its library.
        self._has_lost_engine = False
        self._inherited: list[dict[str, _Entry]] = []
        self._begin()
        after_fork_in_child(self._after_fork_in_child)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._has_warned = False
        self._closing_thread: threading.Thread | None = None
        self._idle_closings = 0
        self._is_locked_for_fork = False

    # Calls

    def check_process(self, target: Target) -> None:
        """Refuse a cache that this process cannot use because it was forked.

        Raises
        ------
        CacheForkedError
            The parent had used the embedded engine.
        ForkedProcessError
            The parent had used Polars.
        """
        if target.is_embedded and self._has_lost_engine:
            raise CacheForkedError(
                with_hint(
                    f"process {os.getpid()} is a fork of one that has used the embedded cache, "
                    "and the engine's threads do not exist in a fork",
                    'start processes afresh: multiprocessing.get_context("spawn")',
                )
            )
        raise_if_forked("open_cache")

    def enter(self, target: Target, connect: Callable[[Target], Connection]) -> Cache:
        """Return the client of the target, opening it if needed; `leave` must follow."""
        self.check_process(target)
        if self.count >= _MANY_OPENINGS and not self._has_warned:
            self._has_warned = True
            warn_caller(_TOO_MANY_OPENINGS, CacheOpeningsWarning)
        entry = self._join(target)
        if entry.connection is not None:
            return entry.connection.cache
        try:
            if target.is_embedded:
                self._prepare(target)
            connection = connect(target)
        except BaseException:
            self._remove(target.key)
            raise
        with self._changed:
            entry.connection = connection
            self.count += target.is_embedded
            self._changed.notify_all()
        return connection.cache

    def leave(self, target: Target, error: BaseException | None = None) -> None:
        """End a call, with the error that ended it.

        After the last call, close the connection unless it may stay open.
        """
        with self._changed:
            entry = self._entries[target.key]
            thread = threading.get_ident()
            entry.threads.remove(thread if thread in entry.threads else entry.threads[0])
            entry.has_failed |= _may_have_broken_engine(error)
            if entry.threads:
                return
            if self._may_stay_open(entry):
                self._set_idle(entry)
                return
            connection = self._begin_closing(entry)
        self._close(target.key, connection)

    def has(self, target: Target) -> bool:
        """Return whether a target is open, or being opened or closed."""
        with self._changed:
            return target.key in self._entries

    def left_behind(self) -> int | None:
        """Count the files that engines of this process left open; None if that is unknown."""
        with self._changed:
            is_open = any(entry.is_embedded for entry in self._entries.values())
            return self._left_behind if is_open else descriptors().of_engines

    def _prepare(self, target: Target) -> None:
        if not self.count:
            raise_descriptor_limit()
            atexit.register(self._close_idle)
        self._left_behind = refuse_without_descriptors(target.address, self.count).of_engines

    def _join(self, target: Target) -> _Entry:
        """Add this call to the entry of the target; without a connection, the call must open it."""
        deadline = time.monotonic() + target.wait_s
        while True:
            with self._changed:
                key = self._idle_in_the_way(target)
                if key is None:
                    entry = self._available(target)
                    if entry is not None:
                        entry.threads.append(threading.get_ident())
                        return entry
                    self._wait(target, deadline)
                    continue
                connection = self._begin_closing(self._entries[key])
            self._close(key, connection)

    def _wait(self, target: Target, deadline: float) -> None:
        """Wait a moment for another call, or without a limit for a connection that is closing."""
        left_s = deadline - time.monotonic()
        is_closing = any(entry.is_closing for entry in self._entries.values())
        if self._waits_for_itself(target) or (left_s <= 0 and not is_closing):
            raise self._occupied(target)
        raise_if_interrupted()
        self._changed.wait(_POLL_S if is_closing else min(left_s, _POLL_S))

    def _idle_in_the_way(self, target: Target) -> str | None:
        """Return the key of an idle folder that has to be closed before this call."""
        for key, entry in self._entries.items():
            if entry.idle_since is None or entry.connection is None:
                continue
            if key == target.key:
                # The folder may have been removed or replaced since.
                return None if entry.connection.is_in_place() else key
            if target.is_embedded:
                return key
        return None

    def _available(self, target: Target) -> _Entry | None:
        """Return an entry that this call may use or has to open; None if it has to wait."""
        entry = self._entries.get(target.key)
        if entry is not None:
            if entry.connection is None:
                return None
            if entry.idle_since is not None:
                entry.idle_since = None
                entry.connection.set_idle(False)
            return entry
        if target.is_embedded:
            if any(other.is_embedded for other in self._entries.values()):
                return None
            self._has_hosted_engine = True
        entry = _Entry(is_embedded=target.is_embedded, idle_s=target.idle_s)
        return self._entries.setdefault(target.key, entry)

    def _waits_for_itself(self, target: Target) -> bool:
        """Check whether this thread itself has the other folder open that it would wait for."""
        thread = threading.get_ident()
        return any(
            thread in entry.threads
            for key, entry in self._entries.items()
            if entry.is_embedded and key != target.key
        )

    def _occupied(self, target: Target) -> CacheUnavailableError:
        others = [key for key, entry in self._entries.items() if entry.is_embedded]
        return CacheUnavailableError(
            with_hint(
                f"`{target.address}` cannot be opened while this process has `{others[0]}` open",
                "one process hosts one embedded cache: end the `with rb.open_cache()` of the other",
            ),
            holder=os.getpid(),
        )

    # Idle folders

    def _may_stay_open(self, entry: _Entry) -> bool:
        return (
            entry.idle_s > 0
            and not entry.has_failed
            and entry.connection is not None
            and not entry.connection.is_wanted()
        )

    def _set_idle(self, entry: _Entry) -> None:
        assert entry.connection is not None  # noqa: S101
        entry.connection.set_idle(True)
        entry.idle_since = time.monotonic()
        if self._closing_thread is None:
            self._closing_thread = threading.Thread(
                target=self._close_when_due,
                args=(self._changed,),
                name="rangebar-cache",
                daemon=True,
            )
            self._closing_thread.start()
        # A call that waits to open another folder closes this one.
        self._changed.notify_all()

    def _close_when_due(self, changed: threading.Condition) -> None:
        """Close the idle folder when it is due. The thread ends when no folder is open."""
        pause = threading.Event()
        while True:
            with changed:
                key = next((k for k, entry in self._entries.items() if entry.is_embedded), None)
                if key is None:
                    self._closing_thread = None
                    return
                entry = self._entries[key]
                wait_s = self._time_left(entry)
                connection = self._begin_closing(entry) if wait_s is None else None
            if connection is None:
                pause.wait(wait_s)
                continue
            try:
                self._close(key, connection)
            except CacheError as error:
                _LOG.warning("%s", error)

    def _time_left(self, entry: _Entry) -> float | None:
        """Return the time until the next check of a folder; None if it is due to be closed."""
        if entry.idle_since is None or entry.connection is None:
            return _POLL_S
        idle_s = time.monotonic() - entry.idle_since
        limit_s = self._idle_limit_s(entry)
        if idle_s >= limit_s:
            self._idle_closings += 1
            return None
        if entry.connection.is_wanted():
            return None
        return min(max(idle_s / 10, _SHORTEST_POLL_S), _LONGEST_POLL_S, limit_s - idle_s)

    def _idle_limit_s(self, entry: _Entry) -> float:
        # Each closing costs files that are never released, so each one delays the next.
        return entry.idle_s * (1 << min(self._idle_closings, _MOST_DOUBLINGS))

    def _begin_closing(self, entry: _Entry) -> Connection:
        """Take the connection out of an entry. The caller must close it."""
        connection, entry.connection = entry.connection, None
        assert connection is not None  # noqa: S101
        entry.idle_since, entry.is_closing = None, True
        return connection

    def _close(self, key: str, connection: Connection) -> None:
        try:
            connection.close()
        finally:
            self._remove(key)

    def _remove(self, key: str) -> None:
        with self._changed:
            self._entries.pop(key, None)
            self._changed.notify_all()

    def _close_idle(self) -> None:
        """Close an idle folder, at the end of the process or before a fork."""
        if self._changed.acquire(timeout=_SETTLE_S):
            try:
                idle = self._settled_idle()
            finally:
                self._changed.release()
            if idle is not None:
                self._close(*idle)

    def _settled_idle(self) -> tuple[str, Connection] | None:
        """Take an idle folder to close, after other threads have finished closing theirs."""
        deadline = time.monotonic() + _SETTLE_S
        while any(entry.is_closing for entry in self._entries.values()):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                return None
        for key, entry in self._entries.items():
            if entry.idle_since is not None:
                return key, self._begin_closing(entry)
        return None

    # Forks

    def _before_fork(self) -> None:
        """Close an idle folder: a child with a copy of an open engine cannot even end."""
        self._close_idle()
        # No other thread changes the pool while the memory is copied.
        self._is_locked_for_fork = self._changed.acquire(timeout=_SETTLE_S)

    def _after_fork(self) -> None:
        if self._is_locked_for_fork:
            self._changed.release()

    def _after_fork_in_child(self) -> None:
        # The parent's connections stay referenced: a child must neither use nor close them.
        self._inherited.append(self._entries)
        self._begin()
        # The import of the engine's library alone starts threads.
        self._has_lost_engine |= self._has_hosted_engine or "chdb" in sys.modules
        self._has_hosted_engine, self.count = False, 0


def _may_have_broken_engine(error: BaseException | None) -> bool:
    """Check whether the engine may be in another state: it failed, or its work was interrupted."""
    return isinstance(error, CacheError) or not isinstance(
        error, Exception | GeneratorExit | SystemExit | None
    )
