"""Visible units stored in memory: never older than the result of a query."""

from __future__ import annotations

import gc
import uuid
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_data import FIRST, SERIES, SPEC, days, drafts

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.generations import (
    discard_generation,
    open_generation,
    publish_generation,
)
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.drop import drop_tables
from rangebar_polars.clickhouse.query import unit_cache
from rangebar_polars.clickhouse.query.unit_cache import cached_chains
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing, has_tables, migrate
from rangebar_polars.clickhouse.schema.tables import tables
from rangebar_polars.exceptions import LeaseLostError
from repetitions import repeated

OTHER = BarSpec.of("BTCUSDT", 500, reset="year").series(FIRST)


class Counted(Cache):
    """A cache that counts the queries for units."""

    def __init__(self, cache):
        super().__init__(cache._client, cache.target)
        self.asked = 0
        self.happening = lambda: None

    def query(self, sql, **options):
        result = super().query(sql, **options)
        if f"FROM {self.table('units')}" in sql:
            self.asked += 1
            self.happening()
        return result


def add_day(cache):
    chain = read_chains(cache, [SPEC]).get(SERIES)
    if chain is None or not chain.units:
        publish(cache, drafts(1))
    elif chain.frontier < days(20)[-1]:
        generation = chain.generation
        publish(cache, drafts(1, first=chain.frontier, built_on=chain.last.attempt,
                              generation=generation))  # fmt: skip


def add_day_of_another(cache):
    # Refused if the day is already published; the row is inserted all the same.
    with suppress(LeaseLostError):
        publish(cache, drafts(1, series=OTHER))


def begin_rebuild(cache):
    generation = open_generation(cache, SERIES, FIRST, fencing=0)
    publish(cache, drafts(1, scale=1.5, generation=generation.number))


def end_rebuild(cache, finish):
    chain = read_chains(cache, [SPEC]).get(SERIES)
    if chain is not None and chain.open_generations:
        finish(cache, SERIES, chain.open_generations[0], fencing=0)


def publish_rebuild(cache):
    end_rebuild(cache, publish_generation)


def discard_rebuild(cache):
    end_rebuild(cache, discard_generation)


def merge(cache):
    cache.command(f"OPTIMIZE TABLE {cache.table('units')} FINAL")


def remove_units(cache):
    cache.command(f"DELETE FROM {cache.table('units')} WHERE threshold = 500")


def begin_anew(cache):
    for one in tables():
        cache.command(f"DROP TABLE {cache.table(one.name)} SYNC")
    migrate(cache)


def put_by_another_program(cache):
    """Insert a row past this package."""
    cache._client.command(
        f"INSERT INTO {cache.table('units')} SELECT * REPLACE (750 AS threshold) "
        f"FROM {cache.table('units')} WHERE threshold = 250 LIMIT 1"
    )


CHANGES = (add_day, add_day, add_day_of_another, begin_rebuild, publish_rebuild, discard_rebuild,
           merge, remove_units, begin_anew, put_by_another_program)  # fmt: skip


@settings(max_examples=repeated(4, 8))
@given(changes=st.lists(st.sampled_from(CHANGES), min_size=3, max_size=8))
def test_stored_chains_equal_a_query_after_any_changes(open_folder, changes):
    target = replace(open_folder.target, database=f"test_{uuid.uuid4().hex[:12]}")
    cache = Cache(open_folder._client, target)
    create_tables_if_missing(cache)
    specs = [SPEC, OTHER.spec, BarSpec.of("BTCUSDT", 750, reset="year")]
    for change in changes:
        change(cache)
        for spec in specs:
            for starts in (None, [SERIES.segment_start]):
                expected = read_chains(cache, [spec], segment_starts=starts)
                for _ in range(3):
                    assert cached_chains(cache, spec, starts) == expected


def test_units_are_not_read_again_while_nothing_changes(empty):
    cache = Counted(empty)
    publish(cache, drafts(3))
    cache.asked = 0
    found = [cached_chains(cache, SPEC) for _ in range(5)]
    # The first call stores nothing, and the second one stores the chains.
    assert cache.asked == 2
    assert all(len(one[SERIES].units) == 3 for one in found)


def test_a_change_during_a_read_is_seen_by_the_next_call(empty):
    cache = Counted(empty)
    publish(cache, drafts(1))
    cached_chains(cache, SPEC)

    def another_day():
        cache.happening = lambda: None
        add_day(empty)

    cache.happening = another_day
    assert len(cached_chains(cache, SPEC)[SERIES].units) == 1
    assert len(cached_chains(cache, SPEC)[SERIES].units) == 2


@pytest.mark.parametrize("is_full", [False, True])
def test_only_a_few_queries_are_stored(empty, is_full):
    cache = Counted(empty)
    publish(cache, drafts(1))
    others = [BarSpec.of("BTCUSDT", 1_000 + dbps, reset="year") for dbps in range(40)]
    for _ in range(2):
        cached_chains(cache, SPEC)
        for spec in others if is_full else ():
            cached_chains(cache, spec)
    assert len(unit_cache._CACHES[cache]._entries) == (unit_cache._MOST if is_full else 1)
    assert len(cached_chains(cache, SPEC)[SERIES].units) == 1


def test_the_stored_units_end_with_the_client(empty):
    clients = [Counted(empty), Counted(empty)]
    publish(empty, drafts(1))
    for client in clients:
        cached_chains(client, SPEC)
    before = len(unit_cache._CACHES)
    # Each client has chains of its own.
    assert unit_cache._CACHES[clients[0]] is not unit_cache._CACHES[clients[1]]
    del client
    clients.pop()
    gc.collect()
    assert len(unit_cache._CACHES) == before - 1
    assert clients[0] in unit_cache._CACHES


def test_a_removal_of_the_tables_is_seen_by_the_client_that_removed_them(empty):
    cache = Counted(empty)
    create_tables_if_missing(cache)
    publish(cache, drafts(1))
    for _ in range(2):
        assert len(cached_chains(cache, SPEC)[SERIES].units) == 1
    drop_tables(cache)
    assert not has_tables(cache)
    create_tables_if_missing(cache)
    for _ in range(2):
        assert SERIES not in cached_chains(cache, SPEC)


def test_a_server_is_queried_each_time(server):
    with server.open(write=True) as opened:
        publish(opened, drafts(2))
        cache = Counted(opened)
        for _ in range(3):
            assert len(cached_chains(cache, SPEC)[SERIES].units) == 2
        assert cache.asked == 3
