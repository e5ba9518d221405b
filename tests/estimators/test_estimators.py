"""Estimators against plain loops, for values that bars may have."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from estimators import loops
from rangebar_polars import estimators

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2024, 1, 1)  # noqa: DTZ001 - bars of times without a zone
WINDOWS = st.one_of(st.integers(2, 9), st.just(60), st.just(1500))
#: Sizes of prices and of volumes, each for a whole frame.
SIZES = st.sampled_from([1e-8, 1.0, 30_000.0, 1e10])


@st.composite
def frames(draw: st.DrawFn, *, rows: int = 24) -> pl.DataFrame:
    """Return bars: plain ones, some with nulls, zeros or one value in all rows."""
    count = draw(st.integers(0, rows))
    nulls = draw(st.sampled_from([0, 0, 0, 1, 3]))
    price, size = draw(SIZES), draw(SIZES)
    unit = st.floats(1.0, 2.0)
    # Moves of a range bar are far above the rounding of its prices.
    prices = st.lists(unit.map(lambda x: round(x, 4) * price), min_size=count, max_size=count)
    # Zeros beside large volumes, and frames without any volume.
    volume = st.sampled_from([0.0, 1.0]).flatmap(lambda x: unit.map(lambda y: x * y * size))
    volumes = st.lists(
        draw(st.sampled_from([volume, unit.map(lambda x: x * size), st.just(0.0), st.just(size)])),
        min_size=count,
        max_size=count,
    )
    seconds = draw(
        st.lists(st.sampled_from([0, 0, 1, 7, 86_400, 10**-6]), min_size=count, max_size=count)
    )
    columns = {
        "open": draw(prices),
        "close": draw(prices),
        "buy_volume": draw(volumes),
        "sell_volume": draw(volumes),
        "turnover": draw(volumes),
        "open_time": [START] * count,
        "close_time": [START + timedelta(seconds=one) for one in seconds],
    }
    for _ in range(nulls if count else 0):
        name = draw(st.sampled_from(list(columns)))
        columns[name][draw(st.integers(0, count - 1))] = None
    schema = {name: pl.Datetime("us") if name.endswith("time") else pl.Float64 for name in columns}
    return pl.DataFrame(columns, schema=schema)


def seconds_of(bars: pl.DataFrame) -> list[float | None]:
    times = zip(bars["open_time"], bars["close_time"], strict=True)
    return [None if a is None or b is None else (b - a).total_seconds() for a, b in times]


def lists(bars: pl.DataFrame, *names: str) -> list[list[float | None]]:
    return [bars[name].to_list() for name in names]


def assert_near(
    got: pl.Series,
    want: list[float | None],
    *,
    relative: float = 1e-9,
    absolute: float = 0.0,
    noise: list[float | None] | None = None,
) -> None:
    assert got.len() == len(want)
    for row, (one, other) in enumerate(zip(got.to_list(), want, strict=True)):
        assert (one is None) == (other is None), (row, one, other)
        if other is not None:
            allowed = relative * abs(other) + absolute + ((noise[row] or 0.0) if noise else 0.0)
            assert abs(one - other) <= allowed, (row, one, other)


@given(frames(), WINDOWS)
def test_vpin_is_the_loop(bars: pl.DataFrame, n: int) -> None:
    want = loops.windows(n, loops.vpin, *lists(bars, "buy_volume", "sell_volume"))
    got = bars.select(estimators.vpin(n)).to_series()
    assert_near(got, want, relative=0.0, absolute=1e-9)
    assert got.drop_nulls().is_between(0.0, 1.0).all()


@given(frames(), WINDOWS)
def test_amihud_is_the_loop(bars: pl.DataFrame, n: int) -> None:
    want = loops.windows(n, loops.amihud, *lists(bars, "close", "turnover"))
    assert_near(bars.select(estimators.amihud(n)).to_series(), want)


@given(frames(), WINDOWS)
def test_kyle_regression_is_the_loop(bars: pl.DataFrame, n: int) -> None:
    columns = lists(bars, "close", "buy_volume", "sell_volume")
    want = loops.windows(n, loops.kyle, *columns)
    noise = loops.windows(n, loops.kyle_noise, *columns)
    assert_near(bars.select(estimators.kyle_regression(n)).to_series(), want, noise=noise)


@given(frames(), WINDOWS)
def test_duration_variance_is_the_loop(bars: pl.DataFrame, n: int) -> None:
    columns = [*lists(bars, "open", "close"), seconds_of(bars)]
    want = loops.windows(n, loops.variance, *columns)
    assert_near(bars.select(estimators.duration_variance(n)).to_series(), want)


@given(frames(), st.sampled_from([0.5, 1, 3.7, 50, 1e9]))
def test_weighted_duration_variance_is_the_loop(bars: pl.DataFrame, half_life: float) -> None:
    columns = [*lists(bars, "open", "close"), seconds_of(bars)]
    want = loops.from_the_first_row(loops.weighted_variance(half_life), *columns)
    got = bars.select(estimators.duration_variance(half_life=half_life)).to_series()
    assert_near(got, want)


PRICES = st.lists(st.sampled_from([None, 1.0, 2.0, 3.0]), max_size=40)


@given(PRICES)
def test_tick_rule_is_the_loop(prices: list[float | None]) -> None:
    trades = pl.DataFrame({"price": prices}, schema={"price": pl.Float64})
    got = trades.select(estimators.tick_rule("price")).to_series()
    assert got.dtype == pl.Boolean
    assert got.to_list() == loops.tick_rule(prices)


@given(
    st.lists(st.tuples(*[st.integers(90, 110)] * 4).map(sorted), min_size=1, max_size=20),
    st.booleans(),
    SIZES,
)
def test_opposite_wick_is_the_loop(rows: list[list[int]], up: bool, size: float) -> None:
    bars = pl.DataFrame(
        [(o * size, h * size, low * size, c * size) for low, o, c, h in rows]
        if up
        else [(o * size, h * size, low * size, c * size) for low, c, o, h in rows],
        schema=["open", "high", "low", "close"],
        orient="row",
    )
    want = [loops.opposite_wick(*row) for row in bars.rows()]
    got = bars.select(estimators.opposite_wick()).to_series()
    assert_near(got, want, relative=0.0, absolute=1e-9)
    assert got.drop_nulls().is_between(0.0, 1.0).all()


@given(frames(), st.integers(1, 100_000))
def test_overshoot_is_the_formula(bars: pl.DataFrame, threshold: int) -> None:
    want = [
        None if o is None or c is None else abs(c - o) * 100_000 / (o * threshold) - 1
        for o, c in bars.select("open", "close").rows()
    ]
    got = bars.select(estimators.overshoot(threshold)).to_series()
    assert_near(got, want, relative=1e-12, absolute=1e-9)
    column = bars.with_columns(threshold=pl.lit(threshold, pl.UInt32))
    assert column.select(estimators.overshoot(pl.col("threshold"))).to_series().equals(got)


IDS = st.lists(
    st.tuples(*[st.one_of(st.none(), st.integers(0, 2**62))] * 2, st.integers(1, 10**6)),
    max_size=12,
)


@given(IDS)
def test_missing_ids_are_counted(rows: list[tuple[int | None, int | None, int]]) -> None:
    want = [
        None if first is None or last is None else last - first + 1 - count
        for first, last, count in rows
    ]
    schema = dict.fromkeys(("a", "b", "n"), pl.Int64)
    bars = pl.DataFrame(rows, schema=schema, orient="row")
    for got in (
        bars.select(estimators.missing_records(
            first_agg_trade_id="a", last_agg_trade_id="b", agg_record_count="n")),
        bars.select(estimators.missing_fills(
            first_trade_id="a", last_trade_id="b", individual_trade_count="n")),
    ):  # fmt: skip
        assert got.to_series().dtype == pl.Int64
        assert got.to_series().to_list() == want


EVERY: dict[str, Callable[[], pl.Expr]] = {
    "vpin": lambda: estimators.vpin(5),
    "amihud": lambda: estimators.amihud(5),
    "kyle_regression": lambda: estimators.kyle_regression(5),
    "duration_variance": lambda: estimators.duration_variance(5),
    "overshoot": lambda: estimators.overshoot(pl.col("threshold")),
    "opposite_wick": estimators.opposite_wick,
    "missing_records": estimators.missing_records,
    "missing_fills": estimators.missing_fills,
    "tick_rule": lambda: estimators.tick_rule("close"),
}


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Return bars of two thresholds, mixed in order of time."""
    return rb.sample_ticks().rangebar.bars([100, 250]).sort("close_time", maintain_order=True)


