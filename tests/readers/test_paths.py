"""Bars look the same wherever they come from, and arguments mean the same in every form."""

from __future__ import annotations

import json
import warnings
from datetime import date, timedelta, timezone

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import (
    CoverageError,
    SymbolNotRegisteredError,
    ThresholdError,
    TicksNotCachedError,
)
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import StartDateClampedWarning
from readers.shared import (
    ONE_DAY,
    PER_DAY,
    SYMBOL,
    THRESHOLD,
    bars,
    january,
    keep,
    ticks_between,
)

pytestmark = pytest.mark.usefixtures("shared_cache")

OHLCV = ["Open", "High", "Low", "Close", "Volume"]
#: By the source of the bars: January is kept whole, February to the tenth.
SPANS = {
    "cache": ("2023-01-03", "2023-01-20"),
    "cache+ticks": ("2023-02-03", "2023-02-20"),
    "ticks": ("2023-03-01", "2023-03-05"),
}
EMPTY = (january(5), january(5) + timedelta(microseconds=1))


def month(shared, span, **options):
    return get_range_bars(SYMBOL, *span, ouroboros="month", **shared.place, **options)


def sources(frame):
    return [one["source"] for one in frame.attrs["rangebar"]]


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_every_path_gives_a_frame_for_backtesting(shared, span, use_cache):
    frame = month(shared, span, use_cache=use_cache)
    assert len(frame) > 50
    assert list(frame.columns) == OHLCV
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert frame.index.dtype == np.dtype("datetime64[us]")
    assert frame.index.name == "timestamp"
    assert frame.index.is_monotonic_increasing
    assert not frame.isna().any(axis=None)


@pytest.mark.parametrize(("source", "span"), SPANS.items())
def test_attributes_tell_the_source(shared, source, span):
    assert sources(month(shared, span)) == [source]
    assert sources(month(shared, span, use_cache=False)) == ["ticks"]


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"include_microstructure": True},
        {"include_orphaned_bars": True},
        {"include_incomplete": True},
        {
            "include_microstructure": True,
            "include_orphaned_bars": True,
            "include_incomplete": True,
        },
    ],
)
def test_no_bars_have_the_columns_and_the_index_of_others(shared, flags):
    full = month(shared, SPANS["cache"], **flags)
    for span in (EMPTY, *SPANS.values()):
        for use_cache in (True, False):
            other = month(shared, span, use_cache=use_cache, **flags)
            assert len(other) == 0 or span != EMPTY
            pd.testing.assert_series_equal(other.dtypes, full.dtypes)
            assert other.index.dtype == full.index.dtype
            assert other.index.name == full.index.name


def test_a_cached_read_equals_a_fresh_one(shared):
    for span in (("2023-01-01", "2023-01-20"), ("2023-02-01", "2023-02-20")):
        flags = {"include_microstructure": True, "include_orphaned_bars": True}
        cached = month(shared, span, **flags)
        fresh = month(shared, span, use_cache=False, **flags)
        assert sources(cached) != sources(fresh)
        pd.testing.assert_frame_equal(cached, fresh)


def test_columns_of_microstructure_are_those_of_trades_in_hand(shared):
    frame = month(shared, ("2023-01-01", "2023-01-03"), include_microstructure=True)
    trades = ticks_between(january(1), january(4))
    expected = rb.process_trades_to_dataframe(trades, THRESHOLD, include_microstructure=True)
    assert list(frame.columns) == [*OHLCV, *rb.REFERENCE_COLUMNS]
    pd.testing.assert_frame_equal(frame, expected)


def test_attributes_are_plain_and_name_each_segment(shared):
    frame = month(shared, ("2023-01-10", "2023-03-01"))
    told = frame.attrs["rangebar"]
    assert json.loads(json.dumps(told)) == told
    assert [one["source"] for one in told] == ["cache", "cache+ticks", "ticks"]
    assert [one["anchor"] for one in told] == [
        "2023-01-01T00:00:00+00:00",
        "2023-02-01T00:00:00+00:00",
        "2023-03-01T00:00:00+00:00",
    ]
    assert told[-1]["end"] == "2023-03-02T00:00:00+00:00"
    assert "month 2023-02" in told[1]["series"]


