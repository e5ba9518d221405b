"""Columns of optional feature groups: added once, proved when written, compared when read."""

from __future__ import annotations

from threading import Thread

import polars as pl
import pytest
from series_data import drafts

import rangebar_polars as rb
from rangebar_polars.bar_series.columns import group_columns
from rangebar_polars.bar_series.features import DEFAULT_WINDOW, FeatureSet
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.query.bars import DamagedBarsError, read_bars
from rangebar_polars.clickhouse.query.units import feature_sums_of, replays_of
from rangebar_polars.clickhouse.schema import tables as ddl
from rangebar_polars.clickhouse.schema.migrate import (
    add_group_columns,
    check_schema,
    has_group_columns,
)
from rangebar_polars.clickhouse.schema.rows import feature_rows_of, hash_sql
from rangebar_polars.exceptions import CacheSchemaError, CacheWriteError

GROUPS = ("lookback", "intrabar", "extended")
FEATURES = FeatureSet.of(GROUPS, DEFAULT_WINDOW)
COLUMNS = (
    rb.sample_ticks()
    .rangebar.bars(100, features="all", incomplete="keep")
    .filter("is_closed")
    .select(FEATURES.names)
    .slice(5, 12)
)


def wide(count, **fields):
    """Return drafts with all groups."""
    found = drafts(count, feature_groups=FEATURES.words, replay=7, **fields)
    for draft in found:
        object.__setattr__(draft, "bars", draft.bars.hstack(COLUMNS.head(draft.bars.height)))
    return found


def alterations(cache):
    rows = cache.query(
        f"SELECT table, name, type FROM system.columns WHERE database = '{cache.database}'"
    )
    return {(table, name): kind for table, name, kind in rows.iter_rows()}


def test_columns_are_added_for_the_groups_that_need_them_and_only_once(cache):
    before = alterations(cache)
    assert not has_group_columns(cache)
    add_group_columns(cache, ["intrabar"])
    added = set(alterations(cache)) - set(before)
    names = {("bars", column.name) for column in group_columns(("intrabar",))}
    assert added == names | {
        ("bars", "feature_hash"), ("units", "feature_hash_sum"), ("units", "replay")
    }  # fmt: skip
    assert has_group_columns(cache)
    assert check_schema(cache)
    statements = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(cache), "command", lambda _, sql: statements.append(sql))
        add_group_columns(cache, ["intrabar"])
        add_group_columns(cache, GROUPS)
    assert [sql.count("ADD COLUMN IF NOT EXISTS") for sql in statements] == [16 + 37]


