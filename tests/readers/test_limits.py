"""At most 31 days are computed, and a refusal names the call that helps."""

from __future__ import annotations

import re
from datetime import timedelta

import pandas as pd
import pytest

import rangebar_polars as rb
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.exceptions import CoverageError, TicksNotCachedError
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from readers.shared import SYMBOL, january, keep

pytestmark = pytest.mark.usefixtures("shared_cache")


def line_of(error):
    return re.search(r"rb\.populate_cache_resumable\(.*?\)", str(error)).group()


def test_31_days_are_computed_and_32_are_not(shared):
    span = (SYMBOL, january(2))
    assert len(get_range_bars(*span, january(33), 400, **shared.place)) > 100
    with pytest.raises(CoverageError, match="for 32 days") as refused:
        get_range_bars(*span, january(33) + timedelta(microseconds=1), 400, **shared.place)
    assert refused.value.days == tuple((january(2 + n)).date() for n in range(32))
    assert refused.value.symbol == SYMBOL


def test_days_that_are_kept_do_not_count(shared):
    with pytest.raises(CoverageError, match="for 35 days"):
        get_range_bars(SYMBOL, january(1), january(36), use_cache=False, **shared.place)
    frame = get_range_bars(SYMBOL, january(1), january(60), **shared.place)
    assert frame.attrs["rangebar"][0]["source"] == "cache+ticks"


@pytest.mark.parametrize(
    ("threshold", "options"),
    [
        (400, {}),
        (410, {"ouroboros": "month"}),
        (420, {"prevent_same_timestamp_close": False, "ouroboros": None}),
    ],
)
def test_the_call_that_is_named_keeps_what_the_read_needs(shared, shared_cache, threshold, options):
    span = (SYMBOL, january(3), january(45), threshold)
    with pytest.raises(CoverageError) as refused:
        get_range_bars(*span, **options, **shared.place)
    # `rb` is all that a user has to have for it.
    assert int(eval(line_of(refused.value), {"rb": rb})) > 100
    frame = get_range_bars(*span, **options, **shared.place)
    assert {one["source"] for one in frame.attrs["rangebar"]} == {"cache"}


def test_the_call_continues_what_is_kept(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 430)
    keep(shared_cache, shared.folder, spec, january(1), january(20).date())
    with pytest.raises(CoverageError, match="2023-01-21 to 2023-02-28") as refused:
        get_range_bars(SYMBOL, january(5), january(60), 430, **shared.place)
    assert '"2023-01-21", "2023-02-28", threshold_decimal_bps=430' in line_of(refused.value)


def test_missing_days_are_named_as_runs(shared):
    # Of the weeks, some are kept; the days of the others are not.
    with pytest.raises(CoverageError, match="for 33 days") as refused:
        get_range_bars(SYMBOL, january(1), january(60), ouroboros="week", **shared.place)
    assert "2023-01-13 to 2023-01-21, 2023-02-05 to 2023-02-28)" in str(refused.value)


def test_all_arguments_that_are_not_the_usual_ones_are_in_the_call(shared):
    with pytest.raises(CoverageError) as refused:
        scan_range_bars(
            "BTCUSD_PERP", "2022-01-01", "2022-12-31", 500,
            ouroboros="1mo", market="cm", prevent_same_timestamp_close=False,
            use_cache=False, cache_dir=shared.folder, dsn="http://me:secret@host:8123/bars",
        )  # fmt: skip
    assert line_of(refused.value) == (
        'rb.populate_cache_resumable("BTCUSD_PERP", "2022-01-01", "2022-12-31", '
        'threshold_decimal_bps=500, ouroboros="month", prevent_same_timestamp_close=False, '
        f'market="cm", cache_dir="{shared.folder}", dsn="http://host:8123/bars")'
    )
    assert "use_cache=True" in str(refused.value)


def test_nothing_is_asked_for_before_the_days_are_counted(exchange, shared):
    with pytest.raises(CoverageError, match="for 366 days"):
        get_range_bars(SYMBOL, "2024-01-01", "2024-12-31", cache_dir=shared.folder)
    assert not exchange.requests


def test_bars_of_other_semantics_are_named_and_not_read(shared, shared_cache):
    other = BarRules(bar_semantics=0)
    spec = BarSpec.of(SYMBOL, 440, rules=other)
    keep(shared_cache, shared.folder, spec, january(1), january(40).date())
    with pytest.raises(CoverageError, match=r"bar_semantics \(0, .* 2023-01-01 to 2023-02-09"):
        get_range_bars(SYMBOL, january(1), january(40), 440, **shared.place)
    frame = get_range_bars(SYMBOL, january(1), january(20), 440, **shared.place)
    assert frame.attrs["rangebar"][0]["source"] == "ticks"


