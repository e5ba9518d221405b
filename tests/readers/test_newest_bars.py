"""The newest bars are those that `get_n_bars` has, and what ticks add to the newest segment."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from rangebar_polars._utils.span import Span, day_start, describe_days
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.segments import parts, segment_of
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars
from rangebar_polars.readers.cached import count_bars, get_n_bars
from rangebar_polars.storage.coverage import CoverageWarning
from readers.shared import END, SYMBOL, THRESHOLD, bars, january, keep, ticks_between
from repetitions import repeated

pytestmark = pytest.mark.usefixtures("shared_cache")

ONE_DAY = timedelta(days=1)
HOURS = (END - january(1)) // timedelta(hours=1)
#: Of another threshold: weeks, months and days, most of which lack days at their end.
HOLED = 465
KEPT = {
    "week": [
        ((1, 0), 5), ((8, 0), 14), ((15, 0), 17), ((22, 0), 24), ((24, 0), 27), ((29, 0), 30),
        ((36, 0), 38),
    ],
    "month": [((1, 0), 3), ((5, 0), 20), ((32, 0), 33), ((60, 0), 61)],
    "day": [((day, 0), day) for day in (3, 4, 5, 7, 8)],
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(shared, shared_cache):
    """By threshold and reset: anchors, and the first day that is not kept."""
    found = {}
    for reset, series in KEPT.items():
        spec = BarSpec.of(SYMBOL, HOLED, reset=reset)
        for anchor, last in series:
            keep(shared_cache, shared.folder, spec, january(*anchor), january(last).date())
        found[HOLED, reset] = [(january(*one), january(last + 1).date()) for one, last in series]
    return found | {(THRESHOLD, reset): list(series) for reset, series in shared.kept.items()}


def said(read, *arguments, **options):
    """Result of a read, and the first lines of what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = read(*arguments, **options)
    assert all(one.category is CoverageWarning for one in caught)
    return result, [str(one.message).partition("\n")[0] for one in caught]


def newest_series(series, reset, end):
    """Anchor and frontier of the newest segment's series, by the words of the contract."""
    begun = sorted(one for one in series if one[0] < end)
    if not begun:
        return None
    segment = segment_of(max(anchor for anchor, _ in begun).date(), reset)
    begun = [one for one in begun if one[0].date() in segment]
    last_day = min(
        (end - timedelta(microseconds=1)).date(),
        (end if segment.end is None else day_start(segment.end) - ONE_DAY).date(),
    )
    whole = [one for one in begun if one[1] > last_day]
    furthest = max(frontier for _, frontier in begun)
    return next(iter(whole), next(one for one in begun if one[1] == furthest))


def continuation(series, reset, end, threshold):
    """Bars that ticks add to the newest series up to the end, and the days of these ticks."""
    anchor, frontier = series
    found, days = [], 0
    for place, (_, part) in enumerate(parts(Span(anchor, end), reset)):
        begin = max(day_start(frontier), anchor) if place == 0 else part.start
        if begin < part.end:
            days += len(Span(begin, part.end).days())
            made = bars(ticks_between(part.start, part.end), threshold).filter("is_closed")
            found.append(made.filter(pl.col("close_time") >= begin))
    return pl.concat([bars(ticks_between(end, end), threshold), *found]), days


def times(bars):
    return [pd.Timestamp(time.replace(tzinfo=None)) for time in bars["close_time"]]


