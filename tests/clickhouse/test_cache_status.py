"""The status of the cache: its series, and the sizes of its tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from places import QUICK
from series_data import FIRST, SERIES, SPEC, bars_on, days, drafts

from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.clickhouse.commit.generations import discard_generation, open_generation
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.status import STORED_SCHEMA, sizes, stored_series
from rangebar_polars.clickhouse.schema.tables import tables


@pytest.fixture
def cache(cache):
    cache.reads = cache.writes = QUICK
    return cache


def test_a_series_is_a_row(cache):
    group = drafts(3)
    group[1] = replace(group[1], bars=bars_on(days(2)[1], ending="gap"))
    publish(cache, group)
    assert stored_series(cache).rows(named=True) == [
        {
            "symbol": "BTCUSDT",
            "source": "binance",
            "market": "spot",
            "threshold": 250,
            "reset": "year",
            "gate": True,
            "bar_semantics": 1,
            "segment": "2024",
            "anchor": datetime(2024, 1, 30, tzinfo=UTC),
            "first_day": FIRST,
            "last_day": days(3)[2],
            "units": 3,
            "bars": 35,
            "orphans": 1,
            "feature_groups": ["core", "microstructure"],
            "open_rebuilds": 0,
            "superseded": False,
            "other_semantics": False,
        }
    ]


def test_series_that_are_no_longer_read_are_marked(cache):
    old = replace(SPEC, rules=BarRules(bar_semantics=0)).series(FIRST)
    gate_off = BarRules(prevent_same_timestamp_close=False)
    loose = replace(SPEC, rules=gate_off).series(days(2)[1])
    unbroken = BarSpec.of("BTCUSDT", 250, reset=None).series(days(2)[1])
    late = SPEC.series(days(2)[1])
    eth = BarSpec.of("ETHUSDT", 250).series(days(2)[1])
    publish(cache, drafts(3))
    for series in (late, loose, unbroken, old, eth):
        publish(cache, drafts(2, series=series))
    found = stored_series(cache)
    columns = ("symbol", "reset", "gate", "bar_semantics", "superseded", "other_semantics")
    assert found.select(*columns, "units").rows() == [
        ("BTCUSDT", "none", True, 1, False, False, 2),
        ("BTCUSDT", "year", False, 1, False, False, 2),
        ("BTCUSDT", "year", True, 0, False, True, 2),
        ("BTCUSDT", "year", True, 1, False, False, 3),
        ("BTCUSDT", "year", True, 1, True, False, 2),
        ("ETHUSDT", "year", True, 1, False, False, 2),
    ]
    assert found["segment"].to_list() == ["all", *["2024"] * 5]


def test_an_interrupted_rebuild_is_counted_until_it_is_discarded(cache):
    publish(cache, drafts(1))
    generation = open_generation(cache, SERIES, FIRST, fencing=0)
    assert stored_series(cache)["open_rebuilds"].item() == 1
    discard_generation(cache, SERIES, generation, fencing=0)
    assert stored_series(cache)["open_rebuilds"].item() == 0


def test_every_table_has_its_size(cache):
    publish(cache, drafts(3))
    found = {name: rest for name, *rest in sizes(cache).iter_rows()}
    assert found["bars"][0] == 36
    assert found["units"][0] == 3
    assert all(parts > 0 and size > 0 for _, parts, size in found.values())
    assert set(found) <= {table.name for table in tables()}


def test_an_absent_cache_has_an_empty_status(tmp_path):
    with reading(cache_dir=tmp_path) as none:
        assert none is None
        assert stored_series(none).schema == STORED_SCHEMA
        assert sizes(none).is_empty()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_cache_has_the_same_columns(cache):
    assert stored_series(cache).schema == STORED_SCHEMA
    assert sizes(cache).schema == sizes(None).schema
