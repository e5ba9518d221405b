"""Trades in pieces: where pandas frames and dictionaries are cut never changes a bar."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1_704_067_200_000
ROWS = 5
MOMENTS = [dt.datetime(2024, 1, 1, 0, 0, second, tzinfo=dt.UTC) for second in range(ROWS)]
TOKYO = dt.timezone(dt.timedelta(hours=9))
# Beyond the digits of a double, on the grid of eight places.
LONG = ["30000000.00000001", "30000000.00000003", "31000000.00000001", "31000000", "32000000"]


def objects(*values: object) -> pd.Series:
    return pd.Series([*values], dtype=object)


def decimals(*texts: str) -> pd.Series:
    return objects(*map(Decimal, texts))


TAKEN = {
    "price of decimals": ("price", decimals("100.0", "101.5", "100.25", "102.125", "101")),
    "price of whole, then decimals": ("price", objects(100, 101, Decimal("100.25"), 102, 101)),
    "price of decimals, then whole": ("price", objects(Decimal("100.5"), 101, 102, 103, 101)),
    "price of long decimals": ("price", decimals(*LONG)),
    "price of whole, then long decimals": ("price", objects(30_000_000, *map(Decimal, LONG[1:]))),
    "price of exponents": ("price", decimals("1E+2", "101", "1.005E+2", "1.03E2", "100")),
    "price of whole, then floats": ("price", objects(100, 101, 100.25, 102, 101.5)),
    "price of NumPy numbers": ("price", objects(np.int64(100), np.float64(101.5), 100, 103, 100)),
    "price of NumPy whole, then decimals": ("price", objects(np.int64(100), 101, Decimal(1), 2, 3)),
    "price of whole objects": ("price", objects(100, 101, 102, 103, 104)),
    "price as Int64": ("price", pd.Series([100, 101, 102, 103, 104], dtype="Int64")),
    "price as Float64": ("price", pd.Series([100, 101.5, 102, 103, 104], dtype="Float64")),
    "price as float objects": ("price", objects(100.0, 101.5, 102.0, 103.0, 104.0)),
    "price as Arrow decimals": (
        "price",
        decimals("100.00", "101.50", "100.25", "102.12", "101.00").astype(pd.ArrowDtype(pa.decimal128(10, 2))),
    ),
    "quantity of whole, then decimals": ("quantity", objects(1, 2, Decimal("0.5"), 3, 4)),
    "quantity of decimals": ("quantity", decimals("1", "0.00000001", "2.50", "1e3", "0")),
    "times": ("timestamp", objects(*MOMENTS)),
    "times of two zones": ("timestamp", objects(*MOMENTS[:2], *(m.astimezone(TOKYO) for m in MOMENTS[2:]))),
    "times of pandas as objects": ("timestamp", objects(*map(pd.Timestamp, MOMENTS))),
    "times as datetime64": ("timestamp", pd.Series(pd.to_datetime(MOMENTS))),
    "whole times as objects": ("timestamp", objects(*range(START, START + ROWS))),
    "flags as objects": ("is_buyer_maker", objects(True, np.bool_(False), True, False, True)),
    "flags as boolean": ("is_buyer_maker", pd.Series([True, False, True, True, False], dtype="boolean")),
    "flags with NA": ("is_buyer_maker", pd.Series([True, None, True, True, False], dtype="boolean")),
    "flags with None": ("is_buyer_maker", objects(True, None, None, True, False)),
    "sides as objects": ("side", objects("buy", "SELL", "buy", "buy", "Sell")),
    "sides as categories": ("side", pd.Series(pd.Categorical(["buy", "sell", "buy", "buy", "sell"]))),
    "ids as objects": ("agg_trade_id", objects(1, np.int64(2), 3, 4, 5)),
    "ids as Int64": ("agg_trade_id", pd.Series([1, 2, 3, 4, 5], dtype="Int64")),
}  # fmt: skip

REFUSED = {
    "price of floats and decimals": ("price", objects(100.5, 101.5, Decimal("100.25"), 102, 101)),
    "price of decimals and floats": ("price", objects(Decimal(100), 101, 100.25, 102, 101)),
    "price of whole, then both": ("price", objects(100, Decimal(101), 102, 101.5, 101)),
    "price with None": ("price", objects(Decimal(100), Decimal(101), None, Decimal(1), Decimal(2))),
    "price with None among whole": ("price", objects(100, None, Decimal(101), 102, 103)),
    "price with NaN": ("price", objects(100.0, float("nan"), 101.0, 102.0, 103.0)),
    "price with a decimal NaN": ("price", decimals("100", "101", "NaN", "102", "103")),
    "price with a decimal infinity": ("price", decimals("100", "101", "Infinity", "102", "103")),
    "price too large": ("price", decimals("100", "101", "1e40", "102", "103")),
    "price with text": ("price", objects(100.0, "101", 102.0, 103.0, 104.0)),
    "price of fractions": ("price", objects(*map(Fraction, range(100, 105)))),
    "price with a flag": ("price", objects(100, True, 101, 102, 103)),
    "price of lists": ("price", objects([1], [2], [3], [4], [5])),
    "times and whole numbers": ("timestamp", objects(*MOMENTS[:3], START + 3000, START + 4000)),
    "dates": ("timestamp", objects(*(m.date() for m in MOMENTS))),
    "missing time": ("timestamp", objects(*MOMENTS[:2], pd.NaT, *MOMENTS[3:])),
    "flags and numbers": ("is_buyer_maker", objects(True, False, 1, 0, True)),
    "missing id": ("agg_trade_id", pd.Series([1, None, 3, 4, 5], dtype="Int64")),
    "id of a float": ("agg_trade_id", objects(1, 2, 3.0, 4, 5)),
    "side with a number": ("side", objects("buy", "sell", 1, "buy", "sell")),
}  # fmt: skip


def trades(field: str, values: pd.Series) -> pd.DataFrame:
    base = pd.DataFrame(
        {
            "timestamp": [START + 1000 * row for row in range(ROWS)],
            "price": [100.0, 101.5, 100.25, 102.125, 101.0],
            "quantity": [1.0] * ROWS,
        }
    )
    return base.assign(**{field: values})


def cuts(frame: pd.DataFrame) -> Iterator[list[pd.DataFrame]]:
    """Return every way to cut the rows into pieces that are not empty."""
    inner = range(1, len(frame))
    for count in range(len(frame)):
        for places in itertools.combinations(inner, count):
            ends = [0, *places, len(frame)]
            yield [frame.iloc[start:end] for start, end in itertools.pairwise(ends)]


def records(piece: pd.DataFrame) -> list[dict[str, object]]:
    columns = [piece[name].astype(object).tolist() for name in piece]
    return [dict(zip(piece.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def joined(pieces: list[object]) -> pd.DataFrame:
    bars = list(rb.process_trades_chunked(iter(pieces), 1, 2))
    return pd.concat(bars) if bars else rb.process_trades_to_dataframe([])


@pytest.mark.parametrize("name", TAKEN)
def test_the_bars_of_any_column_do_not_depend_on_the_cuts(name: str) -> None:
    frame = trades(*TAKEN[name])
    whole = rb.process_trades_to_dataframe(frame, 1)
    assert len(whole)
    for pieces in cuts(frame):
        pd.testing.assert_frame_equal(joined(pieces), whole, check_freq=False, check_exact=True)


@pytest.mark.parametrize("name", [name for name in TAKEN if name != "sides as categories"])
def test_the_bars_of_dictionaries_do_not_depend_on_the_cuts(name: str) -> None:
    rows = records(trades(*TAKEN[name]))
    whole = rb.process_trades_to_dataframe(rows, 1)
    assert len(whole)
    for size in range(1, ROWS + 1):
        bars = pd.concat(rb.process_trades_chunked(iter(rows), 1, size))
        pd.testing.assert_frame_equal(bars, whole, check_freq=False, check_exact=True)


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_that_is_refused_is_refused_however_it_is_cut(name: str) -> None:
    field, values = REFUSED[name]
    frame = trades(field, values)
    with pytest.raises((TickDataError, TypeError), match=field):
        rb.process_trades_to_dataframe(frame, 1)
    for pieces in cuts(frame):
        with pytest.raises((TickDataError, TypeError), match=field):
            joined(pieces)


@pytest.mark.parametrize("name", TAKEN)
def test_frames_and_dictionaries_may_take_turns(name: str) -> None:
    frame = trades(*TAKEN[name])
    whole = rb.process_trades_to_dataframe(frame, 1)
    for cut in range(1, ROWS):
        head, tail = frame.iloc[:cut], frame.iloc[cut:]
        if "datetime64" in name or "pandas as objects" in name:
            continue  # dictionaries hold their times in another unit
        for pieces in ([head, *records(tail)], [*records(head), tail]):
            pd.testing.assert_frame_equal(joined(pieces), whole, check_freq=False)


def test_parts_that_pandas_reads_as_numbers_and_as_objects_are_one_column() -> None:
    rows = [{"timestamp": START + row, "price": 100 + row, "quantity": 1} for row in range(4)]
    rows += [{"timestamp": START + 4, "price": Decimal("105.5"), "quantity": Decimal("0.5")}]
    parts = [pd.DataFrame(rows[:2]), pd.DataFrame(rows[2:4]), pd.DataFrame(rows[4:])]
    assert [str(part["price"].dtype) for part in parts] == ["int64", "int64", "object"]
    whole = rb.process_trades_to_dataframe(pd.concat(parts, ignore_index=True), 1)
    pd.testing.assert_frame_equal(joined(parts), whole, check_freq=False)


def test_the_number_of_a_trade_counts_through_all_pieces() -> None:
    """Also after the data type of a column has changed, and where values are missing."""
    whole = pd.Series([100, 101, Decimal("101.5"), Decimal("102.5"), Decimal(-1)], dtype=object)
    wrong = pd.Series([100, 101, Decimal("101.5"), None, 102.5], dtype=object)
    for values, row in ((whole, 4), (wrong, 4)):
        frame = trades("price", values)
        for pieces in ([frame], *([frame.iloc[:c], frame.iloc[c:]] for c in range(1, ROWS))):
            if values is wrong and any(piece["price"].isna().any() for piece in pieces[:-1]):
                continue
            with pytest.raises(TickDataError, match=rf"\b(row|trade) {row}\b"):
                joined(pieces)


def test_decimals_do_not_depend_on_the_decimal_context_of_the_caller() -> None:
    frame = trades("price", decimals(*LONG))
    whole = rb.process_trades_to_dataframe(frame, 1)
    with decimal.localcontext() as context:
        context.prec = 5
        context.traps[decimal.Inexact] = True
        pd.testing.assert_frame_equal(rb.process_trades_to_dataframe(frame, 1), whole)
