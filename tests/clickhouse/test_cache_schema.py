"""The tables: their statements, codecs, and values read back from every column."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from series_data import FIRST, SERIES, bars_on, drafts

import rangebar_polars.clickhouse
from rangebar_polars.bar_series.columns import (
    OPTIONAL_GROUPS,
    all_columns,
    stored_groups,
    value_columns,
)
from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.schema import migrate
from rangebar_polars.clickhouse.schema import tables as ddl
from rangebar_polars.clickhouse.schema.rows import (
    bars_of,
    hash_sql,
    rows_of,
)
from rangebar_polars.exceptions import CacheWriteError

INT_LOW, INT_HIGH = -(2**63), 2**63 - 1


def test_schema_sql_matches_the_catalogue():
    file = Path(rangebar_polars.clickhouse.__file__).parent / "schema.sql"
    assert file.read_text(encoding="utf-8") == ddl.schema_sql()


def test_every_key_begins_with_the_series():
    for one in ddl.tables():
        if one.name not in {"leases", "schema_version"}:
            assert one.order[: len(SeriesKey._fields)] == SeriesKey._fields
    assert ddl.table("leases").order[: len(SeriesKey._fields) - 1] == SeriesKey._fields[:-1]


def test_every_column_of_the_catalogue_is_stored():
    import rangebar_polars as rb

    stored = [column.bar_name for column in all_columns()]
    assert stored == [n for n in rb.columns()["name"] if n not in {"threshold", "bar_id"}]
    assert stored_groups() == ("core", "microstructure")
    assert OPTIONAL_GROUPS == ("lookback", "intrabar", "extended")
    assert {column.group for column in value_columns()} == {"core", "microstructure"}


def test_an_interrupted_creation_is_completed(cache):
    cache.command(f"DROP TABLE {cache.table('leases')} SYNC")
    cache.command(f"TRUNCATE TABLE {cache.table('schema_version')}")
    assert migrate.migrate(cache) == 0
    assert migrate.check_schema(cache)


def codecs(cache):
    rows = cache.query(
        "SELECT name, compression_codec FROM system.columns "
        f"WHERE database = '{cache.database}' AND table = 'bars'"
    )
    return dict(rows.iter_rows())


def test_an_upgrade_sets_the_codecs_of_this_version(cache):
    made = codecs(cache)
    assert all(made[name] for name in ddl.table("bars").codecs)
    older = "MODIFY COLUMN open Float64 CODEC(LZ4), MODIFY COLUMN bar_seq UInt32 CODEC(LZ4)"
    cache.command(f"ALTER TABLE {cache.table('bars')} {older}")
    assert codecs(cache) != made
    for _ in range(2):
        assert migrate.migrate(cache) == ddl.SCHEMA_VERSION
        assert codecs(cache) == made


def extremes():
    """Return bars with the extremes of every data type, nulls, and values that are unique."""
    bars = bars_on(FIRST, count=4, ending="reset").drop("bar_id")
    floats = [name for name, dtype in bars.schema.items() if dtype == pl.Float64]
    counts = [name for name, dtype in bars.schema.items() if dtype == pl.Int64]
    nullable = {column.bar_name for column in value_columns() if column.nullable}

    def values(name, low, high, other):
        last = None if name in nullable else other
        return pl.Series(name, [low, high, other, last], dtype=bars.schema[name])

    return bars.with_columns(
        *(values(name, -0.0, 5e-324 * (1 + n), 1.5e300 + n) for n, name in enumerate(floats)),
        *(values(name, INT_LOW + n, INT_HIGH - n, 7 + n) for n, name in enumerate(counts)),
    )


def test_every_column_of_bars_is_read_back_unchanged(cache):
    bars = extremes()
    rows = rows_of([bars])[0]
    key = {**SERIES.key._asdict(), "unit_day": FIRST, "attempt": 2**64 - 1}
    dtypes = ddl.table("bars").dtypes()
    cache.insert(
        "bars",
        rows.select(*(pl.lit(v, dtype=dtypes[n]).alias(n) for n, v in key.items()), pl.all()),
    )
    times = cache.query(f"SELECT close_time_us, close_time_ms FROM {cache.table('bars')}")
    assert times["close_time_ms"].equals(times["close_time_us"] // 1000, check_names=False)
    back = cache.query(f"SELECT * FROM {cache.table('bars')} ORDER BY bar_seq")
    assert bars_of(back).equals(bars)
    # -0.0 equals 0.0, but not as bits.
    assert back["row_hash"].to_list() == rows["row_hash"].to_list()
    computed = cache.query(f"SELECT {hash_sql()} FROM {cache.table('bars')} ORDER BY bar_seq")
    assert computed.to_series().to_list() == rows["row_hash"].to_list()
    assert back.select(*key).row(0) == tuple(key.values())
    assert rows.select(pl.all().n_unique()).row(0, named=True)["ofi"] == 4


def test_every_column_of_the_other_tables_is_read_back_unchanged(cache):
    samples = {pl.String: "é`'\\\n", pl.UInt32: 2**32 - 1, pl.UInt64: 2**64 - 1, pl.Int64: INT_LOW,
               pl.Date: date(2148, 12, 31), pl.Boolean: True, pl.Binary: bytes(range(256))}  # fmt: skip
    for one in ddl.tables():
        if one.name == "bars":
            continue
        row = {name: samples[dtype] for name, dtype in one.dtypes().items()}
        cache.insert(one.name, one.frame([row]))
        columns = ", ".join(row)
        back = cache.query(f"SELECT {columns} FROM {cache.table(one.name)}", binary=True)
        found = {
            name: value.decode() if one.dtypes()[name] == pl.String else value
            for name, value in back.row(back.height - 1, named=True).items()
        }
        if one.name != "schema_version":
            assert found == row


def test_a_null_is_not_turned_into_a_default(cache):
    rows = rows_of([bars_on(FIRST)])[0].with_columns(pl.lit(None, dtype=pl.Float64).alias("open"))
    with pytest.raises(CacheWriteError):
        cache.insert("bars", rows)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("ofi", float("nan"), "`NaN` as `ofi`"),
        ("open", None, "`null` as `open`"),
        ("ended_by", None, "`null` as `ended_by`"),
    ],
)
def test_a_value_that_cannot_be_stored_unchanged_is_refused(column, value, words):
    bars = bars_on(FIRST)
    changed = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(value)).otherwise(pl.col(column))
    with pytest.raises(ValueError, match=words):
        rows_of([bars.with_columns(changed.cast(bars.schema[column]).alias(column))])


def test_bars_without_all_features_or_endings_are_refused():
    for name in ("ofi", "ended_by"):
        with pytest.raises(ValueError, match=f"have no column `{name}`"):
            rows_of([bars_on(FIRST).drop(name)])
    other = bars_on(FIRST).with_columns(pl.col("close_time").dt.cast_time_unit("ns"))
    with pytest.raises(ValueError, match="`close_time` as"):
        rows_of([other])


def test_the_hash_of_a_row_never_changes():
    rows = rows_of([extremes()])[0]
    assert rows["row_hash"].to_list() == [
        16898411017231983306,
        2343642776720402299,
        2110283578406627353,
        14151175687841453092,
    ]


def test_no_column_can_change_without_its_hash():
    bars = extremes()
    hashes = rows_of([bars])[0]["row_hash"]
    assert hashes.n_unique() == bars.height
    for name, dtype in bars.schema.items():
        # Swap two values, so that only their columns differ.
        turned = bars.with_columns(pl.col(name).reverse())
        if bars[name].equals(turned[name], null_equal=True):
            continue
        changed = rows_of([turned])[0]["row_hash"]
        assert changed.sum() != hashes.sum(), (name, dtype)


def test_a_processor_state_may_be_any_bytes(cache):
    from dataclasses import replace

    from rangebar_polars.clickhouse.query.units import states_of

    state = bytes(range(256)) * 40
    units = publish(cache, [replace(drafts(1)[0], state=state)])
    assert states_of(cache, units) == {units[0]: state}
