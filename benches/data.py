"""Generated trades for the benchmarks, kept as Parquet in `build/bench`. Not real data.

The trades come in pieces of a million rows, each from its own seed, and a piece goes on where the
one before ended: a short file is the beginning of a longer one, and memory stays bounded. A taker
order is one or more rows: same time, same side, prices that step away from the touch. Sides come
in runs, orders come faster and move prices more when the market is busy, a row stands for one or
more fills.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench"
SEED = 20251231
PIECE = 1_000_000
ROWS_OF_AN_ORDER = 1.45
BLOCK = 64  # orders that share one level of activity

CENT = 0.01
LOT = 0.000_01
MICROS_BETWEEN_ORDERS = 230_000
CENTS_OF_A_MOVE = 102.0

SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64,
        "quantity": pl.Float64,
        "agg_trade_id": pl.Int64,
        "first_trade_id": pl.Int64,
        "last_trade_id": pl.Int64,
        "is_buyer_maker": pl.Boolean,
    }
)


@dataclass
class Market:
    """Where the trades stand at the end of a piece."""

    time: int = 1_767_225_600_000_000
    cents: float = 8_764_822.0
    agg_trade_id: int = 3_800_397_494
    trade_id: int = 5_723_703_860


def activity(rng: np.random.Generator, orders: int) -> np.ndarray:
    """How busy the market is at each order, 1 on average: a slow factor and bursts."""
    blocks = orders // BLOCK + 1
    level = np.empty(blocks)
    shocks = rng.normal(0, 1, (2, blocks)).tolist()
    slow = fast = 0.0
    for block, (drift, burst) in enumerate(zip(*shocks, strict=True)):
        slow = 0.998 * slow + 0.025 * drift
        fast = 0.8 * fast + 0.25 * burst
        level[block] = slow + fast
    busy = np.exp(level)
    return np.repeat(busy / busy.mean(), BLOCK)[:orders]


def sides(rng: np.random.Generator, orders: int) -> np.ndarray:
    """1 for a buyer, -1 for a seller: runs of heavy-tailed length, one order in six against."""
    lengths = np.ceil(2.0 * rng.pareto(1.7, orders // 2) + 1).astype(np.int64).clip(max=2_000)
    runs = np.repeat(np.arange(len(lengths), dtype=np.int8) % 2 * 2 - 1, lengths)[:orders]
    runs = np.resize(runs, orders)
    return np.where(rng.random(orders) < 1 / 6, -runs, runs)


def quantities(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Sizes in lots: a heavy-tailed body, and the round sizes that people and bots repeat."""
    body = rng.lognormal(4.3, 2.1, rows)
    favourites = rng.choice(np.array([6.0, 12.0, 100.0, 500.0, 1_000.0, 25_000.0]), rows)
    sizes = np.where(rng.random(rows) < 0.3, favourites, body)
    return np.rint(sizes).clip(1, 50_000_000)


def touches(rng: np.random.Generator, busy: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Middle price after each order, in cents from the start: most orders do not move it."""
    moves = rng.standard_t(4, len(busy)) * np.sqrt(busy) + 0.1 * side
    moves[rng.random(len(busy)) < 0.55] = 0.0
    return np.cumsum(moves * CENTS_OF_A_MOVE)


def order_times(rng: np.random.Generator, busy: np.ndarray) -> np.ndarray:
    """Microseconds from the start; one order in eight comes with the one before."""
    gaps = rng.exponential(MICROS_BETWEEN_ORDERS, len(busy)) / busy
    gaps[rng.random(len(busy)) < 1 / 8] = 0.0
    return np.cumsum(gaps).astype(np.int64)


def swept_cents(rng: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Distance of each row's price from the touch: an order that sweeps the book steps away."""
    first = np.cumsum(lengths) - lengths
    steps = np.floor(rng.exponential(6.0, int(lengths.sum()))) + 1
    steps[first] = 0
    swept = np.cumsum(steps)
    return swept - np.repeat(swept[first], lengths)


def piece(number: int, market: Market) -> pl.DataFrame:
    """The next million trades; `market` moves on to their end."""
    rng = np.random.default_rng([SEED, number])
    orders = int(PIECE / ROWS_OF_AN_ORDER * 1.05)
    busy, side = activity(rng, orders), sides(rng, orders)
    lengths = np.where(rng.random(orders) < 0.15, 1 + rng.geometric(0.33, orders).clip(max=40), 1)
    order = np.repeat(np.arange(orders), lengths)[:PIECE]
    away = swept_cents(rng, lengths)[:PIECE] + 1
    middle = market.cents + touches(rng, busy, side)
    cents = np.rint(middle[order] + side[order] * away)
    times = market.time + order_times(rng, busy)[order]
    fills = np.where(rng.random(PIECE) < 0.6, 1, 1 + rng.geometric(0.3, PIECE))
    last = market.trade_id + np.cumsum(fills)
    frame = pl.DataFrame(
        {
            "timestamp": times,
            "price": cents / round(1 / CENT),
            "quantity": quantities(rng, PIECE) / round(1 / LOT),
            "agg_trade_id": market.agg_trade_id + 1 + np.arange(PIECE),
            "first_trade_id": last - fills + 1,
            "last_trade_id": last,
            "is_buyer_maker": side[order] < 0,
        }
    ).cast({"timestamp": SCHEMA["timestamp"]})
    market.time, market.cents = int(times[-1]), float(middle[order[-1]])
    market.agg_trade_id += PIECE
    market.trade_id = int(last[-1])
    return frame


def trades(rows: int) -> pl.LazyFrame:
    """A plan that makes this many trades, a piece at a time."""

    def pieces(with_columns, predicate, n_rows, batch_size):
        market = Market()
        for number in range(-(-rows // PIECE)):
            yield piece(number, market).head(rows - number * PIECE)

    return register_io_source(pieces, schema=SCHEMA)


def folder() -> Path:
    """Where this generator keeps its files; those of another version of it are removed."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    own = FOLDER / version
    if not own.is_dir():
        shutil.rmtree(FOLDER, ignore_errors=True)
        own.mkdir(parents=True)
    return own


def parquet(rows: int) -> Path:
    """File of the first `rows` trades, made when it is first asked for."""
    path = folder() / f"trades-{rows}.parquet"
    if not path.exists():
        print(f"making {rows:,} trades: {path}", flush=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        trades(rows).sink_parquet(unfinished, compression="zstd", compression_level=1)
        unfinished.replace(path)
    return path


def frame(rows: int) -> pl.DataFrame:
    """The first `rows` trades in memory, each column in one piece."""
    return pl.read_parquet(parquet(rows)).rechunk()
