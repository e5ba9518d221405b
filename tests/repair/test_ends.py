"""The last stored day was cut: only its bars know which ids there were."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from exchange import Exchange
from live.market import SYMBOL, point_at
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import LAST, ONE, files, ticks, units
from repair.test_damages import ID, put_without
from repetitions import repeated


def cut(folder, tape, count):
    """Leave out the last trades of the last day, as an archive that ends early."""
    lost = tape.day(LAST)[ID].tail(count)
    put_without(folder, LAST, pl.col(ID).is_in(lost.implode()), tape)
    return lost[0], lost[-1]


def cut_by_user(folder, tape, count):
    day = tape.day(LAST)
    storage = TickStorage(folder)
    storage.delete_ticks(SYMBOL, LAST, LAST)
    storage.write_ticks(SYMBOL, day.head(day.height - count))
    return day[ID][-count], day[ID][-1]


def assert_nothing_left(folder):
    before = files(folder), units(folder)
    report = kintsugi_pass(cache_dir=folder)
    assert (report.status, len(report)) == ("clean", 0), str(report)
    assert (files(folder), units(folder)) == before


@pytest.mark.parametrize("how", [cut, cut_by_user])
@pytest.mark.parametrize("count", repeated([60], [1, 60, 600]))
def test_its_ids_are_requested(how, count, market, clean, tape):
    expected = units(clean), ticks(clean)
    ids = how(clean, tape, count)
    report = kintsugi_pass(cache_dir=clean)
    (gap,) = [one for one in report if one.shard.kind == "tick_gap"]
    assert (gap.shard.first_id, gap.shard.last_id, gap.shard.days) == (*ids, (LAST,))
    assert (gap.action, gap.ariadne_used) == ("repaired", True)
    assert report.status == "healed", str(report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    assert_nothing_left(clean)


def test_ids_that_the_exchange_does_not_have_any_more(clean, tape, monkeypatch):
    first, last = cut(clean, tape, 60)
    with Exchange(tape.with_absent(first, last), now=datetime.now(UTC)) as other:
        for day in (LAST + ONE, LAST + 2 * ONE):
            other.put(other.path(day), None)
        point_at(other, clean, monkeypatch)
        report = kintsugi_pass(cache_dir=clean)
        (gap,) = [one for one in report if one.shard.kind == "tick_gap"]
        assert (gap.action, gap.healed) == ("absent", True)
        assert report.status == "healed", str(report)
        assert ticks(clean)[ID].to_list()[-1] == first - 1
        assert_nothing_left(clean)
