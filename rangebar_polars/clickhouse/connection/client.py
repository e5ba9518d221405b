"""The client of the bar cache: every query and every insert goes through it."""

from __future__ import annotations

import io
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.retry import Retry
from rangebar_polars.clickhouse.connection.sql import identifier

if TYPE_CHECKING:
    from rangebar_polars.clickhouse.connection.dsn import Target

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
    """A client of an open cache: queries, commands and inserts, with driver errors translated.

    Several threads may use it at once.
    """

    def __init__(self, client: Any, target: Target) -> None:  # noqa: ANN401
        self._client = client
        self.target = target
        self.database = target.database
        self.writes = WRITES
        self.reads = READS

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target.address!r})"

    @property
    def is_embedded(self) -> bool:
        """Whether the cache is a folder of this machine."""
        return self.target.is_embedded

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

    def close(self) -> None:
        """Close the driver's client."""
        self._client.close()
