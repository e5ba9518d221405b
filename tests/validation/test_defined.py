"""A value may be missing where its formula is undefined, and nowhere else."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties import entry_points
from properties.frames import cases
from properties.model import TEN, Case
from rangebar_polars.catalogue import columns
from rangebar_polars.interop.pandas_frames import bars_to_pandas
from rangebar_polars.validation._defined import DEFINITIONS
from rangebar_polars.validation.tier1 import Tier1Check, validate_tier1

if TYPE_CHECKING:
    import pandas as pd

pytest.importorskip("pandas")

#: Features of larger samples have conditions that no other column of the bar shows.
SHOWN = pl.col("group").is_in(["core", "microstructure"])
MAY_BE_NULL = set(columns().filter("nullable", SHOWN)["name"])
IDS = {"first_trade_id", "last_trade_id"}
JUDGED = [name for name in rb.REFERENCE_COLUMNS if name in MAY_BE_NULL]
TICKS = rb.sample_ticks().with_columns(
    quantity=pl.when(pl.col("agg_trade_id") % 4000 > 2000).then(0.0).otherwise("quantity")
)
BARS = TICKS.rangebar.bars(100, features="microstructure")
NO_SIDE = TICKS.drop("is_buyer_maker").rangebar.bars(100, features="microstructure")
NO_VOLUME = TICKS.drop("quantity", "is_buyer_maker").rangebar.bars(100, features="microstructure")


def as_read(bars: pl.DataFrame) -> pd.DataFrame:
    """Return the bars as readers give them: OHLCV and the fifteen, in pandas."""
    return bars_to_pandas(bars, rb.REFERENCE_COLUMNS)


def without(bars: pl.DataFrame, name: str, row: int, value: float | None = None) -> pl.DataFrame:
    """Return the bars with a null, or a NaN, in one place."""
    here = pl.int_range(pl.len()) == row
    lost = pl.lit(value, dtype=bars.schema[name])
    return bars.with_columns(pl.when(here).then(lost).otherwise(name).alias(name))


# The conditions are those of the kernel


def test_every_number_that_may_be_null_has_a_definition() -> None:
    assert set(DEFINITIONS) == MAY_BE_NULL - {"ended_by"}


@given(cases())
def test_a_bar_has_a_value_where_its_definition_says_so(case: Case) -> None:
    bars = entry_points.eager(Case(**{**vars(case), "features": "microstructure"}))
    for name, definition in DEFINITIONS.items():
        has_value = bars[name].is_not_null()
        for place, condition in enumerate(definition.of_bar):
            told = bars.select(condition.fill_null(value=False).alias(name)).to_series()
            assert not (told & ~has_value).any(), (name, place)
            if place == 0 and name not in IDS:
                assert told.to_list() == has_value.to_list(), name
        if definition.of_column is not None and has_value.any():
            told = bars.select((pl.lit(1) > 0) & definition.of_column).to_series()
            assert not (told & ~has_value).any(), name


# Bars of the package pass, and no longer once a value is lost


@given(cases())
def test_bars_of_the_package_pass(case: Case) -> None:
    assume(case.features != "core")
    bars = entry_points.eager(case)
    assume(bars.height)
    for frame in (bars, bars.to_pandas()):
        result = validate_tier1(frame)
        assert (result["no_nan"], result["no_inf"]) == (True, True), result
        assert result["tier1_passed"] is True, result


# From 2^53 units on, doubles do not hold the grid.
@pytest.mark.parametrize(
    ("unit", "move"), [(2**53 + 75, 3), (2**54 + 371, 3), (2**56 + 75, 50), (2**60 + 1925, 1000)]
)
def test_what_rounding_does_to_a_deviation_is_no_fault(unit: int, move: int) -> None:
    prices = [Decimal(unit).scaleb(-8), Decimal(unit + move).scaleb(-8)]
    ticks = pl.DataFrame(
        {
            "timestamp": pl.Series([0, 1]).cast(pl.Datetime("us")),
            "price": pl.Series(prices, dtype=pl.Decimal(30, 8)),
            "quantity": [1e-8, 0.0],
            "id": [0, 0],
        }
    )
    bars = ticks.rangebar.aggregate("id", features="microstructure")
    deviation = bars["vwap_close_deviation"].item()
    assert abs(deviation) > 1
    assert validate_tier1(bars)["tier1_passed"] is True
    spoiled = bars.with_columns(vwap_close_deviation=pl.lit(deviation * 100))
    assert validate_tier1(spoiled)["tier1_passed"] is False
    flat = spoiled.with_columns(high="low")
    assert validate_tier1(flat)["tier1_passed"] is False


@given(cases(), st.data())
def test_a_value_that_is_lost_fails(case: Case, data: st.DataObject) -> None:
    assume(case.features != "core")
    bars = entry_points.eager(case)
    places = [
        (name, row)
        for name in bars.columns
        if name in {*rb.REFERENCE_COLUMNS, *TEN, "volume"}
        for row in bars[name].is_not_null().arg_true()
    ]
    assume(places)
    name, row = data.draw(st.sampled_from(places))
    lost = without(bars, name, row)
    frames = [lost, lost.to_pandas()]
    if bars.schema[name].is_float():
        spoiled = without(bars, name, row, math.nan)
        frames += [spoiled, spoiled.to_pandas()]
    for frame in frames:
        result = validate_tier1(frame)
        assert (result["no_nan"], result["tier1_passed"]) == (False, False), name
        assert result.rows_failed["no_nan"] == (1, [row])
        assert f"({name})" in result["error"]


@pytest.mark.parametrize("name", JUDGED)
def test_a_nan_in_a_frame_as_readers_give_it_is_told_from_an_undefined_value(name: str) -> None:
    frame = as_read(BARS)
    assert validate_tier1(frame)["tier1_passed"] is True
    for row in (BARS[name].is_not_null().arg_true()[7], BARS[name].is_not_null().arg_true()[-1]):
        spoiled = frame.copy()
        spoiled.iloc[row, spoiled.columns.get_loc(name)] = math.nan
        result = validate_tier1(spoiled)
        assert (result["no_nan"], result.rows_failed) == (False, {"no_nan": (1, [row])})
        assert result["error"] == f"no_nan fails in 1 bar ({name})"


def test_several_columns_are_all_named_and_a_bar_counts_once() -> None:
    row = BARS["ofi"].is_not_null().arg_true()[5]
    bars = without(without(BARS, "ofi", row), "close", row)
    result = validate_tier1(without(bars, "turnover_imbalance", row))
    assert result.rows_failed == {"no_nan": (1, [row])}
    assert result["error"] == "no_nan fails in 1 bar (close, ofi, turnover_imbalance)"


# Whole columns


@pytest.mark.parametrize("bars", [NO_SIDE, NO_VOLUME], ids=["no side", "no volume"])
def test_columns_that_lack_what_they_are_made_of_are_null_as_a_whole(bars: pl.DataFrame) -> None:
    for frame in (bars, as_read(bars), bars.to_pandas()):
        assert validate_tier1(frame)["tier1_passed"] is True
    only = bars.select("close", *TEN)
    assert only["ofi"].null_count() == bars.height
    assert validate_tier1(only)["tier1_passed"] is True


def test_a_whole_column_that_is_lost_fails() -> None:
    for name in ("ofi", "volume_per_trade", "aggression_ratio", "trade_intensity"):
        bars = BARS.with_columns(pl.lit(None, dtype=pl.Float64).alias(name))
        assert validate_tier1(bars)["no_nan"] is False, name


def test_bars_of_several_computations_pass_together() -> None:
    bars = pl.concat([BARS, NO_SIDE, NO_VOLUME])
    assert validate_tier1(bars)["tier1_passed"] is True
    last = without(bars, "ofi", BARS["ofi"].is_not_null().arg_true()[-1])
    assert validate_tier1(last)["no_nan"] is False


def test_volume_of_quotes_that_was_filled_with_zeros_is_no_fault() -> None:
    bars = NO_VOLUME.with_columns(pl.col("volume").fill_null(0.0))
    assert validate_tier1(bars)["tier1_passed"] is True
    assert validate_tier1(as_read(bars))["tier1_passed"] is True


def test_what_no_other_column_tells_passes() -> None:
    bars = BARS.select("close", "ofi", "price_impact", "trade_intensity")
    assert bars["ofi"].null_count()
    assert validate_tier1(bars)["tier1_passed"] is True


def test_times_that_are_text_are_not_asked() -> None:
    bars = BARS.select("close", "open_time", "close_time", "trade_intensity")
    text = bars.with_columns(pl.selectors.datetime().cast(pl.String))
    assert validate_tier1(text)["tier1_passed"] is True
    row = BARS["trade_intensity"].is_not_null().arg_true()[4]
    assert validate_tier1(without(bars, "trade_intensity", row))["no_nan"] is False


@pytest.mark.parametrize("size", [1, 7, 40])
def test_pieces_find_what_the_whole_finds(size: int) -> None:
    row = BARS["aggregation_density"].is_not_null().arg_true()[20]
    bars = as_read(without(BARS, "aggregation_density", row).head(60))
    check = Tier1Check()
    for start in range(0, len(bars), size):
        check.add(bars.iloc[start : start + size])
    assert check.result().rows_failed == validate_tier1(bars).rows_failed
    assert check.result().rows_failed == {"no_nan": (1, [row])}
