"""Writes the sample that ships with the package: one day of generated trades. Not real data.

    python benches/make_sample.py

The same seed gives the same trades. A taker order is one or more rows: same time, same side, prices
that step away from the touch as it sweeps the book. Orders come faster when the market is active,
which is also when prices move more; their sides come in runs; the price gives way to the flow and
partly recovers. Ids run on without a gap; a row stands for one or more fills.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

OUT = Path(__file__).parents[1] / "rangebar_polars" / "data" / "sample.parquet"
SEED = 20240808
ORDERS = 34_200
MICROS_PER_DAY = 86_400_000_000
MIDNIGHT = 1_723_075_200_000_000  # 2024-08-08 UTC
TICK = 0.01
LOT = 0.0001
FIRST_PRICE = 3_200.00
DAY_VOLATILITY = 0.042


def activity(rng: np.random.Generator) -> np.ndarray:
    """How busy the market is at each order, 1 on average: slow factors, bursts, and one shock."""
    level = np.zeros(ORDERS)
    for memory, spread in ((30, 0.45), (900, 0.35), (9_000, 0.45)):
        keep = np.exp(-1 / memory)
        steps = rng.normal(0, spread * np.sqrt(1 - keep**2), ORDERS)
        state = 0.0
        for i, step in enumerate(steps):
            state = keep * state + step
            level[i] += state
    shock = int(0.63 * ORDERS)
    level[shock:] += 1.6 * np.exp(-np.arange(ORDERS - shock) / 700)
    return np.exp(level) / np.exp(level).mean()


def order_times(rng: np.random.Generator, busy: np.ndarray) -> np.ndarray:
    """Microseconds of the day; two of five orders answer the one before within milliseconds."""
    calm = rng.exponential(1, ORDERS) / busy
    answers = rng.random(ORDERS) < 0.4
    gaps = np.where(answers, 0.0, calm)
    clock = np.cumsum(gaps) / gaps.sum() * (MICROS_PER_DAY - 60_000_000)
    quick = np.cumsum(np.where(answers, rng.lognormal(8.0, 1.6, ORDERS).clip(0, 4e5), 0))
    return np.floor(clock + quick / max(1.0, quick[-1] / 50_000_000)).astype(np.int64)


def order_sides(rng: np.random.Generator) -> np.ndarray:
    """1 for a buyer, -1 for a seller: runs of heavy-tailed length, one order in five against."""
    lengths = np.ceil(2.5 * rng.pareto(1.6, ORDERS) + 1).astype(int)
    runs = np.repeat(np.where(np.arange(ORDERS) % 2 == 0, 1, -1), lengths)[:ORDERS]
    return np.where(rng.random(ORDERS) < 0.2, -runs, runs)


def mid_ticks(rng: np.random.Generator, busy: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Middle of bid and ask before each order, in ticks."""
    noise = rng.standard_t(4, ORDERS) * np.sqrt(busy)
    flow = sides * np.sqrt(busy)
    answered = np.convolve(flow, 0.9 ** np.arange(60), "full")[:ORDERS]
    moves = noise + 0.35 * flow - 0.03 * answered
    moves *= DAY_VOLATILITY / np.sqrt((moves**2).sum())
    return np.round(FIRST_PRICE / TICK * np.exp(np.cumsum(moves) - moves[0]))


def quantities(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Sizes in lots: a heavy-tailed body, and the round sizes that people and bots repeat."""
    body = rng.lognormal(6.0, 1.9, rows)
    favourites = rng.choice([20, 50, 100, 500, 1_000, 2_500, 10_000], rows)
    sizes = np.where(rng.random(rows) < 0.35, favourites, body)
    return np.maximum(1, np.round(sizes)).clip(max=4_000_000)


def make_trades() -> pl.DataFrame:
    """The day as a frame with the canonical columns."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    busy = activity(rng)
    times = order_times(rng, busy)
    sides = order_sides(rng)
    mids = mid_ticks(rng, busy, sides)
    lengths = np.where(rng.random(ORDERS) < 0.15, 1 + rng.geometric(0.33, ORDERS).clip(max=40), 1)
    order = np.repeat(np.arange(ORDERS), lengths)
    rows = len(order)
    depth = np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    steps = np.floor(rng.exponential(6.0, rows)) + 1
    swept = np.cumsum(np.where(depth == 0, 0, steps))
    away = swept - np.repeat(swept[np.cumsum(lengths) - lengths], lengths)
    ticks = mids[order] + sides[order] * (1 + away)
    fills = np.where(rng.random(rows) < 0.68, 1, 1 + rng.geometric(0.35, rows))
    last = 1_520_000_000 + np.cumsum(fills)
    return pl.DataFrame(
        {
            "timestamp": MIDNIGHT + times[order],
            "price": np.round(ticks * TICK, 2),
            "quantity": np.round(quantities(rng, rows) * LOT, 4),
            "agg_trade_id": 410_000_000 + np.arange(rows),
            "first_trade_id": last - fills + 1,
            "last_trade_id": last,
            "is_buyer_maker": sides[order] < 0,
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))


def main() -> None:
    trades = make_trades()
    OUT.parent.mkdir(exist_ok=True)
    trades.write_parquet(OUT, compression="zstd", compression_level=19, statistics=False)
    print(f"{OUT}: {trades.height:,} trades, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
