"""The tables of the bar cache, made from the catalogue; `schema.sql` is their text.

Only `migrate` creates or changes a table. Every key begins with the series, and no row is ever
changed: `bars` holds attempts, and `units` says which of them are bars.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.bar_series.columns import RISING_CODEC, value_columns
from rangebar_polars.clickhouse.connection.sql import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = ["SCHEMA_VERSION", "Table", "schema_sql", "table", "tables"]


#: Raised when a table changes.
SCHEMA_VERSION = 1


# A retry of an insert is known by its token as long as it is among the newest so many.
_DURABLE = (
    ("non_replicated_deduplication_window", 10_000),
    ("fsync_after_insert", 1),
    ("fsync_part_directory", 1),
    # What a merge has replaced goes at once, as an embedded cache is open for moments only, and
    # every opening looks at all parts there are. So the merged part has to be on the disk first.
    ("min_rows_to_fsync_after_merge", 1),
    ("old_parts_lifetime", 1),
    ("cleanup_delay_period", 1),
    ("cleanup_delay_period_random_add", 0),
)


# Opening and closing a folder, and reading most columns of some days, take time by the file: a
# part has a dozen then, and one for all columns, where it would have more than 150.
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


# The configuration in words, since its number cannot be turned back into it.
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
    # Words, since a text is read faster than an array.
    ("feature_groups", "LowCardinality(String)"),
    ("processor_state", "String"),
    ("code_version", "LowCardinality(String)"),
    ("writer", "String"),
)


# Data types of the frames that are inserted.
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


# By the name and unit of the existing library, for queries by hand.
_CLOSE_TIME_MS = ("close_time_ms", "Int64 ALIAS intDiv(close_time_us, 1000)")


_WRITTEN = ("written_at", "DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')")


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns with their types, and how the database keeps it."""

    name: str
    comment: str
    columns: tuple[tuple[str, str], ...]
    engine: str
    order: tuple[str, ...]
    partition: str = ""
    settings: tuple[tuple[str, int], ...] = _DURABLE

    def create(self, database: str | None = None) -> str:
        """Statement that creates the table if it is not there."""
        place = f"{identifier(database)}." if database else ""
        columns = ",\n".join(f"    {name} {kind}" for name, kind in self.columns)
        lines = [f"CREATE TABLE IF NOT EXISTS {place}{self.name}\n(\n{columns}\n)"]
        lines.append(f"ENGINE = {self.engine}")
        if self.partition:
            lines.append(f"PARTITION BY {self.partition}")
        lines.append(f"ORDER BY ({', '.join(self.order)})")
        lines.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in self.settings))
        lines.append(f"COMMENT {literal(self.comment)}")
        return "\n".join(lines)

    @property
    def types(self) -> dict[str, str]:
        """Type of every column, as the database reports it."""
        return {name: _bare(kind) for name, kind in self.columns}

    @property
    def codecs(self) -> dict[str, str]:
        """Codec of every column that does not have the default one."""
        return {
            name: kind[kind.index("CODEC(") :] for name, kind in self.columns if "CODEC(" in kind
        }

    def dtypes(self) -> dict[str, Any]:
        """Data type of every column that a writer gives."""
        bare = {name: _bare(kind) for name, kind in self.columns if not _has_default(kind)}
        found = {name: _DTYPES[kind] for name, kind in bare.items() if kind in _DTYPES}
        return {n: pl.Binary if n == "processor_state" else dtype for n, dtype in found.items()}

    def frame(self, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """Rows to be inserted, from a mapping each."""
        return pl.DataFrame(list(rows), schema=self.dtypes(), orient="row")


def _bare(kind: str) -> str:
    return re.split(" DEFAULT | ALIAS | CODEC", kind)[0]


def _has_default(kind: str) -> bool:
    """Whether the database makes the value."""
    return " DEFAULT " in kind or " ALIAS " in kind


def _names(columns: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


@cache
def tables() -> tuple[Table, ...]:
    """Every table of the cache."""
    return (_bars(), *_log(), _leases(), _checkpoints(), _version())


def _bars() -> Table:
    values = tuple(
        (
            column.name,
            f"{column.sql_type} CODEC({column.codec})" if column.codec else column.sql_type,
        )
        for column in value_columns()
    )
    row = (
        ("unit_day", "Date"),
        ("attempt", "UInt64"),
        ("bar_seq", f"UInt32 CODEC({RISING_CODEC})"),
    )
    return Table(
        "bars",
        "rows of attempts; `units` says which attempts are visible",
        (*_SERIES, *row, *values, ("row_hash", "UInt64"), _CLOSE_TIME_MS, _WRITTEN),
        # Without a version column: an attempt sent twice collapses, and two never meet.
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
    """Table of a name.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.schema.tables import table
    >>> table("schema_version").types["version"]
    'UInt32'
    """
    return next(one for one in tables() if one.name == name)


def schema_sql() -> str:
    """Text of `schema.sql`: the statements for a database that is chosen already."""
    head = f"-- Tables of the bar cache, version {SCHEMA_VERSION}; written by ddl.py.\n"
    return head + "".join(f"\n{one.create()};\n" for one in tables())