def test_an_orphan_is_given_only_on_request_from_the_cache_and_from_ticks(shared):
    span = ("2023-01-31", "2023-01-31")
    for use_cache in (True, False):
        plain = month(shared, span, use_cache=use_cache, anchor="segment")
        frame = month(
            shared, span, use_cache=use_cache, anchor="segment", include_orphaned_bars=True
        )
        assert frame["is_orphan"].to_list() == [False] * len(plain) + [True]
        assert frame["is_closed"].to_list() == [True] * len(plain) + [False]
        pd.testing.assert_frame_equal(frame[OHLCV].iloc[:-1], plain)


def test_a_part_that_ends_before_its_segment_has_no_orphan(shared):
    frame = month(shared, ("2023-01-30", "2023-01-30"), include_orphaned_bars=True)
    assert not frame["is_orphan"].any()


@pytest.mark.parametrize("end", [january(6), january(6, 7), january(45, 13)])
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_forming_bar_is_that_of_the_ticks_up_to_the_end(shared, end, use_cache):
    begin = end - 4 * ONE_DAY
    anchor = max(january(1), january(32) if end > january(32) else january(1))
    frame = month(shared, (begin, end), use_cache=use_cache, include_incomplete=True, anchor=anchor)
    forming = bars(ticks_between(anchor, end)).filter(~pl.col("is_closed"))
    last = frame.iloc[-1]
    assert frame["is_closed"].to_list() == [True] * (len(frame) - 1) + [False]
    assert last[OHLCV].to_list() == list(
        forming.select("open", "high", "low", "close", "volume").row(0)
    )
    plain = month(shared, (begin, end), use_cache=use_cache, anchor=anchor)
    pd.testing.assert_frame_equal(frame[OHLCV].iloc[:-1], plain)


@pytest.mark.parametrize("use_cache", [True, False])
def test_bars_are_cut_by_their_close_time_the_end_excluded(shared, use_cache):
    whole = scan_range_bars(
        SYMBOL, *SPANS["cache"], ouroboros="month", fetch_if_missing=False, cache_dir=shared.folder
    ).collect()
    times = whole["close_time"].to_list()
    frame = month(shared, (times[7], times[60]), use_cache=use_cache, anchor="segment")
    closes = times[7:60]
    assert frame.index.to_list() == [pd.Timestamp(time.replace(tzinfo=None)) for time in closes]


def test_a_day_that_is_growing_still_gives_no_orphan(shared):
    ticks = ticks_between(january(31), january(32))
    day = DayTicks(date(2023, 1, 31), ticks, Origin(kind="archive", sha256=""), is_tail=True)
    TickStorage(shared.folder).put_days("ADAUSDT", [day])
    frame = get_range_bars(
        "ADAUSDT", "2023-01-31", "2023-01-31", 500,
        ouroboros="month", include_orphaned_bars=True, include_incomplete=True, **shared.place,
    )  # fmt: skip
    assert not frame["is_closed"].iloc[-1]
    assert not frame["is_orphan"].any()


