"""Tier 2 says what the columns of bars tell about a target, in plain values, for either library."""

from __future__ import annotations

import json
import math
import pickle
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import MissingColumnError, MissingExtraError
from rangebar_polars.interop.pandas_frames import bars_to_pandas
from rangebar_polars.validation.tier1 import validate_tier1
from rangebar_polars.validation.tier2 import validate_tier2

if TYPE_CHECKING:
    from rangebar_polars.validation.tier2 import Tier2Result

pytestmark = pytest.mark.usefixtures("libraries")

BARS = rb.sample_ticks().rangebar.bars(100, features="microstructure")
COMPUTED = [
    "stationarity",
    "predictive_power",
    "mutual_info",
    "high_correlation_pairs",
    "significant_feature_count",
    "stable_feature_count",
    "independent_feature_count",
    "look_ahead_suspected",
    "warnings",
    "skipped",
    "target",
    "seconds",
]
N = 300


def frame(rows: int = N, **columns: object) -> pl.DataFrame:
    """Return the first bars with further columns."""
    return BARS.head(rows).with_columns(pl.Series(name, v) for name, v in columns.items())


def noise(seed: int, rows: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


def holed(seed: int, share: float = 0.2) -> np.ndarray:
    """Return noise in steps, so that it has ties, with missing values."""
    values = np.round(noise(seed) * 2)
    values[np.random.default_rng(seed + 1000).random(N) < share] = np.nan
    return values


def without_time(result: Tier2Result) -> dict[str, object]:
    return {name: value for name, value in result.items() if name != "seconds"}


@pytest.fixture(scope="module")
def result() -> Tier2Result:
    return validate_tier2(BARS)


# What is there


def test_the_keys_are_those_of_tier_1_and_more(result: Tier2Result) -> None:
    first = [name for name in validate_tier1(BARS) if name != "error"]
    assert list(result) == [*first, "rows", "rows_used", *COMPUTED, "tier2_passed"]
    assert all(result[name] == value for name, value in validate_tier1(BARS).items())
    assert (result["rows"], result["rows_used"]) == (BARS.height, BARS.height)
    assert result["target"] == "forward_return (Close[i+1]/Close[i] − 1)"
    assert result["seconds"] > 0
    assert list(result["predictive_power"]) == list(rb.MICROSTRUCTURE_COLUMNS)
    assert list(result["predictive_power"]["ofi"]) == [
        "spearman_rho", "p_value", "shift_p_value", "q_value", "significant", "rho_by_block",
        "same_sign_blocks",
    ]  # fmt: skip


def test_the_findings_are_plain_values(result: Tier2Result) -> None:
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text) == result
    assert pickle.loads(pickle.dumps(result)) == result

    def types(value: object) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value
        parts = [types(one) for one in inner] if isinstance(value, (dict, list)) else []
        return set().union(*parts) if isinstance(value, (dict, list)) else {type(value)}

    assert types(result) <= {bool, int, float, str, type(None)}


def test_the_same_bars_give_the_same_result(result: Tier2Result) -> None:
    assert without_time(validate_tier2(BARS)) == without_time(result)


def test_bars_of_pandas_give_the_same_result(result: Tier2Result) -> None:
    pytest.importorskip("pandas")
    names = [*rb.MICROSTRUCTURE_COLUMNS, "buy_volume", "sell_volume"]
    theirs = validate_tier2(bars_to_pandas(BARS, names))
    for name in [*COMPUTED, "tier2_passed"]:
        if name != "seconds":
            assert theirs[name] == result[name], name


def test_the_result_can_be_read(result: Tier2Result) -> None:
    lines = repr(result).splitlines()
    verdict = "passed" if result["tier2_passed"] else "failed"
    assert lines[0] == f"tier 2 {verdict}: {BARS.height:,} of {BARS.height:,} bars used"
    assert any(
        line.split() == ["ofi", "-0.072", "3.2e-02", "4", "of", "5", "0.007"] for line in lines
    )
    assert len(lines) < 20
    failed = repr(validate_tier2(BARS.head(9))).splitlines()
    assert failed == [
        "tier 2 failed: 9 of 9 bars used",
        "  9 bars to test; more than 100 are needed",
    ]


# What is right


