"""Estimators of cases with a known answer, and calls that are refused."""

from __future__ import annotations

import importlib.util
import math
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars import estimators
from wrong_arguments.table import check, wrong

if TYPE_CHECKING:
    from pathlib import Path

    from wrong_arguments.table import Wrong

START = datetime(2024, 1, 1)  # noqa: DTZ001 - bars of times without a zone


def timed(opens: list[float], closes: list[float], seconds: list[float]) -> pl.DataFrame:
    ends = [START + timedelta(seconds=one) for one in seconds]
    times = {"open_time": [START] * len(opens), "close_time": ends}
    return pl.DataFrame({"open": opens, "close": closes, **times})


def last(frame: pl.DataFrame, expression: pl.Expr) -> Any:
    return frame.select(expression).to_series()[-1]


# Computed by hand; the contract's oracle asserts the same numbers.
def test_values_computed_by_hand() -> None:
    flow = pl.DataFrame({"buy_volume": [1, 5, 2], "sell_volume": [2, 0, 9]})
    assert last(flow, estimators.vpin(3)) == pytest.approx(13 / 19, abs=1e-15)
    prices = pl.DataFrame({"close": [100, 101, 101, 100], "turnover": [1, 50, 0, 20]})
    want = math.log(1.01) * (1 / 50 + 1 / 20) / 2
    assert last(prices, estimators.amihud(4)) == pytest.approx(want, rel=1e-12)
    impact = pl.DataFrame(
        {"close": [100, 101, 103], "buy_volume": [9, 2, 3], "sell_volume": [0, 1, 0]}
    )
    assert last(impact, estimators.kyle_regression(3)) == pytest.approx(0.7, rel=1e-15)
    bars = timed([100, 100], [101, 99], [50, 30])
    moves = math.log(1.01) ** 2, math.log(0.99) ** 2
    assert last(bars, estimators.duration_variance(2)) == pytest.approx(sum(moves) / 80, rel=1e-12)
    weighted = estimators.duration_variance(half_life=1)
    assert last(bars, weighted) == pytest.approx((0.5 * moves[0] + moves[1]) / 55, rel=1e-12)
    one = pl.DataFrame({"open": [100.0], "high": [100.3], "low": [99.9], "close": [100.3]})
    assert last(one, estimators.overshoot(250)) == pytest.approx(0.2, abs=1e-12)
    assert last(one, estimators.overshoot("0.25%")) == pytest.approx(0.2, abs=1e-12)
    assert last(one, estimators.overshoot(rb.Distance("0.25"))) == pytest.approx(0.2, abs=1e-9)
    assert last(one, estimators.opposite_wick()) == pytest.approx(0.25, abs=1e-12)


def test_the_default_window_is_50_bars() -> None:
    frame = pl.DataFrame({"buy_volume": [1.0] * 51, "sell_volume": [0.0] * 51})
    assert frame.select(estimators.vpin()).to_series().to_list() == [None] * 49 + [1.0] * 2
    bars = timed([100] * 51, [101] * 51, [10] * 51)
    assert bars.select(estimators.duration_variance()).to_series().null_count() == 49


def test_nothing_is_defined_for_a_price_that_stands_still() -> None:
    frame = pl.DataFrame(
        {
            **dict.fromkeys(("open", "high", "low", "close"), [5.0] * 3),
            "turnover": [1.0] * 3,
            "buy_volume": [2.0] * 3,
            "sell_volume": [2.0] * 3,
        }
    )
    assert frame.select(estimators.opposite_wick()).to_series().null_count() == 3
    assert frame.select(estimators.tick_rule("close")).to_series().null_count() == 3
    assert frame.select(estimators.kyle_regression(2)).to_series().null_count() == 3
    assert last(frame, estimators.amihud(2)) == 0.0
    assert last(frame, estimators.vpin(2)) == 0.0
    assert last(frame, estimators.overshoot(250)) == -1.0