def test_a_state_that_cannot_be_read_is_no_way_around_the_limit(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 450)
    keep(
        shared_cache,
        shared.folder,
        spec,
        january(1),
        january(40).date(),
        state=b"of another version",
    )
    assert len(get_range_bars(SYMBOL, january(1), january(41), 450, **shared.place))
    with pytest.raises(CoverageError, match="for 41 days"):
        get_range_bars(SYMBOL, january(1), january(42), 450, **shared.place)


def counted(shared, n_bars, threshold=250, **options):
    return get_n_range_bars(SYMBOL, n_bars, threshold, **{**shared.place, **options})


def test_the_newest_bars_are_the_last_of_a_read(shared):
    # Bars of months are kept to the 50th day; what follows comes from ticks.
    end = january(58, 7)
    whole = get_range_bars(SYMBOL, january(37), end, ouroboros="month", **shared.place)
    for count in (1, 7, len(whole)):
        frame = counted(shared, count, ouroboros="month", end_date=end)
        pd.testing.assert_frame_equal(frame, whole.tail(count))
    assert frame.attrs["rangebar"][-1]["source"] == "cache+ticks"


def test_the_newest_bars_go_back_over_segments_that_are_whole(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 460, reset="month")
    keep(shared_cache, shared.folder, spec, january(1), january(31).date())
    keep(shared_cache, shared.folder, spec, january(32), january(40).date())
    whole = get_range_bars(SYMBOL, january(1), january(41), 460, ouroboros="month", **shared.place)
    frame = counted(shared, len(whole), 460, ouroboros="month", end_date="2023-02-09")
    pd.testing.assert_frame_equal(frame, whole)
    assert [one["source"] for one in frame.attrs["rangebar"]] == ["cache", "cache"]
    with pytest.raises(CoverageError, match=f"has `{len(whole)}` bars"):
        counted(shared, len(whole) + 1, 460, ouroboros="month", end_date="2023-02-09")


def test_fewer_bars_are_an_error_unless_they_are_allowed(shared):
    options = {"ouroboros": "month", "end_date": "2023-02-20"}
    with pytest.raises(CoverageError, match="allow_fewer=True") as refused:
        counted(shared, 100_000, **options)
    assert '"2023-02-20"' in line_of(refused.value)
    with pytest.warns(UserWarning, match="not 100,000"):
        frame = counted(shared, 100_000, allow_fewer=True, **options)
    assert 0 < len(frame) < 100_000


def test_with_nothing_kept_the_30_days_before_the_end_are_computed(shared):
    end = "2023-02-19"
    with pytest.raises(CoverageError, match="from 2023-01-21 to 2023-02-20"):
        counted(shared, 100_000, 480, ouroboros="month", end_date=end)
    whole = get_range_bars(
        SYMBOL, "2023-01-21", end, 480, ouroboros="month", use_cache=False, **shared.place
    )
    frame = counted(shared, len(whole), 480, ouroboros="month", end_date=end)
    pd.testing.assert_frame_equal(frame, whole)
    assert len(frame.attrs["rangebar"]) == 2


def test_the_day_of_the_end_is_the_last_of_the_30(shared):
    end = january(50, 7)
    whole = get_range_bars(SYMBOL, january(21), end, 480, **shared.place)
    pd.testing.assert_frame_equal(counted(shared, len(whole), 480, end_date=end), whole)
    with pytest.raises(CoverageError, match="from 2023-01-21 to 2023-02-19"):
        counted(shared, len(whole) + 1, 480, end_date=end)


def test_without_an_end_the_newest_are_those_of_the_newest_tick_that_is_kept(shared):
    whole = get_range_bars(SYMBOL, "2023-02-04", "2023-03-05", 480, **shared.place)
    pd.testing.assert_frame_equal(counted(shared, len(whole), 480), whole)


def test_the_newest_bars_are_not_computed_over_more_than_31_days(shared, shared_cache):
    keep(shared_cache, shared.folder, BarSpec.of(SYMBOL, 490), january(1), january(10).date())
    with pytest.raises(CoverageError, match="for 32 days"):
        counted(shared, 5, 490, end_date=january(42).date())
    assert len(counted(shared, 5, 490, end_date=january(41).date())) == 5


def test_an_anchor_decides_which_bars_are_the_newest(shared):
    by_default = counted(shared, 10, end_date=january(52))
    own = counted(shared, 10, end_date=january(52), anchor="segment")
    assert by_default.attrs["rangebar"][0]["anchor"][:10] == "2023-01-20"
    assert own.attrs["rangebar"][0]["anchor"][:10] == "2023-01-01"
    whole = get_range_bars(SYMBOL, january(50), january(52), anchor="segment", **shared.place)
    pd.testing.assert_frame_equal(own, whole.tail(10))


def test_nothing_at_all_is_kept_of_another_symbol(shared):
    with pytest.raises(CoverageError, match="neither ticks nor bars"):
        get_n_range_bars("XRPUSDT", 5, 500, **shared.place)
    with pytest.raises(TicksNotCachedError, match="30 days"):
        get_n_range_bars("XRPUSDT", 5, 500, end_date="2023-03-01", **shared.place)
