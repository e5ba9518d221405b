"""A server that fails at any moment: exactly one copy is stored, or an error is raised."""

from __future__ import annotations

import os

import pytest
from places import QUICK, Bridge, Place
from series_data import FIRST, SERIES, SPEC, days, drafts, expected

from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import CacheUnavailableError, CacheWriteError


@pytest.fixture
def cache(bridge, server):
    if "RANGEBAR_TEST_CLICKHOUSE_DSN" in os.environ:
        server = Place(f"{bridge.url}/faults", server.folder)
    with server.open(write=True) as one:
        one.writes = one.reads = QUICK
        yield one
        bridge.fail()


def plan(cache):
    return read_chains(cache, [SPEC])[SERIES].units


def is_whole(cache, count=3):
    return read_bars(cache, plan(cache)).equals(expected(days(count)))


def rows_in(cache, table):
    return cache.scalar(f"SELECT count() FROM {cache.table(table)}")


INSERTS = ["INTO `{0}`.bars", "INTO `{0}`.units"]


@pytest.mark.parametrize("insert", INSERTS)
@pytest.mark.parametrize(
    "faults",
    [
        ["503"],
        ["drop-before"],
        ["drop-after"],
        ["503", "drop-after", "drop-before"],
        ["drop-after"] * 4,
    ],
    ids="+".join,
)
def test_rows_are_stored_once_however_often_the_insert_is_tried(bridge, cache, insert, faults):
    bridge.fail(*faults, match=insert.format(cache.database))
    publish(cache, drafts(3))
    assert bridge.fail() == 0
    # Two months: the bars are two inserts.
    assert rows_in(cache, "bars") == 36
    assert rows_in(cache, "units") == 3
    assert is_whole(cache)


@pytest.mark.parametrize("insert", INSERTS)
@pytest.mark.parametrize("fault", ["503", "drop-before"])
def test_an_insert_that_always_fails_is_an_error(bridge, cache, insert, fault):
    # The driver itself retries after a broken connection.
    bridge.fail(*[fault] * 11, match=insert.format(cache.database))
    with pytest.raises(CacheWriteError, match=r"(?s)not confirmed.*use_cache=False") as caught:
        publish(cache, drafts(3))
    # The server is unavailable for writes and for reads.
    assert isinstance(caught.value, CacheUnavailableError)
    assert bridge.fail() > 0
    assert read_chains(cache, [SPEC]) == {}
    publish(cache, drafts(3))
    assert is_whole(cache)


def test_units_without_a_confirmation_are_found_by_the_next_run(bridge, cache):
    bridge.fail(*["drop-after"] * 20, match=INSERTS[1].format(cache.database))
    with pytest.raises(CacheWriteError):
        publish(cache, drafts(3))
    bridge.fail()
    assert is_whole(cache)
    assert rows_in(cache, "units") == 3


@pytest.mark.parametrize("fault", ["503", "drop-before", "drop-after", "drop-mid"])
def test_a_read_is_retried(bridge, cache, fault):
    publish(cache, drafts(3))
    bridge.fail(fault, fault, match="SELECT")
    assert is_whole(cache)
    assert bridge.fail() == 0


@pytest.mark.parametrize("fault", ["503", "drop-before", "drop-mid"])
def test_a_read_that_always_fails_is_an_error(bridge, cache, fault):
    publish(cache, drafts(3))
    bridge.fail(*[fault] * 40, match="SELECT")
    with pytest.raises(CacheUnavailableError, match="use_cache=False"):
        plan(cache)


def test_a_server_that_stops_is_an_error_for_reads_and_writes(tmp_path):
    own = Bridge(tmp_path / "engine")
    try:
        with Place(own.url, tmp_path).open(write=True) as cache:
            cache.writes = cache.reads = QUICK
            publish(cache, drafts(1))
            own.process.kill()
            own.process.wait()
            with pytest.raises(CacheUnavailableError):
                plan(cache)
            with pytest.raises(CacheWriteError):
                publish(cache, drafts(1, first=days(2)[1], built_on=1))
    finally:
        own.stop()


def test_the_read_back_of_rows_can_fail(bridge, cache):
    bridge.fail(*["503"] * 20, match="sum(row_hash)")
    with pytest.raises(CacheUnavailableError):
        publish(cache, drafts(3))
    bridge.fail()
    assert read_chains(cache, [SPEC]) == {}
    assert SERIES.first_day == FIRST
