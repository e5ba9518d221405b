"""All features over the trades of a real day, which come with the package."""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right
from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from features.frames import mismatches, same_bits
from features.oracle import GRID, LONGEST_WINDOW, LOOKBACK, Records

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Rows that the slow definitions are run over.
COMPARED = 49_505 if os.environ.get("RANGEBAR_TEST_LONG") else 5_000
HELD = 2**20


@pytest.fixture(scope="module")
def trades() -> pl.DataFrame:
    return rb.sample_ticks()


def records_of(trades: pl.DataFrame) -> Records:
    """Return trades as records of the definitions."""
    grid = trades.select((pl.col("price", "quantity") * GRID).round().cast(pl.Int64))
    return Records(
        trades["timestamp"].to_physical().to_list(),
        grid["price"].to_list(),
        grid["quantity"].to_list(),
        [-1 if is_maker else 1 for is_maker in trades["is_buyer_maker"]],
        trades["first_trade_id"].to_list(),
        trades["last_trade_id"].to_list(),
    )


def pieces(trades: pl.DataFrame, seed: int, count: int) -> Iterator[pl.DataFrame]:
    at = sorted(random.Random(seed).sample(range(1, trades.height), count - 1))
    for start, end in zip([0, *at], [*at, trades.height], strict=True):
        yield trades[start:end]


def test_values_are_those_of_the_definitions(trades: pl.DataFrame) -> None:
    head = trades.head(COMPARED)
    bars = head.rangebar.bars(20, features="all", lookback=300)
    assert mismatches(records_of(head), bars, {"records": 300}) == []


def test_any_pieces_with_a_checkpoint_after_each(trades: pl.DataFrame) -> None:
    whole = trades.rangebar.bars([20, 50], features="all", lookback="3bars")
    states = set()
    for seed in (1, 2):
        builder, bars = rb.RangeBarBuilder([20, 50], features="all", lookback="3bars"), []
        for piece in pieces(trades, seed, 200):
            bars.append(builder.push(piece))
            builder = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
        assert same_bits(pl.concat(bars), whole)
        states.add(builder.checkpoint())
    assert len(states) == 1


def test_a_window_of_one_bar_is_the_bar_before(trades: pl.DataFrame) -> None:
    bars = trades.rangebar.bars(20, features=["lookback", "intrabar"], lookback="1bars")
    pairs = {
        name: twin
        for name in rb.INTER_BAR_FEATURE_COLUMNS
        if (twin := name.replace("lookback_", "intra_")) in rb.INTRA_BAR_FEATURE_COLUMNS
        and name != "lookback_count_imbalance"
    }
    assert len(pairs) == 13
    for before, bar in pairs.items():
        left, right = bars.select(v=pl.col(before))[1:], bars.select(v=pl.col(bar))[:-1]
        assert same_bits(left, right), before


def test_later_trades_change_no_earlier_value(trades: pl.DataFrame) -> None:
    given = {"features": "all", "lookback": "5m"}
    bars = trades.rangebar.bars(20, **given)
    for number in (1, 100, 4_000):
        row = int(bars["agg_record_count"][:number].sum())
        is_later = pl.int_range(pl.len()) >= row
        changed = trades.with_columns(
            price=pl.when(is_later).then(pl.col("price") * 1.5).otherwise("price"),
            quantity=pl.when(is_later).then(pl.col("quantity") * 3).otherwise("quantity"),
        ).rangebar.bars(20, **given)
        assert same_bits(changed[:number], bars[:number])
        look_back = pl.col(*LOOKBACK)
        assert same_bits(
            changed.select(look_back)[number : number + 1],
            bars.select(look_back)[number : number + 1],
        )


