"""Populations with optional feature groups store what the frame door computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.groups import ALL, TICKS, assert_same, frame, populate, version_1, words
from pipeline.tapes import SYMBOL, chains, day, of_days, store
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import replays_of
from rangebar_polars.clickhouse.schema.migrate import has_group_columns
from rangebar_polars.exceptions import PopulationError
from rangebar_polars.populate.precompute import precompute_range_bars
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

WINDOWS = [None, 7, "3bars", "20h"]


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open."""
    with open_cache(cache_dir=folder, write=True):
        yield folder


@pytest.mark.parametrize("lookback", WINDOWS)
def test_days_populated_one_by_one_are_the_frame_door(place, lookback):
    """Over a reset; a long run has more days before it."""
    first = repeated(6, 1)
    ticks = of_days(TICKS, first, 14)
    store(place, ticks)
    for last in range(first, 13):
        populate(place, first, last, features=ALL, lookback=lookback)
    assert_same(place, frame(ticks, last=12, lookback=lookback))


def test_several_thresholds_of_one_job_resume_each_with_its_own_ticks(place):
    store(place, TICKS)
    options = {"threshold_decimal_bps": [250, 1000], "ouroboros": "none"}
    for last in (3, 4, 12, 14):
        populate(place, 1, last, features="all", **options)
    for threshold in (250, 1000):
        assert_same(place, frame(TICKS, threshold, reset=None), threshold, reset="none")


def test_what_a_package_without_the_groups_reads_is_the_same(folder):
    results = []
    for name, features in (("with", "all"), ("without", "core")):
        store(folder / name, TICKS)
        for last in (4, 12):
            populate(folder / name, 1, last, features=features)
        results.append(version_1(folder / name))
    for with_groups, without in zip(*results, strict=True):
        assert with_groups.equals(without)


def test_a_population_without_groups_adds_no_column(place):
    store(place, TICKS)
    populate(place, 1, 2)
    with open_cache(cache_dir=place) as cache:
        assert not has_group_columns(cache)
        populate(place, 1, 3, features="intra_ofi")
        assert has_group_columns(cache)
        names = "SELECT name FROM system.columns WHERE table = 'bars' AND name LIKE '%intra%'"
        assert cache.query(names).height == 22
        other = "SELECT name FROM system.columns WHERE table = 'bars' AND name = 'twap'"
        assert cache.query(other).height == 0
    # The name of a column stands for its group.
    assert words(place) == ["core intrabar@1 microstructure"] * 3


def test_a_new_series_has_the_groups_and_the_window_of_the_newest(place):
    store(place, TICKS)
    populate(place, 1, 4, features="lookback", lookback="3bars")
    populate(place, 8, 11)
    assert set(words(place)) == {"core lookback@1(bars=3) microstructure"}
    populate(place, 1, 14, features="extended")
    found = {anchor: chain.feature_groups for (_, anchor), chain in chains(place).items()}
    both = {"core", "microstructure", "lookback@1(bars=3)", "extended@1"}
    # The series that begins on the eighth day is not read any more.
    assert found == {day(1): both, day(8): both - {"extended@1"}, day(10): both}
    assert words(place, 500) == []


def test_another_window_is_refused_and_a_forced_rebuild_takes_it(place):
    store(place, TICKS)
    populate(place, 1, 11, features="lookback")
    before = words(place)
    with pytest.raises(ValueError, match=r"`records=7`.*`records=200`(.|\n)*force_refresh=True"):
        populate(place, 1, 11, features="lookback", lookback=7)
    assert words(place) == before
    report = populate(place, 10, 11, features="lookback", lookback=7, force_refresh=True)
    assert report.upgraded == [day(10), day(11)]
    # Only the segment that was requested.
    assert words(place)[:9] == before[:9]
    assert set(words(place)[9:]) == {"core lookback@1(records=7) microstructure"}
    populate(place, 1, 9, features="lookback", lookback=7, force_refresh=True)
    assert_same(place, frame(TICKS, last=11, features="lookback", lookback=7))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lookback": 7}, ValueError),
        ({"features": "lookback", "lookback": "2d"}, ValueError),
        ({"features": "lookback", "lookback": True}, TypeError),
        ({"features": "no_group"}, ValueError),
    ],
)
def test_wrong_groups_and_windows_are_refused_before_any_work(folder, options, error):
    with pytest.raises(error):
        populate(folder, 1, 2, **options)
    assert not (folder / "bars").exists()


