"""Features of synthetic processes whose parameters are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 20_000
#: From the beginning of a sample to that of the next, above the longest.
APART_US = 10**11


def samples(parts: Sequence[dict[str, Any]], *names: str) -> pl.DataFrame:
    """Compute columns of one bar for each sample: prices, and sizes, sides and times if they matter."""
    frames = []
    for number, part in enumerate(parts):
        rows = len(part["price"])
        data = {
            "timestamp": pl.Series(part.get("time", np.arange(rows) * 1000), dtype=pl.Int64),
            "price": np.round(np.asarray(part["price"], dtype=float), 8),
            "quantity": np.round(np.asarray(part.get("size", np.ones(rows)), dtype=float), 8),
            "side": pl.Series(np.asarray(part.get("side", np.ones(rows)), dtype=np.int8)),
        }
        frames.append(pl.DataFrame(data).with_columns(bar_id=pl.lit(number, pl.Int32)))
    trades = pl.concat(frames).with_columns(
        timestamp=(pl.col("timestamp") + pl.col("bar_id").cast(pl.Int64) * APART_US).cast(
            pl.Datetime("us")
        )
    )
    bars = trades.rangebar.aggregate("bar_id", features=list(names))
    assert bars.height == len(parts)
    return bars


def one(name: str, **part: Any) -> float:
    value = samples([part], name)[name][0]
    assert value is not None
    return float(value)


def mean(name: str, parts: Sequence[dict[str, Any]]) -> float:
    values = samples(parts, name)[name]
    assert values.null_count() == 0
    return float(values.mean())  # type: ignore[arg-type]


def walk(rng: np.random.Generator, rows: int, noise: float = 0.0) -> np.ndarray:
    return 100 + np.cumsum(rng.normal(0, 0.01, rows)) + noise * rng.choice([-1, 1], rows)


def sticky(rng: np.random.Generator, rows: int, change: float) -> np.ndarray:
    """Return sides that change with a probability."""
    return np.where(rng.random(rows) < change, -1, 1).cumprod()


def fractional_noise(h: float, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw fractional Gaussian noise by the Davies-Harte method."""
    k = np.arange(rows + 1)
    covariance = 0.5 * ((k + 1.0) ** (2 * h) - 2.0 * k ** (2 * h) + abs(k - 1.0) ** (2 * h))
    row = np.r_[covariance, covariance[-2:0:-1]]
    spectrum = np.fft.fft(row).real.clip(0)
    waves = rng.normal(size=len(row)) + 1j * rng.normal(size=len(row))
    return np.fft.fft(np.sqrt(spectrum / len(row)) * waves).real[:rows]