def test_keys_are_apart(trades: pl.DataFrame) -> None:
    ids = ["agg_trade_id", "first_trade_id", "last_trade_id"]
    # No window is cut to its limit.
    third = trades.head(25_000).drop(ids).with_row_index("row")
    parts = [
        third.filter(pl.col("row") % 3 == number).drop("row").with_columns(symbol=pl.lit(symbol))
        for number, symbol in enumerate(["A", "B", "C"])
    ]
    # All trades of C have the time of the first.
    parts[2] = parts[2].with_columns(timestamp=pl.col("timestamp").first())
    mixed = pl.concat(parts).sort("timestamp", maintain_order=True)
    given = {"features": "all", "lookback": "5m", "prevent_same_timestamp_close": False}
    bars = mixed.rangebar.bars([20, 50], group_by="symbol", **given)
    for part in parts:
        own = bars.filter(pl.col("symbol") == part["symbol"][0]).drop("symbol")
        assert own.height > 10
        alone = part.drop("symbol").rangebar.bars([20, 50], **given)
        assert same_bits(own, alone)


def test_windows_of_days_with_a_silence(trades: pl.DataFrame) -> None:
    half = trades.height // 2
    is_late = pl.int_range(pl.len()) >= half
    day = trades.drop("agg_trade_id", "first_trade_id", "last_trade_id").with_columns(
        timestamp=pl.col("timestamp").dt.truncate("1d")
        + (pl.col("timestamp") - pl.col("timestamp").dt.truncate("1d")) / 2
        + pl.when(is_late).then(pl.duration(hours=2)).otherwise(pl.duration())
    )
    days = pl.concat(
        [day.with_columns(pl.col("timestamp") + pl.duration(days=n)) for n in range(3)]
    )
    bars = days.rangebar.bars(
        20, features="lookback", lookback="5m", reset="day", max_gap="1h", incomplete="keep"
    )
    times = days["timestamp"].to_physical().to_list()
    starts = sorted({n * day.height + at for n in range(3) for at in (0, half)})
    at, firsts = 0, 0
    for row in bars.iter_rows(named=True):
        start = starts[bisect_right(starts, at) - 1]
        begin = bisect_left(times, times[at] - 300_000_000, start, at)
        assert row["lookback_trade_count"] == min(at - begin, LONGEST_WINDOW)
        if at == start:
            firsts += 1
            assert {row[name] for name in LOOKBACK} == {0, None}
        at += row["agg_record_count"]
    assert firsts == len(starts)


def test_bars_that_are_too_long_to_be_held() -> None:
    rows = HELD + 1
    steps = pl.int_range(rows, dtype=pl.Int64, eager=True).hash(seed=5)
    frame = pl.DataFrame(
        {
            "price": 1000 + ((steps % 3).cast(pl.Int64) - 1).cum_sum() / 100,
            "quantity": 1 + (steps // 7 % 90).cast(pl.Float64) / 10,
            "is_buyer_maker": steps // 11 % 2 == 0,
            "bar_id": pl.zeros(rows, pl.Int32, eager=True),
        }
    ).with_columns(
        timestamp=(pl.int_range(rows, dtype=pl.Int64) * 1_000 + (steps % 700).cast(pl.Int64)).cast(
            pl.Datetime("us")
        )
    )
    features = ["intrabar", "extended"]
    long = frame.rangebar.aggregate("bar_id", features=features)
    fits = frame.head(HELD).rangebar.aggregate("bar_id", features=features)
    of_epochs = product(("bull", "bear"), ("epoch_density", "excess_gain", "cv"))
    held = {f"intra_{side}_{name}" for side, name in of_epochs}
    held |= {"order_size_p50", "order_size_p90", "large_order_share", "large_order_ofi"}
    names = rb.columns().filter(pl.col("group").is_in(features))["name"].to_list()
    assert {name for name in names if long[name][0] is None} == held
    empty = {name for name in names if fits[name][0] is None}
    assert empty <= {"intra_bull_cv", "intra_bear_cv"}


def test_every_field_of_a_record_is_compared(trades: pl.DataFrame) -> None:
    records = records_of(trades.head(100))
    assert all(getattr(records, field.name) is not None for field in fields(records))