def test_each_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    bars = frame(x=holed(1), y=holed(2), forward_return=holed(3, 0.05))
    result = validate_tier2(bars, features=["x", "y"])
    for name in ("x", "y"):
        pairs = bars.select(name, "forward_return").fill_nan(None).drop_nulls()
        assert pairs.height < N
        x, target = pairs[name].to_numpy(), pairs["forward_return"].to_numpy()
        rho, p_value = spearmanr(x, target)
        row = result["predictive_power"][name]
        assert row["spearman_rho"] == pytest.approx(rho, abs=1e-12)
        assert row["p_value"] == pytest.approx(p_value, rel=1e-9)
        gap = math.ceil(pairs.height / 100)
        length = (pairs.height - 4 * gap) // 5
        starts = [block * (length + gap) for block in range(5)]
        rhos = [spearmanr(x[s : s + length], target[s : s + length])[0] for s in starts]
        assert row["rho_by_block"] == pytest.approx(rhos, abs=1e-12)
        assert row["same_sign_blocks"] == sum(np.sign(rhos) == np.sign(rho))


def test_the_p_value_is_that_of_all_shifts() -> None:
    from scipy.stats import spearmanr

    x, target = holed(4, 0.0).cumsum(), noise(5).cumsum()
    result = validate_tier2(frame(x=x, forward_return=target), features="x")
    margin = N // 20
    shifted = [spearmanr(x, np.roll(target, -lag))[0] for lag in range(margin, N - margin + 1)]
    spread = math.sqrt(np.mean(np.square(shifted)))
    rho = spearmanr(x, target)[0]
    row = result["predictive_power"]["x"]
    expected = math.erfc(abs(rho) / (math.sqrt(2) * spread))
    assert row["shift_p_value"] == pytest.approx(expected, rel=1e-9)
    assert row["shift_p_value"] > 100 * row["p_value"]  # the memory of both series counts


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    target = noise(6)
    columns = {f"c{i}": noise(10 + i) + target * i / 20 for i in range(10)}
    rows = validate_tier2(frame(forward_return=target, **columns), features=list(columns))
    findings = list(rows["predictive_power"].values())
    p_values = np.array([row["shift_p_value"] for row in findings])
    for row in findings:
        # By definition: the smallest share of false ones among all that are as good or better.
        larger = [p for p in p_values if p >= row["shift_p_value"]]
        q_value = min(1.0, *(p * 10 / (p_values <= p).sum() for p in larger))
        assert row["q_value"] == pytest.approx(q_value, rel=1e-12)
        assert row["significant"] == (abs(row["spearman_rho"]) > 0.02 and q_value < 0.05)
    count = sum(row["significant"] for row in findings)
    assert 0 < count < 10
    assert rows["significant_feature_count"] == count
    assert rows["stable_feature_count"] == sum(
        row["significant"] and row["same_sign_blocks"] >= 4 for row in findings
    )


