"""A filter on time skips files, and never a row that it passes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading.pruning import Bounds, time_bounds
from repetitions import repeated
from storage.disks import CountingDisk
from storage.stock import SYMBOL, trades

TIME = pl.col("timestamp")
DAYS = [date(2024, 1, 29) + timedelta(days=i) for i in range(6)]
START = datetime(2024, 1, 29, tzinfo=UTC)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    storage = TickStorage(tmp_path_factory.mktemp("pruning"))
    ticks = [trades(day, 10, 1 + 10 * i) for i, day in enumerate(DAYS)]
    storage.write_ticks(SYMBOL, pl.concat(ticks))
    return storage


def us(value: datetime) -> int:
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def days_read(storage: TickStorage, query) -> list[date]:
    storage._disk = disk = CountingDisk()
    query(storage.scan_ticks(SYMBOL, DAYS[0], DAYS[-1]))
    assert set(disk.reads.values()) == {1}
    names = sorted(path.name for path in disk.reads if path.suffix == ".parquet")
    return [date.fromisoformat(name[:10]) for name in names]


# A value for each comparison, and the days that can contain such times.
FILTERS = {
    "after": (START + timedelta(days=4) <= TIME, DAYS[4:]),
    "before": (START + timedelta(days=2) > TIME, DAYS[:2]),
    "mirrored": (START + timedelta(days=4) <= TIME, DAYS[4:]),
    "between": (TIME.is_between(START + timedelta(days=1), START + timedelta(days=2)), DAYS[1:2]),
    "both": ((START + timedelta(days=1) < TIME) & (START + timedelta(days=2) > TIME), DAYS[1:2]),
    "with others": ((START + timedelta(days=5) < TIME) & (pl.col("price") > 0), DAYS[5:]),
    "either": ((START + timedelta(days=1) > TIME) | (START + timedelta(days=2) > TIME), DAYS[:2]),
    "not understood": (TIME.dt.day() == 30, DAYS),
    "another column": (pl.col("agg_trade_id") > 55, DAYS),
    "never": (TIME < START, []),
}


@pytest.mark.parametrize("name", FILTERS)
def test_only_the_days_that_a_filter_can_pass_are_read(storage, name):
    predicate, days = FILTERS[name]
    assert days_read(storage, lambda plan: plan.filter(predicate).collect()) == days


def test_a_limit_is_counted_before_the_filter(storage):
    plan = storage.scan_ticks(SYMBOL, DAYS[0], DAYS[-1])
    late = START + timedelta(days=2) <= TIME
    assert plan.head(25).filter(late).collect().height == 5
    assert plan.filter(late).head(25).collect()["agg_trade_id"].to_list() == list(range(21, 46))


def test_a_query_that_is_done_reads_no_further_day(storage):
    read = days_read(storage, lambda plan: plan.head(5).collect())
    assert read in (DAYS[:1], DAYS[:2])


def moments() -> st.SearchStrategy[datetime]:
    return st.integers(-20, 170).map(
        lambda hours: START + timedelta(hours=hours, microseconds=hours)
    )


def comparisons() -> st.SearchStrategy[pl.Expr]:
    literal = st.builds(
        lambda moment, unit: pl.lit(moment, pl.Datetime(unit, "UTC")),
        moments(),
        st.sampled_from(["ms", "us", "ns"]),
    )
    compare = ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"]
    plain = st.builds(
        lambda name, value: getattr(TIME, name)(value), st.sampled_from(compare), literal
    )
    mirrored = st.builds(
        lambda name, value: getattr(value, name)(TIME), st.sampled_from(compare), literal
    )
    closed = st.sampled_from(["both", "left", "right", "none"])
    between = st.builds(lambda a, b, c: TIME.is_between(a, b, closed=c), literal, literal, closed)
    other = st.sampled_from([pl.col("agg_trade_id") > 25, TIME.dt.hour() < 12, pl.lit(value=True)])
    return st.one_of(plain, mirrored, between, other)


def predicates() -> st.SearchStrategy[pl.Expr]:
    return st.recursive(
        comparisons(),
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=5,
    )


@given(predicates())
@settings(max_examples=repeated(50, 150))
def test_a_pruned_scan_gives_what_the_filter_gives(storage, predicate):
    ticks = storage.get_ticks(SYMBOL, DAYS[0], DAYS[-1])
    plan = storage.scan_ticks(SYMBOL, DAYS[0], DAYS[-1])
    assert plan.filter(predicate).collect().equals(ticks.filter(predicate))


@given(predicates())
def test_no_row_that_passes_is_outside_the_bounds(storage, predicate):
    ticks = storage.get_ticks(SYMBOL, DAYS[0], DAYS[-1])
    bounds = time_bounds(predicate, "timestamp")
    times = ticks.filter(predicate)["timestamp"].to_physical()
    assert times.is_between(bounds.low, bounds.high).all()


def test_what_is_not_understood_has_no_bounds():
    assert time_bounds(pl.lit(START) < TIME, "timestamp") == Bounds(low=us(START))
    for predicate in (
        START.replace(tzinfo=None) > TIME,
        pl.col("other") > TIME,
        ~(TIME < START),
        pl.col("other") < START,
        TIME.dt.offset_by("1d") < START,
    ):
        assert time_bounds(predicate, "timestamp") == Bounds()