def stopped(rng: np.random.Generator, half: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw prices and sides of a bar: a walk with a half spread, up to the first price at a barrier."""
    while True:
        side = sticky(rng, 20_000, 0.4)
        price = np.cumsum(rng.normal(0, 0.01, 20_000)) + half * side
        ends = np.nonzero(abs(price - price[0]) >= 0.15)[0]
        if len(ends):
            return 1000 + price[: ends[0] + 1] - price[0], side[: ends[0] + 1]


def test_a_random_walk() -> None:
    rng = np.random.default_rng(7)
    prices = walk(rng, ROWS)
    bar = samples(
        [{"price": prices, "side": rng.choice([-1, 1], ROWS), "size": rng.lognormal(0, 1, ROWS)}],
        "intra_permutation_entropy", "realized_variance", "upside_variance_share", "realized_kurt",
        "realized_skew", "variance_ratio", "reversal_ratio", "sign_autocorr_1", "sign_entropy",
    ).row(0, named=True)  # fmt: skip
    assert bar["intra_permutation_entropy"] == pytest.approx(
        2.5 * math.log(2) / math.log(6), abs=0.005
    )
    variance = bar["realized_variance"] / (ROWS * 1e-4 / prices[0] ** 2)
    assert variance == pytest.approx(1, abs=0.03)
    assert bar["upside_variance_share"] == pytest.approx(0.5, abs=0.02)
    assert bar["realized_kurt"] == pytest.approx(3, abs=0.2)
    assert bar["realized_skew"] == pytest.approx(0, abs=0.1)
    assert bar["variance_ratio"] == pytest.approx(1, abs=0.06)
    assert bar["reversal_ratio"] == pytest.approx(0.5, abs=0.02)
    assert bar["sign_autocorr_1"] == pytest.approx(0, abs=0.03)
    assert bar["sign_entropy"] == pytest.approx(1, abs=0.001)


def test_noise_without_memory() -> None:
    rng = np.random.default_rng(8)
    prices = 100 + rng.normal(0, 1, ROWS)
    assert one("intra_permutation_entropy", price=prices) == pytest.approx(1, abs=0.001)
    # Sides that alternate make every record an order.
    sides = np.resize([1, -1], ROWS)
    assert one("variance_ratio", price=prices, side=sides) == pytest.approx(1 / 8, abs=0.01)


def test_sides_that_persist() -> None:
    rng = np.random.default_rng(9)
    part = {"price": np.full(ROWS, 100.0), "side": sticky(rng, ROWS, 0.1)}
    assert one("sign_autocorr_1", **part) == pytest.approx(0.8, abs=0.02)
    assert one("sign_autocorr_5", **part) == pytest.approx(0.8**5, abs=0.03)
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert one("sign_entropy", **part) == pytest.approx(entropy, abs=0.01)
    fair = [{"price": np.full(200, 100.0), "side": rng.choice([-1, 1], 200)} for _ in range(200)]
    assert mean("sign_entropy", fair) == pytest.approx(0.985, abs=0.004)


@pytest.mark.parametrize(("exponent", "seen"), [(0.2, 0.218), (0.5, 0.503), (0.8, 0.793)])
def test_hurst_of_fractional_noise(exponent: float, seen: float) -> None:
    rng = np.random.default_rng(10)
    parts = [
        {"price": 1000 + 0.01 * np.cumsum(fractional_noise(exponent, 1000, rng))} for _ in range(40)
    ]
    assert mean("intra_hurst", parts) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize(
    ("intervals", "kim_jo", "goh_barabasi"),
    [(5, -0.056, -0.150), (20, -0.020, -0.043), (100, -0.005, -0.009)],
)
def test_burstiness_of_a_poisson_process(
    intervals: int, kim_jo: float, goh_barabasi: float
) -> None:
    rng = np.random.default_rng(11)
    gaps = rng.exponential(1e6, (1500, intervals)).astype(int)
    parts = [{"price": np.full(intervals + 1, 100.0), "time": np.r_[0, np.cumsum(g)]} for g in gaps]
    assert mean("burstiness_kim_jo", parts) == pytest.approx(kim_jo, abs=0.015)
    assert mean("intra_burstiness", parts) == pytest.approx(goh_barabasi, abs=0.015)


def test_memory_of_intervals() -> None:
    rng = np.random.default_rng(12)
    noise = rng.normal(size=ROWS)
    x = np.zeros(ROWS)
    for i in range(1, ROWS):
        x[i] = 0.6 * x[i - 1] + noise[i]
    times = np.r_[0, np.cumsum(10**6 + 10**5 * x).astype(int)]
    memory = one("interval_memory", price=np.full(ROWS + 1, 100.0), time=times)
    assert memory == pytest.approx(0.6, abs=0.02)


def test_the_spread_of_huang_and_stoll() -> None:
    rng = np.random.default_rng(13)
    side = sticky(rng, ROWS, 0.3)
    innovations = np.r_[0, 0.3 * 0.015 * side[:-1]] + rng.normal(0, 0.01, ROWS)
    prices = 100 + np.cumsum(innovations) + 0.015 * side
    bar = samples(
        [{"price": prices, "side": side}], "huang_stoll_spread", "adverse_half_spread"
    ).row(0, named=True)
    assert bar["huang_stoll_spread"] * prices[0] == pytest.approx(0.03, abs=0.001)
    adverse = 2 * bar["adverse_half_spread"] / bar["huang_stoll_spread"]
    assert adverse == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("impact", [0.0, 2e-3])
def test_the_impact_of_glosten_and_harris(impact: float) -> None:
    rng = np.random.default_rng(14)
    parts = []
    for _ in range(100):
        side, size = sticky(rng, 300, 0.3), rng.lognormal(0, 1, 300)
        moves = np.cumsum(impact * side * size + rng.normal(0, 0.005, 300))
        parts.append({"price": 1000 + moves + 0.01 * side, "side": side, "size": size})
    names = ("glosten_harris_lambda", "glosten_harris_lambda_t", "glosten_harris_spread")
    bars = samples(parts, *names).with_columns(first=pl.Series([p["price"][0] for p in parts]))
    assert bars["glosten_harris_lambda"].mean() == pytest.approx(impact, abs=6e-5)
    spread = (bars["glosten_harris_spread"] * bars["first"]).mean()
    assert spread == pytest.approx(0.02, abs=2e-4)
    t = bars["glosten_harris_lambda_t"]
    if impact:
        assert t.mean() > 12
    else:
        assert t.mean() == pytest.approx(0, abs=0.3)
        assert t.std() == pytest.approx(1, abs=0.25)


def test_bounce_is_not_taken_for_impact_in_bars_that_end_at_a_barrier() -> None:
    rng = np.random.default_rng(15)
    parts = []
    while len(parts) < 300:
        prices, side = stopped(rng, half=0.01)
        size = np.round(rng.lognormal(0, 1, len(prices)), 8)
        parts.append({"price": prices, "side": side, "size": size})
    bars = samples(parts, "glosten_harris_lambda_t", "order_count").filter(
        pl.col("order_count") >= 33
    )
    assert bars.height > 100
    assert bars["glosten_harris_lambda_t"].mean() == pytest.approx(0, abs=0.25)


def test_two_scales_in_bars_that_end_at_a_barrier() -> None:
    rng = np.random.default_rng(16)
    parts = []
    for _ in range(500):
        prices, _ = stopped(rng)
        if len(prices) >= 33:
            # Every record is an order.
            parts.append({"price": prices, "side": np.resize([1, -1], len(prices))})
    bars = samples(parts, "two_scale_variance")
    first = np.array([part["price"][0] for part in parts])
    steps = sum(len(part["price"]) - 1 for part in parts)
    total = float((bars["two_scale_variance"].to_numpy() * first**2).sum())
    assert total / steps == pytest.approx(1e-4, abs=1e-5)


def test_two_scales_of_walks_with_and_without_noise() -> None:
    rng = np.random.default_rng(17)
    clean = [{"price": walk(rng, 76), "side": np.resize([1, -1], 76)} for _ in range(400)]
    assert mean("two_scale_variance", clean) * 1e4 / 75e-4 == pytest.approx(1, abs=0.05)
    noisy = [{"price": walk(rng, 601, 0.01), "side": np.resize([1, -1], 601)} for _ in range(100)]
    assert mean("two_scale_variance", noisy) * 1e4 / 600e-4 == pytest.approx(1, abs=0.08)
