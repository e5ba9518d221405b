"""A store and a cache that are damaged in many ways are repaired by one pass, which leaves nothing."""

from __future__ import annotations

import pytest

from live.market import SYMBOL
from live.test_finalize import stream
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, LAST, files, populate, ticks, units

MIDDLE = DAYS[2]
ID = "agg_trade_id"


def repair(folder, **options):
    return kintsugi_pass(cache_dir=folder, **{"max_stale_hours": 1e4} | options)


def folder_of(folder):
    return TickStorage(folder).symbol_dir(SYMBOL, "binance", "spot")


def day_file(folder, day=MIDDLE):
    where = folder_of(folder)
    return where.day_file(day, read_manifest(where, month_of(day)).days[day].file)


def sql(folder, statement):
    with open_cache(cache_dir=folder) as cache:
        for name in ("bars", "units"):
            statement = statement.replace(f"{{{name}}}", cache.table(name))
        cache.command(statement + " SETTINGS mutations_sync = 2")


def put_without(folder, day, lost, tape):
    left = tape.day(day).filter(~lost)
    TickStorage(folder).put_days(SYMBOL, [DayTicks(day, left, Origin("archive"))])


def day_removed(folder, tape, exchange):
    TickStorage(folder).delete_ticks(SYMBOL, MIDDLE, MIDDLE)


def days_removed_at_the_edge(folder, tape, exchange):
    TickStorage(folder).delete_ticks(SYMBOL, DAYS[3], DAYS[4])


def first_day_removed(folder, tape, exchange):
    TickStorage(folder).delete_ticks(SYMBOL, DAYS[0], DAYS[0])


def hour_removed(folder, tape, exchange):
    day = tape.day(MIDDLE)
    put_without(folder, MIDDLE, day["timestamp"].dt.hour() == 7, tape)


def id_removed(folder, tape, exchange):
    day = tape.day(MIDDLE)
    put_without(folder, MIDDLE, day[ID] == day[ID][100], tape)


def tail_cut(folder, tape, exchange):
    day = tape.day(MIDDLE)
    put_without(folder, MIDDLE, day["timestamp"].dt.hour() >= 22, tape)


def bits_flipped(folder, tape, exchange):
    path = day_file(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def file_cut(folder, tape, exchange):
    path = day_file(folder)
    path.write_bytes(path.read_bytes()[:-100])


def file_removed(folder, tape, exchange):
    day_file(folder).unlink()


def bar_changed(folder, tape, exchange):
    sql(
        folder,
        "ALTER TABLE {bars} UPDATE volume = volume + 1 "
        f"WHERE unit_day = '{MIDDLE}' AND threshold = 250",
    )


def bars_deleted(folder, tape, exchange):
    sql(folder, f"ALTER TABLE {{bars}} DELETE WHERE unit_day = '{DAYS[1]}'")


def state_unreadable(folder, tape, exchange):
    sql(
        folder,
        f"ALTER TABLE {{units}} UPDATE processor_state = 'other' WHERE unit_day = '{LAST}'",
    )


def rebuild_cut_off(folder, tape, exchange):
    def stop(step):
        if step is Step.UNITS_INSERTED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), on_failpoint(stop):
        populate(folder, force_refresh=True)


def head_behind(folder, tape, exchange):
    sql(folder, f"ALTER TABLE {{units}} DELETE WHERE unit_day >= '{DAYS[3]}'")


def journals_left(folder, tape, exchange):
    TickStorage(folder).delete_ticks(SYMBOL, MIDDLE, MIDDLE)
    stream(folder_of(folder), tape, MIDDLE)


DAMAGES = {
    day_removed: {"tick_missing"},
    days_removed_at_the_edge: {"tick_missing"},
    first_day_removed: {"tick_missing"},
    hour_removed: {"tick_gap", "stale_unit"},
    id_removed: {"tick_gap", "stale_unit"},
    tail_cut: {"tick_gap", "stale_unit"},
    bits_flipped: {"tick_quarantined"},
    file_cut: {"tick_quarantined"},
    file_removed: {"tick_quarantined"},
    bar_changed: {"unit_damaged"},
    bars_deleted: {"unit_damaged"},
    state_unreadable: {"state_unreadable"},
    rebuild_cut_off: {"open_generation"},
    head_behind: {"head_behind"},
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_one_pass_repairs_it_and_the_next_one_changes_nothing(damage, market, clean, tape):
    expected = units(clean), ticks(clean)
    damage(clean, tape, market)
    before = files(clean)
    planned = repair(clean, dry_run=True)
    assert {one.shard.kind for one in planned} >= DAMAGES[damage], str(planned)
    assert {one.action for one in planned} == {"planned"}
    assert files(clean) == before
    report = repair(clean)
    assert report.status == "healed", str(report)
    assert all(one.verified and one.healed for one in report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    after = files(clean)
    again = repair(clean)
    assert (again.status, len(again)) == ("clean", 0), str(again)
    assert files(clean) == after
    assert units(clean) == expected[0]


def test_a_clean_store_is_clean(market, clean):
    report = repair(clean)
    assert (report.status, str(report)) == ("clean", "status: clean")


def test_all_at_once(market, clean, tape):
    expected = units(clean), ticks(clean)
    for damage in (hour_removed, state_unreadable, bars_deleted):
        damage(clean, tape, market)
    TickStorage(clean).delete_ticks(SYMBOL, DAYS[3], DAYS[3])
    path = day_file(clean, DAYS[4])
    path.write_bytes(path.read_bytes()[:-1])
    report = repair(clean)
    assert report.status == "healed", str(report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    assert repair(clean).status == "clean"


def test_journals_that_no_writer_will_compact(market, clean, tape):
    expected = units(clean)
    journals_left(clean, tape, market)
    assert {one.shard.kind for one in repair(clean, dry_run=True)} >= {"orphan_journal"}
    report = repair(clean)
    assert report.status == "healed", str(report)
    assert (
        TickStorage(clean).coverage(SYMBOL, MIDDLE, MIDDLE)["rows"].item()
        == tape.day(MIDDLE).height
    )
    assert units(clean) == expected
    assert repair(clean).status == "clean"