def test_every_estimator_is_tested() -> None:
    assert set(EVERY) == set(estimators.__all__)


@pytest.mark.parametrize("name", EVERY)
def test_the_result_has_the_name_of_the_function_and_the_length_of_the_frame(
    name: str, bars: pl.DataFrame
) -> None:
    got = bars.select(EVERY[name]())
    assert got.columns == [name]
    assert got.height == bars.height
    assert got.to_series().null_count() < bars.height / 2


@pytest.mark.parametrize("name", EVERY)
def test_each_series_by_itself_is_over(name: str, bars: pl.DataFrame) -> None:
    got = bars.select("threshold", EVERY[name]().over("threshold"))
    for threshold in (100, 250):
        alone = bars.filter(pl.col("threshold") == threshold).select(EVERY[name]())
        assert got.filter(pl.col("threshold") == threshold).drop("threshold").equals(alone)


@pytest.mark.parametrize("weights", [False, True])
def test_weights_are_over_each_series_too(weights: bool, bars: pl.DataFrame) -> None:
    expression = estimators.duration_variance(half_life=4) if weights else estimators.vpin(1200)
    got = bars.select("threshold", value=expression.over("threshold"))
    alone = bars.filter(pl.col("threshold") == 100).select(value=expression)
    assert got.filter(pl.col("threshold") == 100).drop("threshold").equals(alone)