def test_populations_may_add_columns_at_once(cache):
    threads = [Thread(target=add_group_columns, args=(cache, GROUPS)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = alterations(cache)
    assert all(
        found["bars", column.name].startswith("Nullable(") for column in group_columns(GROUPS)
    )
    assert check_schema(cache)


def test_a_user_who_may_not_alter_gets_the_statements(cache, monkeypatch):
    real = type(cache).command

    def refused(self, sql):
        # What a server answers to a user without the grant.
        cause = RuntimeError(
            "Code: 497. DB::Exception: user: Not enough privileges. (ACCESS_DENIED)"
        )
        if sql.startswith("ALTER"):
            raise CacheWriteError("a write was not confirmed") from cause
        real(self, sql)

    monkeypatch.setattr(type(cache), "command", refused)
    with pytest.raises(CacheSchemaError, match="may not add them") as caught:
        add_group_columns(cache, ["extended"])
    statements = str(caught.value).partition("run this once: ")[2].split("; ")
    monkeypatch.undo()
    for statement in statements:
        cache.command(statement)
    add_group_columns(cache, ["extended"])
    assert len(statements) == 2


READ_ONLY = """
import sys
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.schema.migrate import add_group_columns
from rangebar_polars.exceptions import CacheSchemaError

with open_cache(cache_dir=sys.argv[1], write=True) as cache:
    # It cannot be undone in the session.
    cache.command("SET readonly = 2")
    try:
        add_group_columns(cache, ["extended"])
    except CacheSchemaError as error:
        print(error)
"""


def test_the_refusal_of_the_database_is_recognised(run, tmp_path):
    output, errors = run(READ_ONLY, tmp_path / "read_only").communicate(timeout=600)
    assert "may not add them" in output, errors
    assert output.count("ALTER TABLE") == 2


def test_a_column_of_another_type_is_refused(cache):
    cache.command(f"ALTER TABLE {cache.table('bars')} ADD COLUMN twap Nullable(Float32)")
    with pytest.raises(CacheSchemaError, match=r"`bars\.twap`"):
        add_group_columns(cache, ["extended"])


def test_groups_are_read_back_as_they_were_computed(cache):
    add_group_columns(cache, GROUPS)
    units = publish(cache, wide(3))
    found = read_bars(cache, units, columns=FEATURES.names)
    assert found.equals(pl.concat([COLUMNS] * 3))
    assert set(replays_of(cache, units).values()) == {7}
    (rows, *_) = feature_rows_of([wide(1)[0].bars], FEATURES.columns)
    sums = feature_sums_of(cache, units)
    assert sums == {unit.attempt: rows["feature_hash"].sum() for unit in units}
    computed = cache.query(
        f"SELECT DISTINCT {hash_sql(FEATURES.columns)} AS hash FROM {cache.table('bars')}"
    )
    assert set(computed["hash"]) == set(rows["feature_hash"])


def test_every_column_counts_in_the_hash_of_its_groups():
    bars = wide(1)[0].bars
    rows = feature_rows_of([bars], FEATURES.columns)[0]
    for column in FEATURES.columns:
        changed = bars.with_columns(pl.col(column.bar_name).reverse())
        if changed.equals(bars):
            continue
        other = feature_rows_of([changed], FEATURES.columns)[0]
        assert not other["feature_hash"].equals(rows["feature_hash"]), column.name


def test_units_with_and_without_groups_are_published_together(cache):
    add_group_columns(cache, ["lookback"])
    features = FeatureSet.of(["lookback"], DEFAULT_WINDOW)
    first, second = wide(1)[0], drafts(2)[1]
    object.__setattr__(first, "feature_groups", features.words)
    units = publish(cache, [first, second])
    assert [unit.feature_groups for unit in units] == [
        frozenset(features.words), frozenset({"core", "microstructure"})
    ]  # fmt: skip
    assert read_bars(cache, units).height == 24
    assert read_bars(cache, units[:1], columns=["lookback_ofi"]).height == 12


def test_changed_columns_of_a_group_are_damage(cache):
    add_group_columns(cache, GROUPS)
    units = publish(cache, wide(1))
    cache.command(
        f"ALTER TABLE {cache.table('bars')} UPDATE feature_hash = feature_hash + 1 "
        f"WHERE attempt = {units[0].attempt} SETTINGS mutations_sync = 2"
    )
    assert read_bars(cache, units).height == 12
    with pytest.raises(DamagedBarsError):
        read_bars(cache, units, columns=["intra_ofi"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("intra_ofi", float("nan"), "`NaN`"), ("intra_trade_count", None, "`null`")],
)
def test_a_value_that_a_group_cannot_have_is_refused(name, value, words):
    bars = wide(1)[0].bars
    bars = bars.with_columns(pl.lit(value, bars.schema[name]).alias(name))
    with pytest.raises(ValueError, match=f"{words} as `{name}`"):
        feature_rows_of([bars], FEATURES.columns)
    with pytest.raises(ValueError, match=r"no column `lookback_trade_count`(.|\n)*lookback"):
        feature_rows_of([bars.drop("lookback_trade_count")], FEATURES.columns)


def test_the_tables_that_a_new_cache_gets_have_no_such_column():
    names = {name for table in ddl.tables() for name in table.types}
    assert not names & {"feature_hash", "feature_hash_sum", "replay", "twap", "lookback_ofi"}