def test_workers_stage_bars_with_groups(folder):
    store(folder, TICKS)
    with ThreadPoolExecutor(2) as executor:
        for last in (5, 12):
            options = {"executor": executor, "threshold_decimal_bps": [250, 500]}
            populate(folder, 1, last, features="all", lookback="3bars", **options)
    for threshold in (250, 500):
        assert_same(folder, frame(TICKS, threshold, last=12, lookback="3bars"), threshold)


def test_series_with_and_without_groups_share_a_job(place):
    store(place, TICKS)
    populate(place, 1, 3, features="extended")
    populate(place, 1, 3, threshold_decimal_bps=500)
    with ThreadPoolExecutor(1) as executor:
        populate(place, 1, 6, threshold_decimal_bps=[250, 500], executor=executor)
    populate(place, 1, 9, threshold_decimal_bps=[250, 500])
    assert set(words(place)) == {"core extended@1 microstructure"}
    assert set(words(place, 500)) == {"core microstructure"}
    assert_same(place, frame(TICKS, last=9, features=["microstructure", "extended"]))


def test_a_forced_refresh_keeps_the_groups(place):
    store(place, TICKS)
    populate(place, 1, 8, features=["lookback", "extended"])
    before = words(place)
    for first in (5, 1):
        populate(place, first, 8, force_refresh=True)
        assert words(place) == before
    assert_same(place, frame(TICKS, last=8, features=["lookback", "extended"]))


def test_missing_ticks_of_the_forming_bar_stop_a_population(place):
    storage = store(place, TICKS)
    populate(place, 1, 4, features="extended", threshold_decimal_bps=1000)
    storage.delete_ticks(SYMBOL, day(3), day(4))
    with pytest.raises(PopulationError, match="feature groups need ticks before this day"):
        populate(place, 1, 6, threshold_decimal_bps=1000)
    assert len(words(place, 1000)) == 4
    store(place, of_days(TICKS, 3, 4))
    populate(place, 1, 6, threshold_decimal_bps=1000)
    expected = frame(TICKS, 1000, last=6, features="extended")
    assert_same(place, expected, 1000)


def test_changed_ticks_before_a_resume_are_stale(place):
    store(place, TICKS)
    populate(place, 1, 4, features="extended", threshold_decimal_bps=1000)
    storage = TickStorage(place)
    storage.delete_ticks(SYMBOL, day(4), day(4))
    storage.write_ticks(SYMBOL, of_days(TICKS, 4, 4).head(100))
    with pytest.raises(PopulationError, match="have changed since") as caught:
        populate(place, 1, 6, threshold_decimal_bps=1000)
    assert caught.value.report.stale == [day(4)]
    assert len(words(place, 1000)) == 4


def test_the_replay_begins_where_a_bar_opened(place):
    store(place, TICKS)
    populate(place, 1, 8, features=["intrabar"])
    (chain,) = chains(place).values()
    with open_cache(cache_dir=place) as cache:
        replays = replays_of(cache, chain.units)
    positions = TICKS.rangebar.bars(250, incomplete="keep", reset="year")["agg_record_count"]
    opened = {0, *positions.cum_sum()}
    for unit, count in replays.items():
        assert unit.day.toordinal() * 120 - (day(1).toordinal() - 1) * 120 - count in opened


def test_precompute_stores_groups(folder):
    store(folder, TICKS)
    options = {"cache_dir": folder, "verbose": False, "validate_on_complete": "skip"}
    precompute_range_bars(SYMBOL, day(1), day(3), features="lookback", lookback=9, **options)
    assert set(words(folder)) == {"core lookback@1(records=9) microstructure"}
