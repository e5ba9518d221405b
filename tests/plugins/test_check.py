"""`check_provider` finds what breaks a rule, and passes what does not."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from plugins.test_enrich import FAILING, Plugin
from rangebar_polars import estimators
from rangebar_polars.exceptions import BarDataError
from rangebar_polars.plugins import check_provider

if TYPE_CHECKING:
    from collections.abc import Callable


def problem(provider: Any, bars: pl.DataFrame) -> str:
    report = check_provider(provider, bars)
    assert not report.passed
    assert not report
    assert len(report.problems) == 1, report.problems
    assert report.problems[0] in str(report)
    return report.problems[0]


def column(expression: pl.Expr) -> Callable[..., pl.DataFrame]:
    return lambda bars, *_: bars.select(test_x=expression)


CLOSE = pl.col("close")
GOOD = {
    "one row": (column(CLOSE - pl.col("open")), 0),
    "returns": (column(CLOSE / CLOSE.shift(1)), 1),
    "estimator": (column(estimators.vpin(9)), 8),
    "running sum of Polars": (column(CLOSE.rolling_mean(9)), 8),
    "more memory than needed": (column(CLOSE.shift(2)), 12),
    "with nulls": (column(pl.when(pl.col("open") < CLOSE).then(CLOSE)), 0),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_provider_that_keeps_the_rules_passes(case: str, bars: pl.DataFrame) -> None:
    function, min_bars = GOOD[case]
    report = check_provider(Plugin(function, min_bars=min_bars), bars)
    assert report.problems == ()
    assert report.passed
    assert report
    assert str(report) == "test: passed"


def test_a_provider_in_pandas_passes(bars: pl.DataFrame) -> None:
    def enrich(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        data = frame.select("close").to_pandas()
        data["test_x"] = data["close"].rolling(5).std()
        return pl.from_pandas(data)

    assert check_provider(Plugin(enrich, min_bars=4), bars).passed


AHEAD = {
    "the next close": column(CLOSE.shift(-1)),
    "the mean of all": column(CLOSE - CLOSE.mean()),
    "the last row alone": column(pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(1.0).otherwise(2.0)),
    "a fill backwards": column(pl.when(pl.int_range(pl.len()) % 7 == 3).then(CLOSE).backward_fill()),
    "a rank": column(CLOSE.rank() / pl.len()),
}  # fmt: skip


@pytest.mark.parametrize("case", AHEAD)
def test_a_look_ahead_is_found(case: str, bars: pl.DataFrame) -> None:
    text = problem(Plugin(AHEAD[case]), bars) if case == "the next close" else None
    report = check_provider(Plugin(AHEAD[case]), bars)
    assert any(one.startswith("look-ahead: `test_x` of row ") for one in report.problems)
    assert text is None or "row 0" in text


LONG = {
    "one row more": (column(CLOSE.shift(5)), 4),
    "no limit": (column(CLOSE.cum_sum()), 10),
    "slow decay": (column(CLOSE.ewm_mean(half_life=10)), 30),
    "the first row": (column(CLOSE / CLOSE.first()), 3),
    "number of rows": (column(pl.int_range(pl.len()).cast(pl.Float64)), 5),
}  # fmt: skip


@pytest.mark.parametrize("case", LONG)
def test_a_memory_longer_than_min_bars_is_found(case: str, bars: pl.DataFrame) -> None:
    function, min_bars = LONG[case]
    text = problem(Plugin(function, min_bars=min_bars), bars)
    assert text.startswith("long memory: `test_x` of row ")
    assert f"are left out, although `min_bars` is {min_bars}" in text


def test_input_that_is_changed_is_found(bars: pl.DataFrame) -> None:
    def of_a_price(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        frame[3, "open"] = 1.0
        return frame.select(test_x="close")

    def of_columns(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        frame.insert_column(0, frame["close"].alias("test_x"))
        return frame

    def of_the_buffer(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        # NumPy sees the memory of the column, and protects it only by a flag.
        values = frame["close"].to_numpy(allow_copy=False)
        address = values.__array_interface__["data"][0]
        raw = (np.ctypeslib.ctypes.c_double * values.size).from_address(address)
        raw[0] += 1.0
        return frame.select(test_x=pl.col("open"))

    # The last one changes what it gets for good.
    own = pl.DataFrame(bars.to_dict(as_series=False), schema=bars.schema)
    for function in (of_a_price, of_columns):
        assert "changed the bars" in problem(Plugin(function), own)
        assert own.equals(bars)
    assert "changed the bars" in problem(Plugin(of_the_buffer), own)
    assert not own.equals(bars)


def test_a_second_result_that_differs_is_found(bars: pl.DataFrame) -> None:
    numbers = count()

    def enrich(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        return frame.select(test_x=pl.col("close") + next(numbers))

    assert "another result" in problem(Plugin(enrich), bars)


@pytest.mark.parametrize("case", FAILING)
def test_a_result_of_another_shape_is_found(case: str, bars: pl.DataFrame) -> None:
    function, said = FAILING[case]
    assert said in problem(Plugin(function), bars)


def test_a_failure_on_few_bars_is_found(bars: pl.DataFrame) -> None:
    def enrich(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        if frame.height < 10:
            raise ValueError("too short")
        return frame.select(test_x="close")

    report = check_provider(Plugin(enrich), bars)
    assert "failed on the first 1 bars: ValueError: too short" in report.problems[0]


def test_names_are_checked_first(bars: pl.DataFrame) -> None:
    assert "`name` must be of a-z" in problem(Plugin(column(CLOSE), name="My"), bars)
    other = Plugin(column(CLOSE), columns=("best_x",))
    assert "does not begin with `test_`" in problem(other, bars)
    report = check_provider(object(), bars)
    assert "it has no attribute `name`" in report.problems
    assert len(report.problems) == 5

    class Property(Plugin):
        @property
        def version(self) -> str:  # type: ignore[override]
            raise OSError("no metadata")

    assert "no metadata" in problem(Property(column(CLOSE)), bars)


def test_bars_that_test_nothing_do_not_pass(bars: pl.DataFrame) -> None:
    plugin = Plugin(column(CLOSE.shift(9)), min_bars=9)
    assert "10 bars are too few to test it: pass 11 or more" in problem(plugin, bars.head(10))
    assert check_provider(plugin, bars.head(11)).passed
    nothing = Plugin(column(CLOSE * pl.lit(None, pl.Float64)))
    assert "every value is null" in problem(nothing, bars)


def test_bars_of_several_series_are_refused() -> None:
    several = rb.sample_ticks().rangebar.bars([250, 500])
    with pytest.raises(BarDataError, match="threshold"):
        check_provider(Plugin(column(CLOSE)), several)


def test_symbol_and_threshold_are_those_of_the_bars(bars: pl.DataFrame) -> None:
    got = []

    def enrich(frame: pl.DataFrame, symbol: str, threshold: int) -> pl.DataFrame:
        got.append((symbol, threshold, type(threshold)))
        return frame.select(test_x="close")

    named = bars.select(
        pl.lit("ETHUSDT").alias("symbol"), pl.lit(500, pl.UInt32).alias("threshold"), pl.all()
    )
    assert check_provider(Plugin(enrich), named.head(5)).passed
    assert set(got) == {("ETHUSDT", 500, int)}
    got.clear()
    assert check_provider(Plugin(enrich), bars.head(5)).passed
    assert set(got) == {("BTCUSDT", 250, int)}


def test_a_lack_of_memory_is_raised(bars: pl.DataFrame) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        check_provider(Plugin(full), bars)
