"""Frames of live bars: their columns are those of a scan, and their rows are in order."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

import rangebar_polars as rb
from live.bar_world import BarWorld, frames_of
from rangebar_polars.bar_series.days import new_builder
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.live.consumers.positions import Position
from rangebar_polars.live.frames import BarFrames, live_columns
from rangebar_polars.live.interfaces import SeriesBars
from rangebar_polars.storage.parquet import TickStorage

DAY = "2024-08-08"
LAST = "last_agg_trade_id"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache")
    TickStorage(path).write_ticks("ETHUSDT", rb.sample_ticks())
    return path


def pieces(thresholds):
    found = []
    for index, threshold in enumerate(thresholds):
        spec = BarSpec.of("ETHUSDT", threshold)
        bars = new_builder(spec).push(rb.sample_ticks())
        found.append(SeriesBars(index, spec.series(date(2024, 8, 8)), bars))
    return found


@pytest.mark.parametrize("features", ["core", "microstructure", ["ofi", "price_impact"]])
@pytest.mark.parametrize("orphans", [False, True])
def test_the_columns_and_values_are_those_of_a_scan(folder, features, orphans):
    frames = BarFrames([500, 250], features, include_orphans=orphans)
    frame = frames.frame("ETHUSDT", frames.rows(pieces([500, 250])), replay_until=10**15)
    assert frame.schema == frames.schema
    scan = rb.scan_range_bars(
        ["ETHUSDT"],
        DAY,
        DAY,
        [500, 250],
        features=features,
        anchor=DAY,
        include_orphaned_bars=orphans,
        use_cache=False,
        cache_dir=folder,
    ).collect()
    own = frame.drop("anchor", "is_replay", "is_revised")
    assert own.columns == ["symbol", "threshold", *live_columns(features, endings=orphans)]
    for threshold in (500, 250):
        expected = scan.filter(threshold=threshold).select(own.columns)
        assert own.filter(threshold=threshold).equals(expected.cast(dict(own.schema)))
    assert frame["anchor"].unique().to_list() == [pieces([250])[0].series.anchor]
    assert frame["is_replay"].all()
    assert not frame["is_revised"].any()


def test_rows_are_in_the_order_of_the_ending_trade_then_of_the_thresholds():
    for thresholds in ([500, 250, 1_000], [250, 500, 1_000]):
        frames = BarFrames(thresholds)
        # As pieces of pushes of any size come.
        parts = [
            piece._replace(bars=piece.bars[start : start + 10])
            for piece in pieces(thresholds)
            for start in range(0, piece.bars.height, 10)
        ]
        rows = frames.frame("ETHUSDT", frames.rows(parts))
        order = [
            (last, thresholds.index(threshold))
            for last, threshold in rows.select(LAST, "threshold").iter_rows()
        ]
        assert order == sorted(order)
        lasts = rows[LAST].to_list()
        assert len(set(lasts)) < len(lasts)  # some trades end bars of several thresholds


def test_an_orphan_ends_one_trade_after_its_last_one():
    world = BarWorld(2, (40, 1))
    frames = frames_of(world)
    world.applied_id = 20
    rows = frames.rows(world.apply(25))
    at_39 = rows.filter(pl.col(LAST) == 39).select("threshold", "is_closed").rows()
    assert at_39 == [(500, True), (250, False)]
    without = frames_of(world, include_orphans=False)
    world.applied_id = 20
    rows = without.rows(world.apply(25))
    assert rows["is_closed"].all()
    assert "is_closed" not in without.frame("BTCUSDT", rows).columns


def test_places_in_rows():
    world = BarWorld(3, (1, 1))
    frames = frames_of(world)
    world.applied_id = 35
    rows = frames.rows(world.apply(20))
    series = world.series(250, 0)
    after = frames.after(rows, {250: Position(series, 37), 500: Position(world.series(500, 1), 50)})
    assert after.filter(threshold=250)[LAST].to_list() == list(range(38, 56))
    assert after.filter(threshold=500)[LAST].to_list() == list(range(51, 56))


def test_bars_outside_of_the_asked_time_are_left_out():
    world = BarWorld(3, (1, 1))
    everything = frames_of(world).rows(world.apply(60))
    times = everything["close_time"]
    frames = frames_of(world, since=times[20], until=times[60])
    world.applied_id = 0
    rows = frames.rows(world.apply(60))
    expected = everything.filter(
        pl.col("close_time").is_between(times[20], times[60], closed="left")
    )
    assert rows.equals(expected)


@pytest.mark.parametrize("features", ["lookback", ["lookback_ofi"], "intrabar", "extended"])
def test_groups_that_live_bars_do_not_have(features):
    with pytest.raises(ValueError, match=r"live bars have no columns of(.|\n)*hint"):
        live_columns(features)


def test_unknown_columns():
    with pytest.raises(ValueError, match="offi"):
        live_columns(["offi"])


def test_the_mark_of_a_revision_is_at_the_first_bar_of_the_threshold():
    world = BarWorld(3, (2, 3))
    frames = frames_of(world)
    frame = frames.frame("BTCUSDT", frames.rows(world.apply(30)), revised=[500])
    marked = frame.filter("is_revised")
    assert marked.height == 1
    assert marked.item(0, LAST) == frame.filter(threshold=500)[LAST][0]
    assert marked.item(0, "threshold") == 500
