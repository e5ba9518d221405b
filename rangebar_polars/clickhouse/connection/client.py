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


# Sent with the statement, so that both transports take them alike and no state remains.
_READ: dict[str, str | int] = {
    "output_format_arrow_compression_method": "'none'",
    # The index selects what is read. Filtering rows before reading their other columns costs more.
    "optimize_move_to_prewhere": 0,
}


# Threads and compiled expressions pay off only for large results.
_SMALL = {"max_threads": 1, "compile_expressions": 0, "compile_aggregate_expressions": 0}


_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


_WRITE = {
    # The answer comes only when the rows are on the disk.
    "async_insert": 0,
    # A null must not become a default value.
    "input_format_null_as_default": 0,
}


WRITES = Retry()


#: Readers fail fast, so that callers learn quickly that the server is down.
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
        """Return the name of a table with its database, for a query."""
        return f"{identifier(self.database)}.{name}"

    def query(self, sql: str, *, binary: bool = False, large: bool = False) -> pl.DataFrame:
        """Return the result of a SELECT.

        Parameters
        ----------
        sql
            The statement, without settings.
        binary
            Return text as bytes, as processor states need.
        large
            Use several threads, which pays off from about 100,000 rows on.

        Raises
        ------
        CacheUnavailableError
            No answer after several tries.
        CacheQueryError
            The database refused the query.
        """
        settings = {**_READ, "output_format_arrow_string_as_string": int(not binary)}
        if not large:
            settings |= _SMALL
        listed = ", ".join(f"{name} = {value}" for name, value in settings.items())
        statement = f"{sql}\nSETTINGS {listed}"
        with driver.reading(self.target.address):
            # The bytes must have no other reference: the stream would copy them.
            stream = io.BytesIO(
                self.reads.run(lambda: self._answer(statement), transient=driver.is_lost)
            )
        return pl.read_ipc_stream(stream)

    def _answer(self, statement: str) -> bytes:
        body: bytes = self._client.raw_query(statement, fmt="ArrowStream")
        # A stream that is cut between two blocks looks like a complete, shorter one.
        if not body.endswith(_END_OF_STREAM):
            raise ConnectionError("the answer was cut off")
        return body

    def scalar(self, sql: str) -> Any:  # noqa: ANN401
        """Return the single value of a query."""
        return self.query(sql).item()

    def command(self, sql: str) -> None:
        """Run a statement that has no result.

        Raises
        ------
        CacheWriteError
            The statement failed, or its result is unknown.
        """
        with driver.writing(self.target.address):
            self.writes.run(lambda: self._client.command(sql), transient=driver.is_transient)

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows exactly once, even if the insert is retried.

        A token made from the content identifies the insert: the database drops a repeated insert,
        and never takes an insert of other rows for one.

        Raises
        ------
        CacheWriteError
            No try was confirmed; the rows may be stored or not.
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
