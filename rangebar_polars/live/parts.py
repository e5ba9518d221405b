"""The symbols of a call of `live_bars`: each is written by this process, or followed.

A symbol may change sides. A follower that takes over becomes the writer after the other one has
ended, and a writer becomes a follower if a service claims the symbol.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
from rangebar_polars._utils.caught import Caught
from rangebar_polars.live.follower import Follower
from rangebar_polars.live.helper.choosing import states_for
from rangebar_polars.live.helper.client import Helper
from rangebar_polars.live.plan import NOW
from rangebar_polars.live.session import LiveSession, SessionOptions, following_history
from rangebar_polars.storage.live.writer_lock import WriterLock, claimant, has_writer
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import polars as pl

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers import Replayed
    from rangebar_polars.live.consumers.iterator import BarIterator
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.plan import LivePlan

__all__ = ["LiveParts"]

#: How often a writer looks for claims.
CLAIM_S = 1.0
#: How long a lock has to be free before a follower takes it.
FREE_S = 10.0
_CLAIMED = "a service claims the symbol"


class LiveParts:
    """The symbols of a call, in sessions that write and in followers.

    Parameters
    ----------
    plan
        What the call asks for.
    cache_dir, dsn
        The store and the bar cache.
    takes_over
        Whether a follower becomes the writer once the other one has ended.
    """

    def __init__(
        self,
        plan: LivePlan,
        cache_dir: Path | str | None,
        dsn: str | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        self.plan = plan
        self._takes_over = takes_over
        self._storage = storage = TickStorage(cache_dir)
        self._is_now = plan.anchor == NOW
        self._options = SessionOptions(cache_dir=cache_dir, dsn=dsn)
        self._folder: TemporaryDirectory[str] | None = None
        self._stopped = threading.Event()
        self._changed = threading.Lock()
        #: What each symbol belongs to at the moment.
        self._part_of: dict[str, LiveSession | Follower] = {}
        self._threads: list[threading.Thread] = []
        #: Locks of the symbols that this process writes.
        self._locks: dict[str, WriterLock] = {}
        for symbol in [] if self._is_now else plan.symbols:
            folder = storage.symbol_dir(symbol, *plan.venue)
            if not has_writer(folder) and (lock := WriterLock.try_take(folder)) is not None:
                self._locks[symbol] = lock
        try:
            if self._is_now:
                # Nothing is stored of bars that begin now, so nobody else is kept from writing.
                self._folder = TemporaryDirectory(prefix="rangebar-live-")
                self._options = SessionOptions(self._folder.name, cache="off", finalizes=False)
            written = plan.symbols if self._is_now else tuple(self._locks)
            self._first = self._session_of(written) if written else None
            self._helper = Helper(cache_dir, dsn)
            states = states_for(
                "off" if self._is_now else "existing",
                self._helper,
                lambda symbol: storage.symbol_dir(symbol, *plan.venue),
                cache_dir=cache_dir,
                dsn=dsn,
            )
            self._history = following_history(plan, storage, states)
        except BaseException:
            self._release(self._locks)
            raise

    def _session_of(self, symbols: tuple[str, ...]) -> LiveSession:
        specs = {name: of_one for name, of_one in self.plan.specs.items() if name in symbols}
        return LiveSession(replace(self.plan, specs=specs), self._options)

    def _release(self, symbols: Mapping[str, object] | tuple[str, ...]) -> None:
        for symbol in tuple(symbols):
            lock = self._locks.pop(symbol, None)
            if lock is not None:
                lock.release()

    # Run

    def open(self, iterator: BarIterator) -> None:
        """Begin; `run_all` follows."""
        if self._first is not None:
            try:
                self._open(self._first, iterator)
            except BaseException:
                self._release(self._locks)
                raise
        for symbol in self.plan.symbols:
            if symbol not in self._part_of:
                self._follow(symbol, iterator)

    def _open(self, session: LiveSession, iterator: BarIterator) -> None:
        locks = None if self._is_now else [self._locks[name] for name in session.plan.specs]
        session.open([iterator], locks, keeps_locks=not self._is_now)
        with self._changed:
            self._part_of.update(dict.fromkeys(session.plan.specs, session))

    def _follow(self, symbol: str, iterator: BarIterator) -> Follower:
        free_s = FREE_S if self._takes_over else None
        found = Follower(symbol, self._history, iterator, self.plan.until, ends_if_free_s=free_s)
        with self._changed:
            self._part_of[symbol] = found
        return found

    def run_all(self, iterator: BarIterator) -> None:
        """Run all parts until they end, then the iteration."""
        for part in list(self._part_of.values()):
            if isinstance(part, Follower):
                self._start_following(part, iterator)
        if self._first is not None:
            self._write(self._first, iterator)
        while self._threads:
            # A part that ends may begin others.
            self._threads.pop().join()
        self._release(self._locks)
        iterator.close(_nothing)

    def _start_following(self, follower: Follower, iterator: BarIterator) -> None:
        thread = threading.Thread(
            target=self._run_following,
            args=(follower, iterator),
            name=f"rangebar-follow-{follower.symbol}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _run_following(self, follower: Follower, iterator: BarIterator) -> None:
        """Follow a symbol, and write it once its lock was free for long enough."""
        symbol = follower.symbol
        with Caught(even_exits=True) as caught:
            follower.run()
            while follower.is_free and not self._stopped.is_set():
                lock = WriterLock.try_take(self._storage.symbol_dir(symbol, *self.plan.venue))
                if lock is not None:
                    self._locks[symbol] = lock
                    session = self._session_of((symbol,))
                    self._open(session, iterator)
                    self._write(session, iterator)
                    return
                follower = self._follow(symbol, iterator)
                follower.run()
        if caught.error is not None:
            iterator.fail(caught.error)
            self.stop()

    def _write(self, session: LiveSession, iterator: BarIterator) -> None:
        """Run a session; follow the symbols that are claimed, and go on with the others."""
        while True:
            ended = threading.Event()
            watch = threading.Thread(
                target=self._watch_claims,
                args=(session, ended),
                name="rangebar-claims",
                daemon=True,
            )
            if not self._is_now:
                watch.start()
            # The next item raises it.
            with Caught(even_exits=True) as caught:
                asyncio.run(session.run())
            ended.set()
            symbols = tuple(session.plan.specs)
            if caught.error is not None:
                iterator.fail(caught.error)
                self.stop()
            if session.ending.reason != _CLAIMED or self._stopped.is_set():
                self._release(symbols)
                return
            session.helper.close()
            claimed = tuple(symbol for symbol in symbols if self._is_claimed(symbol))
            self._release(claimed)
            for symbol in claimed:
                self._start_following(self._follow(symbol, iterator), iterator)
            left = tuple(symbol for symbol in symbols if symbol not in claimed)
            if not left:
                return
            session = self._session_of(left)
            self._open(session, iterator)

    def _watch_claims(self, session: LiveSession, ended: threading.Event) -> None:
        """Stop a session once a service claims one of its symbols."""
        while not ended.wait(clock.real_seconds(CLAIM_S)):
            if any(self._is_claimed(symbol) for symbol in session.plan.specs):
                session.stop(_CLAIMED)
                return

    def _is_claimed(self, symbol: str) -> bool:
        return claimant(self._storage.symbol_dir(symbol, *self.plan.venue)) is not None

    def stop(self) -> None:
        """End all parts in order."""
        self._stopped.set()
        self._helper.close()
        for part in self._parts():
            part.stop("closed")
            if isinstance(part, LiveSession):
                part.helper.close()

    def clean_up(self) -> None:
        """Remove what was stored for the time of the call."""
        if self._folder is not None:
            self._folder.cleanup()

    def bars_after(
        self, symbol: str, series: BarSeries, last_id: int, limit: int
    ) -> Iterator[Replayed]:
        """Compute bars again. See `ReplaySource`."""
        with self._changed:
            part = self._part_of[symbol]
        history = part.history if isinstance(part, LiveSession) else self._history
        return history.bars_after(symbol, series, last_id, limit)

    # What is going on

    def _parts(self) -> list[LiveSession | Follower]:
        """Return the parts, each once, in the order of the call."""
        with self._changed:
            found = [self._part_of[one] for one in self.plan.symbols if one in self._part_of]
        return list({id(part): part for part in found}.values())

    @property
    def failure(self) -> str:
        """Why no symbol can go on; empty while one can."""
        found = [part.failure for part in self._parts()]
        return "; ".join(found) if found and all(found) else ""

    def statuses(self) -> list[dict[str, Any]]:
        """Return the status of each symbol, in the order of the call."""
        found = [status for part in self._parts() for status in part.statuses()]
        order = list(self.plan.symbols)
        return sorted(found, key=lambda status: order.index(status["symbol"]))

    def partial(self, frames: BarFrames) -> list[pl.DataFrame]:
        """Return frames of the forming bars."""
        return [frame for part in self._parts() for frame in part.partial(frames)]


def _nothing() -> None:
    """Do nothing."""
