"""Open the bar cache: one connection per process and folder."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.interrupts import Uninterrupted
from rangebar_polars._files.locks import wait_a_little
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.client import READS, Cache
from rangebar_polars.clickhouse.connection.descriptors import descriptors
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.connection.pool import ConnectionPool
from rangebar_polars.exceptions import CacheUnavailableError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.dsn import Target

__all__ = ["EngineUse", "engine_use", "open_cache", "open_target", "reading"]


_OPENINGS = ConnectionPool()


@dataclass(frozen=True, slots=True)
class EngineUse:
    """How often this process has opened the embedded engine, and what that has cost."""

    openings: int
    #: Files that earlier engines left open; None where the system does not say.
    left_behind: int | None
    #: How many files this process may have open; None without a limit.
    limit: int | None

    def __str__(self) -> str:
        times = "once" if self.openings == 1 else f"{self.openings:,} times"
        text = f"this process opened the embedded engine {times}"
        if self.left_behind is None:
            return text
        most = "" if self.limit is None else f" (limit: {self.limit:,})"
        return f"{text}; earlier openings left {self.left_behind:,} files open{most}"


def engine_use() -> EngineUse:
    """Return how often this process has opened the embedded engine, and what that has cost.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.open import EngineUse
    >>> print(EngineUse(openings=3, left_behind=14, limit=1024))
    this process opened the embedded engine 3 times; earlier openings left 14 files open (limit: 1,024)
    """
    return EngineUse(_OPENINGS.count, _OPENINGS.left_behind(), descriptors().limit)


@contextmanager
def open_cache(
    dsn: str | None = None, *, cache_dir: str | Path | None = None, write: bool = False
) -> Iterator[Cache]:
    """Open the bar cache, and keep it open for every call of this process until the end.

    A call by itself opens the embedded cache and leaves it open for the next one. It is closed when
    another process waits for it, or after a minute without a call (`RANGEBAR_CACHE_IDLE_S`).
    Within this context it is given to no other process.

    Parameters
    ----------
    dsn
        `chdb:///folder` or `http(s)://user:password@host:port/database`; else the setting
        `RANGEBAR_CLICKHOUSE_DSN`, else a folder in the cache folder.
    cache_dir
        Cache folder, instead of the setting's.
    write
        Create the tables if there are none.

    Raises
    ------
    CacheUnavailableError
        The server is away, or another process has held the folder for 30 seconds
        (`RANGEBAR_CACHE_WAIT_S`).
    CacheSchemaError
        The tables are of another version of the package.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.readers.cached import count_bars
    >>> folder = mkdtemp()
    >>> with rb.open_cache(cache_dir=folder):
    ...     [count_bars("BTCUSDT", threshold, cache_dir=folder) for threshold in (250, 500)]
    [0, 0]
    """
    with open_target(resolve(dsn, cache_dir), write=write) as cache:
        yield cache


@contextmanager
def open_target(target: Target, *, write: bool = False) -> Iterator[Cache]:
    """Open a cache as `open_cache` does, by what its arguments and the settings named."""
    with _shared(target) as cache:
        if write:
            cache.make_ready()
        yield cache


@contextmanager
def reading(
    dsn: str | None = None, *, cache_dir: str | Path | None = None
) -> Iterator[Cache | None]:
    """Open the cache to read from it; None if nothing is kept there.

    The engine is not started for a folder that does not exist.
    """
    target = resolve(dsn, cache_dir)
    _OPENINGS.judge_process(target)
    if target.folder is not None and not target.folder.is_dir():
        yield None
        return
    with _shared(target) as cache:
        yield cache if cache.is_ready else None


@contextmanager
def _shared(target: Target) -> Iterator[Cache]:
    # Of a server nothing would be left behind, and it may be slow.
    with Uninterrupted(is_needed=target.is_embedded) as interrupts:
        cache = _OPENINGS.enter(target, _connect)
        error: BaseException | None = None
        try:
            interrupts.allow()
            yield cache
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                interrupts.defer()
            finally:
                _OPENINGS.leave(target, error)
                # A traceback refers to this frame.
                del error


def _connect(target: Target) -> Cache:
    cache = _connect_server(target) if target.folder is None else _open_folder(target)
    try:
        failpoint(Step.CACHE_OPENED)
    except BaseException:
        cache.close()
        raise
    return cache


def _connect_server(target: Target) -> Cache:
    with driver.opening(target.address):
        client = READS.run(lambda: driver.server_client(target.dsn), transient=driver.is_lost)
    return Cache(client, target)


def _open_folder(target: Target) -> Cache:
    assert target.folder is not None  # noqa: S101
    deadline = time.monotonic() + target.wait_s
    lock = FolderLock(target.folder)
    with driver.opening(target.address):
        if not lock.acquire(target.wait_s):
            raise _held(target, lock.holder())
        try:
            return Cache(_engine(target, deadline), target, lock)
        except BaseException:
            lock.release()
            raise


def _engine(target: Target, deadline: float) -> Any:  # noqa: ANN401
    """Client of the engine; other programs may hold the folder without having our lock."""
    assert target.folder is not None  # noqa: S101
    while True:
        try:
            return driver.folder_client(target.folder)
        except driver.FolderLockedError as error:
            if not wait_a_little(deadline):
                raise _held(target, error.holder) from error


def _held(target: Target, holder: int | None) -> CacheUnavailableError:
    who = "another process" if holder is None else f"process `{holder}`"
    how, how_long = ("has been", f" for {target.wait_s:g} s") if target.wait_s else ("is", "")
    return CacheUnavailableError(
        with_hint(
            f"the cache in `{target.folder}` {how} held by {who}{how_long}",
            "wait for it (RANGEBAR_CACHE_WAIT_S), or share bars through a server: "
            "RANGEBAR_CLICKHOUSE_DSN=http://host:8123",
        ),
        holder=holder,
    )
