"""The identity of a series, and the start of its segments."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from series_data import SPEC

from rangebar_polars._utils.span import Span, parse_span
from rangebar_polars.bar_series.identity import (
    BarRules,
    BarSpec,
    instant_of,
    microseconds,
)
from rangebar_polars.bar_series.segments import (
    parts,
    reset_mode,
    segment_of,
    segments,
)

MODES = [None, "year", "month", "week", "day", "1y", "1mo", "1w", "1d"]


@pytest.mark.parametrize("reset", MODES)
def test_segments_begin_where_the_kernel_resets(reset):
    start = datetime(2023, 12, 20, tzinfo=UTC)
    times = [start + timedelta(hours=6 * step) for step in range(80)]
    trades = pl.DataFrame({"timestamp": times, "price": [100.0] * 80}).with_columns(
        pl.col("timestamp").dt.cast_time_unit("us")
    )
    bars = trades.rangebar.bars(250, reset=reset, incomplete="keep")
    opened = bars["open_time"].dt.date().to_list()
    found = segments(Span(times[0], times[-1]), reset)
    assert [max(segment.start, start.date()) for segment in found] == opened


@pytest.mark.parametrize("reset", MODES)
def test_segments_are_contiguous_and_contain_their_days(reset):
    found = segments(parse_span("1999-12-25", "2001-01-08"), reset)
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
    for one in found:
        assert segment_of(max(one.start, date(1971, 1, 1)), reset) == one
        if one.end is not None:
            assert segment_of(one.end - timedelta(days=1), reset) == one
            assert one.end not in one
    assert len({one.name for one in found}) == len(found)


def test_parts_cut_a_span_at_its_resets():
    span = Span(datetime(2024, 1, 31, 12, tzinfo=UTC), datetime(2024, 2, 1, 6, tzinfo=UTC))
    (january, before), (february, after) = parts(span, "month")
    assert (january.name, february.name) == ("2024-01", "2024-02")
    midnight = datetime(2024, 2, 1, tzinfo=UTC)
    assert (before, after) == (Span(span.start, midnight), Span(midnight, span.end))


def test_an_instant_in_another_zone_belongs_to_its_utc_segment():
    late = datetime.fromisoformat("2023-12-31T23:00:00-05:00")
    assert segment_of(late, "year").name == "2024"


def test_an_end_at_a_reset_does_not_touch_the_next_segment():
    assert [s.name for s in segments(parse_span("2023-12-31", "2023-12-31"), "year")] == ["2023"]


def test_the_id_of_rules_never_changes():
    numbers = {
        BarRules(): 0x44675D7ECC1CE63D,
        BarRules(prevent_same_timestamp_close=False): 0x9116B43FF399C260,
        BarRules(max_gap_us=3_600_000_000): 0xEF9D7AC20CB16513,
        BarRules(bar_semantics=2): 0x426EC777DCDD0300,
    }
    assert {one: one.id for one in numbers} == numbers


def test_every_part_of_a_series_changes_its_key():
    first = SPEC.series(date(2024, 1, 30))
    others = [
        BarSpec.of("ETHUSDT", 250).series(date(2024, 1, 30)),
        BarSpec.of("BTCUSDT", 500).series(date(2024, 1, 30)),
        BarSpec.of("BTCUSDT", 250, market="um").series(date(2024, 1, 30)),
        BarSpec.of("BTCUSDT", 250, source="exness").series(date(2024, 1, 30)),
        BarSpec.of("BTCUSDT", 250, reset="month").series(date(2024, 1, 30)),
        BarSpec.of("BTCUSDT", 250, rules=BarRules(prevent_same_timestamp_close=False))
        .series(date(2024, 1, 30)),
        SPEC.series(date(2023, 12, 31)),
        SPEC.series(date(2024, 1, 31)),
    ]  # fmt: skip
    assert len({one.key for one in [first, *others]}) == len(others) + 1
    keys = {one.lease_key.file_name for one in [first, *others]}
    # A lease does not depend on the anchor.
    assert len(keys) == len(others)


def test_an_anchor_keeps_its_microseconds():
    anchor = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    series = SPEC.series(anchor)
    assert (series.anchor, series.first_day) == (anchor, date(2024, 5, 6))
    assert instant_of(microseconds(anchor)) == anchor


@pytest.mark.parametrize("wrong", ["decade", "", "Year"])
def test_an_unknown_reset_mode_is_refused(wrong):
    with pytest.raises(ValueError, match="unknown value"):
        reset_mode(wrong)


@pytest.mark.parametrize("day", [date(1970, 12, 31), date(2149, 1, 1)])
def test_days_beyond_the_database_are_refused(day):
    with pytest.raises(ValueError, match="the cache stores days"):
        segment_of(day, "year")
