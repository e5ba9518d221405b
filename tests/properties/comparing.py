"""Equality of frames to the last bit, and the three tolerances of the contract."""

from __future__ import annotations

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

TOLERANT = ("vwap", "vwap_close_deviation", "turnover_imbalance")


def bits(column: pl.Series) -> np.ndarray:
    """Return a float column as integers, nulls as 0."""
    return column.fill_null(0.0).to_numpy().view(np.int64)


def assert_same_bars(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """Compare names, dtypes, order, nulls and the bits of every value."""
    assert list(left.schema.items()) == list(right.schema.items()), (
        f"\n{left.schema}\n{right.schema}"
    )
    assert_frame_equal(left, right, check_exact=True, categorical_as_str=True)
    for name, dtype in left.schema.items():
        if dtype == pl.Float64:
            same = bits(left[name]) == bits(right[name])
            assert same.all(), (
                f"{name}: {left[name].filter(~pl.Series(same))} {right[name].filter(~pl.Series(same))}"
            )


def assert_matches(got: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Compare bars with the model: bit for bit, vwap within 2 ulp, two features within their tolerance."""
    tolerant = [c for c in TOLERANT if c in expected.columns]
    assert list(got.schema.items()) == list(expected.schema.items()), (
        f"\n{got.schema}\n{expected.schema}"
    )
    assert_same_bars(got.drop(tolerant), expected.drop(tolerant))
    for name in tolerant:
        assert got[name].is_null().equals(expected[name].is_null()), name
    if (
        "vwap" in tolerant
    ):  # the model's is the nearest double: 2 ulp from the truth is at most 2 steps from it
        steps = np.abs(bits(got["vwap"]) - bits(expected["vwap"]))
        assert (steps <= 2).all(), f"vwap is {steps.max()} steps off"
    if "vwap_close_deviation" in tolerant:
        spread = (expected["high"] - expected["low"]).to_numpy()
        slack = 1e-9 + 3 * np.spacing(expected["high"].to_numpy()) / np.where(
            spread > 0, spread, 1.0
        )
        assert (distance(got, expected, "vwap_close_deviation") <= slack).all()
    if "turnover_imbalance" in tolerant:
        assert (distance(got, expected, "turnover_imbalance") <= 1e-11).all()


def distance(got: pl.DataFrame, expected: pl.DataFrame, name: str) -> np.ndarray:
    return np.abs(got[name].fill_null(0.0).to_numpy() - expected[name].fill_null(0.0).to_numpy())
