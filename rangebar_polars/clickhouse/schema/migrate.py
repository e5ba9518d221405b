"""Create the tables of the bar cache, and check those that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from weakref import WeakSet

from rangebar_polars.clickhouse.connection.sql import identifier, literal
from rangebar_polars.clickhouse.schema.tables import SCHEMA_VERSION, tables
from rangebar_polars.exceptions import CacheSchemaError, with_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.schema.tables import Table

__all__ = [
    "check_schema",
    "create_tables_if_missing",
    "forget_tables",
    "has_tables",
    "migrate",
]

#: Open clients whose tables were checked and found to be those of this version.
_CHECKED: WeakSet[Cache] = WeakSet()


def has_tables(cache: Cache) -> bool:
    """Check, once for each client, whether the tables exist; without them nothing is stored.

    Raises
    ------
    CacheSchemaError
        The tables exist, but not those of this version.
    """
    if cache in _CHECKED:
        return True
    is_complete = check_schema(cache)
    if is_complete:
        _CHECKED.add(cache)
    return is_complete


def create_tables_if_missing(cache: Cache) -> None:
    """Create the tables if they do not exist.

    Raises
    ------
    CacheSchemaError
        The tables exist, but not those of this version.
    """
    if not has_tables(cache):
        migrate(cache)


def forget_tables(cache: Cache) -> None:
    """Check the tables again at the next use, after they were removed."""
    _CHECKED.discard(cache)


def migrate(cache: Cache) -> int:
    """Create the tables, or bring those of an older version to this one.

    Nothing else does: a reader never changes a table.

    Returns
    -------
    int
        The version that the tables had: 0 where there were none.

    Raises
    ------
    CacheSchemaError
        The tables are of a newer version, or of this one and altered.
    """
    found = stored_version(cache)
    if found > SCHEMA_VERSION:
        raise _newer(found)
    if found == 0:
        _create(cache)
    else:
        _set_codecs(cache)
    check_schema(cache)
    return found


def _set_codecs(cache: Cache) -> None:
    """Give columns of tables that exist the codecs of this version; merges apply them."""
    rows = cache.query(
        "SELECT table, name, type, compression_codec FROM system.columns "  # noqa: S608
        f"WHERE database = {literal(cache.database)}"
    )
    stored = {(table, name): (kind, codec) for table, name, kind, codec in rows.iter_rows()}
    for one in tables():
        changes = [
            f"MODIFY COLUMN {name} {stored[one.name, name][0]} {codec}"
            for name, codec in one.codecs.items()
            if (one.name, name) in stored and _differs(stored[one.name, name][1], codec)
        ]
        if changes:
            cache.command(f"ALTER TABLE {cache.table(one.name)} {', '.join(changes)}")


def _differs(stored: str, codec: str) -> bool:
    """Whether a codec is another one; the database writes the width of a difference into it."""
    return re.sub(r"(Delta)\(\d\)", r"\1", stored) != codec


def _create(cache: Cache) -> None:
    name = literal(cache.database)
    if not cache.scalar(f"SELECT count() FROM system.databases WHERE name = {name}"):  # noqa: S608
        cache.command(f"CREATE DATABASE IF NOT EXISTS {identifier(cache.database)}")
    for one in tables():
        cache.command(one.create(cache.database))
    # Last, so that a creation that was cut off is taken up again.
    cache.command(
        f"INSERT INTO {cache.table('schema_version')} (version) VALUES ({SCHEMA_VERSION})"  # noqa: S608
    )


def stored_version(cache: Cache) -> int:
    """Version of the tables; 0 where there are none."""
    return _version_of(cache, _stored_types(cache))


def _version_of(cache: Cache, stored: Mapping[str, object]) -> int:
    if "schema_version" not in stored:
        return 0
    return int(cache.scalar(f"SELECT max(version) FROM {cache.table('schema_version')}"))  # noqa: S608


def check_schema(cache: Cache) -> bool:
    """Whether the tables are there; they are not judged by their version alone.

    Raises
    ------
    CacheSchemaError
        The tables are of another version, or a column is absent or of another type.
    """
    stored = _stored_types(cache)
    found = _version_of(cache, stored)
    if found == 0:
        return False
    if found > SCHEMA_VERSION:
        raise _newer(found)
    if found < SCHEMA_VERSION:
        raise CacheSchemaError(
            with_hint(
                f"the tables of the cache have version `{found}`; this package needs "
                f"`{SCHEMA_VERSION}`",
                "rangebar cache upgrade",
            )
        )
    for one in tables():
        _compare(one, stored.get(one.name, {}))
    return True


def _stored_types(cache: Cache) -> dict[str, dict[str, str]]:
    rows = cache.query(
        "SELECT table, name, type FROM system.columns "  # noqa: S608
        f"WHERE database = {literal(cache.database)}"
    )
    types: dict[str, dict[str, str]] = {}
    for name, column, kind in rows.iter_rows():
        types.setdefault(name, {})[column] = kind
    return types


def _compare(expected: Table, stored: dict[str, str]) -> None:
    for column, kind in expected.types.items():
        if stored.get(column) != kind:
            found = f"is `{stored[column]}`" if column in stored else "is not there"
            raise CacheSchemaError(
                with_hint(
                    f"the column `{expected.name}.{column}` of the cache {found}; it should be "
                    f"`{kind}`",
                    "use the version of rangebar-polars that wrote the tables; or begin anew: "
                    "`rangebar cache drop`, without a symbol, removes all of them",
                )
            )


def _newer(found: int) -> CacheSchemaError:
    return CacheSchemaError(
        with_hint(
            f"the tables of the cache have version `{found}`; this package knows "
            f"`{SCHEMA_VERSION}`",
            "a newer rangebar-polars wrote them: pip install -U rangebar-polars; "
            "`rangebar cache upgrade` never goes back",
        )
    )
