"""Bars computed day by day equal those of one pass, wherever the computation resumes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.bar_series.days import (
    Track,
    compute_days,
    forming,
    new_builder,
    no_bars,
    orphan,
    restored,
)
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

FIRST, LAST = date(2024, 8, 29), date(2024, 9, 3)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
# 2024-09-01 is a Sunday, and the first of a month.
SPEC = BarSpec.of("BTCUSDT", 100, reset="month")


def tape():
    """Return the ticks of all days but one, some of them close to midnight on either side."""
    sample = rb.sample_ticks().head(6_000)
    ids = pl.int_range(pl.len(), dtype=pl.Int64)
    spread = (LAST - FIRST).days + 1
    step = spread * 86_400_000_000 // sample.height
    begin = int(datetime(2024, 8, 29, tzinfo=UTC).timestamp() * 1_000_000)
    ticks = sample.with_columns(
        (begin + ids * step).cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        agg_trade_id=1_000 + ids,
        first_trade_id=2_000 + ids,
        last_trade_id=2_000 + ids,
    )
    return ticks.filter(pl.col("timestamp").dt.date() != date(2024, 8, 31))


TICKS = tape()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    storage = TickStorage(tmp_path_factory.mktemp("ticks"))
    storage.write_ticks("BTCUSDT", TICKS)
    return snapshot(storage, "BTCUSDT", FIRST, LAST)


def whole(ticks=TICKS, threshold=100, **options):
    return ticks.rangebar.bars(
        threshold, features="microstructure", incomplete="keep", **options
    ).drop("bar_id")


def track(threshold=100, first_day=FIRST, state=None, anchor=None):
    spec = BarSpec.of("BTCUSDT", threshold, reset="month")
    builder = new_builder(spec) if state is None else restored(state)
    return Track(spec.series(anchor or FIRST), builder, first_day)


def test_every_day_is_yielded_in_order_also_without_ticks(held):
    found = list(compute_days(held, [track()], LAST))
    assert [one.day for one in found] == DAYS
    assert sum(one.rows for one in found) == TICKS.height
    absent = found[2]
    assert (absent.rows, absent.first_id, absent.last_id) == (0, None, None)
    assert_frame_equal(absent.bars[0], no_bars())


def test_ids_of_a_day_are_those_of_its_ticks(held):
    found = list(compute_days(held, [track()], LAST))
    for one in found:
        ids = TICKS.filter(pl.col("timestamp").dt.date() == one.day)["agg_trade_id"]
        assert (one.first_id, one.last_id) == (ids.min(), ids.max())


def test_bars_of_a_segment_are_those_of_the_whole(held):
    only = track()
    found = [one.bars[0] for one in compute_days(held, [only], date(2024, 8, 31))]
    bars = pl.concat([*found, orphan(only.builder)]).drop("bar_id")
    expected = whole(reset="1mo").filter(pl.col("open_time") < datetime(2024, 9, 1, tzinfo=UTC))
    assert expected["ended_by"].to_list().count("reset") == 1
    assert_frame_equal(bars, expected)


def test_the_forming_bar_is_neither_closed_nor_ended(held):
    only = track()
    found = [one.bars[0] for one in compute_days(held, [only], LAST)]
    bars = pl.concat([*found, forming(only.builder)]).drop("bar_id")
    assert_frame_equal(bars, whole())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.sets(st.sampled_from(DAYS[1:])),
    thresholds=st.lists(st.sampled_from([50, 100, 400]), min_size=1, max_size=3, unique=True),
)
def test_a_computation_resumed_at_any_days_gives_the_bars_of_the_whole(held, cuts, thresholds):
    found = {threshold: [] for threshold in thresholds}
    states = dict.fromkeys(thresholds)
    begins = [FIRST, *sorted(cuts)]
    for begin, after in zip(begins, [*begins[1:], LAST + timedelta(days=1)], strict=True):
        tracks = [track(t, begin, states[t]) for t in thresholds]
        for one in compute_days(held, tracks, after - timedelta(days=1)):
            for threshold, bars in zip(thresholds, one.bars, strict=True):
                found[threshold].append(bars)
        states = {t: one.builder.checkpoint() for t, one in zip(thresholds, tracks, strict=True)}
    for threshold in thresholds:
        bars = pl.concat(found[threshold]).drop("bar_id")
        assert_frame_equal(bars, whole(threshold=threshold).filter("is_closed"))


def test_a_track_ignores_ticks_up_to_its_own_start(held):
    noon = datetime(2024, 8, 30, 12, tzinfo=UTC)
    early, late = track(), track(anchor=noon, first_day=date(2024, 8, 30))
    found = list(compute_days(held, [early, late], LAST))
    assert found[0].bars[1] is None
    bars = pl.concat([one.bars[1] for one in found[1:]]).drop("bar_id")
    expected = whole(TICKS.filter(pl.col("timestamp") >= noon)).filter("is_closed")
    assert_frame_equal(bars, expected)


def test_an_end_cuts_the_last_day(held):
    noon = datetime(2024, 9, 2, 12, tzinfo=UTC)
    only = track()
    found = [one.bars[0] for one in compute_days(held, [only], noon.date(), end=noon)]
    bars = pl.concat([*found, forming(only.builder)]).drop("bar_id")
    assert_frame_equal(bars, whole(TICKS.filter(pl.col("timestamp") < noon)))


def test_states_after_a_day_do_not_depend_on_where_the_computation_resumed(held):
    at_once = track()
    states = [at_once.builder.checkpoint() for _ in compute_days(held, [at_once], LAST)]
    state = None
    for day, expected in zip(DAYS, states, strict=True):
        again = track(first_day=day, state=state)
        list(compute_days(held, [again], day))
        state = again.builder.checkpoint()
        assert state == expected
