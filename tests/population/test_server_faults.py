"""A server that fails during a population: retried or raised; never swallowed, never duplicated."""

from __future__ import annotations

import random
from datetime import date

import pytest

import rangebar_polars as rb
from population.oracle import chains, counts, judge, spec, table
from population.places import Bridge, Place
from population.tape import SYMBOL, store, tape
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.schema import migrate
from rangebar_polars.exceptions import (
    CacheError,
    CacheSchemaError,
    CacheUnavailableError,
    CacheWriteError,
    CoverageError,
    RangeBarError,
)
from rangebar_polars.readers.cached import count_bars, get_cached_bars, get_n_bars

FIRST, LAST = date(2024, 1, 28), date(2024, 2, 4)
TICKS = tape(FIRST, LAST)

pytestmark = pytest.mark.usefixtures("quick_retries")


def run(place, **options):
    return place.populate(FIRST, LAST, [250, 400], ouroboros="month", **options)


@pytest.fixture(scope="module")
def clean(new_folder):
    place = Place(new_folder())
    store(place.folder, TICKS)
    with place.open():
        run(place)
        return place.folder, table(place)


@pytest.fixture
def stocked(clean, faulty):
    return faulty.with_ticks_of(clean[0])


def database(place):
    return place.dsn.rpartition("/")[2]


TABLES = ["bars", "units", "population_checkpoints", "leases"]


@pytest.mark.parametrize("name", TABLES)
def test_an_insert_that_fails_for_a_while_is_retried(bridge, clean, stocked, name):
    with stocked.open():
        bridge.fail("503", "drop-after", "drop-before", match=f"INTO `{database(stocked)}`.{name}")
        run(stocked)
        assert bridge.fail() == 0, "nothing met the fault"
        judge(stocked, clean[1], lambda: run(stocked))
        found = counts(stocked)
    # Exactly one copy of all data.
    assert found["bars"] == sum(len(one[6]) for one in clean[1])
    assert found["units"] == len(clean[1])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *((name, "drop-after") for name in TABLES),
        ("bars", "503"),
        ("units", "drop-before"),
    ],
)
def test_an_insert_that_fails_for_good_is_an_error(bridge, clean, stocked, name, fault):
    with stocked.open():
        bridge.fail(*[fault] * 400, match=f"INTO `{database(stocked)}`.{name}")
        with pytest.raises(CacheWriteError) as caught:
            run(stocked)
        assert "not confirmed" in str(caught.value) or stocked.dsn.split("/")[2] in str(
            caught.value
        )
        bridge.fail()
        run(stocked)
        judge(stocked, clean[1], lambda: run(stocked))


@pytest.mark.parametrize("fault", ["503", "drop-mid"])
@pytest.mark.parametrize("match", ["sum(row_hash)", "unit_day, generation", "argMax(holder"])
def test_a_query_that_fails_is_retried_or_is_an_error(bridge, clean, stocked, match, fault):
    """Queries of the read-back, of visible units, and of leases."""
    with stocked.open():
        bridge.fail(fault, match=match)
        run(stocked)
        judge(stocked, clean[1], lambda: run(stocked))
    other = Place(stocked.folder, f"{stocked.dsn}_more")
    with other.open():
        bridge.fail(*[fault] * 400, match=match)
        with pytest.raises(CacheError):
            run(other)
        bridge.fail()
        run(other)
        judge(other, clean[1], lambda: run(other))


def test_faults_at_random_are_never_more_than_an_error(bridge, clean, stocked, is_long):
    """The connection comes and goes many times during a job."""
    random_ = random.Random(4)
    errors = 0
    for number in range(20 if is_long else 3):
        place = Place(stocked.folder, f"{stocked.dsn}_{number}")
        with place.open():
            for _ in range(3):
                kinds = ["503", "drop-before", "drop-after", "drop-mid"] + ["ok"] * 4
                faults = random_.choices(kinds, k=40)
                bridge.fail(*faults, *[random_.choice(kinds[:4])] * 30, match="")
                try:
                    run(place)
                except CacheError:
                    errors += 1
                bridge.fail()
            run(place)
            judge(place, clean[1], lambda place=place: run(place))
    assert errors >= 3, "the faults are too few"


