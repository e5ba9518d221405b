"""Removal takes only rows that no reader needs; an interruption leaves a series complete or invisible."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from places import QUICK
from series_data import FIRST, SERIES, SPEC, days, drafts, expected

from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.commit.generations import (
    discard_generation,
    open_generation,
    publish_generation,
)
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.commit.publish import publish, write_checkpoints
from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.drop import drop
from rangebar_polars.clickhouse.gc import Removed, gc
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing
from rangebar_polars.exceptions import CoverageError, LeaseError

NOW = timedelta(0)


@pytest.fixture(params=["embedded", "server"])
def cache(request):
    """An empty cache at the address at which leases are taken."""
    if request.param == "server":
        with request.getfixturevalue("server").open(write=True) as one:
            one.writes = one.reads = QUICK
            yield one
    else:
        one = request.getfixturevalue("open_folder")
        create_tables_if_missing(one)
        for table in ("bars", "units", "generations", "leases", "population_checkpoints"):
            one.command(f"TRUNCATE TABLE {one.table(table)}")
        yield one


def chain_of(cache, series=SERIES):
    return read_chains(cache, [series.spec])[series]


def bars_in(cache, series=SERIES):
    return read_bars(cache, chain_of(cache, series).units, include_orphans=True)


def rows_in(cache, table):
    return cache.scalar(f"SELECT count() FROM {cache.table(table)}")


def age(cache, table, hours, where="1"):
    cache.command(
        f"ALTER TABLE {cache.table(table)} UPDATE written_at = written_at - toIntervalHour({hours}) "
        f"WHERE {where} SETTINGS mutations_sync = 2"
    )


@contextmanager
def stopped_at(step, times=1):
    """Interrupt the writer when it reaches a step for the `times`-th time."""
    left = [times]

    def stop(reached):
        if reached is step:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), on_failpoint(stop):
        yield


def rebuilt(cache, first, count, *, scale):
    """Write days of a rebuild, and leave its generation open."""
    base = chain_of(cache).unit(first - timedelta(days=1))
    generation = open_generation(cache, SERIES, first, fencing=0)
    group = drafts(
        count,
        first=first,
        built_on=base.attempt if base else 0,
        generation=generation.number,
        scale=scale,
    )
    publish(cache, group)
    return generation


# --- garbage collection --------------------------------------------------------------------------


def test_rows_of_an_interrupted_writer_are_removed_after_a_day(cache):
    publish(cache, drafts(3))
    with stopped_at(Step.BARS_PROVED):
        publish(cache, drafts(3, scale=5.0))
    assert rows_in(cache, "bars") == 72
    assert gc(cache) == Removed()
    age(cache, "bars", 23)
    assert gc(cache) == Removed()
    age(cache, "bars", 2, "bar_seq < 11")
    # The newest row of an attempt counts.
    assert not gc(cache)
    age(cache, "bars", 2)
    assert gc(cache, dry_run=True) == Removed(bars=36)
    assert rows_in(cache, "bars") == 72
    assert gc(cache) == Removed(bars=36)
    assert rows_in(cache, "bars") == 36
    assert bars_in(cache).equals(expected(days(3)))
    assert gc(cache) == Removed()


def test_rows_that_a_unit_names_stay(cache):
    publish(cache, drafts(2))
    publish(cache, drafts(2, fencing=1, scale=3.0))
    rebuilt(cache, days(2)[1], 1, scale=4.0)
    assert gc(cache, min_age=NOW) == Removed()
    assert rows_in(cache, "bars") == 60


def test_units_of_a_discarded_generation_are_removed(cache):
    publish(cache, drafts(3))
    generation = rebuilt(cache, FIRST, 2, scale=3.0)
    discard_generation(cache, SERIES, generation, fencing=0)
    assert gc(cache) == Removed()
    assert gc(cache, min_age=NOW) == Removed(bars=24, units=2)
    assert bars_in(cache).equals(expected(days(3)))
    # Its number is not used again.
    assert open_generation(cache, SERIES, FIRST, fencing=0).number == generation.number + 1


def test_units_that_a_published_generation_hides_are_removed_and_earlier_ones_stay(cache):
    publish(cache, drafts(3))
    generation = rebuilt(cache, days(2)[1], 2, scale=3.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    assert gc(cache) == Removed()
    assert gc(cache, min_age=NOW) == Removed(bars=24, units=2)
    found = bars_in(cache)
    assert found[:12].equals(expected(days(1)))
    assert found[12:].equals(expected(days(3)[1:], 3.0))
    last = chain_of(cache).last
    publish(cache, drafts(1, first=days(4)[3], built_on=last.attempt, generation=1))
    assert gc(cache, min_age=NOW) == Removed()
    assert chain_of(cache).frontier == days(5)[4]


def test_a_generation_that_opens_during_the_collection_stays(cache):
    publish(cache, drafts(2))

    class Interrupted(Cache):
        def query(self, sql, **options):
            result = super().query(sql, **options)
            if "generations" in sql and not started:
                started.append(rebuilt(cache, FIRST, 2, scale=3.0))
            return result

    started = []
    late = Interrupted(cache._client, cache.target)
    gc(late, min_age=NOW)
    assert started
    assert rows_in(cache, "units") == 4
    publish_generation(cache, SERIES, started[0], fencing=0)
    assert bars_in(cache).equals(expected(days(2), 3.0))


def test_superseded_claims_are_removed_and_the_highest_number_never(cache):
    publish(cache, drafts(1))
    for _ in range(3):
        with hold_leases([SERIES.lease_key], cache.target) as leases:
            pass
    assert leases.fencing[SERIES.lease_key] == 3
    assert not gc(cache)
    found = gc(cache, min_age=NOW)
    assert found.leases >= 2
    left = cache.query(f"SELECT DISTINCT fencing FROM {cache.table('leases')}").to_series()
    assert left.to_list() == [3]
    with hold_leases([SERIES.lease_key], cache.target) as leases:
        assert leases.fencing[SERIES.lease_key] == 4


def test_checkpoints_that_are_not_the_newest_are_removed(cache):
    cache.command(f"SYSTEM STOP MERGES {cache.table('population_checkpoints')}")
    units = publish(cache, drafts(3))
    for unit in units:
        write_checkpoints(cache, [unit])
    assert rows_in(cache, "population_checkpoints") == 3
    cache.command(f"SYSTEM START MERGES {cache.table('population_checkpoints')}")
    gc(cache, min_age=NOW)
    rows = cache.query(f"SELECT attempt FROM {cache.table('population_checkpoints')}").to_series()
    assert rows.to_list() == [units[-1].attempt]


def test_readers_and_a_writer_work_during_a_collection(cache):
    publish(cache, drafts(2))
    generation = rebuilt(cache, FIRST, 2, scale=3.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    for _ in range(2):
        with stopped_at(Step.BARS_PROVED):
            publish(cache, drafts(2, scale=5.0))
    stop = threading.Event()

    def read():
        reads = 0
        while not stop.is_set() or not reads:
            assert bars_in(cache)[:24].equals(expected(days(2), 3.0))
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        removed = gc(cache, min_age=NOW)
        last = chain_of(cache).last
        publish(cache, drafts(1, first=days(3)[2], built_on=last.attempt, generation=1))
        stop.set()
        assert all(reader.result() for reader in readers)
    assert removed == Removed(bars=72, units=2)
    assert chain_of(cache).frontier == days(4)[3]


# --- dropping series -----------------------------------------------------------------------------


def test_a_whole_series_is_dropped_and_no_other(cache):
    late = SPEC.series(days(2)[1])
    other = BarSpec.of("BTCUSDT", 500).series(FIRST)
    publish(cache, [*drafts(3), *drafts(2, series=late), *drafts(2, series=other)])
    for series in (late, SERIES):
        write_checkpoints(cache, [chain_of(cache, series).last])
    doomed = superseded(read_chains(cache).values())
    assert doomed == {late}
    expected_removal = Removed(bars=24, units=2, checkpoints=1, series=(late,))
    assert drop(cache, doomed, dry_run=True) == expected_removal
    assert set(read_chains(cache)) == {SERIES, late, other}
    assert drop(cache, doomed) == expected_removal
    assert set(read_chains(cache)) == {SERIES, other}
    assert rows_in(cache, "bars") == 60
    assert rows_in(cache, "population_checkpoints") == 1
    assert drop(cache, []) == Removed()


def test_a_spec_is_dropped_with_its_invisible_rows(cache):
    gate_off = replace(SPEC, rules=BarRules(prevent_same_timestamp_close=False))
    publish(cache, [*drafts(2), *drafts(2, series=gate_off.series(FIRST))])
    rebuilt(cache, FIRST, 1, scale=2.0)
    with stopped_at(Step.BARS_PROVED):
        publish(cache, drafts(2, series=SPEC.series(days(2)[1]), scale=5.0))
    removed = drop(cache, [SPEC])
    assert (removed.bars, removed.units, len(removed.series)) == (60, 3, 2)
    assert set(read_chains(cache)) == {gate_off.series(FIRST)}
    assert (rows_in(cache, "bars"), rows_in(cache, "units")) == (24, 2)


def test_dropped_bars_can_be_rebuilt_identically(cache):
    publish(cache, drafts(3))
    generation = rebuilt(cache, FIRST, 3, scale=3.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    for _ in range(2):
        drop(cache, [SERIES])
        assert read_chains(cache, [SPEC]) == {}
        publish(cache, drafts(3))
        assert bars_in(cache).equals(expected(days(3)))
    # The new rebuild has another number, so that its rows do not repeat an earlier insert.
    later = rebuilt(cache, FIRST, 3, scale=4.0)
    assert later.number > generation.number
    publish_generation(cache, SERIES, later, fencing=0)
    assert bars_in(cache).equals(expected(days(3), 4.0))


def test_a_series_with_a_writer_at_work_is_not_dropped(cache):
    publish(cache, drafts(2))
    other = SPEC.series(days(400)[399])
    publish(cache, drafts(1, series=other))
    with (
        hold_leases([SERIES.lease_key], cache.target),
        pytest.raises(LeaseError, match="is already writing BTCUSDT"),
    ):
        drop(cache, [other, SERIES])
    assert bars_in(cache).equals(expected(days(2)))
    assert drop(cache, [other]).series == (other,)


class Cut(Cache):
    """A cache that interrupts its caller before the n-th write."""

    def __init__(self, cache, effect):
        super().__init__(cache._client, cache.target)
        self.left = effect
        self.reads = self.writes = QUICK

    def _reach(self):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def command(self, sql):
        self._reach()
        super().command(sql)

    def insert(self, table, rows):
        self._reach()
        super().insert(table, rows)


def cut_off(cache, work):
    """Run `work` again and again, interrupted at its first write, then at its second, until it ends."""
    for effect in range(1, 99):
        cut = Cut(cache, effect)
        try:
            work(cut)
        except KeyboardInterrupt:
            yield effect
        else:
            assert effect > 2
            return
    raise AssertionError


def test_an_interrupted_drop_leaves_the_series_complete_or_invisible(cache):
    publish(cache, drafts(3))
    generation = rebuilt(cache, days(2)[1], 2, scale=3.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    whole, states = bars_in(cache), []
    for effect in cut_off(cache, lambda cut: drop(cut, [SERIES])):
        chain = read_chains(cache, [SPEC]).get(SERIES)
        is_seen = chain is not None and bool(chain.units)
        states.append(is_seen)
        if is_seen:
            assert bars_in(cache).equals(whole)
            continue
        # Populate again, so that the next interruption meets the same series.
        number = chain.generation if chain is not None else 0
        publish(cache, drafts(3, generation=number))
        assert bars_in(cache).equals(expected(days(3))), effect
        whole = expected(days(3))
    assert states[0]
    assert states.count(False) >= 3
    assert rows_in(cache, "units") == rows_in(cache, "bars") == 0
    assert gc(cache, min_age=NOW).units == 0


def test_rows_left_by_an_interrupted_drop_are_collected(cache):
    publish(cache, drafts(3))
    for _ in cut_off(cache, lambda cut: drop(cut, [SERIES])):
        if not read_chains(cache, [SPEC])[SERIES].units:
            break
    removed = gc(cache, min_age=NOW)
    assert (removed.bars, removed.units) == (36, 3)
    assert rows_in(cache, "bars") == rows_in(cache, "units") == 0


def test_an_interrupted_collection_changes_nothing_visible(cache):
    publish(cache, drafts(3))
    generation = rebuilt(cache, days(2)[1], 2, scale=3.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    with stopped_at(Step.BARS_PROVED):
        publish(cache, drafts(3, scale=5.0))
    whole = bars_in(cache)
    for _ in cut_off(cache, lambda cut: gc(cut, min_age=NOW)):
        assert bars_in(cache).equals(whole)
    assert bars_in(cache).equals(whole)
    assert (rows_in(cache, "bars"), rows_in(cache, "units")) == (36, 3)


# --- repeated inserts ----------------------------------------------------------------------------


def one_unit(cache, scale=1.0):
    """Publish a day, and return a writer that sends exactly its rows again."""
    sent = []

    class Watched(Cache):
        def insert(self, table, rows):
            super().insert(table, rows)
            if table == "bars":
                sent.append(rows)

    watched = Watched(cache._client, cache.target)
    watched.reads = watched.writes = QUICK
    publish(watched, drafts(1, scale=scale))
    return lambda: cache.insert("bars", sent[0])


def test_a_repeated_insert_is_dropped_even_if_its_rows_were_removed(cache):
    send_again = one_unit(cache)
    cache.command(f"ALTER TABLE {cache.table('bars')} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    send_again()
    # Rows that are written again therefore have another attempt.
    assert rows_in(cache, "bars") == 0
    with pytest.raises(CoverageError, match="damaged"):
        bars_in(cache)
    publish(cache, drafts(1, fencing=1))
    assert bars_in(cache).equals(expected(days(1)))


def test_rows_that_a_late_writer_sends_again_are_read_once(cache):
    bars = cache.table("bars")
    cache.command(f"ALTER TABLE {bars} MODIFY SETTING non_replicated_deduplication_window = 1")
    try:
        send_again = one_unit(cache)
        # The database forgets the first insert.
        publish(cache, drafts(2, first=days(2)[1], built_on=chain_of(cache).last.attempt))
        cache.command(f"SYSTEM STOP MERGES {bars}")
        send_again()
        assert rows_in(cache, "bars") == 48
        assert bars_in(cache).equals(expected(days(3)))
        cache.command(f"SYSTEM START MERGES {bars}")
        cache.command(f"OPTIMIZE TABLE {bars} FINAL")
        assert rows_in(cache, "bars") == 36
        assert bars_in(cache).equals(expected(days(3)))
    finally:
        cache.command(
            f"ALTER TABLE {bars} MODIFY SETTING non_replicated_deduplication_window = 10000"
        )


def test_rows_of_a_late_writer_without_a_unit_are_never_visible(cache):
    with stopped_at(Step.BARS_PROVED):
        publish(cache, drafts(2, scale=5.0))
    publish(cache, drafts(2))
    cache.command(f"OPTIMIZE TABLE {cache.table('bars')} FINAL")
    assert rows_in(cache, "bars") == 48
    assert bars_in(cache).equals(expected(days(2)))


def test_a_group_with_one_month_missing_is_not_visible(cache):
    publish(cache, drafts(1))
    last = chain_of(cache).last
    with stopped_at(Step.BARS_INSERTED):
        publish(cache, drafts(2, first=days(2)[1], built_on=last.attempt))
    assert rows_in(cache, "bars") == 24
    assert bars_in(cache).equals(expected(days(1)))
    assert chain_of(cache).frontier == days(2)[1]
    publish(cache, drafts(2, first=days(2)[1], built_on=last.attempt))
    assert bars_in(cache).equals(expected(days(3)))


@pytest.mark.parametrize(
    "statement", ["DROP PARTITION 202401", "DELETE WHERE unit_day < '2024-02-01'"]
)
def test_units_with_lost_rows_are_named_and_can_be_rebuilt(cache, statement):
    publish(cache, drafts(3))
    cache.command(f"ALTER TABLE {cache.table('bars')} {statement} SETTINGS mutations_sync = 2")
    with pytest.raises(CoverageError, match="damaged") as caught:
        bars_in(cache)
    assert caught.value.days == (FIRST,)
    generation = rebuilt(cache, FIRST, 3, scale=1.0)
    publish_generation(cache, SERIES, generation, fencing=0)
    assert bars_in(cache).equals(expected(days(3)))
