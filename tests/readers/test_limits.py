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
from readers.stock import SYMBOL, january, keep

pytestmark = pytest.mark.usefixtures("held")


def line_of(error):
    return re.search(r"rb\.populate_cache_resumable\(.*?\)", str(error)).group()


def test_31_days_are_computed_and_32_are_not(stock):
    span = (SYMBOL, january(2))
    assert len(get_range_bars(*span, january(33), 400, **stock.place)) > 100
    with pytest.raises(CoverageError, match="`32` days") as refused:
        get_range_bars(*span, january(33) + timedelta(microseconds=1), 400, **stock.place)
    assert refused.value.days == tuple((january(2 + n)).date() for n in range(32))
    assert refused.value.symbol == SYMBOL


def test_days_that_are_kept_do_not_count(stock):
    with pytest.raises(CoverageError, match="`35` days"):
        get_range_bars(SYMBOL, january(1), january(36), use_cache=False, **stock.place)
    frame = get_range_bars(SYMBOL, january(1), january(60), **stock.place)
    assert frame.attrs["rangebar"][0]["source"] == "cache+ticks"


@pytest.mark.parametrize(
    ("threshold", "options"),
    [
        (400, {}),
        (410, {"ouroboros": "month"}),
        (420, {"prevent_same_timestamp_close": False, "ouroboros": None}),
    ],
)
def test_the_call_that_is_named_keeps_what_the_read_needs(stock, held, threshold, options):
    span = (SYMBOL, january(3), january(45), threshold)
    with pytest.raises(CoverageError) as refused:
        get_range_bars(*span, **options, **stock.place)
    # `rb` is all that a user has to have for it.
    assert int(eval(line_of(refused.value), {"rb": rb})) > 100
    frame = get_range_bars(*span, **options, **stock.place)
    assert {one["source"] for one in frame.attrs["rangebar"]} == {"cache"}


def test_the_call_continues_what_is_kept(stock, held):
    spec = BarSpec.of(SYMBOL, 430)
    keep(held, stock.folder, spec, january(1), january(20).date())
    with pytest.raises(CoverageError, match="2023-01-21 to 2023-02-28") as refused:
        get_range_bars(SYMBOL, january(5), january(60), 430, **stock.place)
    assert '"2023-01-21", "2023-02-28", threshold_decimal_bps=430' in line_of(refused.value)


def test_missing_days_are_named_as_runs(stock):
    # Of the weeks, some are kept; the days of the others are not.
    with pytest.raises(CoverageError, match="`33` days") as refused:
        get_range_bars(SYMBOL, january(1), january(60), ouroboros="week", **stock.place)
    assert "2023-01-13 to 2023-01-21, 2023-02-05 to 2023-02-28\n" in str(refused.value)


def test_all_arguments_that_are_not_the_usual_ones_are_in_the_call(stock):
    with pytest.raises(CoverageError) as refused:
        scan_range_bars(
            "BTCUSD_PERP", "2022-01-01", "2022-12-31", 500,
            ouroboros="1mo", market="cm", prevent_same_timestamp_close=False,
            use_cache=False, cache_dir=stock.folder, dsn="http://me:secret@host:8123/bars",
        )  # fmt: skip
    assert line_of(refused.value) == (
        'rb.populate_cache_resumable("BTCUSD_PERP", "2022-01-01", "2022-12-31", '
        'threshold_decimal_bps=500, ouroboros="month", prevent_same_timestamp_close=False, '
        f'market="cm", cache_dir="{stock.folder}", dsn="http://host:8123/bars")'
    )
    assert "use_cache=True" in str(refused.value)


def test_nothing_is_asked_for_before_the_days_are_counted(exchange, stock):
    with pytest.raises(CoverageError, match="`366` days"):
        get_range_bars(SYMBOL, "2024-01-01", "2024-12-31", cache_dir=stock.folder)
    assert not exchange.requests


def test_bars_of_other_semantics_are_named_and_not_read(stock, held):
    other = BarRules(bar_semantics=0)
    spec = BarSpec.of(SYMBOL, 440, rules=other)
    keep(held, stock.folder, spec, january(1), january(40).date())
    with pytest.raises(CoverageError, match=r"bar_semantics \(0, .* 2023-01-01 to 2023-02-09"):
        get_range_bars(SYMBOL, january(1), january(40), 440, **stock.place)
    frame = get_range_bars(SYMBOL, january(1), january(20), 440, **stock.place)
    assert frame.attrs["rangebar"][0]["source"] == "ticks"


def test_a_state_that_cannot_be_read_is_no_way_around_the_limit(stock, held):
    spec = BarSpec.of(SYMBOL, 450)
    keep(held, stock.folder, spec, january(1), january(40).date(), state=b"of another version")
    assert len(get_range_bars(SYMBOL, january(1), january(41), 450, **stock.place))
    with pytest.raises(CoverageError, match="`41` days"):
        get_range_bars(SYMBOL, january(1), january(42), 450, **stock.place)


