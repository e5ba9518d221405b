"""Every dtype in every role of every door: taken, or refused with a sentence. Never a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import rangebar_polars as rb

MATRIX = Path(__file__).with_name("dtype_matrix.py")
INTEGERS = {"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"}
TAKEN = {
    "price": INTEGERS | {"Float64", "Decimal"},
    "quantity": INTEGERS | {"Float64", "Decimal"},
    "timestamp": {"Datetime ms", "Datetime us", "Datetime ns"},
    "is_buyer_maker": {"Boolean"},
    "side": INTEGERS | {"String", "Categorical", "Enum"},
    "agg_trade_id": INTEGERS,
    "first_trade_id": INTEGERS,
    "last_trade_id": INTEGERS,
    "bar_id": INTEGERS,
    "key": INTEGERS | {"String", "Categorical", "Enum", "Boolean"},
}
# How Polars writes a dtype in its messages, where that is not its name.
WORDS = {
    "Boolean": "bool",
    "String": "str",
    "Categorical": "cat",
    "Object": "binary",
    **{f"Int{bits}": f"i{bits}" for bits in (8, 16, 32, 64, 128)},
    **{f"UInt{bits}": f"u{bits}" for bits in (8, 16, 32, 64, 128)},
    **{f"Float{bits}": f"f{bits}" for bits in (16, 32, 64)},
}
# Neither promised nor ruled out; they only must not crash.
FREE = {
    "price": {"Int128", "UInt128"},
    "quantity": {"Int128", "UInt128"},
    "agg_trade_id": {"Int128", "UInt128"},
    "first_trade_id": {"Int128", "UInt128"},
    "last_trade_id": {"Int128", "UInt128"},
    "bar_id": {"Int128", "UInt128"},
}


@pytest.fixture(scope="module")
def outcomes() -> list[dict[str, str]]:
    run = subprocess.run(
        [sys.executable, str(MATRIX)], capture_output=True, text=True, timeout=1200, check=False
    )
    lines = run.stdout.splitlines()
    last = lines[-1] if lines else "nothing"
    assert run.returncode == 0, f"the process died after {last}\n{run.stderr[-3000:]}"
    return [json.loads(line) for line in lines]


def test_no_dtype_makes_anything_panic(outcomes: list[dict[str, str]]) -> None:
    panics = [o for o in outcomes if "panic" in (o["error"] + o["text"]).lower()]
    assert not panics


def test_promised_dtypes_are_taken(outcomes: list[dict[str, str]]) -> None:
    refused = [o for o in outcomes if o["dtype"] in TAKEN[o["role"]] and o["error"]]
    assert not refused


def test_other_dtypes_are_refused(outcomes: list[dict[str, str]]) -> None:
    def is_open(o: dict[str, str]) -> bool:
        return o["role"] == "key" or o["dtype"] in FREE.get(o["role"], set())

    slipped = [
        o
        for o in outcomes
        if o["dtype"] not in TAKEN[o["role"]] and not is_open(o) and not o["error"]
    ]
    assert not slipped


def test_frames_refuse_with_a_type_error_and_expressions_with_one_of_polars(
    outcomes: list[dict[str, str]],
) -> None:
    odd = []
    for outcome in outcomes:
        if not outcome["error"]:
            continue
        own = "expression" not in outcome["door"]
        allowed = {"TypeError"} if own else {"ComputeError", "SchemaError", "InvalidOperationError"}
        if outcome["error"] not in allowed:
            odd.append(outcome)
    assert not odd


def test_a_refusal_names_the_column_and_the_dtype(outcomes: list[dict[str, str]]) -> None:
    silent = []
    for outcome in outcomes:
        column = {"key": "symbol", "bar_id": "mine"}.get(outcome["role"], outcome["role"])
        name, text = outcome["dtype"].split()[0], outcome["text"].lower()
        named = name.lower() in text or f" {WORDS.get(name, name)} " in text.replace("\n", " ")
        if outcome["error"] and not (column in text and named):
            silent.append(outcome)
    assert not silent


def test_a_lazy_frame_refuses_a_dtype_when_the_door_is_called(
    outcomes: list[dict[str, str]],
) -> None:
    at_call = {
        (o["role"], o["dtype"]): o for o in outcomes if o["door"] == "lazy frame, at the call"
    }
    collected = [o for o in outcomes if o["door"] == "lazy frame" and o["role"] != "bar_id"]
    late = [o for o in collected if o["error"] and not at_call[o["role"], o["dtype"]]["error"]]
    assert not late


FRAME = pl.DataFrame({"timestamp": [1, 2], "price": [1.0, 2.0]})
TIMED = FRAME.with_columns(pl.col("timestamp").cast(pl.Datetime("us")))


def test_float32_is_refused_with_the_cast_to_write() -> None:
    with pytest.raises(TypeError, match=r"(?s)(Float32|f32).*cast.*Float64"):
        TIMED.with_columns(pl.col("price").cast(pl.Float32)).rangebar.bars(250)


def test_integer_time_is_refused_with_the_call_to_write() -> None:
    with pytest.raises(TypeError, match=r"(?s)timestamp.*from_epoch"):
        FRAME.rangebar.bars(250)
    bars = rb.bars("price", 250, quantity=None, is_buyer_maker=None)
    with pytest.raises(pl.exceptions.ComputeError, match=r"(?s)timestamp.*from_epoch"):
        FRAME.lazy().select(bars).collect_schema()


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_an_unsigned_id_beyond_63_bits_is_a_data_error(value: int) -> None:
    ids = pl.Series("agg_trade_id", [5, value], pl.UInt64)
    with pytest.raises(rb.exceptions.TickDataError, match=rf"(?s)agg_trade_id.*{value}"):
        TIMED.with_columns(ids).rangebar.bars(250)


def test_absent_columns_are_named() -> None:
    absent = (ValueError, pl.exceptions.ColumnNotFoundError)
    for column in ("price", "timestamp"):
        rest = TIMED.drop(column)
        for door in (rest.rangebar.bars, rest.lazy().rangebar.bars):
            with pytest.raises(absent, match=column):
                door(250)
        with pytest.raises(absent, match=column):
            rb.RangeBarBuilder(250).push(rest)
        with pytest.raises(absent, match=column):
            list(rb.iter_bars([rest], 250))
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="quantity"):
        TIMED.select(rb.bars("price", 250, quantity="quantity"))
    with pytest.raises(pl.exceptions.PolarsError, match="timestamp"):
        TIMED.drop("timestamp").select(rb.bars("price", 250))


def test_dtypes_are_fixed_by_the_first_push() -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(TIMED)
    before = builder.checkpoint()
    later = TIMED.with_columns(pl.col("timestamp") + pl.duration(seconds=1))
    changed = [
        later.with_columns(pl.col("price").cast(pl.Decimal(20, 8))),
        later.with_columns(pl.col("timestamp").dt.cast_time_unit("ms")),
        later.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")),
    ]
    for frame in changed:
        for state in (builder, rb.RangeBarBuilder.from_checkpoint(before)):
            with pytest.raises((TypeError, ValueError, pl.exceptions.SchemaError)):
                state.push(frame)
            assert state.checkpoint() == before
    with pytest.raises((TypeError, ValueError, pl.exceptions.ColumnNotFoundError)):
        builder.push(later.drop("price"))
    assert builder.checkpoint() == before
