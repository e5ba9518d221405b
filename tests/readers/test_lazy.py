"""Lazy bars: planned at the call, read when collected, and only what the query needs."""

from __future__ import annotations

import inspect
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.io.plugins import register_io_source
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from counting_plans import COUNTS, assert_counts_equal, plans
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.catalogue import columns
from rangebar_polars.clickhouse.commit.generations import open_generation, publish_generation
from rangebar_polars.exceptions import CoverageError, SnapshotExpiredError
from rangebar_polars.readers import lazy
from rangebar_polars.readers.bars import scan_range_bars
from readers.shared import SYMBOL, january, keep
from repetitions import repeated

pytestmark = pytest.mark.usefixtures("shared_cache")

#: Kept, kept and continued, computed.
SPAN = (january(20), january(64))


def months(shared, **options):
    return scan_range_bars(
        SYMBOL, *SPAN, ouroboros="month", fetch_if_missing=False, cache_dir=shared.folder, **options
    )


def test_columns_are_those_of_a_bar_frame_without_ids(shared, engine):
    core = rb.sample_ticks().rangebar.bars(250).drop("bar_id")
    plan = months(shared)
    assert plan.collect_schema() == core.schema
    assert plan.collect().schema == core.schema
    kept = rb.sample_ticks().rangebar.bars(250, incomplete="keep").drop("bar_id")
    flagged = months(shared, include_orphaned_bars=True)
    assert flagged.collect_schema() == flagged.collect().schema == kept.schema


@pytest.mark.parametrize(
    "features", ["microstructure", ["ofi"], ["kyle_lambda_proxy", "ofi"], "core", []]
)
def test_features_follow_the_core_in_the_order_of_the_catalogue(shared, features):
    frame = months(shared, features=features).collect()
    expected = rb.sample_ticks().rangebar.bars(250, features=features).drop("bar_id")
    assert frame.schema == expected.schema


def test_a_plan_can_be_collected_again_and_by_parts(shared, engine):
    plan = months(shared)
    whole = plan.collect()
    assert whole.height > 400
    assert_frame_equal(plan.collect(), whole)
    assert_frame_equal(plan.head(37).collect(), whole.head(37))
    assert_frame_equal(plan.tail(5).collect(), whole.tail(5))
    assert plan.select(pl.len()).collect().item() == whole.height


NAMES = [name for name in columns()["name"] if name not in {"threshold", "bar_id"}]


@settings(max_examples=15)
@given(
    names=st.lists(st.sampled_from(NAMES[:19]), min_size=1, unique=True),
    days=st.tuples(st.integers(15, 66), st.integers(15, 66)),
    limit=st.one_of(st.none(), st.integers(0, 300)),
)
def test_what_is_pushed_down_changes_nothing(shared, names, days, limit):
    plan, whole = months(shared), stored(shared)
    between = pl.col("close_time").is_between(january(min(days)), january(max(days)))
    if limit is not None:
        plan, whole = plan.head(limit), whole.head(limit)
    assert_frame_equal(
        plan.filter(between, pl.col("volume") > 40).select(names).collect(),
        whole.filter(between, pl.col("volume") > 40).select(names),
    )


@pytest.mark.parametrize("count", COUNTS)
def test_a_plan_that_asks_for_no_column_has_all_bars(shared, count):
    assert_counts_equal(months(shared), stored(shared), [COUNTS[count]])


@settings(max_examples=repeated(8, 15))
@given(steps=plans("close_time", january(40)))
def test_any_counting_plan_equals_that_of_the_frame(shared, steps):
    assert_counts_equal(months(shared), stored(shared), steps)


def test_a_filter_at_the_close_time_of_a_bar_passes_it(shared):
    whole = stored(shared)
    days = whole["close_time"].dt.date()
    edges = [*(days != days.shift()).arg_true(), *(days != days.shift(-1)).arg_true()]
    for row in edges[::15]:
        time = whole["close_time"][row]
        assert months(shared).filter(pl.col("close_time") == time).collect().height == 1
        assert months(shared).filter(pl.col("close_time") <= time).collect().height == row + 1
        later = months(shared).filter(pl.col("close_time") >= time).collect()
        assert later.height == whole.height - row


WHOLE = {}


def stored(shared):
    return WHOLE.setdefault(shared.folder, months(shared).collect())


def test_groups_of_rows_make_no_difference(shared, monkeypatch):
    whole = stored(shared)
    for rows in (1, 40):
        monkeypatch.setattr(lazy, "_MOST_ROWS", rows)
        assert_frame_equal(months(shared).collect(), whole)


def test_a_plan_is_wrong_at_the_call_not_when_it_is_collected(shared):
    with pytest.raises(ValueError, match="ofl"):
        months(shared, features="ofl")
    with pytest.raises(CoverageError, match="59 days"):
        scan_range_bars(
            SYMBOL, january(1), january(60), 500, fetch_if_missing=False, cache_dir=shared.folder
        )


@pytest.mark.skipif(
    "explain_name" not in inspect.signature(register_io_source).parameters,
    reason="Polars before 2.0 does not show names of sources",
)
def test_a_plan_names_what_it_reads(shared):
    assert "BTCUSDT at 250 dbps" in months(shared).explain()


def test_bars_built_anew_after_the_call_are_read_in_their_place(shared, shared_cache):
    """As after a rebuild: the rows that were planned are gone, the series is the same."""
    spec = BarSpec.of(SYMBOL, 510, reset="month")
    keep(shared_cache, shared.folder, spec, january(1), date(2023, 1, 10))
    plan = scan_range_bars(
        SYMBOL,
        january(1),
        january(11),
        510,
        ouroboros="month",
        fetch_if_missing=False,
        cache_dir=shared.folder,
    )
    before = plan.collect()
    series = spec.series(january(1))
    anew = open_generation(shared_cache, series, series.first_day, fencing=0)
    keep(shared_cache, shared.folder, spec, january(1), date(2023, 1, 10), generation=anew.number)
    publish_generation(shared_cache, series, anew, fencing=0)
    shared_cache.command(
        f"ALTER TABLE {shared_cache.table('bars')} DELETE WHERE threshold = 510 AND attempt NOT IN "
        f"(SELECT attempt FROM {shared_cache.table('units')} WHERE threshold = 510 AND generation = 1) "
        "SETTINGS mutations_sync = 2"
    )
    assert_frame_equal(plan.collect(), before)


def test_bars_dropped_after_the_call_are_missed(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 520, reset="month")
    keep(shared_cache, shared.folder, spec, january(1), date(2023, 1, 10))
    plan = scan_range_bars(
        SYMBOL,
        january(1),
        january(11),
        520,
        ouroboros="month",
        fetch_if_missing=False,
        cache_dir=shared.folder,
    )
    for table in ("bars", "units"):
        shared_cache.command(
            f"ALTER TABLE {shared_cache.table(table)} DELETE WHERE threshold = 520 "
            "SETTINGS mutations_sync = 2"
        )
    with pytest.raises(
        (SnapshotExpiredError, pl.exceptions.ComputeError), match="not in the cache any more"
    ):
        plan.collect()
