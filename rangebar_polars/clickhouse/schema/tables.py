"""The tables of the bar cache, made from the catalogue; `schema.sql` contains their statements.

Only `migrate` creates or changes a table. Every key begins with the series, and no row is ever
changed. `bars` holds the rows of attempts, and `units` names the visible attempts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.bar_series.columns import RISING_CODEC, group_columns, value_columns
from rangebar_polars.clickhouse.connection.sql import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rangebar_polars.bar_series.columns import StoredColumn


__all__ = ["SCHEMA_VERSION", "Table", "added_columns", "schema_sql", "table", "tables"]


#: Increased whenever a table changes, except by the columns of optional groups: packages that do
#: not know these still read and write the tables.
SCHEMA_VERSION = 1


# The window is the number of newest inserts whose tokens the database knows.
_DURABLE = (
    ("non_replicated_deduplication_window", 10_000),
    ("fsync_after_insert", 1),
    ("fsync_part_directory", 1),
    # Parts that a merge has replaced are removed at once: an embedded cache is open for moments only,
    # and every opening reads all parts. The merged part therefore has to be on the disk first.
    ("min_rows_to_fsync_after_merge", 1),
    ("old_parts_lifetime", 1),
    ("cleanup_delay_period", 1),
    ("cleanup_delay_period_random_add", 0),
)


# The time to open and close a folder, and to read most columns of some days, grows with the number
# of files. A compact part has a dozen files, where a wide one has more than 150.
_FEW_FILES = ("min_bytes_for_wide_part", 512 * 1024**2)


_SERIES = (
    ("source", "LowCardinality(String)"),
    ("market", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("threshold", "UInt32"),
    ("reset", "LowCardinality(String)"),
    ("config_id", "UInt64"),
    ("segment_start", "Date"),
    ("anchor_us", "Int64"),
)


_LEASE = _SERIES[:-1]


# The rules in full, since they cannot be recovered from `config_id`.
_RULES = (
    ("prevent_same_timestamp_close", "Bool"),
    ("max_gap_us", "Nullable(Int64)"),
    ("bar_semantics", "UInt32"),
)


_UNIT = (
    ("unit_day", "Date"),
    ("generation", "UInt32"),
    ("attempt", "UInt64"),
    ("built_on", "UInt64"),
    ("fencing", "UInt64"),
    ("day_state", "LowCardinality(String)"),
    ("reason", "String"),
    ("tick_first_id", "Nullable(Int64)"),
    ("tick_last_id", "Nullable(Int64)"),
    ("tick_rows", "Int64"),
    ("tick_hash", "String"),
    ("source_absent", "String"),
    ("bar_first_id", "Nullable(Int64)"),
    ("bar_last_id", "Nullable(Int64)"),
    ("rows", "Int64"),
    ("orphan_rows", "Int64"),
    ("row_hash_sum", "UInt64"),
    ("first_close_us", "Nullable(Int64)"),
    ("last_close_us", "Nullable(Int64)"),
    # Names separated by spaces, since a string is read faster than an array.
    ("feature_groups", "LowCardinality(String)"),
    ("processor_state", "String"),
    ("code_version", "LowCardinality(String)"),
    ("writer", "String"),
)


# Data types of the inserted frames.
_DTYPES: dict[str, Any] = {
    "LowCardinality(String)": pl.String,
    "String": pl.String,
    "UInt32": pl.UInt32,
    "UInt64": pl.UInt64,
    "Int64": pl.Int64,
    "Nullable(Int64)": pl.Int64,
    "Date": pl.Date,
    "Bool": pl.Boolean,
}


# The name and unit of the `rangebar` library, for queries by hand.
_CLOSE_TIME_MS = ("close_time_ms", "Int64 ALIAS intDiv(close_time_us, 1000)")


_WRITTEN = ("written_at", "DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')")


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns with their types, its engine, order, partitions and settings."""

    name: str
    comment: str
    columns: tuple[tuple[str, str], ...]
    engine: str
    order: tuple[str, ...]
    partition: str = ""
    settings: tuple[tuple[str, int], ...] = _DURABLE

    def create(self, database: str | None = None) -> str:
        """Write the statement that creates the table if it does not exist."""
        prefix = f"{identifier(database)}." if database else ""
        columns = ",\n".join(f"    {name} {kind}" for name, kind in self.columns)
        lines = [f"CREATE TABLE IF NOT EXISTS {prefix}{self.name}\n(\n{columns}\n)"]
        lines.append(f"ENGINE = {self.engine}")
        if self.partition:
            lines.append(f"PARTITION BY {self.partition}")
        lines.append(f"ORDER BY ({', '.join(self.order)})")
        lines.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in self.settings))
        lines.append(f"COMMENT {literal(self.comment)}")
        return "\n".join(lines)

    @property
    def types(self) -> dict[str, str]:
        """The type of every column, as the database reports it."""
        return {name: _bare(kind) for name, kind in self.columns}

    @property
    def codecs(self) -> dict[str, str]:
        """The codec of every column without the default one."""
        return {
            name: kind[kind.index("CODEC(") :] for name, kind in self.columns if "CODEC(" in kind
        }

    def dtypes(self) -> dict[str, Any]:
        """Return the data type of every column that a writer sends."""
        bare = {name: _bare(kind) for name, kind in self.columns if not _has_default(kind)}
        found = {name: _DTYPES[kind] for name, kind in bare.items() if kind in _DTYPES}
        return {n: pl.Binary if n == "processor_state" else dtype for n, dtype in found.items()}

    def extended(self, columns: Iterable[tuple[str, str]]) -> Table:
        """Return the table with further columns."""
        return replace(self, columns=(*self.columns, *columns))

    def frame(self, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """Build the frame to insert, from a mapping for each row."""
        return pl.DataFrame(list(rows), schema=self.dtypes(), orient="row")


def _bare(kind: str) -> str:
    return re.split(" DEFAULT | ALIAS | CODEC", kind)[0]


def _has_default(kind: str) -> bool:
    """Check whether the database computes the value."""
    return " DEFAULT " in kind or " ALIAS " in kind


def _names(columns: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


@cache
def tables() -> tuple[Table, ...]:
    """Return all tables of the cache."""
    return (_bars(), *_log(), _leases(), _checkpoints(), _version())


def added_columns(groups: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the columns that tables get for optional feature groups, with their types.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.schema.tables import added_columns
    >>> added_columns(["intrabar"])["units"]
    (('feature_hash_sum', 'UInt64'), ('replay', 'String'))
    """
    values = tuple(map(_typed, group_columns(tuple(groups))))
    return {
        "bars": (*values, ("feature_hash", "UInt64")),
        "units": (("feature_hash_sum", "UInt64"), ("replay", "String")),
    }


def _typed(column: StoredColumn) -> tuple[str, str]:
    """Return the name of a column, and its type with the codec."""
    codec = f" CODEC({column.codec})" if column.codec else ""
    return column.name, f"{column.sql_type}{codec}"


def _bars() -> Table:
    values = tuple(map(_typed, value_columns()))
    row = (
        ("unit_day", "Date"),
        ("attempt", "UInt64"),
        ("bar_seq", f"UInt32 CODEC({RISING_CODEC})"),
    )
    return Table(
        "bars",
        "rows of attempts; `units` says which attempts are visible",
        (*_SERIES, *row, *values, ("row_hash", "UInt64"), _CLOSE_TIME_MS, _WRITTEN),
        # Without a version column: rows of an attempt that was sent twice are merged, and rows of
        # two attempts have different keys.
        "ReplacingMergeTree",
        (*_names(_SERIES), "unit_day", "attempt", "bar_seq"),
        partition="toYYYYMM(unit_day)",
        settings=(*_DURABLE, _FEW_FILES),
    )


def _log() -> tuple[Table, Table]:
    generation = (
        ("generation", "UInt32"),
        ("first_day", "Date"),
        ("state", "LowCardinality(String)"),
        ("fencing", "UInt64"),
    )
    return (
        Table(
            "units",
            "log of published days, each with the state of the processor after it",
            (*_SERIES, *_RULES, *_UNIT, _WRITTEN),
            "MergeTree",
            (*_names(_SERIES), "unit_day", "generation", "attempt"),
        ),
        Table(
            "generations",
            "which rebuilds of a series are visible, and from which day",
            (*_SERIES, *generation, _WRITTEN),
            "MergeTree",
            (*_names(_SERIES), "generation", "state"),
        ),
    )


def _leases() -> Table:
    claim = (
        ("fencing", "UInt64"),
        ("holder", "UInt64"),
        ("host", "String"),
        ("boot_id", "String"),
        ("process", "UInt32"),
        ("released", "Bool"),
        ("beat_us", "Int64"),
    )
    return Table(
        "leases",
        "who writes a series: the highest fencing number, while it beats",
        (*_LEASE, *claim),
        "ReplacingMergeTree(beat_us)",
        (*_names(_LEASE), "fencing", "holder"),
    )


def _checkpoints() -> Table:
    return Table(
        "population_checkpoints",
        "copy of the newest unit of every series, for other programs; `units` is the truth",
        (*_SERIES, *_UNIT, ("updated_us", "Int64")),
        "ReplacingMergeTree(updated_us)",
        _names(_SERIES),
    )


def _version() -> Table:
    return Table(
        "schema_version",
        "versions of these tables; the highest holds",
        (("version", "UInt32"), _WRITTEN),
        "MergeTree",
        ("version",),
    )


def table(name: str) -> Table:
    """Return the table with a name.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.schema.tables import table
    >>> table("schema_version").types["version"]
    'UInt32'
    """
    return next(found for found in tables() if found.name == name)


def schema_sql() -> str:
    """Write the text of `schema.sql`: the statements for the current database."""
    head = f"-- Tables of the bar cache, version {SCHEMA_VERSION}; made by schema/tables.py.\n"
    return head + "".join(f"\n{found.create()};\n" for found in tables())