@pytest.mark.parametrize("name", EVERY)
def test_a_plan_gives_the_same_with_each_engine(name: str, bars: pl.DataFrame, engine: str) -> None:
    expression = EVERY[name]()
    assert bars.lazy().select(expression).collect().equals(bars.select(expression))
    over = expression.over("threshold")
    assert bars.lazy().with_columns(over).collect().equals(bars.with_columns(over))
    assert engine in ("in-memory", "streaming")


@pytest.mark.parametrize("name", EVERY)
def test_no_row_depends_on_later_rows(name: str, bars: pl.DataFrame) -> None:
    whole = bars.select(EVERY[name]())
    for height in (1, 4, 5, 6, 100):
        assert bars.head(height).select(EVERY[name]()).equals(whole.head(height))


@pytest.mark.parametrize("name", ["vpin", "amihud", "kyle_regression", "duration_variance"])
def test_a_value_has_the_same_bits_wherever_the_frame_begins(name: str, bars: pl.DataFrame) -> None:
    whole = bars.select(EVERY[name]()).to_series()
    for start in (1, 7, 50):
        part = bars.slice(start).select(EVERY[name]()).to_series()
        assert part.slice(4).equals(whole.slice(start + 4))


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_frame_gives_an_empty_column(name: str, bars: pl.DataFrame) -> None:
    got = bars.clear().select(EVERY[name]())
    assert got.height == 0
    assert got.schema == bars.select(EVERY[name]()).schema


def test_a_large_value_that_has_left_a_window_leaves_nothing() -> None:
    volumes = [1e18, 3e17, *[0.0] * 5, 1e-8, 3e-8]
    frame = pl.DataFrame({"buy_volume": volumes, "sell_volume": [0.0] * 8 + [1e-8]})
    got = frame.select(estimators.vpin(2)).to_series().to_list()
    assert got[:3] == [None, 1.0, 1.0]
    assert got[3:7] == [None] * 4
    assert got[7] == 1.0
    assert got[8] == pytest.approx(3 / 5, abs=1e-12)


def test_a_long_window_without_volume_is_null() -> None:
    frame = pl.DataFrame({"v": [0.1, 0.7, 1e10, *[0.0] * 1300]})
    got = frame.select(estimators.vpin(1200, buy_volume="v", sell_volume="v")).to_series()
    assert got.slice(1202).null_count() == 101
    assert got.slice(1199, 3).to_list() == [0.0] * 3