@pytest.mark.parametrize("step", ["BARS_INSERTED", "UNITS_INSERTED", "UNITS_PROVED"])
def test_a_population_resumes_after_its_server_was_killed(clean, new_folder, step):
    """Killed while a group is published, and restarted on the data on its disk."""
    own = Bridge(new_folder() / "engine")
    try:
        folder = new_folder()
        place = Place(folder, f"{own.url}/killed").with_ticks_of(clean[0])

        def kill(reached):
            if reached is Step[step] and own.process.poll() is None:
                own.process.kill()
                own.process.wait()

        with on_failpoint(kill), pytest.raises(CacheError):
            run(place)
        with pytest.raises(CacheUnavailableError, match="use_cache=False"):
            get_cached_bars(SYMBOL, 250, FIRST, LAST, **place.arguments)
        own.stop()
        own.start()
        again = Place(folder, f"{own.url}/killed")
        with again.open():
            run(again)
            judge(again, clean[1], lambda: run(again))
    finally:
        own.stop()


def test_a_server_away_leaves_ticks_to_compute_from(clean, new_folder, bridge):
    away = Place(new_folder(), "http://127.0.0.1:9/away").with_ticks_of(clean[0])
    with pytest.raises(CacheUnavailableError):
        run(away)
    read = {"fetch_if_missing": False, **away.arguments}
    with pytest.raises(ConnectionError, match="use_cache=False"):
        rb.get_range_bars(SYMBOL, FIRST, LAST, **read)
    assert len(rb.get_range_bars(SYMBOL, FIRST, LAST, use_cache=False, **read)) > 0


# Data that the server lost, and rows of other writers


def test_bars_that_a_server_lost_are_an_error_and_are_rebuilt(clean, server):
    server.with_ticks_of(clean[0])
    with server.open() as cache:
        run(server)
        chain = next(iter(chains(cache, [spec(reset="month")]).values()))
        lost = chain.units[1]
        assert lost.rows
        cache.command(
            f"DELETE FROM {cache.table('bars')} WHERE attempt = {lost.attempt} "
            "SETTINGS lightweight_deletes_sync = 2"
        )
        where = {"ouroboros": "month", **server.arguments}
        for read in (
            lambda: get_cached_bars(SYMBOL, 250, FIRST, LAST, **where),
            lambda: get_n_bars(SYMBOL, 10_000, 250, **where),
            lambda: rb.get_range_bars(SYMBOL, FIRST, LAST, 250, fetch_if_missing=False, **where),
        ):
            with pytest.raises(CoverageError, match=str(lost.day)):
                read()
        run(server, force_refresh=True)
        judge(server, clean[1], lambda: run(server))
        assert count_bars(SYMBOL, 250, **where) > 0


def test_rows_that_a_server_took_and_lost_are_sent_again(clean, place):
    """Acknowledged rows are read back before they count."""
    place.with_ticks_of(clean[0])
    lost, steps = [], []

    def lose(reached):
        if reached.area == "cache":
            steps.append(reached)
        # Only the first copy of each group, before its read-back.
        if steps[-2:] == [Step.BARS_BEFORE, Step.BARS_INSERTED]:
            published = f"SELECT attempt FROM {cache.table('units')}"
            where = f"WHERE attempt NOT IN ({published})"
            lost.append(cache.scalar(f"SELECT max(attempt) FROM {cache.table('bars')} {where}"))
            cache.command(
                f"DELETE FROM {cache.table('bars')} WHERE attempt = {lost[-1]} "
                "SETTINGS lightweight_deletes_sync = 2"
            )

    with place.open() as cache:
        with on_failpoint(lose):
            run(place)
        assert len(set(lost)) == steps.count(Step.BARS_BEFORE) == 2
        assert steps.count(Step.BARS_INSERTED) == 4
        judge(place, clean[1], lambda: run(place))


