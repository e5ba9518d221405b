"""The connection to the bar cache: every query and every insert goes through it."""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.clickhouse import driver
from rangebar_polars.clickhouse.ddl import check_schema, migrate
from rangebar_polars.clickhouse.descriptors import descriptors
from rangebar_polars.clickhouse.files import wait_a_little
from rangebar_polars.clickhouse.folder_lock import FolderLock
from rangebar_polars.clickhouse.interrupts import Uninterrupted
from rangebar_polars.clickhouse.recall import Memory
from rangebar_polars.clickhouse.retry import Retry
from rangebar_polars.clickhouse.sharing import Openings
from rangebar_polars.clickhouse.sql import identifier
from rangebar_polars.clickhouse.steps import Step, reach
from rangebar_polars.clickhouse.target import resolve
from rangebar_polars.exceptions import CacheUnavailableError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars.clickhouse.target import Target

__all__ = ["Cache", "EngineUse", "engine_use", "open_cache", "open_target", "reading"]

# Beside the statement, so that both transports take them alike and no state is left behind.
_READ: dict[str, str | int] = {
    "output_format_arrow_compression_method": "'none'",
    # The index has chosen what to read; judging rows before the rest of them costs more here.
    "optimize_move_to_prewhere": 0,
}
# Threads and compiled expressions pay only for large results.
_SMALL = {"max_threads": 1, "compile_expressions": 0, "compile_aggregate_expressions": 0}
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_WRITE = {
    # An answer means that the rows are on the disk.
    "async_insert": 0,
    # A null is never turned into a default value.
    "input_format_null_as_default": 0,
}


WRITES = Retry()
#: Who waits for a result would rather hear soon that the server is away.
READS = Retry(attempts=3)


class Cache:
    """An open cache: its queries and inserts, with every error of the driver mapped.

    It may be used by several threads at once.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401
        target: Target,
        lock: FolderLock | None = None,
    ) -> None:
        self._client = client
        self._lock = lock
        self._ready = False
        #: Which folder it is, while no call uses it.
        self._place: list[tuple[int, int] | None] = []
        self.target = target
        self.database = target.database
        self.memory = Memory()
        self.writes = WRITES
        self.reads = READS

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target.address!r})"

    @property
    def is_embedded(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.target.is_embedded

    @property
    def is_ready(self) -> bool:
        """Whether the tables are there; without them nothing is kept.

        Raises
        ------
        CacheSchemaError
            They are there, but not those of this version.
        """
        if not self._ready:
            self._ready = check_schema(self)
        return self._ready

    def make_ready(self) -> None:
        """Create the tables if there are none."""
        if not self.is_ready:
            migrate(self)

    def forget(self) -> None:
        """Look again for the tables and what they hold, after the tables were removed."""
        self._ready = False
        self.memory = Memory()

    def table(self, name: str) -> str:
        """Name of a table with its database, for a query."""
        return f"{identifier(self.database)}.{name}"

    def query(self, sql: str, *, binary: bool = False, large: bool = False) -> pl.DataFrame:
        """Result of a SELECT; with `binary`, text comes as bytes, as processor states have to.

        Without `large`, what would pay only for more than some 100,000 rows is left off.

        Raises
        ------
        CacheUnavailableError
            No answer, after some tries.
        CacheQueryError
            The database refused the query.
        """
        settings = {**_READ, "output_format_arrow_string_as_string": int(not binary)}
        if not large:
            settings |= _SMALL
        listed = ", ".join(f"{name} = {value}" for name, value in settings.items())
        statement = f"{sql}\nSETTINGS {listed}"
        with driver.reading(self.target.address):
            # Without a name for the bytes: a stream copies them before it shows what others have.
            stream = io.BytesIO(
                self.reads.run(lambda: self._answer(statement), transient=driver.is_lost)
            )
        return pl.read_ipc_stream(stream)

    def _answer(self, statement: str) -> bytes:
        body: bytes = self._client.raw_query(statement, fmt="ArrowStream")
        # A stream that is cut between two blocks reads like a shorter one.
        if not body.endswith(_END_OF_STREAM):
            raise ConnectionError("the answer was cut off")
        return body

    def scalar(self, sql: str) -> Any:  # noqa: ANN401
        """The one value of a query."""
        return self.query(sql).item()

    def command(self, sql: str) -> None:
        """Run a statement that has no result.

        Raises
        ------
        CacheWriteError
            It did not run, or nobody knows whether it did.
        """
        with driver.writing(self.target.address):
            self.writes.run(lambda: self._client.command(sql), transient=driver.is_transient)

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows once, however often it has to be tried.

        The token is made of the content: the database drops a copy of an insert that it has
        had, and an insert of other rows never looks like one.

        Raises
        ------
        CacheWriteError
            No try was confirmed; the rows may be there or not.
        """
        buffer = io.BytesIO()
        rows.write_ipc(buffer, compression="lz4", compat_level=pl.CompatLevel.oldest())
        block = buffer.getvalue()
        token = blake2b(table.encode() + b"\0" + block, digest_size=16).hexdigest()
        with driver.writing(self.target.address):
            self.writes.run(
                lambda: self._client.raw_insert(
                    self.table(table),
                    column_names=rows.columns,
                    insert_block=block,
                    fmt="Arrow",
                    settings={**_WRITE, "insert_deduplication_token": token},
                ),
                transient=driver.is_transient,
            )

    def is_wanted(self) -> bool:
        """Whether another process waits for the folder, or may wait for it."""
        try:
            return self._lock is not None and self._lock.is_wanted()
        except OSError:
            return True

    def set_idle(self, is_idle: bool) -> None:  # noqa: FBT001
        """Say to other processes whether a call uses the folder."""
        if self._lock is not None:
            self._lock.set_idle(is_idle)
        self._place = _identity(self.target.folder) if is_idle else []

    def is_in_place(self) -> bool:
        """Whether the folder is the one that was there when it became idle."""
        is_locked = self._lock is not None and self._lock.is_in_place()
        return is_locked and _identity(self.target.folder) == self._place

    def close(self) -> None:
        """Close the connection and give the folder back, to those first who wait for it."""
        try:
            self._client.close()
        finally:
            if self._lock is not None:
                self._lock.release()
        if self._lock is not None:
            self._lock.let_others_go_first()


def _identity(folder: Path | None) -> list[tuple[int, int] | None]:
    """Numbers that differ if the folder, or what the engine keeps in it, was replaced."""
    places = [] if folder is None else [folder, folder / "store", folder / "metadata"]
    return [_file_identity(place) for place in places]


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


_OPENINGS = Openings()


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
    >>> from rangebar_polars.clickhouse.client import EngineUse
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
    >>> from rangebar_polars.clickhouse.cache import count_bars
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
                interrupts.keep()
            finally:
                _OPENINGS.leave(target, error)
                # A traceback refers to this frame.
                del error


def _connect(target: Target) -> Cache:
    cache = _connect_server(target) if target.folder is None else _open_folder(target)
    try:
        reach(Step.CACHE_OPENED)
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
