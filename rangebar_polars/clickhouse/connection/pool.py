"""What this process has opened: every call on one cache uses one connection.

The embedded engine leaves threads and files behind each time it is closed, so a folder stays open
after a call. A thread closes it when another process waits for it or nobody has used it for long.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._files.interrupts import raise_if_interrupted
from rangebar_polars._utils.fork import after_fork_in_child, raise_if_forked
from rangebar_polars.clickhouse.connection.descriptors import (
    descriptors,
    raise_descriptor_limit,
    refuse_without_descriptors,
)
from rangebar_polars.exceptions import (
    CacheError,
    CacheForkedError,
    CacheUnavailableError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.dsn import Target

__all__ = ["ConnectionPool"]

_LOG = logging.getLogger("rangebar_polars.clickhouse")

#: How often who waits for another call looks whether it was interrupted.
_LOOK_S = 0.1
#: How often the keeper of an idle folder looks whether it is wanted: seldom after a long time.
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.02, 0.5
#: How long a fork or the end of the process waits for another thread that opens or closes a cache.
_SETTLE_S = 5.0
#: Idle times double until here.
_MOST_DOUBLINGS = 10
#: The engine leaves some threads, files and a megabyte or two behind whenever it is closed.
_MANY_OPENINGS = 1_000
_CHURN = with_hint(
    f"this process has opened the embedded bar cache {_MANY_OPENINGS:,} times; the engine leaves "
    "threads, files and memory behind each time, until the process can start no more",
    "keep it open over many calls, `with rb.open_cache():`, or use a server",
)


@dataclass(slots=True)
class _Opening:
    """A cache while it is open; None while it is being opened or closed."""

    cache: Cache | None = None
    is_embedded: bool = False
    #: The thread of every call that uses it.
    threads: list[int] = field(default_factory=list)
    #: How long it may stay open without a call; none for a server.
    idle_s: float = 0.0
    #: When its last call ended, by the monotonic clock; None while a call uses it.
    idle_since: float | None = None
    is_closing: bool = False
    #: Whether a call met an error, after which the engine is better started again.
    has_failed: bool = False


class ConnectionPool:
    """The caches that are open in a process, each with the calls that use it.

    The first call opens. After the last one a server is closed, and a folder is kept for the next.
    One process can host one embedded engine, which has one folder, and a forked child cannot use it
    at all.
    """

    def __init__(self) -> None:
        #: How often this process has opened an embedded cache.
        self.count = 0
        #: Files of earlier engines, as counted before the last opening.
        self._left_behind: int | None = 0
        self._has_hosted_engine = False
        #: Whether this process was forked from one that had an engine, or its library.
        self._has_lost_engine = False
        self._inherited: list[dict[str, _Opening]] = []
        self._begin()
        after_fork_in_child(self._after_fork_in_child)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[str, _Opening] = {}
        self._has_warned = False
        self._keeper: threading.Thread | None = None
        self._idle_closings = 0
        self._is_held = False

    # Calls

    def judge_process(self, target: Target) -> None:
        """Refuse what a forked child cannot do.

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
                    "whose threads it lacks",
                    'start processes afresh: multiprocessing.get_context("spawn")',
                )
            )
        raise_if_forked("open_cache")

    def enter(self, target: Target, connect: Callable[[Target], Cache]) -> Cache:
        """The open cache, opened if nobody has; `leave` must follow."""
        self.judge_process(target)
        if self.count >= _MANY_OPENINGS and not self._has_warned:
            self._has_warned = True
            warnings.warn(_CHURN, RuntimeWarning, stacklevel=7)
        opening = self._join(target)
        if opening.cache is not None:
            return opening.cache
        try:
            if target.is_embedded:
                self._prepare(target)
            cache = connect(target)
        except BaseException:
            self._forget(target.key)
            raise
        with self._changed:
            opening.cache = cache
            self.count += target.is_embedded
            self._changed.notify_all()
        return cache

    def leave(self, target: Target, error: BaseException | None = None) -> None:
        """End of a call, with the error that ended it: the last one closes what is not kept."""
        with self._changed:
            opening = self._open[target.key]
            thread = threading.get_ident()
            opening.threads.remove(thread if thread in opening.threads else opening.threads[0])
            opening.has_failed |= _is_doubtful(error)
            if opening.threads:
                return
            if self._may_stay(opening):
                self._set_idle(opening)
                return
            cache = self._take(opening)
        self._close(target.key, cache)

    def left_behind(self) -> int | None:
        """Files that engines of this process left open; None where that is not known."""
        with self._changed:
            is_open = any(opening.is_embedded for opening in self._open.values())
            return self._left_behind if is_open else descriptors().of_engines

    def _prepare(self, target: Target) -> None:
        if not self.count:
            raise_descriptor_limit()
            atexit.register(self._close_idle)
        self._left_behind = refuse_without_descriptors(target.address, self.count).of_engines

    def _join(self, target: Target) -> _Opening:
        """Opening with this call among its own; its cache is None if this call has to open it."""
        deadline = time.monotonic() + target.wait_s
        while True:
            with self._changed:
                address = self._in_the_way(target)
                if address is None:
                    opening = self._available(target)
                    if opening is not None:
                        opening.threads.append(threading.get_ident())
                        return opening
                    self._wait(target, deadline)
                    continue
                cache = self._take(self._open[address])
            self._close(address, cache)

    def _wait(self, target: Target, deadline: float) -> None:
        """Wait a moment for another call, or as long as it takes for one that ends already."""
        left_s = deadline - time.monotonic()
        is_closing = any(opening.is_closing for opening in self._open.values())
        if self._hopeless(target) or (left_s <= 0 and not is_closing):
            raise self._occupied(target)
        raise_if_interrupted()
        self._changed.wait(_LOOK_S if is_closing else min(left_s, _LOOK_S))

    def _in_the_way(self, target: Target) -> str | None:
        """Address of an idle folder that has to be closed for this call."""
        for address, opening in self._open.items():
            if opening.idle_since is None or opening.cache is None:
                continue
            if address == target.key:
                # Its folder may have been removed or replaced meanwhile.
                return None if opening.cache.is_in_place() else address
            if target.is_embedded:
                return address
        return None

    def _available(self, target: Target) -> _Opening | None:
        opening = self._open.get(target.key)
        if opening is not None:
            if opening.cache is None:
                return None
            if opening.idle_since is not None:
                opening.idle_since = None
                opening.cache.set_idle(False)
            return opening
        if target.is_embedded:
            if any(other.is_embedded for other in self._open.values()):
                return None
            self._has_hosted_engine = True
        opening = _Opening(is_embedded=target.is_embedded, idle_s=target.idle_s)
        return self._open.setdefault(target.key, opening)

    def _hopeless(self, target: Target) -> bool:
        """Whether this thread itself holds the other folder it would wait for."""
        thread = threading.get_ident()
        return any(
            thread in opening.threads
            for address, opening in self._open.items()
            if opening.is_embedded and address != target.key
        )

    def _occupied(self, target: Target) -> CacheUnavailableError:
        others = [address for address, opening in self._open.items() if opening.is_embedded]
        return CacheUnavailableError(
            with_hint(
                f"`{target.address}` cannot be opened while this process has `{others[0]}` open",
                "one process hosts one embedded cache: end the `with rb.open_cache()` of the other",
            ),
            holder=os.getpid(),
        )

    # Folders that are kept open

    def _may_stay(self, opening: _Opening) -> bool:
        return (
            opening.idle_s > 0
            and not opening.has_failed
            and opening.cache is not None
            and not opening.cache.is_wanted()
        )

    def _set_idle(self, opening: _Opening) -> None:
        assert opening.cache is not None  # noqa: S101
        opening.cache.set_idle(True)
        opening.idle_since = time.monotonic()
        if self._keeper is None:
            self._keeper = threading.Thread(
                target=self._keep, args=(self._changed,), name="rangebar-cache", daemon=True
            )
            self._keeper.start()
        # Who waits to open another folder closes this one.
        self._changed.notify_all()

    def _keep(self, changed: threading.Condition) -> None:
        """Close what is idle when its time has come; the thread ends with the last folder."""
        pause = threading.Event()
        while True:
            with changed:
                opening = next((one for one in self._open.values() if one.is_embedded), None)
                if opening is None:
                    self._keeper = None
                    return
                wait_s = self._time_left(opening)
                if wait_s is not None:
                    address = cache = None
                else:
                    address = next(at for at, one in self._open.items() if one is opening)
                    cache = self._take(opening)
            if address is None or cache is None:
                pause.wait(wait_s)
                continue
            try:
                self._close(address, cache)
            except CacheError as error:
                _LOG.warning("%s", error)

    def _time_left(self, opening: _Opening) -> float | None:
        """Time until the next look at a folder; None if it is to be closed now."""
        if opening.idle_since is None or opening.cache is None:
            return _LOOK_S
        idle_s = time.monotonic() - opening.idle_since
        limit_s = self._idle_limit_s(opening)
        if idle_s >= limit_s:
            self._idle_closings += 1
            return None
        if opening.cache.is_wanted():
            return None
        return min(max(idle_s / 10, _SHORTEST_LOOK_S), _LONGEST_LOOK_S, limit_s - idle_s)

    def _idle_limit_s(self, opening: _Opening) -> float:
        # Each closing costs files that never come back, so that each makes the next one later.
        return opening.idle_s * (1 << min(self._idle_closings, _MOST_DOUBLINGS))

    def _take(self, opening: _Opening) -> Cache:
        """The cache of an opening, which the caller has to close."""
        cache, opening.cache = opening.cache, None
        assert cache is not None  # noqa: S101
        opening.idle_since, opening.is_closing = None, True
        return cache

    def _close(self, address: str, cache: Cache) -> None:
        try:
            cache.close()
        finally:
            self._forget(address)

    def _forget(self, address: str) -> None:
        with self._changed:
            self._open.pop(address, None)
            self._changed.notify_all()

    def _close_idle(self) -> None:
        """Close a folder that no call uses, at the end of the process."""
        if self._changed.acquire(timeout=_SETTLE_S):
            try:
                idle = self._settled_idle()
            finally:
                self._changed.release()
            if idle is not None:
                self._close(*idle)

    def _settled_idle(self) -> tuple[str, Cache] | None:
        """An idle folder, to be closed, once no other thread opens or closes one."""
        deadline = time.monotonic() + _SETTLE_S
        while any(one.is_closing for one in self._open.values()):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                return None
        for address, opening in self._open.items():
            if opening.idle_since is not None:
                return address, self._take(opening)
        return None

    # Forks

    def _before_fork(self) -> None:
        """Close an idle folder: a child with a copy of an open engine cannot even end."""
        self._close_idle()
        # No other thread is within when the memory is copied.
        self._is_held = self._changed.acquire(timeout=_SETTLE_S)

    def _after_fork(self) -> None:
        if self._is_held:
            self._changed.release()

    def _after_fork_in_child(self) -> None:
        # A connection of the parent would have two readers, and its end must not be noticed.
        self._inherited.append(self._open)
        self._begin()
        # Its import alone starts threads.
        self._has_lost_engine |= self._has_hosted_engine or "chdb" in sys.modules
        self._has_hosted_engine, self.count = False, 0


def _is_doubtful(error: BaseException | None) -> bool:
    """Whether the engine may not be as it was: it failed, or was interrupted in its work."""
    return isinstance(error, CacheError) or not isinstance(
        error, Exception | GeneratorExit | SystemExit | None
    )
