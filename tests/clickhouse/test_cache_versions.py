"""Creation of the tables, and errors for tables of another version."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rangebar_polars.cli import main
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.schema import migrate
from rangebar_polars.clickhouse.schema import tables as ddl
from rangebar_polars.clickhouse.schema.migrate import has_tables
from rangebar_polars.exceptions import CacheSchemaError


def test_tables_are_created_once(place):
    with place.open() as cache:
        assert not has_tables(cache)
        assert migrate.migrate(cache) == 0
        assert has_tables(cache)
        assert migrate.migrate(cache) == ddl.SCHEMA_VERSION
        assert cache.query(f"SELECT version FROM {cache.table('schema_version')}").height == 1


def test_opening_alone_creates_no_table(place):
    with place.open() as cache:
        assert not has_tables(cache)
    with reading(**place.arguments) as found:
        assert found is None


def test_a_missing_folder_starts_no_engine(tmp_path):
    code = (
        "import sys\n"
        "from rangebar_polars.clickhouse.open import reading\n"
        f"with reading(cache_dir={str(tmp_path)!r}) as cache:\n"
        "    assert cache is None\n"
        "assert 'chdb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list(tmp_path.iterdir()) == []


def test_tables_of_a_newer_version_are_refused(place):
    with place.open(write=True) as cache:
        cache.command(f"INSERT INTO {cache.table('schema_version')} (version) VALUES (2)")
    with place.open() as cache:
        with pytest.raises(CacheSchemaError, match=r"version `2`(.|\n)*rangebar cache upgrade"):
            has_tables(cache)
        with pytest.raises(CacheSchemaError, match="version `2`"):
            migrate.migrate(cache)
    with pytest.raises(CacheSchemaError), place.open(write=True):
        pass


def test_tables_of_an_older_version_are_refused(place, monkeypatch):
    with place.open(write=True):
        pass
    monkeypatch.setattr(migrate, "SCHEMA_VERSION", 2)
    with place.open() as cache, pytest.raises(CacheSchemaError, match="rangebar cache upgrade"):
        has_tables(cache)


@pytest.mark.parametrize(
    "change",
    ["DROP COLUMN ofi", "RENAME COLUMN ofi TO order_flow", "MODIFY COLUMN ofi Nullable(Float32)"],
)
def test_a_table_that_was_altered_is_refused(place, change):
    with place.open(write=True) as cache:
        cache.command(f"ALTER TABLE {cache.table('bars')} {change}")
    with place.open() as cache:
        with pytest.raises(CacheSchemaError, match=r"`bars\.ofi`") as refused:
            has_tables(cache)
        # `upgrade` would raise the same error.
        assert "rangebar cache upgrade" not in str(refused.value)
        with pytest.raises(CacheSchemaError, match="rangebar cache drop"):
            migrate.migrate(cache)


def test_the_hint_for_an_altered_table_works(place):
    with place.open(write=True) as cache:
        cache.command(f"ALTER TABLE {cache.table('bars')} DROP COLUMN ofi")
    options = ["--cache-dir", str(place.folder)]
    if place.dsn is not None:
        options += ["--dsn", place.dsn]
    assert main(["cache", "upgrade", *options]) == 1
    assert main(["cache", "drop", "--yes", *options]) == 0
    with place.open(write=True) as cache:
        assert has_tables(cache)
