"""Order of the checks, and days with missing ids."""

from __future__ import annotations

import subprocess
import sys
import time

import polars as pl
import pytest

import rangebar_polars as rb
from pipeline.tapes import SYMBOL, chains, day, of_days, store, tape
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import CoverageError, LeaseError, PopulationError, ThresholdError
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import StartDateClampedWarning

TICKS = tape()


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open."""
    with open_cache(cache_dir=folder, write=True):
        yield folder


def populate(folder, first, last, **options):
    return rb.populate_cache_resumable(
        SYMBOL, day(first), day(last), **{"cache_dir": folder, "verbose": False, **options}
    )


@pytest.mark.parametrize("door", [rb.populate_cache_resumable, rb.precompute_range_bars])
def test_the_start_is_clamped_before_the_threshold_is_checked(folder, door):
    with (
        pytest.warns(StartDateClampedWarning, match="2018-01-16"),
        pytest.raises(ThresholdError),
    ):
        door(SYMBOL, "2017-12-01", "2018-02-01", threshold_decimal_bps=1, cache_dir=folder)


def test_a_day_before_the_start_whose_ticks_changed_is_refreshed_with_the_others(place):
    store(place, TICKS)
    populate(place, 1, 8)
    storage = TickStorage(place)
    storage.delete_ticks(SYMBOL, day(2), day(2))
    storage.write_ticks(SYMBOL, of_days(TICKS, 2, 2).with_columns(pl.col("price") * 1.02))
    report = populate(place, 5, 8, force_refresh=True, refresh_stale=True)
    assert report.is_complete
    (chain,) = chains(place).values()
    assert [unit.generation for unit in chain.units] == [0] + [1] * 7


def without(ticks, first_day, rows):
    """Return ticks without the first rows of a day."""
    ids = of_days(ticks, first_day, first_day)["agg_trade_id"].head(rows)
    return ticks.filter(~pl.col("agg_trade_id").is_in(ids.implode()))


@pytest.mark.parametrize("ends", [(8,), (5,), (5, 8), (8, 5)])
def test_ids_missing_between_two_days_stop_at_the_later_one_whatever_the_end(place, ends):
    store(place, without(TICKS, 6, 20))
    for end in ends:
        if end < 6:
            assert populate(place, 1, end).is_complete
            continue
        with pytest.raises(PopulationError, match="ids 1600 to 1619 are missing") as caught:
            populate(place, 1, end)
        assert caught.value.days == (day(6),)
    (chain,) = chains(place).values()
    assert chain.frontier == day(6)


def test_a_read_treats_such_a_day_the_same_way(place):
    store(place, without(TICKS, 6, 20))
    populate(place, 1, 5)
    where = {"cache_dir": place, "fetch_if_missing": False}
    kept = rb.get_range_bars(SYMBOL, day(1), day(5), **where)
    computed = rb.get_range_bars(SYMBOL, day(1), day(5), use_cache=False, **where)
    assert len(kept) > 0
    assert kept.equals(computed)
    for use_cache in (True, False):
        with pytest.raises(CoverageError, match="ids 1600 to 1619 are missing") as caught:
            rb.get_range_bars(SYMBOL, day(1), day(6), use_cache=use_cache, **where)
        assert caught.value.days == (day(6),)


def test_ids_missing_between_two_years_stop_the_later_one(place):
    # The 9th day is the last of its year.
    store(place, without(TICKS, 10, 20))
    with pytest.raises(PopulationError) as caught:
        populate(place, 1, 14)
    assert caught.value.days == (day(10),)
    (chain,) = chains(place).values()
    assert chain.frontier == day(10)
    assert chain.last is not None
    assert chain.last.orphan_rows == 1


def test_ids_that_the_source_does_not_have_are_passed_and_reported(place):
    lacking = without(TICKS, 6, 20)
    store(place, of_days(lacking, 1, 5))
    of_day = of_days(lacking, 6, 6)
    origin = Origin("archive")
    TickStorage(place).put_days(
        SYMBOL, [DayTicks(day(6), of_day, origin, source_absent=((1600, 1619),))]
    )
    report = populate(place, 1, 6, threshold_decimal_bps=[250, 500])
    assert report.is_complete
    assert [one.absent_ids for one in report.series] == [20, 20]
    assert report.frame()["absent_ids"].to_list() == [20, 20]
    assert "20 ids do not exist at the source" in str(report)


HOLDS = """
import sys
import rangebar_polars as rb
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.bar_series.identity import BarSpec

folder, symbol = sys.argv[1:]
key = BarSpec.of(symbol, 250).series(__import__("datetime").date(2024, 12, 23)).lease_key
with hold_leases([key], cache_dir=folder), rb.open_cache(cache_dir=folder):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_run_is_refused_at_once_though_the_first_has_the_folder_open(folder, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "600")
    store(folder, TICKS)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), SYMBOL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "held\n"
        started = time.monotonic()
        with pytest.raises(LeaseError, match=f"process `{child.pid}` is already writing"):
            populate(folder, 1, 8)
        # A wait for the folder would take ten minutes.
        assert time.monotonic() - started < 300
    finally:
        child.communicate("")
    assert populate(folder, 1, 8).is_complete