@pytest.mark.parametrize("merge", [False, True])
def test_rows_of_a_dead_writer_do_not_count(clean, place, merge):
    """Half of another attempt, some with the keys of visible rows; merged or not."""
    place.with_ticks_of(clean[0])
    with place.open() as cache:
        run(place)
        columns = cache.query(f"SELECT * FROM {cache.table('bars')} LIMIT 0").columns
        others = ", ".join("attempt + 1 AS attempt" if c == "attempt" else c for c in columns)
        bars = cache.table("bars")
        cache.command(f"INSERT INTO {bars} ({', '.join(columns)}) SELECT {others} FROM {bars}")
        # Rows of a visible attempt, sent again by a writer that was considered dead.
        cache.command(
            f"INSERT INTO {bars} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {bars} "
            "WHERE bar_seq = 0 SETTINGS insert_deduplicate = 0"
        )
        if merge:
            cache.command(f"OPTIMIZE TABLE {bars} FINAL")
        seen = get_cached_bars(SYMBOL, 250, FIRST, LAST, ouroboros="month", **place.arguments)
        assert seen.height == sum(
            len(one[6]) - one[5] for one in clean[1] if one[0].spec.threshold == 250
        )
        if merge:
            judge(place, clean[1], lambda: run(place))
        assert int(run(place)) == 0


# Tables of another version


def _older(cache, patch):
    patch.setattr(migrate, "SCHEMA_VERSION", migrate.SCHEMA_VERSION + 1)


def _newer(cache, _patch):
    cache.command(f"INSERT INTO {cache.table('schema_version')} (version) VALUES (999)")


def _without_a_column(cache, _patch):
    cache.command(f"ALTER TABLE {cache.table('bars')} DROP COLUMN vwap")


def _renamed_column(cache, _patch):
    cache.command(f"ALTER TABLE {cache.table('units')} RENAME COLUMN writer TO author")


def _without_a_table(cache, _patch):
    cache.command(f"DROP TABLE {cache.table('generations')}")


@pytest.mark.parametrize(
    "change", [_older, _newer, _without_a_column, _renamed_column, _without_a_table]
)
def test_tables_of_another_version_are_an_error_for_all(clean, server, monkeypatch, change):
    server.with_ticks_of(clean[0])
    run(server)
    with server.open() as cache:
        change(cache, monkeypatch)
    before = counts_as_they_are(server)
    where = {"ouroboros": "month", **server.arguments}
    for call in (
        lambda: run(server),
        lambda: run(server, force_refresh=True),
        lambda: get_cached_bars(SYMBOL, 250, FIRST, LAST, **where),
        lambda: get_n_bars(SYMBOL, 5, 250, **where),
        lambda: count_bars(SYMBOL, 250, **where),
        lambda: rb.get_range_bars(SYMBOL, FIRST, LAST, 250, fetch_if_missing=False, **where),
        lambda: rb.scan_range_bars(SYMBOL, FIRST, LAST, 250, fetch_if_missing=False, **where),
        lambda: rb.get_n_range_bars(SYMBOL, 5, 250, end_date=LAST, fetch_if_missing=False, **where),
    ):
        with pytest.raises(CacheSchemaError) as caught:
            call()
        assert isinstance(caught.value, RangeBarError)
    assert counts_as_they_are(server) == before


def counts_as_they_are(place):
    """Count the rows of the two tables, without a schema check."""
    with open_cache(place.dsn, cache_dir=place.folder) as cache:
        return [
            cache.scalar(f"SELECT toInt64(count()) FROM {cache.table(name)}")
            for name in ("bars", "units")
        ]
