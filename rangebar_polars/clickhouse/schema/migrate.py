"""Creation, checks and migration of the tables of the bar cache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from weakref import WeakSet

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.clickhouse.connection.driver import is_forbidden
from rangebar_polars.clickhouse.connection.sql import identifier, literal
from rangebar_polars.clickhouse.schema.tables import SCHEMA_VERSION, added_columns, tables
from rangebar_polars.exceptions import CacheSchemaError, CacheWriteError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.schema.tables import Table

__all__ = [
    "add_group_columns",
    "check_schema",
    "create_tables_if_missing",
    "forget_tables",
    "has_group_columns",
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
    """Create the tables, or upgrade the tables of an older version.

    Only this function and `add_group_columns` change tables; a reader never does.

    Returns
    -------
    int
        The version of the tables before; 0 if they did not exist.

    Raises
    ------
    CacheSchemaError
        The tables have a newer version, or were altered.
    """
    found = stored_version(cache)
    if found > SCHEMA_VERSION:
        raise _newer_error(found)
    if found == 0:
        _create(cache)
    else:
        _set_codecs(cache)
    check_schema(cache)
    return found


def has_group_columns(cache: Cache) -> bool:
    """Check whether units of the cache may have optional feature groups."""
    return "replay" in _stored_types(cache).get("units", {})


def add_group_columns(cache: Cache, groups: Iterable[str]) -> None:
    """Add the columns of optional feature groups that the tables do not have yet.

    No stored row changes, and versions of the package that do not know the columns ignore them.
    Several populations may call it at once.

    Raises
    ------
    CacheSchemaError
        A column exists with another type, or the user may not add columns. The hint then has the
        statements.
    CacheWriteError
        The cache cannot be reached.
    """
    stored = _stored_types(cache)
    statements = []
    by_name = {table.name: table for table in tables()}
    for name, columns in added_columns(groups).items():
        found = stored.get(name, {})
        _compare(by_name[name].extended([item for item in columns if item[0] in found]), found)
        missing = [f"ADD COLUMN IF NOT EXISTS {n} {kind}" for n, kind in columns if n not in found]
        if missing:
            statements.append(f"ALTER TABLE {cache.table(name)} {', '.join(missing)}")
    for statement in statements:
        _alter(cache, statement, statements)
        failpoint(Step.COLUMNS_ADDED)


def _alter(cache: Cache, statement: str, statements: list[str]) -> None:
    try:
        cache.command(statement)
    except CacheWriteError as error:
        if not is_forbidden(error):
            raise
        raise CacheSchemaError(
            with_hint(
                f"the tables at `{cache.target.address}` have no columns for these feature groups, "
                "and the user may not add them",
                f"let a user who may run this once: {'; '.join(statements)}",
            )
        ) from error


def _set_codecs(cache: Cache) -> None:
    """Set the codecs of this version on existing columns. Later merges apply them."""
    rows = cache.query(
        "SELECT table, name, type, compression_codec FROM system.columns "  # noqa: S608
        f"WHERE database = {literal(cache.database)}"
    )
    stored = {
        (table_name, name): (kind, codec) for table_name, name, kind, codec in rows.iter_rows()
    }
    for table in tables():
        changes = [
            f"MODIFY COLUMN {name} {stored[table.name, name][0]} {codec}"
            for name, codec in table.codecs.items()
            if (table.name, name) in stored and _differs(stored[table.name, name][1], codec)
        ]
        if changes:
            cache.command(f"ALTER TABLE {cache.table(table.name)} {', '.join(changes)}")


def _differs(stored: str, codec: str) -> bool:
    """Check whether codecs differ, ignoring the width that the database adds to `Delta`."""
    return re.sub(r"(Delta)\(\d\)", r"\1", stored) != codec


def _create(cache: Cache) -> None:
    name = literal(cache.database)
    if not cache.scalar(f"SELECT count() FROM system.databases WHERE name = {name}"):  # noqa: S608
        cache.command(f"CREATE DATABASE IF NOT EXISTS {identifier(cache.database)}")
    for table in tables():
        cache.command(table.create(cache.database))
    # Last, so that the next call completes an interrupted creation.
    cache.command(
        f"INSERT INTO {cache.table('schema_version')} (version) VALUES ({SCHEMA_VERSION})"  # noqa: S608
    )


def stored_version(cache: Cache) -> int:
    """Return the version of the tables; 0 if they do not exist."""
    return _version_of(cache, _stored_types(cache))


def _version_of(cache: Cache, stored: Mapping[str, object]) -> int:
    if "schema_version" not in stored:
        return 0
    return int(cache.scalar(f"SELECT max(version) FROM {cache.table('schema_version')}"))  # noqa: S608


def check_schema(cache: Cache) -> bool:
    """Check whether the tables exist, and compare their version and columns with this package.

    Raises
    ------
    CacheSchemaError
        The tables have another version, or a column is missing or has another type.
    """
    stored = _stored_types(cache)
    found = _version_of(cache, stored)
    if found == 0:
        return False
    if found > SCHEMA_VERSION:
        raise _newer_error(found)
    if found < SCHEMA_VERSION:
        raise CacheSchemaError(
            with_hint(
                f"the tables of the cache have version `{found}`; this package needs "
                f"`{SCHEMA_VERSION}`",
                "rangebar cache upgrade",
            )
        )
    for table in tables():
        _compare(table, stored.get(table.name, {}))
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
            found = f"is `{stored[column]}`" if column in stored else "is missing"
            raise CacheSchemaError(
                with_hint(
                    f"the column `{expected.name}.{column}` of the cache {found}; it should be "
                    f"`{kind}`",
                    "use the version of rangebar-polars that created the tables; or start over: "
                    "`rangebar cache drop`, without a symbol, removes all of them",
                )
            )


def _newer_error(found: int) -> CacheSchemaError:
    return CacheSchemaError(
        with_hint(
            f"the tables of the cache have version `{found}`; this package knows "
            f"`{SCHEMA_VERSION}`",
            "a newer rangebar-polars created them: pip install -U rangebar-polars; "
            "`rangebar cache upgrade` cannot downgrade them",
        )
    )
