"""Bad values: each is refused by each door, with its column, row and value, and nothing changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import EVERY, FOLD_DOORS, ID_DOORS, bound, in_plan, keeps_class
from rangebar_polars.exceptions import TickDataError

if TYPE_CHECKING:
    from collections.abc import Callable

ROW = 5
ROWS = 9


@dataclass(frozen=True)
class Fault:
    """A value that spoils one row of a column, and what a message must say of it."""

    column: str
    value: object
    said: str
    dtype: pl.DataType | type[pl.DataType] | None = None

    def spoil(self, frame: pl.DataFrame) -> pl.DataFrame:
        column = frame[self.column]
        if self.dtype is not None:
            column = pl.Series(column.name, [1] * frame.height).cast(self.dtype)
        values = column.to_list()
        values[ROW] = self.value
        return frame.with_columns(pl.Series(self.column, values, dtype=column.dtype))


DECIMAL = pl.Decimal(38, 10)
FAULTS = {
    "null price": Fault("price", None, "null"),
    "NaN price": Fault("price", float("nan"), "NaN"),
    "infinite price": Fault("price", float("inf"), "inf"),
    "negative infinite price": Fault("price", float("-inf"), "-inf"),
    "zero price": Fault("price", 0.0, "0"),
    "negative zero price": Fault("price", -0.0, "0"),
    "negative price": Fault("price", -12.5, "-12.5"),
    "price that rounds to zero": Fault("price", 4.9e-9, "4.9e-9|0.0000000049"),
    "price of 2^63 units": Fault("price", 92_233_720_368.547_76, "92233720368.5477"),
    "price beyond 2^63 units": Fault("price", 1e300, "1e300|1e\\+300|10{300}"),
    "zero decimal price": Fault("price", Decimal(0), "0", DECIMAL),
    "negative decimal price": Fault("price", Decimal(-3), "-3", DECIMAL),
    "decimal price that rounds to zero": Fault(
        "price", Decimal("4.9E-9"), "4.9e-9|0.0000000049", DECIMAL
    ),
    "decimal price of 2^63 units": Fault(
        "price", Decimal("92233720368.54775808"), "92233720368.5477", DECIMAL
    ),
    "null decimal price": Fault("price", None, "null", DECIMAL),
    "zero integer price": Fault("price", 0, "0", pl.Int64),
    "negative integer price": Fault("price", -3, "-3", pl.Int64),
    "integer price of 2^63 units": Fault("price", 92_233_720_369, "92233720369", pl.Int64),
    "unsigned price of 2^63 units": Fault("price", 2**64 - 1, str(2**64 - 1), pl.UInt64),
    "null quantity": Fault("quantity", None, "null"),
    "NaN quantity": Fault("quantity", float("nan"), "NaN"),
    "infinite quantity": Fault("quantity", float("inf"), "inf"),
    "negative quantity": Fault("quantity", -0.5, "-0.5"),
    "negative quantity of half a unit": Fault("quantity", -5e-9, "-5e-9|-0.000000005"),
    "quantity of 2^63 units": Fault("quantity", 1e11, "100000000000|1e11"),
    "negative decimal quantity": Fault("quantity", Decimal(-1), "-1", DECIMAL),
    "negative integer quantity": Fault("quantity", -1, "-1", pl.Int32),
    "null time": Fault("timestamp", None, "null"),
    "null id": Fault("agg_trade_id", None, "null"),
    "null first id": Fault("first_trade_id", None, "null"),
    "null last id": Fault("last_trade_id", None, "null"),
    "last id below the first": Fault("last_trade_id", 51, "51"),
    "unknown side": Fault("side", "hold", "hold"),
    "blank side": Fault("side", " ", '`" "`'),
    "unknown category of side": Fault("side", "hold", "hold", pl.Categorical),
}


@pytest.fixture
def good() -> pl.DataFrame:
    """Return rows without a fault; the last one ends a bar."""
    row = pl.int_range(ROWS, eager=True)
    return pl.DataFrame(
        {
            "timestamp": (row * 1000 + 1_704_067_200_000_000).cast(pl.Datetime("us", "UTC")),
            "price": [100.0] * (ROWS - 1) + [101.0],
            "quantity": [1.0] * ROWS,
            "is_buyer_maker": [True, False, False] * (ROWS // 3),
            "agg_trade_id": row + 40,
            "first_trade_id": row * 10 + 2,
            "last_trade_id": row * 10 + 5,
        }
    )


def spoiled(good: pl.DataFrame, fault: Fault) -> pl.DataFrame:
    if fault.column == "side":
        good = good.select(pl.all().exclude("is_buyer_maker"), side=pl.lit("buy"))
        if fault.dtype is not None:
            values = ["buy"] * ROWS
            values[ROW] = str(fault.value)
            return good.with_columns(pl.Series("side", values, dtype=fault.dtype))
    return fault.spoil(good)


def check_text(error: BaseException, fault: Fault, row: int = ROW) -> None:
    text = str(error)
    assert fault.column in text
    assert re.search(rf"\brow {row}\b", text), text
    assert re.search(fault.said, text), text
    assert "panic" not in text


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Decimal(38, 12)])
@pytest.mark.parametrize("size", ["-1e-12", "-4.9e-9", "0", "4.9e-9"])
def test_a_quantity_that_rounds_to_zero_is_zero_whatever_its_dtype(
    size: str, dtype: pl.DataType, good: pl.DataFrame
) -> None:
    value = float(size) if dtype == pl.Float64 else Decimal(size)
    long = pl.concat([good] * 6).with_columns(pl.col("timestamp").sort())
    for rows in (good.drop("agg_trade_id"), long.drop("agg_trade_id")):
        zero = rows.with_columns(quantity=pl.lit(0.0)).rangebar.bars(250)
        tiny = rows.with_columns(pl.Series("quantity", [value] * rows.height, dtype=dtype))
        assert tiny.rangebar.bars(250).equals(zero)
        assert tiny.select(rb.bars("price", 250)).unnest("bars")["volume"].unique().item() == 0.0


@pytest.mark.parametrize("door", EVERY)
@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_value_is_refused_by_name(name: str, door: str, good: pl.DataFrame) -> None:
    frame = spoiled(good, FAULTS[name])
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        EVERY[door](frame)
    if keeps_class(door):
        assert isinstance(caught.value, TickDataError)
        assert isinstance(caught.value, ValueError)
    check_text(caught.value, FAULTS[name])


@pytest.mark.parametrize("door", ID_DOORS)
@pytest.mark.parametrize(
    "name", [n for n, f in FAULTS.items() if f.column in {"price", "timestamp"}]
)
def test_bar_id_refuses_a_bad_price_or_time(name: str, door: str, good: pl.DataFrame) -> None:
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        ID_DOORS[door](FAULTS[name].spoil(good))
    check_text(caught.value, FAULTS[name])


@pytest.mark.parametrize("name", FAULTS)
def test_a_refused_push_changes_nothing(name: str, good: pl.DataFrame) -> None:
    fault = FAULTS[name]
    clean = good
    if fault.column == "side":
        clean = good.select(
            pl.all().exclude("is_buyer_maker"), side=pl.lit("buy", fault.dtype or pl.String)
        )
    elif fault.dtype is not None:
        ones = pl.Series(fault.column, [1] * ROWS).cast(fault.dtype)
        clean = good.with_columns(ones)
    bad = spoiled(good, fault)
    head, later = clean.head(3), clean.slice(3)
    builder = rb.RangeBarBuilder(250, incomplete="keep")
    builder.push(head)
    before, partial = builder.checkpoint(), builder.partial()
    with pytest.raises(TickDataError) as caught:
        builder.push(bad.slice(3))
    check_text(caught.value, fault, ROW - 3)
    assert builder.checkpoint() == before
    assert builder.partial().equals(partial)
    untouched = rb.RangeBarBuilder(250, incomplete="keep")
    untouched.push(head)
    assert builder.push(later).equals(untouched.push(later))


def test_a_refused_first_push_fixes_no_dtypes(good: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    empty = builder.checkpoint()
    with pytest.raises(TickDataError):
        builder.push(FAULTS["negative decimal price"].spoil(good))
    assert builder.checkpoint() == empty
    assert builder.push(good).height == 1


def huge(rows: int) -> pl.DataFrame:
    row = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "timestamp": row.cast(pl.Datetime("us")),
            "price": [9.2e10] * rows,
            "quantity": [9.2e10] * rows,
        }
    )


@pytest.mark.parametrize("door", EVERY)
@pytest.mark.parametrize("rows", [8, 40, 5_000])
def test_turnover_beyond_128_bits_is_refused(door: str, rows: int) -> None:
    with pytest.raises(pl.exceptions.ComputeError, match=r"(?i)turnover|128"):
        EVERY[door](huge(rows))


def test_turnover_overflows_across_pushes_too() -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(huge(1))
    frame = huge(10).with_columns(pl.col("timestamp") + pl.duration(microseconds=5))
    before = builder.checkpoint()
    with pytest.raises(TickDataError):
        builder.push(frame)
    assert builder.checkpoint() == before


def test_large_turnover_within_128_bits_is_exact() -> None:
    bars = huge(1).rangebar.bars(250, incomplete="keep")
    assert bars["turnover"].to_list() == [9.2e10 * 9.2e10]


@pytest.mark.parametrize(
    ("first", "last"),
    [([-(2**63)], [2**63 - 1]), ([0, 0], [2**62 - 1, 2**62 - 1]), ([0, 5], [2**63 - 2, 5])],
)
def test_fill_counts_beyond_64_bits_never_wrap(first: list[int], last: list[int]) -> None:
    row = pl.int_range(len(first), eager=True)
    frame = pl.DataFrame(
        {
            "timestamp": row.cast(pl.Datetime("us")),
            "price": [100.0] * len(first),
            "first_trade_id": first,
            "last_trade_id": last,
        }
    )
    for door in (frame.rangebar.bars, frame.lazy().rangebar.bars):
        with pytest.raises(in_plan(TickDataError)):
            door(250, incomplete="keep").lazy().collect()
    with pytest.raises(pl.exceptions.ComputeError):
        frame.select(rb.bars("price", 250, **bound(frame), incomplete="keep"))


def test_negative_zero_is_no_negative_quantity(good: pl.DataFrame) -> None:
    frame = good.with_columns(quantity=pl.lit(-0.0))
    bars = frame.rangebar.bars(250)
    assert str(bars["volume"][0]) == "0.0"


@pytest.mark.parametrize("rows", [0, 1, 4_095, 4_096, 4_097, 9_000])
def test_a_bad_value_far_into_a_long_run_is_named_by_its_row(rows: int) -> None:
    total = 12_000
    time = pl.int_range(total, eager=True).cast(pl.Datetime("us"))
    price = [100.0] * total
    price[rows] = float("nan")
    frame = pl.DataFrame({"timestamp": time, "price": price})
    cut = pl.concat([frame.slice(0, 5_000), frame.slice(5_000)], rechunk=False)
    for door in (frame.rangebar.bars, cut.rangebar.bars, cut.lazy().rangebar.bars):
        with pytest.raises(in_plan(TickDataError), match=rf"\brow {rows}\b"):
            door(250).lazy().collect()
    for door in (frame.select, cut.select):
        bars = rb.bars("price", 250, quantity=None, is_buyer_maker=None)
        with pytest.raises(pl.exceptions.ComputeError, match=rf"\brow {rows}\b"):
            door(bars)


@pytest.mark.parametrize("streaming_chunk", [10, 1_000, None])
def test_rows_of_the_lazy_doors_count_from_the_start_of_the_input(
    streaming_chunk: int | None,
) -> None:
    time = pl.int_range(6_000, eager=True).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0] * 5_432 + [-1.0] * 568})
    with pl.Config() as config:
        config.set_streaming_chunk_size(streaming_chunk)
        with pytest.raises(in_plan(TickDataError), match=r"\brow 5432\b"):
            frame.lazy().rangebar.bars(250).collect(engine="streaming")
        with pytest.raises(TickDataError, match=r"\brow 5432\b"):
            list(rb.iter_bars(frame.lazy(), 250))
    parts = (frame.slice(start, 700) for start in range(0, 6_000, 700))
    with pytest.raises(TickDataError, match=r"\brow 5432\b"):
        list(rb.iter_bars(parts, 250))


def test_what_iter_bars_gave_before_bad_data_was_right(good: pl.DataFrame) -> None:
    parts = [
        good,
        FAULTS["NaN price"]
        .spoil(good)
        .with_columns(pl.col("timestamp") + pl.duration(days=1), pl.col("agg_trade_id") + 100),
    ]
    batches = rb.iter_bars(parts, 250)
    assert next(batches).equals(good.rangebar.bars(250))
    with pytest.raises(TickDataError, match=rf"\brow {ROWS + ROW}\b"):
        list(batches)


def test_the_first_bad_row_is_the_one_that_is_named(good: pl.DataFrame) -> None:
    price = good["price"].to_list()
    price[2], price[6] = 0.0, -1.0
    with pytest.raises(TickDataError, match=r"\brow 2\b"):
        good.with_columns(pl.Series("price", price)).rangebar.bars(250)


def test_one_except_clause_serves_every_door(good: pl.DataFrame) -> None:
    frame = FAULTS["zero price"].spoil(good)
    doors: dict[str, Callable[[pl.DataFrame], object]] = EVERY | ID_DOORS | FOLD_DOORS
    refused = 0
    for door in doors.values():
        try:
            door(frame)
        except pl.exceptions.ComputeError:
            refused += 1
    assert refused == len(doors)
