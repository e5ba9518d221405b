"""Frames of hostile trades for features, and the values that each bar must have."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import polars as pl

from features import oracle
from features.oracle import COLUMNS, INTEGERS, LOOKBACK, Records, allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

START = 1_704_067_200_000_000
WINDOWS: dict[str, dict[str, int]] = {
    "records=1": {"records": 1},
    "records=200": {"records": 200},
    "bars=1": {"bars": 1},
    "bars=3": {"bars": 3},
    "time=0.000001s": {"duration": 1},
    "5s": {"duration": 5_000_000},
}


def stream(
    seed: int,
    rows: int,
    *,
    base: int = 10**10,
    tick: int = 10**6,
    size: int = 10**9,
    unsided: float = 0.0,
    idle: bool = False,
) -> Records:
    """Draw records with unchanged prices, bursts of one time, heavy sizes and sticky sides."""
    r = random.Random(seed)
    price, time = base, 0
    columns: tuple[list[int], ...] = ([], [], [], [], [], [])
    fill = 1
    side = 1
    for _ in range(rows):
        price = max(tick, price + r.choice([0, 0, 0, 1, -1, 1, -1, 4, -4]) * tick)
        time += r.choice([0, 0, 0, 1, 1000, 250_000, 3_000_000])
        heavy = r.random() < 0.02
        amount = 0 if idle else r.choice([0, size // 100, size, r.randrange(1, size)])
        side = (r.choice([1, 1, -1]) if r.random() < 0.4 else side) or 1
        now = 0 if r.random() < unsided else side
        last = fill + r.randrange(3)
        values = (time, price, amount * (1000 if heavy else 1), now, fill, last)
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        fill = last + 1
    return Records(*columns)


def frame(w: Records, *, unit: str = "us", drop: Sequence[str] = ()) -> pl.DataFrame:
    """Return records as a frame of trades with exact decimals."""
    side = pl.Series("side", w.side, pl.Int8)
    data = pl.DataFrame(
        {
            "timestamp": (pl.Series(w.time, dtype=pl.Int64) + START).cast(pl.Datetime("us")),
            "price": decimals(w.price),
            "quantity": decimals(w.size or [0] * len(w)),
            "first_trade_id": pl.Series(w.first_id, dtype=pl.Int64),
            "last_trade_id": pl.Series(w.last_id, dtype=pl.Int64),
        }
    )
    sides = side if (side == 0).any() else (side < 0).alias("is_buyer_maker")
    data = data.with_columns(sides)
    return data.with_columns(pl.col("timestamp").dt.cast_time_unit(unit)).drop(drop, strict=False)


def decimals(values: Sequence[int]) -> pl.Series:
    """Return grid values as decimals."""
    text = [f"{v // 10**8}.{v % 10**8:08d}" for v in values]
    return pl.Series(text, dtype=pl.String).str.to_decimal(scale=8)


def without(w: Records, drop: Sequence[str]) -> Records:
    """Leave out the inputs of dropped columns."""
    return Records(
        w.time,
        w.price,
        None if "quantity" in drop else w.size,
        None if "side" in drop or "is_buyer_maker" in drop else w.side,
        None if "first_trade_id" in drop else w.first_id,
        None if "last_trade_id" in drop else w.last_id,
    )


def mismatches(
    w: Records, bars: pl.DataFrame, window: dict[str, int], names: Sequence[str] | None = None
) -> list[Any]:
    """Compare the features of consecutive bars, from record 0 on, with their definitions."""
    wrong: list[Any] = []
    opened: list[int] = []
    at = 0
    wanted = [name for name in (names or COLUMNS) if name in bars.columns]
    for row in bars.select("agg_record_count", *wanted).iter_rows(named=True):
        bar = w.cut(at, at + row["agg_record_count"])
        begin, end = oracle.window(w.time, opened, at, **window)
        before = w.cut(begin, end)
        for name in wanted:
            sample = before if name in LOOKBACK else bar
            if not is_right(name, row[name], sample):
                wrong.append((name, at, len(bar), row[name], COLUMNS[name](sample)))
        opened.append(at)
        at += len(bar)
    assert at <= len(w)
    return wrong


def is_right(name: str, got: float | None, sample: Records) -> bool:
    """Tell whether a value is null where it must be, and else within its tolerance."""
    want = COLUMNS[name](sample)
    if got is None or want is None:
        return got is None and want is None
    if name in INTEGERS and not isinstance(got, int):
        return False
    return math.isfinite(got) and abs(got - want) <= allowed(name, want, sample)


def bars_of(w: Records, threshold: Any, drop: Sequence[str] = (), **arguments: Any) -> pl.DataFrame:
    """Compute closed and unfinished bars of records, with all features."""
    given = {"features": "all", "incomplete": "keep", **arguments}
    absent = {name: None for name in drop if name == "quantity"}
    sides = {"is_buyer_maker": None, "side": None} if "is_buyer_maker" in drop else {}
    trades = frame(w, drop=drop)
    return trades.rangebar.bars(threshold, columns={**absent, **sides} or None, **given)  # type: ignore[attr-defined]


def same_bits(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    """Tell whether two frames agree in every bit."""
    pattern = pl.selectors.float().reinterpret(dtype=pl.UInt64)
    return left.with_columns(pattern).equals(right.with_columns(pattern), null_equal=True)
