"""Open the bar cache: connect, check or create the tables, and share one connection per process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.interrupts import Uninterrupted
from rangebar_polars._files.locks import deadline_after, wait_a_little
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.client import READS, Cache
from rangebar_polars.clickhouse.connection.connection import Connection
from rangebar_polars.clickhouse.connection.descriptors import descriptors
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.connection.pool import ConnectionPool
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing, has_tables
from rangebar_polars.exceptions import CacheUnavailableError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.dsn import Target

__all__ = [
    "EngineUse",
    "engine_use",
    "has_open_folder",
    "open_cache",
    "open_target",
    "reading",
]


_POOL = ConnectionPool()


@dataclass(frozen=True, slots=True)
class EngineUse:
    """The openings of the embedded engine by this process, and the files they left open."""

    openings: int
    #: Files that earlier engines left open; None where the system does not report them.
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
    """Return how often this process has opened the embedded engine, and what was left open.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.open import EngineUse
    >>> print(EngineUse(openings=3, left_behind=14, limit=1024))
    this process opened the embedded engine 3 times; earlier openings left 14 files open (limit: 1,024)
    """
    return EngineUse(_POOL.count, _POOL.left_behind(), descriptors().limit)


def has_open_folder(dsn: str | None = None, cache_dir: str | Path | None = None) -> bool:
    """Return whether this process has an embedded cache open, which no other process can open then.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.clickhouse.open import has_open_folder
    >>> folder = mkdtemp()
    >>> with rb.open_cache(cache_dir=folder):
    ...     has_open_folder(cache_dir=folder)
    True
    """
    target = resolve(dsn, cache_dir)
    return target.is_embedded and _POOL.has(target)


@checked_keywords
@contextmanager
def open_cache(
    dsn: str | None = None, *, cache_dir: str | Path | None = None, write: bool = False
) -> Iterator[Cache]:
    """Open the bar cache and hold it open for all calls of this process until the context ends.

    A call outside of this context opens the embedded cache and leaves it open for the next call.
    It is closed when another process waits for it, or after a minute without a call
    (`RANGEBAR_CACHE_IDLE_S`). Within this context no other process can open it.

    Parameters
    ----------
    dsn
        `chdb:///folder` or `http(s)://user:password@host:port/database`. By default the setting
        `RANGEBAR_CLICKHOUSE_DSN`, or a folder within the cache folder.
    cache_dir
        Cache folder, in place of the one in the settings.
    write
        Create the tables if they do not exist.

    Raises
    ------
    CacheUnavailableError
        The server cannot be reached, or another process has held the folder for 30 seconds
        (`RANGEBAR_CACHE_WAIT_S`).
    CacheSchemaError
        Another version of the package created the tables.

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
    """Open the cache of a resolved target, as `open_cache` does."""
    with _pooled(target) as cache:
        if write:
            create_tables_if_missing(cache)
        yield cache


@contextmanager
def reading(
    dsn: str | None = None, *, cache_dir: str | Path | None = None
) -> Iterator[Cache | None]:
    """Open the cache for reading, or yield None if it has no tables.

    If the folder does not exist, the engine is not started.
    """
    target = resolve(dsn, cache_dir)
    _POOL.check_process(target)
    if target.folder is not None and not target.folder.is_dir():
        yield None
        return
    with _pooled(target) as cache:
        yield cache if has_tables(cache) else None


@contextmanager
def _pooled(target: Target) -> Iterator[Cache]:
    # An interrupted connection to a server leaves nothing behind, and connecting may take long.
    with Uninterrupted(is_needed=target.is_embedded) as interrupts:
        cache = _POOL.enter(target, _connect)
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
                _POOL.leave(target, error)
                # A traceback refers to this frame.
                del error


def _connect(target: Target) -> Connection:
    connection = _connect_server(target) if target.folder is None else _open_folder(target)
    try:
        failpoint(Step.CACHE_OPENED)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_server(target: Target) -> Connection:
    with driver.opening(target.address):
        client = READS.run(lambda: driver.server_client(target.dsn), transient=driver.is_lost)
    return Connection(Cache(client, target))


def _open_folder(target: Target) -> Connection:
    assert target.folder is not None  # noqa: S101
    deadline = deadline_after(target.wait_s)
    lock = FolderLock(target.folder)
    with driver.opening(target.address):
        if not lock.acquire(target.wait_s):
            raise _locked_error(target, lock.holder())
        try:
            return Connection(Cache(_engine(target, deadline), target), lock)
        except BaseException:
            lock.release()
            raise


def _engine(target: Target, deadline: float) -> Any:  # noqa: ANN401
    """Return the engine's client, waiting for other programs, which do not take our lock."""
    assert target.folder is not None  # noqa: S101
    while True:
        try:
            return driver.folder_client(target.folder)
        except driver.FolderLockedError as error:
            if not wait_a_little(deadline):
                raise _locked_error(target, error.holder) from error


def _locked_error(target: Target, holder: int | None) -> CacheUnavailableError:
    process = "another process" if holder is None else f"process `{holder}`"
    how, how_long = ("has been", f" for {target.wait_s:g} s") if target.wait_s else ("is", "")
    return CacheUnavailableError(
        with_hint(
            f"the cache in `{target.folder}` {how} held by {process}{how_long}",
            "wait for it (RANGEBAR_CACHE_WAIT_S), or share bars through a server: "
            "RANGEBAR_CLICKHOUSE_DSN=http://host:8123",
        ),
        holder=holder,
    )
