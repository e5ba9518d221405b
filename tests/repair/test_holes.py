"""Holes in stored ticks, short and long, wherever they lie in a segment (L34)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from live.market import SYMBOL
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.kintsugi import discover_shards, kintsugi_pass
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, FIRST, LAST, files, populate, ticks, units
from repair.test_damages import ID

HOUR = timedelta(hours=1)


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def dig(folder, tape, *holes):
    """Store days again without the trades of some hours; return the lost ids."""
    time = pl.col("timestamp")
    lost = pl.any_horizontal(time.is_between(start, end, closed="left") for start, end in holes)
    days = {
        start.date() + timedelta(n) for start, end in holes for n in range((end - start).days + 2)
    }
    storage = TickStorage(folder)
    found = []
    for day in sorted(days & set(DAYS)):
        whole = tape.day(day)
        left = whole.filter(~lost)
        if left.is_empty():
            storage.delete_ticks(SYMBOL, day, day)
        if left.height < whole.height:
            found += whole.filter(lost)[ID].to_list()
            if left.height:
                storage.put_days(SYMBOL, [DayTicks(day, left, Origin("archive"))])
    assert found
    return found


def assert_healed(folder, expected, **options):
    report = kintsugi_pass(cache_dir=folder, **options)
    assert report.status == "healed", str(report)
    assert all(one.healed and one.verified for one in report)
    assert (units(folder), ticks(folder).equals(expected[1])) == (expected[0], True)
    assert_nothing_left(folder)
    return report


def assert_nothing_left(folder):
    before = files(folder), units(folder)
    again = kintsugi_pass(cache_dir=folder)
    assert (again.status, len(again)) == ("clean", 0), str(again)
    assert (files(folder), units(folder)) == before


NOON = midnight(DAYS[1]) + 12 * HOUR
SHORT = {
    "an hour": [(NOON, NOON + HOUR)],
    "on the first day, from its first trade": [(midnight(FIRST), midnight(FIRST) + HOUR)],
    "on the first day": [(midnight(FIRST) + HOUR, midnight(FIRST) + 2 * HOUR)],
    "over a midnight": [(midnight(DAYS[2]) - HOUR, midnight(DAYS[2]) + HOUR)],
    "in the forming bar": [(midnight(LAST) + 23 * HOUR, midnight(LAST) + 23.5 * HOUR)],
    "two that overlap": [(NOON, NOON + 2 * HOUR), (NOON + HOUR, NOON + 3 * HOUR)],
    "two of one day": [(NOON, NOON + HOUR), (NOON + 3 * HOUR, NOON + 4 * HOUR)],
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_hole_is_healed_by_one_pass(name, market, clean, tape):
    expected = units(clean), ticks(clean)
    lost = dig(clean, tape, *SHORT[name])
    shards = [one for one in discover_shards(cache_dir=clean) if one.kind.startswith("tick_")]
    assert {one.priority for one in shards} == {"P1"}
    named = {number for one in shards for number in range(one.first_id, one.last_id + 1)}
    assert named == set(lost)
    for one in shards:
        before = [number for number in expected[1][ID] if number < one.first_id]
        assert one.last_agg_trade_id_before == (before[-1] if before else None)
        assert one.gap_hours < 48
    assert_healed(clean, expected, max_p2_jobs=0)


@pytest.mark.parametrize("reset", ["day", "week"])
def test_a_hole_at_the_edge_of_a_segment(reset, market, clean, tape):
    populate(clean, ouroboros=reset)
    expected = units(clean), ticks(clean)
    dig(clean, tape, (midnight(DAYS[2]) - HOUR / 2, midnight(DAYS[2]) + HOUR / 2))
    report = assert_healed(clean, expected)
    assert any(one.shard.ouroboros_boundaries for one in report) or reset == "week"


@pytest.mark.parametrize(("hours", "priority"), [(47, "P1"), (49, "P2")])
def test_the_length_of_a_hole_decides_its_priority(hours, priority, market, clean, tape):
    expected = units(clean), ticks(clean)
    start = midnight(DAYS[1]) + HOUR / 2
    dig(clean, tape, (start, start + hours * HOUR - HOUR / 4))
    shards = [one for one in discover_shards(cache_dir=clean) if one.kind.startswith("tick_")]
    assert {one.priority for one in shards} == {priority}, shards
    assert all(abs(one.gap_hours - hours) < 1 for one in shards)
    assert discover_shards(cache_dir=clean, min_gap_hours=hours + 1) == [
        one for one in discover_shards(cache_dir=clean) if not one.kind.startswith("tick_")
    ]
    limited = kintsugi_pass(cache_dir=clean, max_p2_jobs=0)
    if priority == "P2":
        skipped = [one for one in limited if one.action == "skipped"]
        of_ticks = [one for one in skipped if one.shard.kind.startswith("tick_")]
        assert {one.shard.priority for one in of_ticks} == {"P2"}
        # Their bars wait with them.
        assert {one.shard.kind for one in skipped} >= {"tick_missing", "stale_unit"}
        assert limited.status == "open"
        assert_healed(clean, expected, max_p2_jobs=len(shards))
    else:
        assert limited.status == "healed", str(limited)
        assert units(clean) == expected[0]
        assert_nothing_left(clean)
