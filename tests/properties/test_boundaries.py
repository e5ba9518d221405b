"""Resets and gaps: the exact instant at which a bar ends, in any unit and zone."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from properties import entry_points
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from properties.model import Case

# A Saturday, Sunday and Monday; ends of months, of leap and other years, of a century.
BOUNDARIES = [
    ("day", "2024-05-14", True),
    ("1d", "2024-05-14", True),
    ("week", "2024-05-12", True),  # a Sunday
    ("week", "2024-05-13", False),
    ("week", "2024-05-11", False),
    ("1w", "2024-05-13", True),  # a Monday
    ("1w", "2024-05-12", False),
    ("1w", "2024-05-14", False),
    ("week", "1970-01-04", True),
    ("1w", "1970-01-05", True),
    ("1w", "1970-01-02", False),
    ("month", "2024-03-01", True),
    ("month", "2024-02-29", False),
    ("month", "2023-03-01", True),
    ("month", "1972-03-01", True),
    ("1mo", "2000-03-01", True),
    ("month", "2100-03-01", True),
    ("month", "2100-02-28", False),
    ("year", "2024-01-01", True),
    ("1y", "2025-01-01", True),
    ("year", "2024-12-31", False),
    ("year", "1971-01-01", True),
    ("year", "2100-01-01", True),
    ("year", "2023-12-01", False),
    (None, "2024-01-01", False),
]
DTYPES = [pl.Datetime(u, z) for u in ("ms", "us", "ns") for z in (None, "UTC", "Pacific/Auckland")]


def around(day: str, dtype: pl.Datetime) -> pl.DataFrame:
    """Four trades: two up to the last instant before a UTC midnight, two from midnight on."""
    instant = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
    midnight = pl.Series([instant]).dt.cast_time_unit(dtype.time_unit).to_physical()[0]
    times = [midnight - 2, midnight - 1, midnight, midnight + 1]
    time = pl.Series(times, dtype=pl.Int64).cast(dtype)
    return pl.DataFrame({"timestamp": time, "price": [100.0, 100.1, 100.05, 100.0]})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_reset_ends_a_bar_at_midnight_utc(dtype: pl.Datetime) -> None:
    for reset, day, ends in BOUNDARIES:
        case = Case(around(day, dtype), 250, reset=reset, incomplete="keep")
        bars = entry_points.eager(case)
        counts, reasons = ([2, 2], ["reset", None]) if ends else ([4], [None])
        assert bars["agg_record_count"].to_list() == counts, (reset, day)
        assert bars["ended_by"].to_list() == reasons, (reset, day)
        assert_same_bars(entry_points.eager_expression(case), bars)
        assert_same_bars(entry_points.resumed_each_row(case), bars)


def test_a_bar_that_a_reset_ends_takes_no_id_unless_it_is_kept() -> None:
    frame = around("2024-02-01", pl.Datetime("us")).with_columns(
        price=pl.Series([100.0, 100.1, 100.2, 100.5])
    )
    dropped = Case(frame, 250, reset="month")
    assert entry_points.eager(dropped).select("bar_id", "open").rows() == [(0, 100.2)]
    assert frame.select(entry_points.bar_id(dropped))["bar_id"].to_list() == [None, None, 0, 0]
    kept = Case(frame, 250, reset="month", incomplete="keep")
    rows = entry_points.eager(kept).select("bar_id", "is_closed", "ended_by").rows()
    assert rows == [(0, False, "reset"), (1, True, "threshold")]
    assert frame.select(entry_points.bar_id(kept))["bar_id"].to_list() == [0, 0, 1, 1]


def test_the_first_trade_after_a_reset_opens_even_where_it_breaches() -> None:
    frame = around("2024-02-01", pl.Datetime("us")).with_columns(
        price=pl.Series([100.0, 100.1, 150.0, 150.1])
    )
    bars = entry_points.eager(Case(frame, 250, reset="month", incomplete="keep"))
    assert bars.select("open", "close", "ended_by").rows() == [
        (100.0, 100.1, "reset"),
        (150.0, 150.1, None),
    ]


def silent(microseconds: int) -> pl.DataFrame:
    time = pl.Series([0, microseconds], dtype=pl.Int64).cast(pl.Datetime("us"))
    return pl.DataFrame({"timestamp": time, "price": [100.0, 100.1]})


@pytest.mark.parametrize(
    ("gap", "microseconds"),
    [
        ("1us", 1),
        ("250ms", 250_000),
        ("2s", 2_000_000),
        ("30m", 1_800_000_000),
        ("36h", 129_600_000_000),
        ("1h30m", 5_400_000_000),
        (dt.timedelta(microseconds=1), 1),
        (dt.timedelta(hours=1), 3_600_000_000),
        (dt.timedelta(days=400), 34_560_000_000_000),
    ],
)
def test_only_a_longer_silence_ends_a_bar(gap: object, microseconds: int) -> None:
    at = silent(microseconds).rangebar.bars(250, max_gap=gap, incomplete="keep")
    assert at["ended_by"].to_list() == [None]
    beyond = silent(microseconds + 1).rangebar.bars(250, max_gap=gap, incomplete="keep")
    assert beyond["ended_by"].to_list() == ["gap", None]


def test_a_gap_is_compared_in_nanoseconds_whatever_the_unit() -> None:
    time = pl.Series([0, 1, 3], dtype=pl.Int64)
    for unit, gap, counts in [
        ("ns", "1ns", [2, 1]),
        ("ms", "1ms", [2, 1]),
        ("ms", "1500us", [2, 1]),
    ]:
        frame = pl.DataFrame({"timestamp": time.cast(pl.Datetime(unit)), "price": [100.0] * 3})
        bars = frame.rangebar.bars(250, max_gap=gap, incomplete="keep")
        assert bars["agg_record_count"].to_list() == counts


def test_a_reset_comes_before_a_gap_on_one_row() -> None:
    frame = silent(86_400_000_000)
    bars = frame.rangebar.bars(250, reset="day", max_gap="1h", incomplete="keep")
    assert bars["ended_by"].to_list() == ["reset", None]


def test_a_silence_between_bars_ends_nothing() -> None:
    time = pl.Series([0, 1, 10**12], dtype=pl.Int64).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0, 101.0, 102.0]})
    bars = frame.rangebar.bars(250, max_gap="1h", incomplete="keep")
    assert bars["ended_by"].to_list() == ["threshold", None]


def test_each_key_has_its_own_silence() -> None:
    time = pl.Series([0, 1800, 3600, 5400], dtype=pl.Int64) * 1_000_000
    frame = pl.DataFrame(
        {
            "timestamp": time.cast(pl.Datetime("us")),
            "price": [100.0] * 4,
            "symbol": ["A", "B", "B", "A"],
        }
    )
    bars = frame.rangebar.bars(250, group_by="symbol", max_gap="1h", incomplete="keep")
    assert bars.select("symbol", "ended_by").rows() == [("A", "gap"), ("A", None), ("B", None)]


@pytest.mark.parametrize("reset", ["day", "1w", "month", "year"])
def test_segments_are_bars_of_their_own(reset: str) -> None:
    """What comes before a reset has no influence on what comes after it."""
    slow = long_frame(seed=81, rows=4_000)
    stretched = (
        pl.col("timestamp").first()
        + (pl.col("timestamp") - pl.col("timestamp").first()) * 40_000_000
    )
    frame = slow.with_columns(stretched)
    every = {"day": "1d", "1w": "1w", "month": "1mo", "year": "1y"}[reset]
    segment = pl.col("timestamp").dt.convert_time_zone("UTC").dt.truncate(every).alias("segment")
    whole = frame.rangebar.bars(40, reset=reset)
    parts = frame.with_columns(segment).partition_by("segment", include_key=False)
    apart = pl.concat([part.rangebar.bars(40) for part in parts])
    assert len(parts) > 1
    assert_same_bars(whole.drop("bar_id"), apart.drop("bar_id"))
    assert whole["bar_id"].to_list() == list(range(whole.height))
