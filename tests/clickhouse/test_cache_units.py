"""Visible units, and reads of their bars."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series_data import FIRST, SERIES, SPEC, bars_on, days, drafts, expected, noon

from rangebar_polars._utils.span import microseconds
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.units import Unit, visible
from rangebar_polars.clickhouse.commit.generations import (
    discard_generation,
    open_generation,
    publish_generation,
)
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.query.bars import (
    DamagedBarsError,
    count_bars,
    coverage_of,
    newest_bars,
    read_bars,
)
from rangebar_polars.clickhouse.query.units import read_chains, read_generations
from rangebar_polars.exceptions import CoverageError, LeaseLostError


def unit(day, attempt, built_on, *, generation=0, fencing=0):
    return Unit(
        SERIES, days(day + 1)[day], generation, attempt, built_on, fencing, 0, 9, "", 1, 0, 5, 0, 0,
        frozenset({"core"}),
    )  # fmt: skip


def attempts(units, generations=()):
    return [one.attempt for one in visible(FIRST, units, generations)]


def test_a_chain_ends_at_the_first_missing_day():
    assert attempts([unit(0, 11, 0), unit(1, 12, 11), unit(3, 14, 13)]) == [11, 12]
    assert attempts([unit(1, 12, 11)]) == []


def test_a_unit_is_visible_only_if_it_is_built_on_the_visible_unit_of_the_day_before():
    rivals = [unit(0, 11, 0), unit(0, 5, 0, fencing=1), unit(1, 12, 11, fencing=9)]
    assert attempts(rivals) == [5]
    assert attempts([*rivals, unit(1, 99, 5)]) == [5, 99]


def test_the_highest_fencing_number_wins_then_the_smallest_attempt():
    rivals = [unit(0, 3, 0, fencing=1), unit(0, 8, 0, fencing=2), unit(0, 7, 0, fencing=2)]
    assert attempts(rivals) == [7]


def test_a_published_generation_is_visible_from_its_first_day():
    old = [unit(0, 1, 0), unit(1, 2, 1), unit(2, 3, 2)]
    new = [unit(1, 20, 1, generation=1), unit(2, 30, 20, generation=1)]
    assert attempts(old + new) == [1, 2, 3]
    assert attempts(old + new, [(1, days(2)[1])]) == [1, 20, 30]
    # A unit that was added to the old generation does not continue the new one.
    assert attempts([*old, *new, unit(3, 4, 3)], [(1, days(2)[1])]) == [1, 20, 30]


def test_of_two_generations_the_newer_is_visible_from_its_first_day():
    units = [
        *(unit(0, 1, 0), unit(1, 2, 1), unit(2, 3, 2)),
        *(unit(1, 20, 1, generation=1), unit(2, 30, 20, generation=1)),
        *(unit(2, 300, 20, generation=2), unit(3, 400, 300, generation=2)),
    ]
    both = [(2, days(3)[2]), (1, days(2)[1])]
    assert attempts(units, both) == [1, 20, 300, 400]


@given(st.data())
def test_visible_units_do_not_depend_on_the_order_of_the_rows(data):
    units = [
        unit(day, data.draw(st.integers(1, 9)) + 10 * day, built_on, fencing=fencing)
        for day in range(4)
        for built_on in ([0] if day == 0 else range(10 * day - 9, 10 * day))
        for fencing in data.draw(st.lists(st.integers(0, 2), max_size=2))
    ]
    shuffled = data.draw(st.permutations(units))
    chain = attempts(units)
    assert attempts(shuffled) == chain
    found = visible(FIRST, units)
    assert [one.built_on for one in found] == [0, *chain][: len(chain)]


# --- in the cache --------------------------------------------------------------------------------


@pytest.fixture
def cache(empty):
    return empty


def chain_of(cache):
    return read_chains(cache, [SPEC])[SERIES]


def plan(cache):
    return chain_of(cache).units


def test_a_chain_returns_the_units_of_its_days(cache):
    publish(cache, drafts(4))
    chain = chain_of(cache)
    assert chain.frontier == days(5)[4]
    assert chain.covers(days(4)[1], days(4)[3])
    assert not chain.covers(FIRST, chain.frontier)
    assert not chain.covers(FIRST - timedelta(days=1), FIRST)
    assert [one.day for one in chain.between(days(2)[1], date(2030, 1, 1))] == days(4)[1:]
    assert chain.between(date(2020, 1, 1), date(2020, 2, 1)) == ()
    assert chain.unit(FIRST) == chain.units[0]
    assert chain.unit(FIRST - timedelta(days=1)) is None
    assert chain.unit(chain.frontier) is None
    assert chain.feature_groups == {"core", "microstructure"}
    assert chain.last.day == days(4)[3]


def test_series_are_found_by_spec_and_segment(cache):
    other = BarSpec.of("ETHUSDT", 250)
    late = SPEC.series(FIRST + timedelta(days=2))
    next_year = SPEC.series(date(2025, 1, 1))
    for series in (SERIES, late, next_year, other.series(FIRST)):
        publish(cache, drafts(1, series=series))
    assert list(read_chains(cache, [SPEC])) == [SERIES, late, next_year]
    assert list(read_chains(cache, [SPEC], segment_starts=[date(2025, 1, 1)])) == [next_year]
    # A list of these days would make the query too long, so it selects a range.
    many = days(20_000, date(1971, 1, 1))
    assert SERIES.segment_start in many
    assert list(read_chains(cache, [SPEC], segment_starts=many)) == [SERIES, late, next_year]
    assert set(read_chains(cache, [SPEC, other])) == set(read_chains(cache))
    assert len(read_chains(cache)) == 4
    assert read_chains(cache, []) == {}
    assert read_chains(cache, [BarSpec.of("XRPUSDT", 1)]) == {}


def test_bars_are_cut_by_their_close_time(cache):
    publish(cache, drafts(3))
    start, end = noon(days(3)[0]), noon(days(3)[2])
    bars = read_bars(cache, plan(cache), start_us=microseconds(start), end_us=microseconds(end))
    whole = expected(days(3))
    assert bars.equals(whole.filter((whole["close_time"] >= start) & (whole["close_time"] < end)))
    assert bars.height == 1 + 12 + 11
    bounds = {"start_us": microseconds(start), "end_us": microseconds(end)}
    assert count_bars(cache, plan(cache), **bounds) == bars.height


def test_only_requested_columns_are_read(cache):
    publish(cache, drafts(1))
    bars = read_bars(cache, plan(cache), columns=["ofi", "close", "close_time"])
    assert bars.equals(expected(days(1)).select("close_time", "close", "ofi"))


def test_no_bars_are_an_empty_frame_with_the_same_columns(cache):
    bars = read_bars(cache, ())
    assert bars.schema == expected(days(1)).schema
    assert bars.is_empty()
    assert count_bars(cache, ()) == 0
    assert newest_bars(cache, (), 5).schema == bars.schema


@pytest.mark.parametrize("count", [1, 11, 12, 13, 30, 36, 50])
def test_the_newest_bars_are_the_last_of_all(cache, count):
    publish(cache, drafts(3))
    whole = expected(days(3))
    assert newest_bars(cache, plan(cache), count).equals(whole.tail(count))
    end = noon(days(3)[1])
    before = whole.filter(whole["close_time"] < end)
    found = newest_bars(cache, plan(cache), count, end_us=microseconds(end))
    assert found.equals(before.tail(count))


def test_orphans_are_returned_on_request_and_never_counted(cache):
    group = drafts(3)
    group[1] = replace(group[1], bars=bars_on(days(2)[1], ending="reset"))
    units = publish(cache, group)
    assert [one.orphan_rows for one in units] == [0, 1, 0]
    assert read_bars(cache, plan(cache)).height == 35
    with_orphans = read_bars(cache, plan(cache), include_orphans=True)
    assert with_orphans["ended_by"].to_list().count("reset") == 1
    assert count_bars(cache, plan(cache)) == 35
    assert newest_bars(cache, plan(cache), 24)["is_closed"].all()
    assert newest_bars(cache, plan(cache), 24).height == 24


def test_a_bar_that_a_gap_ended_is_found_by_its_close_time_in_the_unit_of_a_later_day(cache):
    group = drafts(3)
    last = bars_on(FIRST, ending="gap").tail(1)
    group[0] = replace(group[0], bars=bars_on(FIRST).head(11))
    group[1] = replace(group[1], bars=bars_on(days(2)[1], count=0))
    group[2] = replace(group[2], bars=pl.concat([last, bars_on(days(3)[2])]))
    publish(cache, group)
    bounds = {"end_us": microseconds(noon(days(2)[1]))}
    found = read_bars(cache, plan(cache), include_orphans=True, **bounds)
    assert found["ended_by"].to_list() == ["threshold"] * 11 + ["gap"]
    assert found["close_time"].is_sorted()
    assert read_bars(cache, plan(cache), **bounds).height == 11
    assert count_bars(cache, plan(cache), **bounds) == 11


# --- damage --------------------------------------------------------------------------------------


def test_rows_that_were_inserted_twice_are_read_once(cache):
    publish(cache, drafts(2))
    bars = cache.table("bars")
    cache.command(f"SYSTEM STOP MERGES {bars}")
    cache.command(f"INSERT INTO {bars} SELECT * FROM {bars} WHERE bar_seq < 7")
    assert cache.scalar(f"SELECT count() FROM {bars}") == 38
    assert read_bars(cache, plan(cache)).equals(expected(days(2)))
    cache.command(f"SYSTEM START MERGES {bars}")


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {bars} WHERE bar_seq = 3",
        "ALTER TABLE {bars} UPDATE row_hash = row_hash + 1 WHERE bar_seq = 3",
    ],
)
def test_rows_that_differ_from_the_published_ones_are_an_error_with_the_day(cache, change):
    publish(cache, drafts(2))
    cache.command(change.format(bars=cache.table("bars")) + " SETTINGS mutations_sync = 2")
    with pytest.raises(CoverageError, match="damaged") as caught:
        read_bars(cache, chain_of(cache).units[1:])
    assert caught.value.days == (days(2)[1],)


def test_units_that_were_replaced_and_removed_are_refused(cache):
    publish(cache, drafts(2))
    old = chain_of(cache).units
    publish(cache, drafts(2, fencing=1, scale=3.0))
    gone = ", ".join(str(one.attempt) for one in old)
    cache.command(f"DELETE FROM {cache.table('bars')} WHERE attempt IN ({gone})")
    with pytest.raises(DamagedBarsError, match="0 rows instead of 12"):
        read_bars(cache, old)
    assert read_bars(cache, plan(cache)).equals(expected(days(2), scale=3.0))


def test_two_units_of_one_day_are_refused(cache):
    units = publish(cache, drafts(1))
    with pytest.raises(ValueError, match="same day"):
        read_bars(cache, units * 2)


def test_coverage_describes_the_ticks_of_each_unit(cache):
    group = drafts(3)
    ticks = replace(group[2].ticks, first_id=group[2].ticks.first_id + 7, source_absent=((1, 7),))
    group[2] = replace(group[2], ticks=ticks)
    units = publish(cache, group)
    rows = coverage_of(cache, units)
    assert rows["gap_before"].to_list() == [0, 0, 7]
    assert rows["rows"].to_list() == [12, 12, 12]
    assert rows["source_absent"].to_list() == ["[]", "[]", "[[1, 7]]"]
    assert coverage_of(cache, []).schema == rows.schema


# --- rebuilds ------------------------------------------------------------------------------------


def rebuild(cache, first, count, generation, *, scale=3.0):
    built_on = chain_of(cache).unit(first - timedelta(days=1))
    number = built_on.attempt if built_on else 0
    return publish(
        cache,
        drafts(count, first=first, built_on=number, generation=generation.number, scale=scale),
    )


def test_a_rebuild_becomes_visible_at_once_and_complete(cache):
    publish(cache, drafts(4))
    first = days(4)[1]
    generation = open_generation(cache, SERIES, first, fencing=0)
    assert generation.number == 1
    for step in range(3):
        before = chain_of(cache).units
        day = first + timedelta(days=step)
        known = read_chains(cache, [SPEC], as_if_published=[(SERIES, 1)])[SERIES]
        publish(
            cache,
            drafts(1, first=day, built_on=known.unit(day - timedelta(days=1)).attempt, generation=1,
                   scale=3.0),
        )  # fmt: skip
        assert chain_of(cache).units == before
        assert chain_of(cache).open_generations == (generation,)
        assert chain_of(cache).generation == 0
    publish_generation(cache, SERIES, generation, fencing=0)
    chain = chain_of(cache)
    assert [one.generation for one in chain.units] == [0, 1, 1, 1]
    assert chain.generation == 1
    bars = read_bars(cache, plan(cache))
    assert bars[:12].equals(expected(days(1)))
    assert bars[12:].equals(expected(days(4)[1:], scale=3.0))


def test_a_rebuild_is_extended_like_an_ordinary_series(cache):
    publish(cache, drafts(2))
    generation = open_generation(cache, SERIES, FIRST, fencing=0)
    rebuild(cache, FIRST, 2, generation)
    publish_generation(cache, SERIES, generation, fencing=0)
    last = chain_of(cache).last
    publish(cache, drafts(1, first=days(3)[2], built_on=last.attempt, generation=1))
    assert chain_of(cache).frontier == days(4)[3]


def test_a_discarded_generation_is_never_visible_and_its_number_never_used_again(cache):
    publish(cache, drafts(2))
    old = chain_of(cache).units
    generation = open_generation(cache, SERIES, FIRST, fencing=0)
    rebuild(cache, FIRST, 2, generation)
    discard_generation(cache, SERIES, generation, fencing=0)
    with pytest.raises(LeaseLostError, match="discarded"):
        publish_generation(cache, SERIES, generation, fencing=5)
    assert chain_of(cache).units == old
    assert open_generation(cache, SERIES, FIRST, fencing=0).number == 2
    assert [one.state for one in read_generations(cache)[SERIES.key]] == ["discarded", "open"]


class Interrupted(Cache):
    """A cache that runs a function after the first query of a plan."""

    def __init__(self, cache, happening):
        super().__init__(cache._client, cache.target)
        self.happening = happening

    def query(self, sql, **options):
        result = super().query(sql, **options)
        happening, self.happening = self.happening, lambda: None
        happening()
        return result


def test_a_plan_made_while_a_rebuild_is_published_sees_the_old_bars_complete(cache):
    publish(cache, drafts(3))
    old = chain_of(cache).units

    def rebuild_all():
        generation = open_generation(cache, SERIES, FIRST, fencing=0)
        rebuild(cache, FIRST, 3, generation)
        publish_generation(cache, SERIES, generation, fencing=0)

    seen = read_chains(Interrupted(cache, rebuild_all), [SPEC])[SERIES]
    assert seen.units == old
    assert [one.generation for one in chain_of(cache).units] == [1, 1, 1]


def test_a_generation_number_without_units_is_not_used_again(cache):
    publish(cache, drafts(1))
    numbers = [open_generation(cache, SERIES, FIRST, fencing=0).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    # An open generation whose row was lost still occupies its number.
    publish(cache, drafts(1, fencing=1))
    cache.command(f"INSERT INTO {cache.table('units')} SELECT * REPLACE (9 AS generation) "
                  f"FROM {cache.table('units')}")  # fmt: skip
    assert open_generation(cache, SERIES, FIRST, fencing=0).number == 10


def test_rebuilds_of_one_series_do_not_touch_another(cache):
    late = SPEC.series(FIRST + timedelta(days=1))
    publish(cache, [*drafts(3), *drafts(2, series=late)])
    generation = open_generation(cache, late, late.first_day, fencing=0)
    publish_generation(cache, late, generation, fencing=0)
    found = read_chains(cache, [SPEC])
    assert len(found[SERIES].units) == 3
    # Published empty by mistake: the series then has no visible unit.
    assert found[late].units == ()