@st.composite
def questions(draw):
    threshold, reset = draw(
        st.sampled_from(
            [
                *((HOLED, reset) for reset in KEPT),
                *((THRESHOLD, reset) for reset in ("year", "month", "week", "day", None)),
            ]
        )
    )
    grid = st.one_of(
        st.integers(3, HOURS // 24).map(lambda days: 24 * days), st.integers(72, HOURS)
    )
    end = january(1) + timedelta(hours=draw(grid))
    return threshold, reset, end, draw(st.integers(1, 500))


@settings(max_examples=repeated(40, 120))
@given(question=questions())
def test_they_are_the_kept_ones_and_those_that_ticks_add(shared, kept, question):
    threshold, reset, end, count = question
    newest = newest_series(kept[threshold, reset], reset, end)
    if newest is None:
        return
    more, days = continuation(newest, reset, end, threshold)
    options = {"ouroboros": reset, "end_date": end, "allow_fewer": True, **shared.place}
    if days > 31:
        event("too long")
        with pytest.raises(CoverageError, match=f"for {days} days"):
            get_n_range_bars(SYMBOL, count, threshold, **options)
        return
    place = {"ouroboros": reset, "before": end, "cache_dir": shared.folder}
    old, _ = said(get_n_bars, SYMBOL, 100_000, threshold, **place)
    assert old.height == count_bars(SYMBOL, threshold, **place)
    expected = pl.concat([old.select("close_time", "close"), more.select("close_time", "close")])
    expected = expected.tail(count)
    found, notes = said(get_n_range_bars, SYMBOL, count, threshold, **options)
    assert found.index.to_list() == times(expected)
    assert found["Close"].to_list() == expected["close"].to_list()
    assert any(f", not {count:,}" in one for one in notes) == (len(found) < count)
    # Of the days between, what `get_n_bars` says of as many kept bars.
    left = count - more.height
    if left > 0 and day_start(newest[1]) >= end:
        event("all kept")
        _, of_kept = said(get_n_bars, SYMBOL, left, threshold, **place)
        assert of_kept == [one for one in notes if " not cached: " in one]
    elif left <= 0:
        event("of ticks alone")
        assert notes == []


@pytest.fixture
def two_months(shared, shared_cache):
    """January to its twentieth day and February to its tenth, of a threshold of its own."""
    spec = BarSpec.of(SYMBOL, 470, reset="month")
    if not count_bars(SYMBOL, 470, ouroboros="month", cache_dir=shared.folder):
        keep(shared_cache, shared.folder, spec, january(1), january(20).date())
        keep(shared_cache, shared.folder, spec, january(32), january(41).date())
    return {"ouroboros": "month", **shared.place}


def whole_of(options):
    """Bars of the kept days of January, and of February to the middle of a day after them."""
    old = get_range_bars(SYMBOL, january(1), january(21), 470, **options)
    new = get_range_bars(SYMBOL, january(32), january(46, 7), 470, **options)
    return pd.concat([old, new]), len(new)


def test_a_hole_at_the_end_of_an_older_segment_is_passed_with_a_warning(shared, two_months):
    whole, _ = whole_of(two_months)
    end = {"end_date": january(46, 7), **two_months}
    with pytest.warns(CoverageWarning) as caught:
        frame = get_n_range_bars(SYMBOL, len(whole), 470, **end)
    pd.testing.assert_frame_equal(frame, whole)
    assert [one.filename for one in caught] == [__file__]
    sentence = (
        "bars of BTCUSDT at 470 dbps: 11 days are not cached: "
        f"{describe_days(january(day).date() for day in range(21, 32))}"
    )
    assert str(caught[0].message).startswith(f"{sentence}\n")
    assert '"2023-01-21", "2023-01-31", threshold_decimal_bps=470' in str(caught[0].message)
    place = {"ouroboros": "month", "cache_dir": shared.folder}
    _, notes = said(get_n_bars, SYMBOL, 100_000, 470, **place)
    assert notes == [sentence]
    parts = frame.attrs["rangebar"]
    assert [one["source"] for one in parts] == ["cache", "cache+ticks"]
    assert [one["end"][:10] for one in parts] == ["2023-01-21", "2023-02-15"]
    with pytest.raises(CoverageError, match=f"has `{len(whole)}` bars from 2023-01-01"):
        get_n_range_bars(SYMBOL, len(whole) + 1, 470, **end)


def test_a_hole_before_the_oldest_bar_is_not_spoken_of(two_months):
    whole, new = whole_of(two_months)
    end = {"end_date": january(46, 7), **two_months}
    frame, notes = said(get_n_range_bars, SYMBOL, new, 470, **end)
    pd.testing.assert_frame_equal(frame, whole.tail(new))
    assert notes == []
    _, notes = said(get_n_range_bars, SYMBOL, new + 1, 470, **end)
    assert len(notes) == 1


def test_as_many_as_are_counted_can_be_had(shared, shared_cache):
    # The segment before is whole; the one between is kept for two days, the newest for two.
    spec = BarSpec.of(SYMBOL, 475, reset="week")
    for first, last in ((1, 7), (8, 9), (15, 16)):
        keep(shared_cache, shared.folder, spec, january(first), january(last).date())
    counted = count_bars(SYMBOL, 475, ouroboros="week", cache_dir=shared.folder)
    options = {"ouroboros": "week", "end_date": january(31), **shared.place}
    frame, _ = said(get_n_range_bars, SYMBOL, counted, 475, **options)
    assert len(frame) == counted
    whole, _ = said(get_n_range_bars, SYMBOL, 100_000, 475, allow_fewer=True, **options)
    assert len(whole) > counted
    pd.testing.assert_frame_equal(frame, whole.tail(counted))
    _, kept_alone = said(
        get_n_range_bars, SYMBOL, counted, 475, **{**options, "end_date": january(17)}
    )
    assert [one.partition(": ")[2] for one in kept_alone] == [
        "5 days are not cached: 2023-01-10 to 2023-01-14"
    ]


def test_days_that_are_not_kept_of_older_segments_do_not_count_for_the_limit(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 485, reset="month")
    keep(shared_cache, shared.folder, spec, january(1), january(2).date())
    keep(shared_cache, shared.folder, spec, january(32), january(33).date())
    # 22 days of February come from ticks; 29 of January are not kept.
    options = {"ouroboros": "month", "end_date": january(56), **shared.place}
    frame, notes = said(get_n_range_bars, SYMBOL, 100_000, 485, allow_fewer=True, **options)
    assert "29 days are not cached" in notes[0]
    assert frame.index[0] < pd.Timestamp("2023-01-03")
    assert not len(frame.loc["2023-01-03":"2023-01-31"])


@pytest.mark.parametrize("threshold", [486, 487])
def test_without_an_end_an_old_cache_gives_its_newest_bars_with_a_warning(
    shared, shared_cache, exchange, threshold
):
    """Years of days would have to be computed; nothing is asked of the source."""
    spec = BarSpec.of(SYMBOL, threshold, reset="month")
    keep(shared_cache, shared.folder, spec, january(1), january(31).date())
    keep(shared_cache, shared.folder, spec, january(32), january(40).date())
    options = {"ouroboros": "month", "cache_dir": shared.folder}
    with pytest.warns(CoverageWarning) as caught:
        frame = get_n_range_bars(SYMBOL, 50, threshold, **options)
    whole = get_range_bars(SYMBOL, january(1), january(41), threshold, **options)
    pd.testing.assert_frame_equal(frame, whole.tail(50))
    (one,) = caught
    assert f"bars of BTCUSDT at {threshold} dbps end with 2023-02-09: the " in str(one.message)
    assert f'"BTCUSDT", "2023-02-10", "{datetime.now(UTC):%Y-%m}-' in str(one.message)
    assert one.message.remedy.first_day == january(41).date()
    assert not exchange.requests
    with pytest.raises(CoverageError, match=r"has `\d+` bars .* not 100,000"):
        get_n_range_bars(SYMBOL, 100_000, threshold, **options)
    # An end that is asked for is not moved.
    with pytest.raises(CoverageError, match="and a read computes at most 31"):
        get_n_range_bars(SYMBOL, 50, threshold, end_date="2023-06-01", **options)


def test_without_an_end_and_a_fetch_the_stored_ticks_are_the_end(shared, shared_cache):
    """The ticks end 55 days after the bars, which is more than a read computes."""
    spec = BarSpec.of(SYMBOL, 488)
    keep(shared_cache, shared.folder, spec, january(1), january(9).date())
    with pytest.warns(CoverageWarning, match="end with 2023-01-09: the 55 days after it"):
        frame = get_n_range_bars(SYMBOL, 5, 488, **shared.place)
    assert frame.index[-1] < pd.Timestamp("2023-01-10")
    _, notes = said(get_n_range_bars, SYMBOL, 5, 489, **shared.place)
    assert notes == []