def test_a_window_may_be_longer_than_any_frame(bars: pl.DataFrame) -> None:
    for n in (bars.height + 1, 2**31, 2**40, 10**30):
        assert bars.select(estimators.vpin(n), estimators.amihud(n)).null_count().row(0) == (
            bars.height,
            bars.height,
        )


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1.0, None])
def test_an_input_that_cannot_be_counts_as_null(wrong: float | None, bars: pl.DataFrame) -> None:
    broken = bars.with_row_index().with_columns(
        pl.when(pl.col("index") == 20).then(pl.lit(wrong, pl.Float64)).otherwise(name).alias(name)
        for name in ("open", "close", "buy_volume")
    )
    for name in ("vpin", "amihud", "kyle_regression", "duration_variance"):
        got = broken.select(EVERY[name]()).to_series()
        assert got.is_null().arg_true().to_list() == [0, 1, 2, 3, *range(20, 25)]
    for name in ("overshoot", "opposite_wick"):
        assert broken.select(EVERY[name]()).to_series()[20] is None


def test_no_value_is_infinite() -> None:
    frame = pl.DataFrame(
        {
            "close": [1e-300, 1e300, 1e-300],
            "open": [1e-300] * 3,
            "turnover": [1e-320] * 3,
            "buy_volume": [1e-200, 1e200, 1e308],
            "sell_volume": [0.0, 0.0, 1e308],
        }
    )
    got = frame.select(
        estimators.amihud(2), estimators.kyle_regression(2), estimators.vpin(2),
        estimators.overshoot(1),
    )  # fmt: skip
    assert all(column.drop_nulls().is_finite().all() for column in got)
    assert got["amihud"].to_list() == [None] * 3
    assert got["overshoot"].to_list()[1] is None


def test_whole_numbers_and_decimals_are_numbers(bars: pl.DataFrame) -> None:
    plain = pl.DataFrame({"buy_volume": [1.0, 5.0, 2.0], "sell_volume": [2.0, 0.0, 9.0]})
    want = plain.select(estimators.vpin(2))
    for dtype in (pl.Int64, pl.UInt8, pl.Float32, pl.Decimal(10, 2)):
        assert plain.cast(dtype).select(estimators.vpin(2)).equals(want)
    prices = bars.select(pl.col("close").cast(pl.Decimal(18, 8)))
    assert prices.select(EVERY["tick_rule"]()).equals(bars.select(EVERY["tick_rule"]()))
    ids = bars.with_columns(pl.col("^.*_id$", "agg_record_count").cast(pl.Float64))
    assert ids.select(estimators.missing_records()).equals(
        bars.select(estimators.missing_records())
    )


def test_text_is_not_parsed() -> None:
    texts = pl.DataFrame({"a": ["1", "2"]})
    for expression in (
        estimators.vpin(2, buy_volume="a", sell_volume="a"),
        estimators.missing_records(
            first_agg_trade_id="a", last_agg_trade_id="a", agg_record_count="a"
        ),
        estimators.tick_rule("a"),
    ):
        with pytest.raises(pl.exceptions.PolarsError):
            texts.select(expression)


def test_columns_may_be_named_otherwise(bars: pl.DataFrame) -> None:
    renamed = bars.rename({"buy_volume": "b", "sell_volume": "s"})
    got = renamed.select(estimators.vpin(5, buy_volume="b", sell_volume=pl.col("s")))
    assert got.equals(bars.select(estimators.vpin(5)))
    by_series = bars.select(estimators.vpin(5, buy_volume=bars["buy_volume"]))
    assert by_series.equals(bars.select(estimators.vpin(5)))


def test_the_tick_rule_is_the_side_of_bars() -> None:
    trades = rb.sample_ticks().drop("is_buyer_maker").head(20_000)
    bars = trades.with_columns(is_buyer_maker=estimators.tick_rule("price")).rangebar.bars(250)
    assert bars["buy_volume"].null_count() == 0
    by_expression = trades.select(
        rb.bars("price", 250, is_buyer_maker=estimators.tick_rule("price"))
    )
    assert by_expression.unnest(by_expression.columns[0]).equals(bars)
