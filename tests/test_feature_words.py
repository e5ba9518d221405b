"""Words of stored feature groups, and the ticks that a builder needs to resume with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rangebar_polars._utils.arguments.durations import parse_lookback
from rangebar_polars.bar_series.columns import OPTIONAL_GROUPS
from rangebar_polars.bar_series.days import new_builder, restored
from rangebar_polars.bar_series.featured import FeaturedBuilder, ReplayError
from rangebar_polars.bar_series.features import (
    DEFAULT_WINDOW,
    FeatureSet,
    named_features,
    stored_features,
)
from rangebar_polars.bar_series.identity import BarSpec

SPEC = BarSpec.of("BTCUSDT", 250, reset="none")
windows = st.one_of(
    st.integers(1, 10_000),
    st.integers(1, 100).map("{}bars".format),
    st.integers(1, 24 * 3600 * 10**9).map("{}ns".format),
).map(parse_lookback)
sets = st.builds(FeatureSet.of, st.sets(st.sampled_from(OPTIONAL_GROUPS)), windows)


@given(
    sets,
    st.sets(st.sampled_from(["core", "other@1", "lookback", "extended@2", "intrabar@x", "@1"])),
)
def test_words_are_read_back_whatever_else_is_there(features, others):
    words = frozenset({*features.words, *others})
    assert stored_features(words) == features
    named = named_features(words)
    assert set(named.groups) == {
        *features.groups,
        *({"extended"} if "extended@2" in others else ()),
    }
    assert named.window == features.window


@given(sets, sets)
def test_joined_groups_have_one_window(one, other):
    joined = one.joined(other)
    assert set(joined.groups) == {*one.groups, *other.groups}
    assert joined.has_window == (joined.window is not None)
    if joined.has_window:
        assert joined.window in (one.window, other.window, DEFAULT_WINDOW)
    assert one.joined(FeatureSet()) == one


def test_unreadable_windows_are_no_group():
    for text in ("lookback@1", "lookback@1(soon)", "lookback@1(records=0)", "lookback@1()"):
        assert not named_features(frozenset({text}))


@st.composite
def tapes(draw):
    """A random walk with runs of equal times, cut at random places."""
    count = draw(st.integers(1, 200))
    steps = draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 50, 4_000]), min_size=count, max_size=count))
    row = pl.int_range(count, dtype=pl.Int64)
    ticks = pl.DataFrame({"step": steps, "gap": gaps}).select(
        timestamp=pl.lit(datetime(2024, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
        + pl.duration(milliseconds=pl.col("gap").cum_sum()),
        price=100.0 + pl.col("step").cum_sum() * 0.06,
        quantity=1.0 + (row % 5),
        agg_trade_id=row,
        first_trade_id=row,
        last_trade_id=row,
        is_buyer_maker=pl.col("step") < 0,
    )
    cuts = sorted(draw(st.sets(st.integers(0, count), max_size=4)))
    return ticks, [0, *cuts, count]


small = st.one_of(
    st.integers(1, 150),
    st.integers(1, 5).map("{}bars".format),
    st.integers(1, 90).map("{}s".format),
).map(parse_lookback)


@settings(deadline=None, max_examples=30)
@given(tapes(), small, st.sets(st.sampled_from(OPTIONAL_GROUPS), min_size=1))
def test_a_replay_resumes_the_same_bars_wherever_it_is_cut(tape, window, groups):
    ticks, bounds = tape
    features = FeatureSet.of(groups, window)
    whole = new_builder(SPEC, features)
    builder = new_builder(SPEC, features)
    for start, stop in pairwise(bounds):
        expected = whole.push(ticks[start:stop])
        assert_frame_equal(builder.push(ticks[start:stop]), expected, check_exact=True)
        assert builder.checkpoint() == whole.checkpoint()
        # The next tick may come in the same instant, but not before.
        times = ticks["timestamp"][:stop]
        end = times[-1] if stop else datetime(2024, 1, 1, tzinfo=UTC)
        count = builder.replay(end)
        assert count == whole.replay(end) <= stop
        options = {"threshold": 250, "incomplete": "keep"}
        again = FeaturedBuilder(restored(builder.checkpoint()), features, **options)
        again.resume([ticks[stop - count : stop]] if count else [])
        assert_frame_equal(again.partial(), whole.partial(), check_exact=True)
        builder = again


def test_a_replay_of_other_ticks_is_refused():
    times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(9)]
    ticks = pl.DataFrame({"timestamp": times, "price": [100.0 + n / 100 for n in range(9)]})
    ticks = ticks.with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")), quantity=1.0, is_buyer_maker=True,
        agg_trade_id=pl.int_range(9), first_trade_id=pl.int_range(9), last_trade_id=pl.int_range(9),
    )  # fmt: skip
    features = FeatureSet.of(["extended"])
    first = new_builder(SPEC, features)
    first.push(ticks)
    for other in (ticks[1:], ticks.with_columns(quantity=2.0), ticks[:0]):
        again = FeaturedBuilder(
            restored(first.checkpoint()), features, threshold=250, incomplete="keep"
        )
        with pytest.raises(ReplayError):
            again.resume([other] if other.height else [])