def counted(stock, n_bars, threshold=250, **options):
    return get_n_range_bars(SYMBOL, n_bars, threshold, **{**stock.place, **options})


def test_the_newest_bars_are_the_last_of_a_read(stock):
    # Bars of months are kept to the 50th day; what follows comes from ticks.
    end = january(58, 7)
    whole = get_range_bars(SYMBOL, january(37), end, ouroboros="month", **stock.place)
    for count in (1, 7, len(whole)):
        frame = counted(stock, count, ouroboros="month", end_date=end)
        pd.testing.assert_frame_equal(frame, whole.tail(count))
    assert frame.attrs["rangebar"][-1]["source"] == "cache+ticks"


def test_the_newest_bars_go_back_over_segments_that_are_whole(stock, held):
    spec = BarSpec.of(SYMBOL, 460, reset="month")
    keep(held, stock.folder, spec, january(1), january(31).date())
    keep(held, stock.folder, spec, january(32), january(40).date())
    whole = get_range_bars(SYMBOL, january(1), january(41), 460, ouroboros="month", **stock.place)
    frame = counted(stock, len(whole), 460, ouroboros="month", end_date="2023-02-09")
    pd.testing.assert_frame_equal(frame, whole)
    assert [one["source"] for one in frame.attrs["rangebar"]] == ["cache", "cache"]
    with pytest.raises(CoverageError, match=f"has `{len(whole)}` bars"):
        counted(stock, len(whole) + 1, 460, ouroboros="month", end_date="2023-02-09")


def test_fewer_bars_are_an_error_unless_they_are_allowed(stock):
    options = {"ouroboros": "month", "end_date": "2023-02-20"}
    with pytest.raises(CoverageError, match="allow_fewer=True") as refused:
        counted(stock, 100_000, **options)
    assert '"2023-02-20"' in line_of(refused.value)
    with pytest.warns(UserWarning, match="not 100,000"):
        frame = counted(stock, 100_000, allow_fewer=True, **options)
    assert 0 < len(frame) < 100_000


def test_with_nothing_kept_the_30_days_before_the_end_are_computed(stock):
    end = "2023-02-19"
    with pytest.raises(CoverageError, match="from 2023-01-21 to 2023-02-20"):
        counted(stock, 100_000, 480, ouroboros="month", end_date=end)
    whole = get_range_bars(
        SYMBOL, "2023-01-21", end, 480, ouroboros="month", use_cache=False, **stock.place
    )
    frame = counted(stock, len(whole), 480, ouroboros="month", end_date=end)
    pd.testing.assert_frame_equal(frame, whole)
    assert len(frame.attrs["rangebar"]) == 2


def test_the_day_of_the_end_is_the_last_of_the_30(stock):
    end = january(50, 7)
    whole = get_range_bars(SYMBOL, january(21), end, 480, **stock.place)
    pd.testing.assert_frame_equal(counted(stock, len(whole), 480, end_date=end), whole)
    with pytest.raises(CoverageError, match="from 2023-01-21 to 2023-02-19"):
        counted(stock, len(whole) + 1, 480, end_date=end)


def test_without_an_end_the_newest_are_those_of_the_newest_tick_that_is_kept(stock):
    whole = get_range_bars(SYMBOL, "2023-02-04", "2023-03-05", 480, **stock.place)
    pd.testing.assert_frame_equal(counted(stock, len(whole), 480), whole)


def test_the_newest_bars_are_not_computed_over_more_than_31_days(stock, held):
    keep(held, stock.folder, BarSpec.of(SYMBOL, 490), january(1), january(10).date())
    with pytest.raises(CoverageError, match="`32` days"):
        counted(stock, 5, 490, end_date=january(42).date())
    assert len(counted(stock, 5, 490, end_date=january(41).date())) == 5


def test_an_anchor_decides_which_bars_are_the_newest(stock):
    by_default = counted(stock, 10, end_date=january(52))
    own = counted(stock, 10, end_date=january(52), anchor="segment")
    assert by_default.attrs["rangebar"][0]["anchor"][:10] == "2023-01-20"
    assert own.attrs["rangebar"][0]["anchor"][:10] == "2023-01-01"
    whole = get_range_bars(SYMBOL, january(50), january(52), anchor="segment", **stock.place)
    pd.testing.assert_frame_equal(own, whole.tail(10))


def test_nothing_at_all_is_kept_of_another_symbol(stock):
    with pytest.raises(CoverageError, match="neither ticks nor bars"):
        get_n_range_bars("XRPUSDT", 5, 500, **stock.place)
    with pytest.raises(TicksNotCachedError, match="30 days"):
        get_n_range_bars("XRPUSDT", 5, 500, end_date="2023-03-01", **stock.place)
