"""The same trades in other dtypes, under other names: the same bars."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties import entry_points, oracle
from properties.comparing import assert_matches, assert_same_bars
from properties.frames import cases, long_frame
from properties.model import Case, expect

TIME_DTYPES = [
    pl.Datetime(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")
]


def rows_of(
    prices: list[object], dtype: pl.DataType, quantity: pl.Series | None = None
) -> pl.DataFrame:
    time = pl.Series(range(0, 1000 * len(prices), 1000), dtype=pl.Int64).cast(
        pl.Datetime("us", "UTC")
    )
    frame = pl.DataFrame({"timestamp": time, "price": pl.Series(prices, dtype=dtype)})
    return frame if quantity is None else frame.with_columns(quantity.alias("quantity"))


@pytest.mark.parametrize("dtype", TIME_DTYPES, ids=str)
def test_times_keep_their_dtype(dtype: pl.Datetime, day: pl.DataFrame) -> None:
    since = pl.col("timestamp") - pl.col("timestamp").first()
    stretched = pl.col("timestamp").first() + since * 1000
    time = stretched.dt.replace_time_zone(dtype.time_zone).dt.cast_time_unit(dtype.time_unit)
    case = Case(day.with_columns(timestamp=time), features="microstructure", incomplete="keep")
    bars = entry_points.eager(case)
    assert bars.schema["open_time"] == bars.schema["close_time"] == dtype
    assert_matches(bars, expect(case).bars)
    for entry_point in entry_points.ALL.values():
        assert_same_bars(entry_point(case), bars)


def test_duration_is_floored_to_microseconds() -> None:
    time = pl.Series([0, 1_999], dtype=pl.Int64).cast(pl.Datetime("ns"))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0, 101.0]})
    bars = frame.rangebar.bars(250, features=["duration_us", "trade_intensity"])
    assert bars["duration_us"].to_list() == [1]
    assert bars["trade_intensity"].to_list() == [2.0 * (1.0 / (1.0 * 1e-6))]


def test_a_duration_that_floors_to_zero_has_no_intensity() -> None:
    time = pl.Series([0, 999], dtype=pl.Int64).cast(pl.Datetime("ns"))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0, 101.0]})
    bars = frame.rangebar.bars(250, features=["duration_us", "trade_intensity"])
    assert bars.select("duration_us", "trade_intensity").rows() == [(0, None)]


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=30), st.sampled_from([1, 250, 100_000]))
def test_integers_and_decimals_equal_floats(prices: list[int], threshold: int) -> None:
    frames = [
        rows_of(prices, dtype) for dtype in (pl.Float64, pl.Decimal(20, 0), pl.Decimal(38, 12))
    ]
    frames += [rows_of(prices, dtype) for dtype in (pl.Int64, pl.UInt64, pl.Int32, pl.UInt32)]
    bars = [entry_points.eager(Case(frame, threshold, incomplete="keep")) for frame in frames]
    for other in bars[1:]:
        assert_same_bars(other, bars[0])


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.UInt8, pl.Int16, pl.UInt16, pl.Int32, pl.Int64, pl.UInt64]
)
def test_any_integer_is_a_quantity(dtype: pl.DataType) -> None:
    case = Case(rows_of([100.0, 101.0], pl.Float64, pl.Series([3, 4], dtype=dtype)))
    for entry_point in entry_points.ALL.values():
        assert entry_point(case).select("volume", "turnover").rows() == [(7.0, 704.0)]


@given(
    st.lists(st.decimals("0.00000001", "90000000000", places=10), min_size=2, max_size=20),
    st.sampled_from([10, 250, 100_000]),
)
def test_decimals_are_rounded_half_away_in_integers(prices: list[Decimal], threshold: int) -> None:
    case = Case(rows_of(prices, pl.Decimal(38, 10)), threshold, incomplete="keep")
    assert_matches(entry_points.eager(case), expect(case).bars)
    assert_same_bars(entry_points.eager_expression(case), entry_points.eager(case))


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.000000005", 1),
        ("0.000000014999", 1),
        ("0.000000015", 2),
        ("90000000000.123456785", 9_000_000_000_012_345_679),
    ],
)
def test_a_decimal_tie_goes_away_from_zero(text: str, units: int) -> None:
    frame = rows_of([Decimal(text)], pl.Decimal(38, 12))
    bars = frame.rangebar.bars(250, incomplete="keep")
    assert bars["open"].to_list() == [units / 1e8]


@pytest.mark.parametrize(
    ("price", "units"),
    [
        (5e-9, 1),
        (1.5e-8, 1),  # the double is below the tie
        (2.5e-8, 3),
        (123.456789015, 12_345_678_902),
        (0.1 + 0.2, 30_000_000),
        (92_233_720_368.54774, int(92_233_720_368.54774 * 1e8)),
    ],
)
def test_a_float_goes_to_the_grid_in_double_precision(price: float, units: int) -> None:
    assert oracle.to_grid(price) == units
    bars = rows_of([price], pl.Float64).rangebar.bars(250, incomplete="keep")
    assert bars["open"].to_list() == [units / 1e8]


SIDES = [("buy", "sell"), ("b", "s"), ("bid", "ask"), ("BUY", "Sell"), ("B", "S"), ("Bid", "ASK")]


@pytest.mark.parametrize(("buy", "sell"), SIDES)
@pytest.mark.parametrize("kind", ["string", "categorical", "enum"])
def test_side_in_words_equals_the_flag(buy: str, sell: str, kind: str, day: pl.DataFrame) -> None:
    dtype = {"string": pl.String, "categorical": pl.Categorical, "enum": pl.Enum([sell, buy])}[kind]
    word = pl.when("is_buyer_maker").then(pl.lit(sell)).otherwise(pl.lit(buy)).cast(dtype)
    flagged = Case(day, features="microstructure", incomplete="keep")
    worded = Case(
        day.select(pl.all().exclude("is_buyer_maker"), side=word),
        features="microstructure",
        incomplete="keep",
    )
    bars = entry_points.eager(flagged)
    for entry_point in entry_points.ALL.values():
        assert_same_bars(entry_point(worded), bars)


def test_side_replaces_the_default_flag_of_an_expression(day: pl.DataFrame) -> None:
    word = pl.when("is_buyer_maker").then(pl.lit("sell")).otherwise(pl.lit("buy"))
    frame = day.select(pl.all().exclude("is_buyer_maker"), side=word)
    bars = frame.select(rb.bars("price", 250, side="side")).unnest("bars")
    assert bars["sell_volume"].to_list() == day.rangebar.bars(250)["sell_volume"].to_list()


def test_a_frame_with_both_takes_the_flag(day: pl.DataFrame) -> None:
    bars = day.with_columns(side=pl.lit("buy")).rangebar.bars(250)
    assert_same_bars(bars, day.rangebar.bars(250))


@given(cases(keys=(None,)))
def test_literals_stand_for_whole_columns(case: Case) -> None:
    frame = case.frame.drop("side", strict=False).with_columns(
        quantity=pl.lit(2.0), is_buyer_maker=pl.lit(value=True)
    )
    whole = Case(**{**vars(case), "frame": frame})
    bound = {**whole.bound, "quantity": pl.lit(2.0), "is_buyer_maker": pl.lit(value=True)}
    literal = rb.bars("price", case.threshold, **bound, **case.arguments)
    bars = entry_points.eager_expression(whole)
    assert_same_bars(frame.select(literal).unnest("bars"), bars)


def test_columns_may_be_expressions() -> None:
    frame = long_frame(seed=1, rows=3_000)
    odd = frame.select(
        ms=pl.col("timestamp").dt.epoch("ms"), twice=pl.col("price") * 2, q=pl.col("quantity")
    )
    time = pl.col("ms").cast(pl.Datetime("ms"))
    bars = odd.select(
        rb.bars(pl.col("twice") / 2, 50, timestamp=time, quantity="q", is_buyer_maker=None)
    )
    plain = frame.select(
        pl.col("timestamp").dt.replace_time_zone(None).dt.cast_time_unit("ms"), "price", "quantity"
    )
    assert_same_bars(bars.unnest("bars"), plain.rangebar.bars(50))
