"""Rows of the table for kinds of input: what a row of trades costs, against a plain frame.

The plain frame has doubles, a Boolean side and no keys. A row of it costs about 3.7 ns, which
turns the wanted nanoseconds of each input into the ratio that it must reach.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import data
import numpy as np
import polars as pl
from bench import cost
from goals import Case, Goal

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result

THRESHOLD = 250
PLAIN_NS = 3.7
FEW_KEYS = 20
SIDES = ("buy", "sell")
SIDE_DTYPES = {"String": pl.String, "Categorical": pl.Categorical, "Enum": pl.Enum(SIDES)}
IDS = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}


def against_plain(bench: Bench, trades: pl.DataFrame, **options: str) -> Result:
    """Bars of these trades, against the plain frame of as many rows."""
    rows, plain = trades.height, bench.trades.head(trades.height)
    ours = bench.side(lambda: trades.rangebar.bars(THRESHOLD, **options), rows)
    return cost(
        bench.compare(ours, bench.side(lambda: plain.rangebar.bars(THRESHOLD), rows)), rows, "plain"
    )


def with_side(bench: Bench, dtype: str) -> Result:
    """The aggressor's side as a word instead of a flag."""
    words = pl.Series("side", SIDES, dtype=SIDE_DTYPES[dtype])
    side = words.gather(bench.trades["is_buyer_maker"].cast(pl.UInt32))
    return against_plain(bench, bench.trades.drop("is_buyer_maker").with_columns(side))


def with_no_side(bench: Bench, share: float) -> Result:
    """Time sides of which some say that there was no aggressor, against none of those."""
    words = pl.Series("side", SIDES).gather(bench.trades["is_buyer_maker"].cast(pl.UInt32))
    plain = bench.trades.drop("is_buyer_maker").with_columns(words)
    is_none = pl.Series(np.random.default_rng(data.SEED).random(bench.rows) < share)
    mixed = plain.with_columns(side=pl.when(is_none).then(pl.lit("none")).otherwise("side"))
    ours = bench.side(lambda: mixed.rangebar.bars(THRESHOLD))
    without = bench.side(lambda: plain.rangebar.bars(THRESHOLD))
    return cost(bench.compare(ours, without), bench.rows, "without")


def with_one_symbol(bench: Bench, dtype: type[pl.DataType]) -> Result:
    """Time the check that a column `symbol` has one value, against no such column."""
    symbol = pl.Series("symbol", ["BTCUSDT"], dtype=dtype).new_from_index(0, bench.rows)
    return against_plain(bench, bench.trades.with_columns(symbol))


def with_prices(bench: Bench, dtype: pl.DataType) -> Result:
    """Prices of another dtype than Float64."""
    return against_plain(bench, bench.trades.with_columns(pl.col("price").round().cast(dtype)))


def random_codes(rows: int, keys: int) -> np.ndarray:
    """A key for each row."""
    return np.random.default_rng(data.SEED).integers(0, keys, rows)


def with_keys(bench: Bench, keys: int) -> Result:
    """Time trades of many interleaved keys."""
    trades = bench.trades.head(bench.few)
    codes = pl.Series("key", random_codes(trades.height, keys))
    result = against_plain(bench, trades.with_columns(codes), group_by="key")
    result.notes.append(
        f"{trades.with_columns(codes).rangebar.bars(THRESHOLD, group_by='key').height:,} bars"
    )
    return result


def with_long_keys(bench: Bench) -> Result:
    """Trades of a few keys too long for a view, each row with a string of its own."""
    codes = pl.Series("key", random_codes(bench.rows, FEW_KEYS))
    trades = bench.trades.with_columns(codes)
    keys = pl.format("EXCHANGE/SPOT/COIN{}/USDT", pl.col("key").cast(pl.String).str.zfill(3))
    return against_plain(bench, trades.with_columns(keys.alias("key")), group_by="key")


def in_groups(bench: Bench, groups: int, rows: int | None = None) -> Result:
    """Time the expression, which Polars calls for each group."""
    trades = bench.trades.head(rows or bench.few)
    keyed = trades.with_columns(pl.Series("key", random_codes(trades.height, groups)))
    bars = rb.bars("price", THRESHOLD, **IDS)
    ours = bench.side(lambda: keyed.group_by("key").agg(bars), trades.height)
    plain = bench.side(lambda: trades.select(bars), trades.height)
    return cost(bench.compare(ours, plain), trades.height, "plain")


def case(name: str, work: str, wanted_ns: float, measure: Callable[[Bench], Result]) -> Case:
    """A row whose figure is a cost, with what is wanted in nanoseconds a row."""
    return Case(name, work, Goal("≤", round(wanted_ns / PLAIN_NS, 1), None, "×"), measure)


INPUTS = (
    *(
        case(f"side-{dtype.lower()}", f"side as {dtype}, against plain", 12, measure)
        for dtype in SIDE_DTYPES
        for measure in [partial(with_side, dtype=dtype)]
    ),
    Case(
        "side-none",
        "a tenth without an aggressor (String)",
        Goal("≤", 1.3, None, "×"),
        partial(with_no_side, share=0.1),
    ),
    Case(
        "side-mixed",
        "half without an aggressor (String)",
        Goal("≤", 1.3, None, "×"),
        partial(with_no_side, share=0.5),
    ),
    *(
        Case(
            f"one-symbol-{dtype.__name__.lower()}",
            f"a symbol column ({dtype.__name__})",
            Goal("≤", 1.1, None, "×"),
            partial(with_one_symbol, dtype=dtype),
        )
        for dtype in (pl.String, pl.Categorical)
    ),
    case("price-int32", "prices as Int32", 8, partial(with_prices, dtype=pl.Int32())),
    case("price-uint64", "prices as UInt64", 8, partial(with_prices, dtype=pl.UInt64())),
    case(
        "price-decimal",
        "prices as Decimal(38, 18)",
        15,
        partial(with_prices, dtype=pl.Decimal(38, 18)),
    ),
    case("groups-500", "{few}, 500 keys", 40, partial(with_keys, keys=500)),
    case("groups-5k", "{few}, 5 k keys", 80, partial(with_keys, keys=5_000)),
    case("groups-200k", "{few}, 200 k keys", 250, partial(with_keys, keys=200_000)),
    case("groups-long", f"{FEW_KEYS} keys of long text", 25, with_long_keys),
    case("agg-1k", "{few}, expression in 1 k groups", 60, partial(in_groups, groups=1_000)),
    # As in 1 M rows and 100 k groups, in a tenth of the time.
    case(
        "agg-tiny",
        "expression in 10 k groups of 10 rows",
        600,
        partial(in_groups, groups=10_000, rows=100_000),
    ),
)
