"""A value of a plugin depends on its series alone, not on the read that asks for it."""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

import rangebar_polars as rb
from plugins.reading import (
    COLUMNS,
    OTHER,
    anchors_of,
    expected,
    install_windowed,
    place_with_two_symbols,
)
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import CoverageError, CoverageWarning, TicksNotCachedError
from rangebar_polars.readers.cached import get_cached_bars, get_n_bars
from readers.shared import END, SYMBOL, january
from repetitions import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plugins.reading import Place

HOUR = timedelta(hours=1)
RESETS = ["year", "month", "week", "day", None]
#: Reads per law.
MANY = settings(max_examples=repeated(25, 200))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with place_with_two_symbols() as one, open_cache(cache_dir=one.folder, write=True):
        yield one


@pytest.fixture(autouse=True)
def windowed_plugins(site: Path) -> None:
    install_windowed(site)


def instants(first: int, last: int) -> st.SearchStrategy[datetime]:
    """Hours of the tape, days counted from the first of January."""
    return st.integers(24 * (first - 1), 24 * (last - 1)).map(lambda n: january(1) + n * HOUR)


def values(frame: Any) -> pl.DataFrame:
    """Return the columns of a pandas frame that are compared, with null for NaN."""
    times = pl.Series("close_time", frame.index.to_numpy()).cast(pl.Datetime("us"))
    columns = [pl.Series(name, frame[name].to_numpy()) for name in ["Close", *COLUMNS]]
    made = pl.DataFrame([times.dt.replace_time_zone("UTC"), *columns])
    return made.with_columns(pl.col(pl.Float64).fill_nan(None)).rename({"Close": "close"})


