"""The connection to the bar cache: every query and every insert goes through it."""

from __future__ import annotations

import io
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.retry import Retry
from rangebar_polars.clickhouse.connection.sql import identifier
from rangebar_polars.clickhouse.query.unit_cache import ChainCache
from rangebar_polars.clickhouse.schema.migrate import check_schema, migrate

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.dsn import Target
    from rangebar_polars.clickhouse.connection.folder_lock import FolderLock

__all__ = ["READS", "Cache"]


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
        self.memory = ChainCache()
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
        self.memory = ChainCache()

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