def test_all_forms_of_a_date_mean_the_same(shared):
    frames = [
        month(shared, span)
        for span in (
            ("2023-01-03", "2023-01-05"),
            (date(2023, 1, 3), date(2023, 1, 5)),
            (january(3), january(6)),
            ("2023-01-03T00:00:00Z", "2023-01-06T02:00:00+02:00"),
            (january(3).astimezone(timezone(timedelta(hours=-5))), date(2023, 1, 5)),
            (january(3).replace(tzinfo=None), "2023-01-06 00:00"),
            (pd.Timestamp("2023-01-03"), np.datetime64("2023-01-05")),
            ("20230103", np.datetime64("2023-01-06T00:00:00.000000000")),
        )
    ]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((SYMBOL, "2023-01-05", "2023-01-03"), {}, ValueError, "not after"),
        ((SYMBOL, "2123-01-05", "2123-01-07"), {}, ValueError, "future"),
        ((SYMBOL, 20230105, "2023-01-07"), {}, TypeError, "date"),
        ((SYMBOL, "2023-01-05", "soon"), {}, ValueError, "soon"),
        ((SYMBOL, "2023-01-05", "2023-01-06", 0.25), {}, ThresholdError, "250"),
        ((SYMBOL, "2023-01-05", "2023-01-06", 100), {}, ThresholdError, "minimum"),
        ((SYMBOL, "2023-01-05", "2023-01-06"), {"ouroboros": "yaer"}, ValueError, "yaer"),
        ((SYMBOL, "2023-01-05", "2023-01-06"), {"source": "kraken!"}, ValueError, "kraken!"),
        ((SYMBOL, "2023-01-05", "2023-01-06"), {"market": "swap"}, ValueError, "swap"),
        ((SYMBOL, "2023-01-05", "2023-01-06"), {"anchor": "2023-01-06"}, ValueError, "anchor"),
        ((SYMBOL, "2023-01-05", "2023-01-06"), {"anchor": "start"}, ValueError, "anchor"),
        (("BTCUSTD", "2023-01-05", "2023-01-06"), {}, SymbolNotRegisteredError, "BTCUSDT"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(shared, arguments, options, error, words):
    for read in (get_range_bars, scan_range_bars):
        with pytest.raises(error, match=words):
            read(*arguments, cache_dir=shared.folder, **options)


def test_a_start_before_the_symbols_first_day_is_moved_with_a_warning(shared):
    span = ("2017-01-01", "2018-01-16")
    with (
        pytest.warns(StartDateClampedWarning, match="2018-01-16") as said,
        pytest.raises(TicksNotCachedError, match=r"1 day .* 2018-01-16"),
    ):
        month(shared, span)
    assert said[0].filename == __file__


def test_the_reference_librarys_name_of_the_reset_is_understood(shared):
    span = ("2023-01-03", "2023-01-20")
    pd.testing.assert_frame_equal(
        get_range_bars(SYMBOL, *span, ouroboros_mode="month", **shared.place), month(shared, span)
    )


def test_symbols_are_taken_in_any_letter_case_and_thresholds_in_any_form(shared):
    found = get_range_bars(
        "btcusdt", "2023-01-03", "2023-01-20", "0.25%", ouroboros="1mo", **shared.place
    )
    pd.testing.assert_frame_equal(found, month(shared, ("2023-01-03", "2023-01-20")))


def test_an_anchor_asks_for_its_own_series_whatever_else_is_kept(shared):
    # The year has a series of January 1, to the 41st day, and one of January 20, to the 55th.
    span = (january(42), january(50))
    by_default = get_range_bars(SYMBOL, *span, **shared.place)
    assert by_default.attrs["rangebar"][0]["anchor"] == "2023-01-20T00:00:00+00:00"
    first = get_range_bars(SYMBOL, *span, anchor="segment", **shared.place)
    assert first.attrs["rangebar"][0]["anchor"] == "2023-01-01T00:00:00+00:00"
    own = get_range_bars(SYMBOL, *span, anchor=january(40), **shared.place)
    assert (own.attrs["rangebar"][0]["anchor"][:10], sources(own)) == ("2023-02-09", ["ticks"])


def test_a_series_without_the_gate_is_not_read_for_one_with_it(shared, shared_cache):
    off = BarRules(prevent_same_timestamp_close=False)
    spec = BarSpec.of(SYMBOL, 300, reset="month", rules=off)
    keep(shared_cache, shared.folder, spec, january(1), date(2023, 1, 10))
    options = {"ouroboros": "month", **shared.place}
    span = (SYMBOL, "2023-01-02", "2023-01-09", 300)
    assert sources(get_range_bars(*span, **options)) == ["ticks"]
    off = get_range_bars(*span, prevent_same_timestamp_close=False, **options)
    assert sources(off) == ["cache"]


def test_ticks_that_changed_under_stored_bars_are_named(shared, shared_cache):
    storage = TickStorage(shared.folder)
    other = ticks_between(january(1), january(4))
    storage.write_ticks("ADAUSDT", other)
    keep(shared_cache, shared.folder, BarSpec.of("ADAUSDT", 500), january(1), date(2023, 1, 3))
    read = {"threshold_decimal_bps": 500, **shared.place}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = get_range_bars("ADAUSDT", "2023-01-01", "2023-01-03", **read)
    storage.delete_ticks("ADAUSDT", "2023-01-02", "2023-01-02")
    changed = ticks_between(january(2), january(3)).with_columns(pl.col("quantity") * 2)
    storage.write_ticks("ADAUSDT", changed)
    with pytest.warns(CoverageWarning, match=r"1 day: 2023-01-02\n") as said:
        after = get_range_bars("ADAUSDT", "2023-01-01", "2023-01-03", **read)
    assert said[0].filename == __file__
    pd.testing.assert_frame_equal(before, after)
    # What later bars were continued from has changed, too.
    with pytest.warns(CoverageWarning, match="2023-01-02"):
        get_range_bars("ADAUSDT", "2023-01-03", "2023-01-03", **read)


def test_days_that_are_not_there_and_may_not_be_fetched_are_named(shared):
    with pytest.raises(TicksNotCachedError, match=r"2 days of BTCUSDT .*2023-03-06 to 2023-03-07"):
        month(shared, ("2023-03-04", "2023-03-07"))


def test_days_with_missing_ids_are_refused(shared):
    storage = TickStorage(shared.folder)
    part = ticks_between(january(1), january(3))
    storage.write_ticks("SOLUSDT", pl.concat([part.head(50), part.tail(-60)]))
    with pytest.raises(CoverageError, match=r"2023-01-01 \(ids 1050 to 1059"):
        get_range_bars("SOLUSDT", "2023-01-01", "2023-01-02", 500, **shared.place)


def test_ticks_that_do_not_follow_the_units_are_refused(shared, shared_cache):
    storage = TickStorage(shared.folder)
    two_days = ticks_between(january(1), january(3))
    storage.write_ticks("DOGEUSDT", two_days)
    keep(shared_cache, shared.folder, BarSpec.of("DOGEUSDT", 500), january(1), date(2023, 1, 1))
    read = ("DOGEUSDT", "2023-01-01", "2023-01-02", 500)
    whole = get_range_bars(*read, **shared.place)
    storage.delete_ticks("DOGEUSDT", "2023-01-01", "2023-01-02")
    storage.write_ticks("DOGEUSDT", two_days.tail(PER_DAY))
    pd.testing.assert_frame_equal(get_range_bars(*read, **shared.place), whole)
    storage.delete_ticks("DOGEUSDT", "2023-01-01", "2023-01-02")
    storage.write_ticks("DOGEUSDT", two_days.tail(PER_DAY - 3))
    with pytest.raises(CoverageError, match="ids 1120 to 1122 are missing"):
        get_range_bars(*read, **shared.place)


def test_a_state_that_this_version_cannot_read_is_computed_anew(shared, shared_cache):
    spec = BarSpec.of(SYMBOL, 350, reset="month")
    keep(
        shared_cache,
        shared.folder,
        spec,
        january(32),
        date(2023, 2, 10),
        state=b"of another version",
    )
    read = {"threshold_decimal_bps": 350, "ouroboros": "month", **shared.place}
    found = get_range_bars(SYMBOL, "2023-02-08", "2023-02-12", **read)
    assert sources(found) == ["ticks"]
    assert found.attrs["rangebar"][0]["anchor"] == "2023-02-01T00:00:00+00:00"
    expected = bars(ticks_between(january(32), january(44)), 350).filter("is_closed")
    assert len(found) == expected.filter(pl.col("close_time") >= january(39)).height
    assert sources(get_range_bars(SYMBOL, "2023-02-08", "2023-02-10", **read)) == ["cache"]


@pytest.mark.filterwarnings("ignore")
def test_backtesting_runs_on_it(shared):
    from backtesting import Backtest, Strategy

    class Alternate(Strategy):
        def init(self):
            pass

        def next(self):
            if self.position:
                self.position.close()
            else:
                self.buy(size=1)

    frame = month(shared, ("2023-01-01", "2023-02-20"))
    result = Backtest(frame, Alternate, cash=10_000_000, finalize_trades=True).run()
    assert result["# Trades"] > 50


def test_get_n_is_judged_like_the_others(shared):
    with pytest.raises(SymbolNotRegisteredError):
        get_n_range_bars("BTCUSTD", 5)
    for count, error in ((0, ValueError), (-3, ValueError), (True, TypeError), (2.5, TypeError)):
        with pytest.raises(error):
            get_n_range_bars(SYMBOL, count, **shared.place)
