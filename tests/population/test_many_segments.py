"""Series with more segments than the leases and units of one query can hold."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from population.tape import ONE_DAY, SYMBOL, store, tape
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.connection import sql
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.status import stored_series
from rangebar_polars.maintenance.drop import SeriesFilter, remove
from rangebar_polars.populate.workers.in_process import InProcessRunner
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars

FIRST = date(2019, 1, 1)
THRESHOLDS = [250, 500, 750, 1000, 1250]


def expected(ticks, threshold):
    """Return the bars of each day by itself; the last day also ends with its segment."""
    made = ticks.rangebar.bars(threshold, features="microstructure", incomplete="keep", reset="day")
    return made.drop("bar_id").with_columns(pl.col("ended_by").fill_null("reset"))


def test_daily_segments_are_populated_read_listed_and_dropped(place, is_long, monkeypatch):
    """Ten years at five thresholds, or a few days with very small queries."""
    days, thresholds = (3_650, THRESHOLDS) if is_long else (8, THRESHOLDS[:2])
    if is_long:
        # The span ends before today.
        first = date(2014, 1, 1)
        monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
        symbol = "XXXUSDT"
    else:
        first, symbol = FIRST, SYMBOL
        monkeypatch.setattr(sql, "MOST_CHARACTERS", 200)
    last = first + timedelta(days=days - 1)
    ticks = tape(first, last, 6, step=0.004)
    store(place.folder, ticks, symbol)
    options = {"symbol": symbol, "ouroboros": "day"}
    report = place.populate(first, last, thresholds, **options)
    assert int(report) > 0
    assert int(place.populate(first, last, thresholds, **options)) == 0
    given = {"ouroboros": "day", **place.arguments}
    for threshold in thresholds:
        bars = expected(ticks, threshold)
        closed = bars.filter("is_closed")
        flagged = {**given, "include_orphaned_bars": True, "features": "microstructure"}
        stored = get_cached_bars(symbol, threshold, first, last, **flagged)
        assert_frame_equal(stored, bars.select(stored.columns))
        lazy = rb.scan_range_bars(symbol, first, last, threshold, fetch_if_missing=False, **flagged)
        assert_frame_equal(lazy.collect(), stored)
        few = (symbol, 3, threshold)
        newest = get_n_bars(*few, before=last + ONE_DAY, **given)
        assert newest["close"].to_list() == closed["close"].tail(3).to_list()
        chart = rb.get_n_range_bars(*few, end_date=last, fetch_if_missing=False, **given)
        assert chart["Close"].to_list() == newest["close"].to_list()
        assert count_bars(symbol, threshold, **given) == closed.height
        assert (
            coverage(symbol, threshold, first, last, **given)["state"].to_list() == ["given"] * days
        )
    with reading(place.dsn, cache_dir=place.folder) as cache:
        assert stored_series(cache).filter(units=1).height == days * len(thresholds)
    assert len(remove(SeriesFilter(symbol), **place.arguments).series) == days * len(thresholds)
    with reading(place.dsn, cache_dir=place.folder) as cache:
        assert stored_series(cache)["units"].sum() == 0
        assert cache.scalar(f"SELECT count() FROM {cache.table('bars')}") == 0


def test_the_segments_of_a_month_are_published_together(place, monkeypatch):
    """One publication a month, not one a day; a group ends by time only if the work is slow."""
    monkeypatch.setattr(InProcessRunner.__init__, "__kwdefaults__", {"group_s": 3_600.0})
    first, last = date(2019, 1, 29), date(2019, 2, 2)
    store(place.folder, tape(first, last, 6, step=0.004), SYMBOL)
    steps = []
    with on_failpoint(steps.append):
        report = place.populate(first, last, THRESHOLDS[:2], symbol=SYMBOL, ouroboros="day")
    assert report.published == 10
    assert steps.count(Step.UNITS_INSERTED) == 2
