"""Tier 1 says of bars what is wrong with them, in plain values, for either library."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.catalogue import columns
from rangebar_polars.interop.pandas_frames import bars_to_pandas
from rangebar_polars.validation.tier1 import Tier1Check, validate_tier1

KEYS = [
    "features_present",
    "features_found",
    "features_empty",
    "no_nan",
    "no_inf",
    "duration_positive",
    "ofi_bounded",
    "turnover_imbalance_bounded",
    "volume_non_negative",
    "buy_volume_non_negative",
    "sell_volume_non_negative",
    "ofi_return_corr",
    "ofi_corr_sane",
    "ofi_mean_near_zero",
    "aggression_ratio_reasonable",
    "tier1_passed",
]
BARS = rb.sample_ticks().rangebar.bars(100, features="microstructure")
BOUNDED = [
    row
    for row in columns().iter_rows(named=True)
    if row["name"] in BARS.columns and (row["lower"] is not None or row["upper"] is not None)
]


def spoiled(name: str, value: object, row: int = 7) -> pl.DataFrame:
    """Return the bars with one value in one place."""
    column = pl.Series(name, [value], dtype=BARS.schema[name], strict=False)
    return BARS.with_columns(
        pl.when(pl.int_range(pl.len()) == row)
        .then(pl.lit(column))
        .otherwise(pl.col(name))
        .alias(name)
    )


def as_pandas(bars: pl.DataFrame = BARS) -> object:
    """Return the bars as a reader gives them with `include_microstructure`."""
    pytest.importorskip("pandas")
    return bars_to_pandas(bars, [*rb.MICROSTRUCTURE_COLUMNS, "buy_volume", "sell_volume"])


# Sound bars


def test_sound_bars_pass() -> None:
    result = validate_tier1(BARS)
    assert list(result) == KEYS
    assert result["tier1_passed"] is True
    assert result["features_found"] == list(rb.MICROSTRUCTURE_COLUMNS)
    assert result.rows == BARS.height
    assert result.rows_failed == {}


def test_the_names_of_backtesting_py_are_known_in_both_libraries() -> None:
    titled = BARS.rename(
        {name: name.title() for name in ("open", "high", "low", "close", "volume")}
    )
    assert validate_tier1(titled) == validate_tier1(BARS)
    spoilt = titled.with_columns(Close=pl.lit(-1.0))
    assert "close (at least" in validate_tier1(spoilt)["error"]


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_the_name_of_the_catalogue_comes_before_that_of_backtesting_py(library: str) -> None:
    both = BARS.select(pl.lit(-1.0).alias("Close"), *BARS.columns)
    frame = both if library == "polars" else pd_frame(both)
    result = validate_tier1(frame)
    assert result["tier1_passed"] is True
    assert result["ofi_return_corr"] == pytest.approx(validate_tier1(BARS)["ofi_return_corr"])


def pd_frame(bars: pl.DataFrame) -> object:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        bars.select(pl.exclude(pl.Categorical, pl.Enum)).to_dict(as_series=False)
    )


def test_the_findings_are_plain_values() -> None:
    for bars in (BARS, BARS.clear(), spoiled("ofi", 2.0), as_pandas()):
        result = validate_tier1(bars)
        assert isinstance(result, Mapping)
        assert json.loads(json.dumps(result)) == result
        for value in result.values():
            assert type(value) in (bool, float, str, list, type(None))
        again = pickle.loads(pickle.dumps(result))
        assert (again, again.rows_failed) == (result, result.rows_failed)


def test_both_libraries_find_the_same() -> None:
    ours, theirs = validate_tier1(BARS), validate_tier1(as_pandas())
    for name in KEYS:
        assert ours[name] == (
            pytest.approx(theirs[name], abs=1e-12) if name == "ofi_return_corr" else theirs[name]
        )


def test_the_correlation_is_that_of_pandas() -> None:
    frame = as_pandas()
    expected = frame["ofi"].corr(frame["Close"].pct_change())
    assert validate_tier1(frame)["ofi_return_corr"] == pytest.approx(expected, abs=1e-9)


def test_undefined_features_are_no_fault() -> None:
    ticks = rb.sample_ticks().with_columns(
        quantity=pl.when(pl.col("agg_trade_id") % 4000 > 2000).then(0.0).otherwise("quantity")
    )
    bars = ticks.rangebar.bars(100, features="microstructure")
    for name in ("ofi", "kyle_lambda_proxy", "vwap_close_deviation", "price_impact"):
        assert 0 < bars[name].null_count() < bars.height
    assert validate_tier1(bars)["tier1_passed"] is True
    assert validate_tier1(as_pandas(bars))["tier1_passed"] is True


def test_quotes_which_have_no_volume_pass() -> None:
    quotes = rb.sample_ticks().select("timestamp", "price", "agg_trade_id")
    bars = quotes.rangebar.bars(100, features="microstructure")
    result = validate_tier1(bars)
    assert result["tier1_passed"] is True, result
    assert result["ofi_return_corr"] is None


def test_bars_that_are_not_closed_pass() -> None:
    bars = rb.sample_ticks().rangebar.bars(100, features="microstructure", incomplete="keep")
    assert validate_tier1(bars)["tier1_passed"] is True


# Faults


def test_no_bars_fail() -> None:
    for bars in (BARS.clear(), pl.DataFrame(), as_pandas(BARS.clear())):
        result = validate_tier1(bars)
        assert result["tier1_passed"] is False
        assert result["error"] == "there are no bars"
        assert result["no_nan"] is None


def test_bars_without_features_fail() -> None:
    other = pl.DataFrame({"x": [1.0]})
    for bars in (rb.sample_ticks().rangebar.bars(100), bars_to_pandas(BARS), other):
        result = validate_tier1(bars)
        assert (result["features_present"], result["features_found"]) == (False, [])
        assert result["tier1_passed"] is False
        assert "features=" in result["error"]


def test_some_of_the_features_will_do() -> None:
    result = validate_tier1(BARS.select("close", "ofi"))
    assert result["tier1_passed"] is True
    assert result["features_found"] == ["ofi"]
    assert result["duration_positive"] is None


@pytest.mark.parametrize("name", ["ofi", "close", "kyle_lambda_proxy"])
def test_a_nan_fails(name: str) -> None:
    result = validate_tier1(spoiled(name, math.nan))
    assert (result["no_nan"], result["tier1_passed"]) == (False, False)
    assert result.rows_failed == {"no_nan": (1, [7])}


@pytest.mark.parametrize("name", ["close", "duration_us", "individual_trade_count", "open_time"])
def test_a_null_where_there_never_is_one_fails(name: str) -> None:
    result = validate_tier1(spoiled(name, None))
    assert (result["no_nan"], result.rows_failed["no_nan"]) == (False, (1, [7]))


def test_a_nan_of_pandas_fails_where_there_never_is_a_null() -> None:
    frame = as_pandas()
    frame.iloc[3, frame.columns.get_loc("Close")] = math.nan
    result = validate_tier1(frame)
    assert (result["no_nan"], result.rows_failed["no_nan"]) == (False, (1, [3]))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinity_fails(value: float) -> None:
    result = validate_tier1(spoiled("kyle_lambda_proxy", value))
    assert (result["no_inf"], result["no_nan"], result["tier1_passed"]) == (False, True, False)


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("duration_us", -1, "duration_positive"),
        ("ofi", 1.0000001, "ofi_bounded"),
        ("ofi", -1.5, "ofi_bounded"),
        ("turnover_imbalance", 1.1, "turnover_imbalance_bounded"),
        ("volume", -0.5, "volume_non_negative"),
        ("buy_volume", -0.5, "buy_volume_non_negative"),
        ("sell_volume", -0.5, "sell_volume_non_negative"),
    ],
)
def test_a_value_out_of_its_bounds_fails_its_finding_alone(
    name: str, value: float, finding: str
) -> None:
    for result in (
        validate_tier1(spoiled(name, value)),
        validate_tier1(as_pandas(spoiled(name, value))),
    ):
        assert [key for key in KEYS if result[key] is False] == [finding, "tier1_passed"]
        assert result.rows_failed == {finding: (1, [7])}
        assert finding in result["error"]


@pytest.mark.parametrize("column", BOUNDED, ids=lambda column: column["name"])
def test_every_bound_of_the_catalogue_holds(column: dict[str, object]) -> None:
    for bound, step in ((column["lower"], -1), (column["upper"], 1)):
        name = column["name"]
        if bound is None or (step < 0 and BARS.schema[name].is_unsigned_integer() and bound < 1):
            continue
        whole = BARS.schema[name].is_integer()
        beyond = bound + step if whole else bound + step * max(abs(bound), 1e-9) * 1e-6
        edge = int(bound) if whole else bound
        assert validate_tier1(spoiled(name, edge))["tier1_passed"] is True
        result = validate_tier1(spoiled(name, beyond))
        assert result["tier1_passed"] is False
        assert list(result.rows_failed.values()) == [(1, [7])]


def test_zero_is_a_duration() -> None:
    assert validate_tier1(spoiled("duration_us", 0))["duration_positive"] is True


def test_what_is_implausible_is_said_and_passes() -> None:
    bars = BARS.with_columns(ofi=pl.lit(0.9), aggression_ratio=pl.lit(50.0))
    result = validate_tier1(bars)
    assert result["tier1_passed"] is True
    assert result["ofi_mean_near_zero"] is False
    assert result["aggression_ratio_reasonable"] is False
    assert result["ofi_return_corr"] is None


def test_a_correlation_that_is_too_good_is_not_sane() -> None:
    moves = pl.col("close") / pl.col("close").shift(1) - 1
    bars = BARS.with_columns(ofi=(moves.fill_null(0.0) * 50).clip(-1, 1))
    result = validate_tier1(bars)
    assert result["ofi_return_corr"] == pytest.approx(1.0)
    assert result["ofi_corr_sane"] is False


def test_fifty_bars_are_too_few_for_a_correlation() -> None:
    assert validate_tier1(BARS.head(50))["ofi_corr_sane"] is None
    assert validate_tier1(BARS.head(51))["ofi_return_corr"] is not None


@pytest.mark.parametrize(
    ("ratios", "is_below"),
    [
        ([1.0, 9.0, 50.0], True),
        ([1.0, 10.0, 50.0], False),
        ([9.0, 10.5], True),
        ([9.0, 11.0], False),
        ([9.9, 10.0], True),
        ([50.0], False),
    ],
)
def test_the_median_is_the_median(ratios: list[float], is_below: bool) -> None:
    bars = pl.DataFrame({"aggression_ratio": ratios})
    assert validate_tier1(bars)["aggression_ratio_reasonable"] is is_below
    assert (bars["aggression_ratio"].median() < 10) is is_below


# Pieces


@pytest.mark.parametrize("size", [1, 7, 400])
def test_pieces_give_what_the_whole_gives(size: int) -> None:
    bars = spoiled("ofi", 2.0, row=401).head(500)
    check = Tier1Check()
    for piece in bars.iter_slices(size):
        check.add(piece)
    pieces, whole = check.result(), validate_tier1(bars)
    assert pieces.rows_failed == whole.rows_failed == {"ofi_bounded": (1, [401])}
    correlation = whole.pop("ofi_return_corr")
    assert pieces.pop("ofi_return_corr") == pytest.approx(correlation, abs=1e-9)
    assert pieces == whole


def test_only_the_first_ten_bars_are_named() -> None:
    result = validate_tier1(BARS.with_columns(ofi=pl.lit(2.0)))
    assert result.rows_failed == {"ofi_bounded": (BARS.height, list(range(10)))}


# Words


def test_the_result_can_be_read() -> None:
    lines = repr(validate_tier1(spoiled("ofi", 2.0))).splitlines()
    assert lines[0] == f"tier 1 failed: {BARS.height:,} bars"
    assert any("ofi_bounded: 1 bar: 7" in line for line in lines)
    assert repr(validate_tier1(BARS)).startswith("tier 1 passed")


def test_what_is_no_frame_of_bars_is_refused() -> None:
    with pytest.raises(TypeError, match="collect"):
        validate_tier1(BARS.lazy())
    with pytest.raises(TypeError, match="`list`"):
        validate_tier1([1, 2])
    for bars in (BARS.with_columns(ofi=pl.lit("high")), as_pandas().assign(ofi="high")):
        with pytest.raises(TypeError, match="`ofi`"):
            validate_tier1(bars)