def test_stationarity_and_information_are_those_of_the_libraries() -> None:
    from sklearn.feature_selection import mutual_info_regression
    from statsmodels.tsa.stattools import adfuller

    bars = frame(x=holed(7), walk=noise(40).cumsum(), forward_return=noise(9))
    result = validate_tier2(bars, features=["x", "walk"])
    for name in ("x", "walk"):
        pairs = bars.select(name, "forward_return").fill_nan(None).drop_nulls()
        x, target = pairs[name].to_numpy(), pairs["forward_return"].to_numpy()
        nats = mutual_info_regression(x.reshape(-1, 1), target, n_neighbors=3, random_state=42)
        assert result["mutual_info"][name] == nats[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of statsmodels 0.15
            statistic, p_value = tuple(adfuller(x, maxlag=5, regression="c", autolag="AIC"))[:2]
        assert result["stationarity"][name] == {
            "adf_statistic": statistic,
            "adf_p_value": p_value,
            "is_stationary": name == "x",
        }


def test_information_of_a_long_series_is_that_of_rows_at_equal_distances() -> None:
    from sklearn.feature_selection import mutual_info_regression

    from rangebar_polars.validation._libraries import mutual_information

    x, target = noise(10, 50_001), noise(11, 50_001)
    rows = [j * 50_001 // 50_000 for j in range(50_000)]
    expected = mutual_info_regression(
        x[rows].reshape(-1, 1), target[rows], n_neighbors=3, random_state=42
    )
    assert mutual_information(x, target) == expected[0]


def test_correlated_columns_are_listed_and_counted_once() -> None:
    from scipy.stats import spearmanr

    x, z, target = noise(12), noise(13), noise(14)
    columns = {
        "a": target + 0.1 * x,
        "b": z,
        "c": np.where(noise(15) > 1, np.nan, target + 0.1 * noise(16)),
        "d": np.where(noise(17) > 1, np.nan, -(z**3)),
        "e": np.where(noise(15) > 1, np.nan, noise(18)),
        "f": target + noise(19),
    }
    bars = frame(forward_return=target, **columns)
    result = validate_tier2(bars, features=list(columns))
    expected = []
    for i, first in enumerate(columns):
        for second in list(columns)[i + 1 :]:
            pair = bars.select(first, second).fill_nan(None).drop_nulls()
            rho = spearmanr(pair[first], pair[second])[0]
            if abs(rho) > 0.8:
                expected.append([first, second, pytest.approx(rho, abs=1e-12)])
    assert [pair[:2] for pair in expected] == [["a", "c"], ["b", "d"]]
    assert result["high_correlation_pairs"] == expected
    significant = [n for n, row in result["predictive_power"].items() if row["significant"]]
    assert significant == ["a", "c", "f"]
    assert result["independent_feature_count"] == 2
    assert result["tier2_passed"] is True
    assert "error" not in result


def test_correlations_need_more_than_a_hundred_common_rows() -> None:
    x = noise(20)
    early = np.where(np.arange(N) < 200, x, np.nan)
    for first, count in ((99, 1), (100, 0)):
        late = np.where(np.arange(N) >= first, x, np.nan)
        bars = frame(early=early, late=late, forward_return=noise(21))
        result = validate_tier2(bars, features=["early", "late"])
        assert len(result["high_correlation_pairs"]) == count


def test_a_column_that_knows_the_target_is_suspected() -> None:
    target = noise(22)
    bars = frame(forward_return=target, good=target + 2 * noise(23), weak=target + 5 * noise(24))
    result = validate_tier2(bars, features=["weak", "good"])
    assert result["look_ahead_suspected"] == ["good"]
    assert len(result["warnings"]) == 1
    assert "`good` has a rank correlation of 0.34 " in result["warnings"][0]


# The choice of columns, rows and target


def test_the_target_is_the_return_of_the_next_bar() -> None:
    close = pl.col("close").shift(-1) / pl.col("close") - 1
    given = validate_tier2(BARS.with_columns(forward_return=close))
    computed = validate_tier2(BARS)
    assert given["target"] == "forward_return"
    for name in ("predictive_power", "mutual_info"):
        assert given[name] == computed[name]


def test_another_target_that_is_absent_is_said() -> None:
    result = validate_tier2(BARS, "nxet_return", features=["ofi"])
    assert result["target"] == "forward_return (Close[i+1]/Close[i] − 1)"
    assert "no column `nxet_return`" in result["warnings"][0]
    named = validate_tier2(BARS.with_columns(ahead=noise(1, BARS.height)), "ahead")
    assert (named["target"], named["warnings"]) == ("ahead", [])


def test_the_target_is_not_tested_against_itself() -> None:
    result = validate_tier2(BARS, "ofi")
    assert "ofi" not in result["predictive_power"]
    assert len(result["predictive_power"]) == len(rb.MICROSTRUCTURE_COLUMNS) - 1


def test_columns_stand_in_the_order_of_the_catalogue() -> None:
    bars = frame(zeta=noise(1), alpha=noise(2))
    asked = ["zeta", "turnover_imbalance", "alpha", "ofi", "volume", "zeta"]
    result = validate_tier2(bars, features=asked)
    assert list(result["stationarity"]) == ["volume", "ofi", "turnover_imbalance", "zeta", "alpha"]


def test_repeated_columns_are_not_tested_by_default() -> None:
    bars = rb.sample_ticks().rangebar.bars(250, features="all").head(120)
    repeated = ["intra_trade_count", "intra_ofi", "intra_duration_us", "intra_kyle_lambda"]
    optional = rb.columns().filter(pl.col("group") != "core")["name"].to_list()
    tested = validate_tier2(bars)["stationarity"]
    assert list(tested) == [name for name in optional if name not in repeated]
    alone = validate_tier2(bars.drop("ofi", "duration_us", "kyle_lambda_proxy"))["stationarity"]
    assert [name for name in repeated if name in alone] == repeated[1:]
    assert list(validate_tier2(bars, features=repeated)["stationarity"]) == sorted(
        repeated, key=optional.index
    )


def test_the_newest_rows_are_used() -> None:
    result = validate_tier2(BARS, max_rows=250)
    assert (result["rows"], result["rows_used"]) == (BARS.height, 250)
    assert result["predictive_power"] == validate_tier2(BARS.tail(250))["predictive_power"]


def test_infinities_count_as_missing() -> None:
    x, target = noise(25), noise(26)
    spoiled = [np.inf, -np.inf, np.nan]
    results = [
        validate_tier2(
            frame(x=np.r_[x[:-1], value], forward_return=np.r_[value, target[1:]]), features="x"
        )
        for value in spoiled
    ]
    assert without_time(results[0]) == without_time(results[1]) == without_time(results[2])


# What cannot be tested


def failed(result: Tier2Result, error: str) -> None:
    assert result["tier2_passed"] is False
    assert error in result["error"]
    assert all(result[name] is None for name in COMPUTED)
    json.dumps(result, allow_nan=False)


def test_bars_that_fail_tier_1_are_not_tested() -> None:
    result = validate_tier2(BARS.with_columns(ofi=pl.lit(2.0)))
    failed(result, "tier 1 failed: ofi_bounded fails in")
    assert result["tier1_passed"] is False
    assert result["rows"] == BARS.height


@pytest.mark.parametrize("bars", [pl.DataFrame(), BARS.clear()], ids=["no columns", "no rows"])
def test_no_bars_fail(bars: pl.DataFrame) -> None:
    failed(validate_tier2(bars), "there are no bars")
    failed(validate_tier2(bars.lazy().collect(), features=["x"]), "there are no bars")


def test_no_columns_fail() -> None:
    failed(validate_tier2(BARS, features=[]), "there are no columns to test")
    failed(validate_tier2(BARS.drop(rb.MICROSTRUCTURE_COLUMNS)), "no feature columns")


def test_no_target_fails() -> None:
    failed(validate_tier2(BARS.drop("close")), "neither the target `forward_return` nor `close`")


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_hundred_bars_are_too_few(rows: int) -> None:
    failed(validate_tier2(BARS.head(rows)), "more than 100 are needed")
    failed(validate_tier2(BARS, max_rows=rows), "more than 100 are needed")


def test_a_hundred_pairs_are_too_few() -> None:
    few = validate_tier2(BARS.head(101))  # the last bar has no next one
    assert few["predictive_power"] == few["mutual_info"] == {}
    assert set(few["skipped"]) == set(rb.MICROSTRUCTURE_COLUMNS)
    assert few["skipped"]["ofi"] == "100 rows with a target; more than 100 are needed"
    assert few["error"] == "0 of 10 columns are significant; at least 3 must be"
    assert few["stationarity"]["ofi"]["is_stationary"] is True
    assert len(validate_tier2(BARS.head(102))["predictive_power"]) == 10


def test_columns_that_do_not_vary_are_skipped() -> None:
    half = np.arange(N) < N // 2
    columns = {
        "one": np.ones(N),
        "none": np.full(N, np.nan),
        "late": np.where(half, noise(27), 5.0),
        "few": np.where(np.arange(N) < 19, noise(28), np.nan),
    }
    target = np.where(half, np.nan, noise(29))
    result = validate_tier2(frame(forward_return=target, **columns), features=list(columns))
    assert result["skipped"] == {
        "one": "it is constant",
        "none": "it has no value",
        "late": "it is constant in the rows that have a target",
        "few": "0 rows with a target; more than 100 are needed",
    }
    assert result["stationarity"]["one"] == {"error": "the column is constant"}
    assert result["stationarity"]["none"] == {"error": "0 values; at least 20 are needed"}
    assert result["stationarity"]["few"] == {"error": "19 values; at least 20 are needed"}
    assert result["predictive_power"] == {}


def test_a_constant_target_is_said() -> None:
    result = validate_tier2(frame(forward_return=np.ones(N)), features=["ofi"])
    assert result["skipped"] == {"ofi": "the target is constant in its rows"}
    assert result["tier2_passed"] is False


def test_a_block_without_variation_has_no_correlation() -> None:
    x = np.where(np.arange(N) < 100, 1.0, noise(30))
    result = validate_tier2(frame(x=x, forward_return=noise(31)), features=["x"])
    blocks = result["predictive_power"]["x"]["rho_by_block"]
    assert [block is None for block in blocks] == [True, False, False, False, False]


def test_a_failure_of_a_library_is_an_error_of_its_column() -> None:
    bars = frame(
        huge=noise(32) * 5e307, line=np.arange(N) * 1.0, x=noise(33), forward_return=noise(34)
    )
    result = validate_tier2(bars, features=["huge", "line", "x"])
    assert set(result["stationarity"]["huge"]) == {"error"}
    assert "adf_statistic" in result["stationarity"]["x"]
    assert set(result["mutual_info"]["huge"]) == {"error"}
    assert isinstance(result["mutual_info"]["x"], float)
    assert set(result["predictive_power"]) == {"huge", "line", "x"}
    json.dumps(result, allow_nan=False)


def test_series_that_are_mixed_or_out_of_order_fail() -> None:
    failed(validate_tier2(BARS.reverse()), "not in order of `close_time`")
    two = rb.sample_ticks().rangebar.bars([100, 250], features="microstructure")
    failed(validate_tier2(two), "2 thresholds")


# What is refused


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(MissingColumnError, match="did you mean `ofi`"):
        validate_tier2(BARS, features=["offi"])
    with pytest.raises(TypeError, match="names of columns"):
        validate_tier2(BARS, features=[1])
    with pytest.raises(TypeError, match="`word` is of type `String`"):
        validate_tier2(BARS.with_columns(word=pl.lit("high")), features=["word"])
    with pytest.raises(TypeError, match="`word` is of type"):
        validate_tier2(BARS.with_columns(word=pl.lit("high")), "word")
    with pytest.raises(TypeError, match="collect"):
        validate_tier2(BARS.lazy())
    with pytest.raises(TypeError, match="target_col"):
        validate_tier2(BARS, 3)
    with pytest.raises(ValueError, match="max_rows"):
        validate_tier2(BARS, max_rows=0)
    with pytest.raises(TypeError, match="max_rows"):
        validate_tier2(BARS, max_rows=1e3)


def test_a_column_that_pandas_has_twice_is_refused() -> None:
    pd = pytest.importorskip("pandas")
    bars = bars_to_pandas(BARS, rb.MICROSTRUCTURE_COLUMNS)
    twice = pd.concat([bars, bars[["ofi"]]], axis=1)
    with pytest.raises(ValueError, match="2 columns with the name `ofi`"):
        validate_tier2(twice)


@pytest.mark.parametrize("library", ["numpy", "scipy", "statsmodels", "sklearn"])
def test_a_missing_library_names_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"rangebar-polars\[validation\]"):
        validate_tier2(BARS)


def test_the_names_of_backtesting_py_are_known_in_a_polars_frame() -> None:
    prices = ("open", "high", "low", "close")
    plain = BARS.head(N)
    titled = plain.rename({name: name.title() for name in prices})
    for features in (None, ["ofi", "close"]):
        expected = validate_tier2(plain, features=features)
        result = validate_tier2(titled, features=features)
        assert result["predictive_power"]
        assert {**result, "seconds": 0} == {**expected, "seconds": 0}
    # The name in the frame itself comes first, as a target and as a feature.
    both = plain.with_columns(Close=pl.col("ofi") * 2)
    result = validate_tier2(both, "Close", features=["ofi"])
    assert result["target"] == "Close"
    assert result["predictive_power"]["ofi"]["spearman_rho"] == pytest.approx(1.0)
    assert validate_tier2(both, features=["ofi"])["target"].startswith("forward_return (")


@pytest.mark.parametrize("name", ["adfuller", "mutual_info_regression"])
def test_a_lack_of_memory_in_a_library_is_not_a_finding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "statsmodels.tsa.stattools" if name == "adfuller" else "sklearn.feature_selection"
    # NumPy raises a class of its own for an array that the system has no memory for.
    monkeypatch.setattr(f"{module}.{name}", lambda *_, **__: np.empty(2**50))
    with pytest.raises(MemoryError, match="Unable to allocate"):
        validate_tier2(frame(), features=["ofi"])
