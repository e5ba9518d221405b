"""Offer every dtype to every role of every door, and print what came of it: one JSON line each.

Run by tests/test_dtypes.py as a process of its own, so that a crash is seen as one.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
INTEGERS = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"]
ROWS = 3


def columns() -> Iterator[tuple[str, pl.Series]]:
    """Three values of every dtype that Polars has."""
    for name in [*INTEGERS, "Int128", "UInt128", "Float16", "Float32", "Float64"]:
        dtype = getattr(pl, name, None)
        if dtype is not None:
            yield name, pl.Series([1, 2, 3]).cast(dtype)
    yield "Decimal", pl.Series([Decimal("1.5")] * ROWS, dtype=pl.Decimal(20, 3))
    yield "Boolean", pl.Series([True, False, True])
    yield "String", pl.Series(["buy", "sell", "buy"])
    yield "Binary", pl.Series([b"buy"] * ROWS)
    yield "Categorical", pl.Series(["buy", "sell", "buy"], dtype=pl.Categorical)
    yield "Enum", pl.Series(["buy", "sell", "buy"], dtype=pl.Enum(["buy", "sell"]))
    yield "Date", pl.Series([NOW.date()] * ROWS)
    yield "Time", pl.Series([dt.time(1)] * ROWS)
    yield "Duration", pl.Series([dt.timedelta(seconds=1)] * ROWS)
    for unit in ("ms", "us", "ns"):
        yield f"Datetime {unit}", pl.Series([NOW] * ROWS, dtype=pl.Datetime(unit, "UTC"))
    yield "List", pl.Series([[1.0]] * ROWS)
    yield "Array", pl.Series([[1.0]] * ROWS, dtype=pl.Array(pl.Float64, 1))
    yield "Struct", pl.Series([{"a": 1}] * ROWS)
    yield "Null", pl.Series([None] * ROWS)
    yield "Object", pl.Series([object()] * ROWS, dtype=pl.Object)


GOOD = pl.DataFrame(
    {
        "timestamp": pl.Series([0, 1, 2]).cast(pl.Datetime("us", "UTC")),
        "price": [1.0, 2.0, 3.0],
        "quantity": [1.0, 2.0, 3.0],
        "is_buyer_maker": [True, False, True],
        "agg_trade_id": [1, 2, 3],
        "first_trade_id": [1, 2, 3],
        "last_trade_id": [300, 300, 300],
    }
)


def bind(frame: pl.DataFrame) -> dict[str, str | None]:
    optional = [
        "quantity",
        "is_buyer_maker",
        "side",
        "agg_trade_id",
        "first_trade_id",
        "last_trade_id",
    ]
    return {name: name if name in frame.columns else None for name in optional}


def doors(frame: pl.DataFrame, key: str | None) -> dict[str, Callable[[], object]]:
    bars = lambda: rb.bars("price", 250, **bind(frame), group_by=key)  # noqa: E731
    return {
        "frame": lambda: frame.rangebar.bars(250, group_by=key),
        "lazy frame, at the call": lambda: frame.lazy().rangebar.bars(250, group_by=key),
        "lazy frame": lambda: frame.lazy().rangebar.bars(250, group_by=key).collect(),
        "builder": lambda: rb.RangeBarBuilder(250, group_by=key).push(frame),
        "iter_bars": lambda: list(rb.iter_bars(frame.lazy(), 250, group_by=key)),
        "expression": lambda: frame.select(bars()),
        "schema of the expression": lambda: frame.lazy().select(bars()).collect_schema(),
        "streaming expression": lambda: frame.lazy().select(bars()).collect(engine="streaming"),
    }


def id_doors(frame: pl.DataFrame) -> dict[str, Callable[[], object]]:
    fold = lambda: rb.aggregate("price", "mine", **bind(frame))  # noqa: E731
    return {
        "frame": lambda: frame.rangebar.aggregate("mine"),
        "lazy frame": lambda: frame.lazy().rangebar.aggregate("mine").collect(),
        "expression": lambda: frame.select(fold()),
        "streaming expression": lambda: frame.lazy().select(fold()).collect(engine="streaming"),
    }


def offers() -> Iterator[tuple[str, str, dict[str, Callable[[], object]]]]:
    for name, values in columns():
        for role in GOOD.columns:
            column = values.alias(role)
            if role == "last_trade_id" and values.dtype.is_integer():
                column = (values.cast(pl.Int64) * 0 + 100).cast(values.dtype).alias(role)
            yield role, name, doors(GOOD.with_columns(column), None)
        sides = values
        if values.dtype.is_integer():
            sides = (values.cast(pl.Int64) * 0 + 1).cast(values.dtype)
        sided = GOOD.drop("is_buyer_maker").with_columns(sides.alias("side"))
        yield "side", name, doors(sided, None)
        yield "key", name, doors(GOOD.with_columns(values.alias("symbol")), "symbol")
        yield "bar_id", name, id_doors(GOOD.with_columns(values.alias("mine")))


def main() -> None:
    warnings.simplefilter("ignore")
    for role, name, tries in offers():
        for door, attempt in tries.items():
            try:
                attempt()
                error, text = "", ""
            except BaseException as caught:  # noqa: BLE001 - a panic is not an Exception
                error = next(
                    c.__name__
                    for c in type(caught).__mro__
                    if c.__module__ != rb.exceptions.__name__
                )
                text = str(caught)
            line = {"role": role, "dtype": name, "door": door, "error": error, "text": text}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
