"""Trades of several symbols without a key are found out, whatever their number and type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError, TickOrderError

if TYPE_CHECKING:
    from collections.abc import Callable

# Below and above the number of rows from which on another thread checks the symbols.
SIZES = (1_000, 300_000)
LONG = "EXCHANGE/SPOT/BITCOIN-TETHER"
DTYPES = {
    "String": (pl.String(), "BTC"),
    "long String": (pl.String(), LONG),
    "Categorical": (pl.Categorical(), "BTC"),
    "Enum": (pl.Enum(["ETH", "BTC"]), "BTC"),
}
ENTRY_POINTS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "frame": lambda frame: frame.rangebar.bars(250),
    "plan": lambda frame: frame.lazy().rangebar.bars(250).collect(),
    "builder": lambda frame: rb.RangeBarBuilder(250).push(frame),
    "expression": lambda frame: frame.select(rb.bars("price", 250)).unnest("bars"),
}
FRAMES = [name for name in ENTRY_POINTS if name != "expression"]


def trades(rows: int) -> pl.DataFrame:
    row = pl.int_range(rows, dtype=pl.Int64)
    return pl.select(
        timestamp=pl.lit(datetime(2024, 1, 1, tzinfo=UTC)) + pl.duration(milliseconds=row),
        price=100 + (row % 97) / 100,
        quantity=pl.lit(1.0),
        is_buyer_maker=row % 2 == 0,
    )


def with_symbol(frame: pl.DataFrame, kind: str, *other_rows: int) -> pl.DataFrame:
    """Add a column of one symbol, with another one in some rows and nulls in between."""
    dtype, symbol = DTYPES[kind]
    row = pl.int_range(pl.len())
    return frame.with_columns(
        symbol=pl.when(row.is_in(list(other_rows)))
        .then(pl.lit("ETH"))
        .when(row % 5 != 3)
        .then(pl.lit(symbol))
        .cast(dtype)
    )


def said(entry_point: str, frame: pl.DataFrame) -> str:
    with pytest.raises((TickDataError, TickOrderError, pl.exceptions.ComputeError)) as caught:
        ENTRY_POINTS[entry_point](frame)
    return str(caught.value)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rows", SIZES)
def test_one_symbol_changes_nothing(rows: int, kind: str, entry_point: str) -> None:
    frame = trades(rows)
    bars = ENTRY_POINTS[entry_point](with_symbol(frame, kind))
    assert bars.equals(ENTRY_POINTS[entry_point](frame))
    assert bars.height > 0


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rows", SIZES)
def test_the_first_row_of_another_symbol_is_named(rows: int, kind: str, entry_point: str) -> None:
    symbol = DTYPES[kind][1]
    for at in (1, rows // 2 + 1, rows - 1):
        message = said(entry_point, with_symbol(trades(rows), kind, at, rows - 1))
        assert f"`symbol` has more than one value: `{symbol}`, and `ETH` at row {at}\n" in message
        assert 'group_by="symbol"' in message


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("kind", ["String", "Categorical"])
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("fault", ["null", "order"])
def test_the_fault_of_the_first_row_is_named(
    fault: str, rows: int, kind: str, entry_point: str
) -> None:
    row = pl.int_range(pl.len())
    broken = {
        "null": pl.when(row != 500).then("price").alias("price"),
        "order": pl.when(row == 500).then(pl.col("timestamp").first()).otherwise("timestamp"),
    }[fault]
    name = {"null": "price", "order": "timestamp"}[fault]
    frame = trades(rows).with_columns(broken.alias(name))
    later = said(entry_point, with_symbol(frame, kind, 501, rows - 1))
    assert f"`{name}`" in later
    assert "500" in later
    assert "more than one value" not in later
    earlier = said(entry_point, with_symbol(frame, kind, 499))
    assert "`ETH` at row 499\n" in earlier


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rows", SIZES)
def test_a_refused_push_leaves_the_symbol_and_the_bars(rows: int, kind: str) -> None:
    frame = trades(2 * rows)
    first, second = frame[:rows], frame[rows:]
    builder = rb.RangeBarBuilder(250)
    bars = [builder.push(with_symbol(first, kind))]
    symbol = DTYPES[kind][1]
    with pytest.raises(TickDataError, match=f"`{symbol}`, and `ETH` at row 7"):
        builder.push(with_symbol(second, kind, 7))
    bars.append(builder.push(with_symbol(second, kind)))
    assert pl.concat(bars).equals(frame.rangebar.bars(250))


@pytest.mark.parametrize("kind", DTYPES)
def test_the_symbol_of_an_earlier_push_is_named(kind: str) -> None:
    frame = trades(2_000)
    only_eth = with_symbol(frame[1_000:], kind, *range(1_000))
    builder = rb.RangeBarBuilder(250)
    builder.push(with_symbol(frame[:1_000], kind))
    with pytest.raises(TickDataError, match=f"`{DTYPES[kind][1]}`, and `ETH` at row 0"):
        builder.push(only_eth)


def test_codes_of_other_categories_are_not_taken_for_the_same() -> None:
    frame = trades(2_000)
    builder = rb.RangeBarBuilder(250)
    builder.push(frame[:1_000].with_columns(symbol=pl.lit("BTC", dtype=pl.Enum(["BTC"]))))
    other = frame[1_000:].with_columns(symbol=pl.lit("ETH", dtype=pl.Enum(["ETH"])))
    with pytest.raises(TypeError, match="`symbol` is of type"):
        builder.push(other)
