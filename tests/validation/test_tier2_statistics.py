"""How often tier 2 errs on series whose truth is known. Seeds are fixed.

The whole function on 200 sets of columns takes minutes: `RANGEBAR_TEST_LONG=1`.
"""

from __future__ import annotations

import os

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.validation._ranks import (
    benjamini_hochberg,
    scores,
    shift_test,
    value_codes,
)
from rangebar_polars.validation.tier2 import validate_tier2

pytestmark = pytest.mark.usefixtures("libraries")

IS_LONG = bool(os.environ.get("RANGEBAR_TEST_LONG"))
RUNS = 200 if IS_LONG else 40
BARS = rb.sample_ticks().rangebar.bars(100, features="microstructure").head(501)


def autoregressive(memory: float, rows: int, random: np.random.Generator) -> np.ndarray:
    """A series with this correlation between neighbours, from its stationary distribution on."""
    from scipy.signal import lfilter

    steps = random.normal(size=rows)
    steps[0] /= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], steps)


def shift_p(x: np.ndarray, target: np.ndarray) -> float:
    return shift_test(scores(value_codes(x)), scores(value_codes(target)))[1]


# The spread is an estimate, too: with much memory, 400 rows are few for it.
@pytest.mark.parametrize(("memory", "most"), [(0.0, 0.08), (0.3, 0.09), (0.9, 0.11)])
def test_memory_does_not_make_columns_significant(memory: float, most: float) -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(1)
    plain = shifted = 0
    for _ in range(400):
        x, target = autoregressive(0.95, 400, random), autoregressive(memory, 400, random)
        plain += spearmanr(x, target)[1] < 0.05
        shifted += shift_p(x, target) < 0.05
    assert 0.025 <= shifted / 400 <= most
    if memory == 0.9:
        assert plain / 400 > 0.4  # what the test by shifts is for


def test_a_weak_relation_is_found_in_spite_of_memory() -> None:
    random = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        x = autoregressive(0.5, 2000, random)
        found += shift_p(x, 0.15 * x + random.normal(size=2000)) < 0.05
    assert found >= 95


def test_columns_of_noise_with_memory_rarely_pass() -> None:
    random = np.random.default_rng(3)
    passed = 0
    for _ in range(RUNS):
        target = autoregressive(0.3, 500, random)
        columns = (autoregressive(0.9, 500, random) for _ in range(100))
        p_values = [shift_p(column, target) for column in columns]
        passed += sum(q < 0.05 for q in benjamini_hochberg(p_values)) >= 3
    assert passed <= 0.05 * RUNS


def test_copies_of_the_target_are_found_among_noise() -> None:
    random = np.random.default_rng(4)
    target = random.normal(size=501)
    noise = {f"noise_{i}": random.normal(size=501) for i in range(83)}
    copies = {f"copy_{i}": target for i in range(3)}
    bars = BARS.with_columns(
        pl.Series(name, values)
        for name, values in {"forward_return": target, **noise, **copies}.items()
    )
    result = validate_tier2(bars, features=[*noise, *copies])
    significant = [n for n, row in result["predictive_power"].items() if row["significant"]]
    assert significant == list(copies)
    assert result["tier2_passed"] is True
    assert result["independent_feature_count"] == 1
    assert result["look_ahead_suspected"] == list(copies)
    assert [pair[:2] for pair in result["high_correlation_pairs"]] == [
        ["copy_0", "copy_1"], ["copy_0", "copy_2"], ["copy_1", "copy_2"],
    ]  # fmt: skip


@pytest.mark.skipif(not IS_LONG, reason="takes minutes: RANGEBAR_TEST_LONG=1")
def test_bars_with_columns_of_noise_rarely_pass() -> None:
    random = np.random.default_rng(5)
    names = [f"c{i}" for i in range(100)]
    passed = 0
    for _ in range(RUNS):
        columns = {name: autoregressive(0.9, 501, random) for name in names}
        columns["forward_return"] = random.normal(size=501)
        bars = BARS.with_columns(pl.Series(name, v) for name, v in columns.items())
        passed += validate_tier2(bars, features=names)["tier2_passed"]
    assert passed <= 0.05 * RUNS