# Wald (1944), second identity: E[sum of squares] = variance · E[time], also for bars that stop at a
# barrier, so that the ratio of the sums is the variance of a step: 1e-8, for this seed within 10 %.
def test_duration_variance_of_a_stopped_walk_is_that_of_its_steps() -> None:
    rng = np.random.default_rng(11)
    walk = np.exp(np.cumsum(rng.normal(0, 1e-4, 400_000)))
    stamps = pl.Series(np.arange(walk.size)) * 1_000_000
    trades = pl.DataFrame({"timestamp": stamps.cast(pl.Datetime("us")), "price": walk * 1e5})
    bars = trades.rangebar.bars(250)
    assert bars.height > 400
    value = last(bars, estimators.duration_variance(bars.height))
    assert value == pytest.approx(1e-8, rel=0.1)


# Kyle's model by construction: the price moves by 0.002 per unit of net volume, plus noise that is
# not related to it.
def test_kyle_regression_finds_the_slope_it_was_made_with() -> None:
    rng = np.random.default_rng(5)
    buys, sells = rng.lognormal(size=(2, 20_000))
    moves = 0.002 * (buys - sells) + rng.normal(0, 0.001, 20_000)
    frame = pl.DataFrame(
        {"close": 100_000 + np.cumsum(moves), "buy_volume": buys, "sell_volume": sells}
    )
    slope = last(frame, estimators.kyle_regression(20_000))
    assert slope == pytest.approx(0.002, abs=5e-5)


# Bars whose sides are fair coins of k trades of size 1: E|B − S| / k is about sqrt(2/(πk)).
def test_vpin_of_fair_coins_is_the_mean_distance_of_a_binomial() -> None:
    rng = np.random.default_rng(7)
    bought = rng.binomial(100, 0.5, 50_000)
    frame = pl.DataFrame({"buy_volume": bought, "sell_volume": 100 - bought})
    want = math.comb(100, 50) / 2**100
    value = last(frame, estimators.vpin(50_000))
    assert value == pytest.approx(want, abs=0.001)
    assert value == pytest.approx(math.sqrt(2 / (math.pi * 100)), abs=0.002)


# Lee & Ready (1991), figure 1: up, zero-up, down, zero-down.
def test_ticks_of_four_kinds() -> None:
    trades = pl.DataFrame({"price": [10.0, 10.1, 10.1, 10.0, 10.0, None, math.nan, 10.0, 10.2]})
    sides = trades.select(estimators.tick_rule("price")).to_series().to_list()
    assert sides == [None, False, False, True, True, None, None, True, False]


def test_ids_that_are_absent_inside_a_bar_are_counted() -> None:
    trades = rb.sample_ticks()
    whole = trades.rangebar.bars(250)
    assert whole.select(estimators.missing_records())["missing_records"].sum() == 0
    inside = int(whole["first_agg_trade_id"][3]) + 1
    without = trades.filter(~pl.col("agg_trade_id").is_in([inside, inside + 1])).rangebar.bars(250)
    assert without.select(estimators.missing_records()).sum().item() == 2


def test_the_oracle_of_the_contract_has_the_same_values(shared: Path) -> None:
    path = shared / "oracle" / "features_contract.py"
    if not path.is_file():
        pytest.skip("the oracle is not here")
    spec = importlib.util.spec_from_file_location("features_contract", path)
    oracle = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = oracle
    try:
        spec.loader.exec_module(oracle)
    finally:
        del sys.modules[spec.name]
    bars = rb.sample_ticks().rangebar.bars(250)
    part = bars.tail(50)
    closes, buys, sells = (part[name].to_list() for name in ("close", "buy_volume", "sell_volume"))
    opens, turnovers = part["open"].to_list(), part["turnover"].to_list()
    spans = (part["close_time"] - part["open_time"]).dt.total_nanoseconds() / 1e9
    prices = [part[name][-1] for name in ("open", "high", "low", "close")]
    ids = part.select("first_agg_trade_id", "last_agg_trade_id", "agg_record_count").row(-1)
    every = bars["open"].to_list(), bars["close"].to_list()
    every_span = ((bars["close_time"] - bars["open_time"]).dt.total_nanoseconds() / 1e9).to_list()
    pairs = [
        (estimators.vpin(), oracle.vpin(buys, sells)),
        (estimators.amihud(), oracle.amihud(closes, turnovers)),
        (estimators.kyle_regression(), oracle.kyle_regression(closes, buys, sells)),
        (estimators.duration_variance(),
         oracle.duration_variance(opens, closes, spans.to_list())),
        (estimators.duration_variance(half_life=7),
         oracle.duration_variance_weighted(*every, every_span, 7)),
        (estimators.overshoot(250), oracle.overshoot(prices[0], prices[3], 250)),
        (estimators.opposite_wick(), oracle.opposite_wick(*prices)),
        (estimators.missing_records(), oracle.missing_ids(*ids)),
    ]  # fmt: skip
    for expression, want in pairs:
        assert last(bars, expression) == pytest.approx(want, rel=1e-9, abs=1e-9)
    ticks = rb.sample_ticks().head(5_000)
    sides = ticks.select(estimators.tick_rule("price")).to_series().to_list()
    assert sides == oracle.tick_rule(ticks["price"].to_list())