def compared(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("close_time", "close", *COLUMNS)


def quietly(read: Any, *arguments: Any, **options: Any) -> Any:
    """Return the result of a read, in which days may be missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        return read(*arguments, include_plugin_features=True, **options)


@MANY
@given(
    reset=st.sampled_from(RESETS),
    times=st.lists(instants(1, 65), min_size=2, max_size=2, unique=True),
    way=st.sampled_from(["stored", "stored", "ticks", "anchor", "segment"]),
)
def test_the_pandas_and_the_lazy_reader(place, reset, times, way) -> None:
    start, end = min(times), min(max(times), END)
    assume(start < end)
    options: dict[str, Any] = {"ouroboros": reset, "use_cache": way == "stored", **place.here}
    if way == "anchor":
        options["anchor"] = max(january(1), start - timedelta(days=3))
    elif way == "segment":
        options["anchor"] = "segment"
    try:
        pandas = quietly(rb.get_range_bars, SYMBOL, start, end, **options)
    except CoverageError as error:
        # More than 31 days, or before the bars that an anchor allows.
        assert "days" in str(error)  # noqa: PT017
        assume(False)
    anchors = anchors_of(pandas.attrs["rangebar"])
    want = expected(anchors, reset, start, end)
    assert list(pandas.columns[-3:]) == COLUMNS
    assert_frame_equal(values(pandas), compared(want))
    lazy = quietly(rb.scan_range_bars, SYMBOL, start, end, **options).collect()
    assert_frame_equal(lazy, want.select(lazy.columns))
    assert lazy.columns[-3:] == COLUMNS


@MANY
@given(
    reset=st.sampled_from(RESETS),
    end=instants(2, 65),
    count=st.integers(1, 120),
    is_stored=st.booleans(),
)
def test_the_reader_of_the_newest_bars(place, reset, end, count, is_stored) -> None:
    options: dict[str, Any] = {"ouroboros": reset, "use_cache": is_stored, **place.here}
    options["anchor"] = None if is_stored else max(january(1), end - timedelta(days=12))
    try:
        pandas = quietly(
            rb.get_n_range_bars, SYMBOL, count, end_date=end, allow_fewer=True, **options
        )
    except TicksNotCachedError as error:
        # Where no bars are stored, the 30 days before the end are computed.
        assert "2022-12" in str(error)  # noqa: PT017
        assume(False)
    anchors = anchors_of(pandas.attrs["rangebar"])
    # A segment answers with its stored bars, between which days may be missing.
    ends = [datetime.fromisoformat(one["end"]) for one in pandas.attrs["rangebar"]]
    found = [
        expected([anchor], reset, anchor, min(end, until))
        for anchor, until in zip(anchors, ends, strict=True)
    ]
    want = pl.concat(found).tail(count)
    assert want.height > 0
    assert_frame_equal(values(pandas), compared(want))


#: The series of the month that answer reads up to the 10th of February.
MONTHS = [january(1), january(32)]


@MANY
@given(
    times=st.lists(instants(1, 42), min_size=2, max_size=2, unique=True),
    count=st.integers(1, 150),
)
def test_the_readers_of_stored_bars(place, times, count) -> None:
    start, end = min(times), max(times)
    here = {"ouroboros": "month", "cache_dir": place.folder}
    found = quietly(get_cached_bars, SYMBOL, 250, start, end, **here)
    want = expected(MONTHS, "month", start, end)
    assert_frame_equal(found, want.select(found.columns))
    before = quietly(get_cached_bars, SYMBOL, 250, end=end, **here)
    want = expected(MONTHS, "month", january(1), end)
    assert_frame_equal(before, want.select(found.columns))
    newest = quietly(get_n_bars, SYMBOL, count, before=end, **here)
    assert newest.columns[-3:] == COLUMNS
    assert_frame_equal(newest, want.tail(count).select(found.columns))


SPAN = (january(20, 7), january(37, 15))


def of_lists(place: Place, **options: Any) -> pl.LazyFrame:
    return quietly(
        rb.scan_range_bars, [SYMBOL, OTHER], *SPAN, [500, 250], ouroboros="month",
        **place.here, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def want_of_lists() -> pl.DataFrame:
    frames = []
    for symbol in (SYMBOL, OTHER):
        for threshold in (500, 250):
            # Only one of the four has stored bars.
            is_stored = (symbol, threshold) == (SYMBOL, 250)
            anchors = MONTHS if is_stored else [SPAN[0], january(32)]
            bars = expected(anchors, "month", *SPAN, symbol=symbol, threshold=threshold)
            keys = [pl.lit(symbol).alias("symbol"), pl.lit(threshold, pl.UInt32).alias("threshold")]
            frames.append(bars.select(*keys, pl.all().exclude("threshold")))
    return pl.concat(frames)


def test_lists_of_symbols_and_thresholds(place, want_of_lists, engine) -> None:
    plan = of_lists(place)
    found = plan.collect()
    assert plan.collect_schema() == found.schema
    assert found.columns[-3:] == COLUMNS
    assert found.height > 200
    assert_frame_equal(found, want_of_lists.select(found.columns))


@pytest.fixture
def plan_of_lists(place, windowed_plugins) -> pl.LazyFrame:
    """Return one plan for all examples."""
    return of_lists(place)


@settings(max_examples=repeated(25, 100))
@given(
    names=st.lists(
        st.sampled_from(["symbol", "threshold", "close", "close_time", "volume", *COLUMNS]),
        min_size=1,
        unique=True,
    ),
    symbols=st.lists(st.sampled_from([SYMBOL, OTHER, "SOLUSDT"]), unique=True),
    times=st.lists(instants(18, 40), min_size=2, max_size=2),
    least=st.sampled_from([0.0, 30_000.0, 80_000.0]),
    column=st.sampled_from(COLUMNS),
    limit=st.one_of(st.none(), st.integers(0, 400)),
)
def test_what_is_pushed_down_changes_no_value(
    plan_of_lists, want_of_lists, names, symbols, times, least, column, limit
) -> None:
    plan, whole = plan_of_lists, want_of_lists
    between = pl.col("close_time").is_between(min(times), max(times))
    if limit is not None:
        plan, whole = plan.head(limit), whole.head(limit)
    condition = between & pl.col("symbol").is_in(symbols) & (pl.col(column) > least)
    for predicate in (between, condition):
        assert_frame_equal(
            plan.filter(predicate).select(names).collect(), whole.filter(predicate).select(names)
        )
