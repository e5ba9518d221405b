"""What this process has opened: every call on one cache uses one connection."""

from __future__ import annotations

import os
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.interrupts import raise_if_interrupted
from rangebar_polars.exceptions import CacheForkedError, CacheUnavailableError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.target import Target

__all__ = ["Openings"]

#: How often who waits for another call looks whether it was interrupted.
_LOOK_S = 0.1
#: The engine leaves some threads and a megabyte or two behind whenever it is closed.
_MANY_OPENINGS = 1_000
_CHURN = with_hint(
    f"this process has opened the embedded bar cache {_MANY_OPENINGS:,} times; the engine leaves "
    "threads and memory behind each time, until the process can start no more",
    "keep it open over many calls, `with rb.open_cache():`, or use a server",
)


@dataclass(slots=True)
class _Opening:
    """A cache while it is open; None while it is being opened or closed."""

    cache: Cache | None = None
    is_embedded: bool = False
    #: The thread of every call that uses it.
    threads: list[int] = field(default_factory=list)


class Openings:
    """The caches that are open in a process, each with the calls that use it.

    The first call opens, the last one closes. One process can host one embedded engine, which
    has one folder, and a forked child cannot use it at all.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._open: dict[str, _Opening] = {}
        self._openings = 0
        self._has_warned = False
        self._has_hosted_engine = False

    def enter(self, target: Target, connect: Callable[[Target], Cache]) -> Cache:
        """The open cache, opened if nobody has; `leave` must follow."""
        self._judge_process(target)
        if self._openings >= _MANY_OPENINGS and not self._has_warned:
            self._has_warned = True
            warnings.warn(_CHURN, RuntimeWarning, stacklevel=6)
        opening = self._join(target)
        if opening.cache is not None:
            return opening.cache
        try:
            cache = connect(target)
        except BaseException:
            self._forget(target)
            raise
        with self._changed:
            opening.cache = cache
            self._openings += target.is_embedded
            self._changed.notify_all()
        return cache

    def leave(self, target: Target) -> None:
        """End of a call: the last one closes the cache."""
        with self._changed:
            opening = self._open[target.address]
            thread = threading.get_ident()
            opening.threads.remove(thread if thread in opening.threads else opening.threads[0])
            if opening.threads:
                return
            cache, opening.cache = opening.cache, None
        try:
            if cache is not None:
                cache.close()
        finally:
            self._forget(target)

    def _judge_process(self, target: Target) -> None:
        if self._process == os.getpid():
            return
        if target.is_embedded and self._has_hosted_engine:
            raise CacheForkedError(
                with_hint(
                    "this process is a fork of one that has used the embedded cache, whose "
                    "threads it lacks",
                    'start processes afresh: multiprocessing.get_context("spawn")',
                )
            )
        has_hosted_engine = self._has_hosted_engine
        # A connection of the parent would have two readers.
        self._begin()
        self._has_hosted_engine = has_hosted_engine

    def _join(self, target: Target) -> _Opening:
        """Opening with this call among its own; its cache is None if this call has to open it."""
        deadline = time.monotonic() + target.wait_s
        with self._changed:
            while (opening := self._available(target)) is None:
                left_s = deadline - time.monotonic()
                if self._hopeless(target) or left_s <= 0:
                    raise self._occupied(target)
                raise_if_interrupted()
                self._changed.wait(min(left_s, _LOOK_S))
            opening.threads.append(threading.get_ident())
            return opening

    def _available(self, target: Target) -> _Opening | None:
        opening = self._open.get(target.address)
        if opening is not None:
            return opening if opening.cache is not None else None
        if target.is_embedded:
            if any(other.is_embedded for other in self._open.values()):
                return None
            self._has_hosted_engine = True
        return self._open.setdefault(target.address, _Opening(is_embedded=target.is_embedded))

    def _hopeless(self, target: Target) -> bool:
        """Whether this thread itself holds the other folder it would wait for."""
        thread = threading.get_ident()
        return any(
            thread in opening.threads
            for address, opening in self._open.items()
            if opening.is_embedded and address != target.address
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

    def _forget(self, target: Target) -> None:
        with self._changed:
            self._open.pop(target.address, None)
            self._changed.notify_all()