N = "`n` must be a whole number of bars, 2 or more"
LIFE = "`half_life` must be a number of bars above 0"
REFUSED: list[Wrong] = [
    *(
        wrong(f"rb.estimators.{name}({value})", ValueError, N, "write n=50",
              retry=f"rb.estimators.{name}({{keyword}})")
        for name in ("vpin", "amihud", "kyle_regression", "duration_variance")
        for value in ("1", "0", "-3", "True", "2.0", "'50'", "[5]", "np.float64(3)")
    ),
    *(wrong(f"rb.estimators.{name}(None)", ValueError, N, "`None`")
      for name in ("vpin", "amihud", "kyle_regression")),
    *(
        wrong(f"rb.estimators.duration_variance(half_life={value})", ValueError, LIFE,
              retry="rb.estimators.duration_variance({keyword})")
        for value in ("0", "-1.5", "float('nan')", "float('inf')", "True", "'5'", "10**400")
    ),
    wrong("rb.estimators.duration_variance(50, half_life=5)", ValueError, "`n` is `50`",
          "`half_life` is `5`", "pass one of them"),
    wrong("rb.estimators.vpin(buy_volume=3)", TypeError, "`buy_volume` must be the name",
          "`int`", retry="rb.estimators.vpin({keyword})"),
    wrong("rb.estimators.tick_rule(None)", TypeError, "`price` must be the name", "`NoneType`",
          retry="rb.estimators.tick_rule({keyword})"),
    wrong("rb.estimators.tick_rule()", TypeError, "`tick_rule` needs the argument `price`",
          retry="rb.estimators.tick_rule({keyword})"),
    wrong("rb.estimators.vpin(window=50)", TypeError, "there is no argument `window`"),
    wrong("rb.estimators.vpin(50, 'b', 's')", TypeError, "too many positional arguments"),
    wrong("rb.estimators.overshoot(0.25)", rb.exceptions.ThresholdError, "is a float"),
    wrong("rb.estimators.overshoot(0)", rb.exceptions.ThresholdError, "out of the range"),
    wrong("rb.estimators.overshoot('threshold')", rb.exceptions.ThresholdError, "`threshold`"),
    wrong("rb.estimators.overshoot([250, 500])", TypeError, "one threshold is expected"),
    wrong("rb.estimators.overshoot()", TypeError, "needs the argument `threshold`",
          retry="rb.estimators.overshoot({keyword})"),
]  # fmt: skip


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_a_wrong_argument_is_refused_at_the_call(row: Wrong) -> None:
    check(row)


def test_numbers_of_numpy_are_numbers() -> None:
    frame = pl.DataFrame({"buy_volume": [1.0, 2.0], "sell_volume": [0.0, 2.0]})
    want = frame.select(estimators.vpin(2))
    for n in (np.int64(2), np.uint8(2)):
        assert frame.select(estimators.vpin(n)).equals(want)
    bars = timed([100, 100], [101, 99], [50, 30])
    for life in (np.float32(2), np.int64(2), 2):
        got = bars.select(estimators.duration_variance(half_life=life))
        assert got.equals(bars.select(estimators.duration_variance(half_life=2.0)))
    with pytest.raises(ValueError, match="half_life"):
        estimators.duration_variance(half_life=Decimal(2))
