"""What outlives a push or a batch owns its bytes: no buffer of the trades is held by it.

Buffers of the trades belong to NumPy arrays that Arrow lends out without a copy. An array that is
gone after the frame has been dropped is held by nobody.
"""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 3_000
KEYS = 7
LONG = "A_KEY_OF_AN_EXCHANGE_LONGER_THAN_A_VIEW"


class Owner(np.ndarray):
    """An array that can be referred to weakly."""


class Lent:
    """Buffers lent to frames, and whether any of them is still held."""

    def __init__(self) -> None:
        self.owners: list[weakref.ref[np.ndarray]] = []

    def buffer(self, values: np.ndarray) -> pa.Buffer:
        owner = values.view(Owner)
        self.owners.append(weakref.ref(owner))
        return pa.py_buffer(owner)

    def numbers(self, values: np.ndarray, dtype: pa.DataType) -> pl.Series:
        return pl.Series(pa.Array.from_buffers(dtype, len(values), [None, self.buffer(values)]))

    def texts(self, values: list[str]) -> pl.Series:
        data = np.frombuffer("".join(values).encode(), np.uint8).copy()
        ends = np.cumsum([0, *(len(value.encode()) for value in values)]).astype(np.int64)
        buffers = [None, pa.py_buffer(ends), self.buffer(data)]
        return pl.Series(pa.Array.from_buffers(pa.large_string(), len(values), buffers))

    def held(self) -> int:
        """Number of buffers that someone holds."""
        gc.collect()
        return sum(owner() is not None for owner in self.owners)


def trades(lent: Lent, first: int = 0) -> pl.DataFrame:
    """Trades of some keys, of which one is new in each frame."""
    row = np.arange(first, first + ROWS)
    keys = [f"{LONG}_{i % KEYS if i > first else i}" for i in row]
    return pl.DataFrame(
        {
            "timestamp": lent.numbers(row * 1_000_000, pa.timestamp("us")),
            "price": lent.numbers(100.0 + row // KEYS % 5, pa.float64()),
            "quantity": lent.numbers(1.0 + row % 3, pa.float64()),
            "agg_trade_id": lent.numbers(row, pa.int64()),
            "symbol": lent.texts(keys),
        }
    )


def test_the_frame_of_trades_holds_what_it_was_lent() -> None:
    lent = Lent()
    frame = trades(lent)
    assert lent.held() == frame.width
    part = frame["symbol"].gather([1, 2])
    del frame
    assert lent.held() == 1, "a gathered column shares the buffers of its source"
    del part
    assert lent.held() == 0


def expression() -> pl.Expr:
    """Bars with a key among their fields."""
    return rb.bars("price", 250, is_buyer_maker=None, group_by="symbol")


MADE: dict[str, Callable[[pl.DataFrame], object]] = {
    "frame": lambda frame: frame.rangebar.bars(250, group_by="symbol"),
    "two keys": lambda frame: frame.rangebar.bars(
        250, group_by=["symbol", "quantity"], columns={"quantity": None}
    ),
    "head": lambda frame: frame.rangebar.bars(250, group_by="symbol").head(2),
    "iter_bars": lambda frame: next(rb.iter_bars([frame], 250, group_by="symbol")),
    "lazy": lambda frame: frame.lazy().rangebar.bars(250, group_by="symbol").collect(),
    "expression": lambda frame: frame.select(expression()),
    "lists": lambda frame: frame.group_by(pl.lit(1)).agg(expression()),
    "bar_id": lambda frame: frame.select(rb.bar_id("price", 250, group_by="symbol")),
    "aggregate": lambda frame: frame.rangebar.aggregate("agg_trade_id", columns={"symbol": None}),
}


@pytest.mark.parametrize("name", MADE)
def test_bars_own_their_buffers(name: str) -> None:
    lent = Lent()
    frame = trades(lent)
    made = MADE[name](frame)
    del frame
    assert lent.held() == 0
    del made


def test_a_builder_and_what_it_gave_own_their_buffers() -> None:
    lent = Lent()
    builder = rb.RangeBarBuilder(250, group_by="symbol", incomplete="keep")
    given = []
    for push in range(4):
        frame = trades(lent, push * ROWS)
        given += [builder.push(frame), builder.partial()]
        del frame
    assert all(bars.height for bars in given)
    copy = pickle.loads(pickle.dumps(builder))
    assert lent.held() == 0
    assert copy.partial().equals(builder.partial())


def test_a_refused_push_leaves_nothing_behind() -> None:
    lent = Lent()
    builder = rb.RangeBarBuilder(250, group_by="symbol")
    builder.push(trades(lent))
    before = builder.partial()
    wrong = trades(lent, ROWS).with_columns(pl.col("price") - 1_000)
    with pytest.raises(rb.exceptions.TickDataError):
        builder.push(wrong)
    del wrong
    assert lent.held() == 0
    assert builder.partial().equals(before)


def test_a_key_column_has_the_bytes_of_its_keys_alone() -> None:
    """Each text once, however many bars and however many keys the builder knows."""
    builder = rb.RangeBarBuilder(250, group_by="symbol")
    names = [f"{LONG}_{i:05}" for i in range(5_000)]
    start = pl.DataFrame({"symbol": names}).with_columns(
        timestamp=pl.lit(0).cast(pl.Datetime("us")), price=100.0
    )
    builder.push(start)
    rise = start.head(3).with_columns(timestamp=pl.lit(1).cast(pl.Datetime("us")), price=101.0)
    column = builder.push(rise)["symbol"]
    assert column.to_list() == names[:3]
    view = 16
    assert column.estimated_size() <= sum(len(name) for name in names[:3]) + 3 * view


def test_keys_are_as_they_were_given() -> None:
    """The first form of a key comes back, whatever its type, also after a checkpoint."""
    values = {
        "text": ["short", LONG, "", None, LONG + "2", "ÄÖÜ" * 9],
        "word": [1, -5, None, 2**40, 0, -(2**63)],
        "flag": [True, None, False, True, None, False],
        "real": [0.5, None, -1.5, 1e300, 3.0, 0.0],
    }
    keys = pl.DataFrame(values).with_columns(
        small=pl.col("word").clip(-100, 100).cast(pl.Int8),
        big=pl.col("word").clip(0).cast(pl.UInt64),
        half=pl.col("real").cast(pl.Float32),
        day=pl.Series([0, 1, None, -700_000, 5, 6]).cast(pl.Date),
        at=pl.Series([0, 1, None, -7, 5, 6]).cast(pl.Datetime("ns", "Europe/Berlin")),
        long=pl.Series([0, 1, None, -7, 5, 6]).cast(pl.Duration("ms")),
        clock=pl.Series([0, 1, None, 7, 5, 6]).cast(pl.Time),
        category=pl.col("text").cast(pl.Categorical),
        few=pl.col("text").cast(pl.Categorical(pl.Categories("few", physical=pl.UInt8))),
        enum=pl.col("text").cast(pl.Enum([text for text in values["text"] if text is not None])),
    )
    names = keys.columns
    absent = {"quantity": None, "is_buyer_maker": None}
    start = keys.with_columns(timestamp=pl.lit(0).cast(pl.Datetime("us")), price=100.0)
    rise = start.with_columns(timestamp=pl.lit(1).cast(pl.Datetime("us")), price=101.0)
    for group_by in [[name] for name in names] + [names]:
        builder = rb.RangeBarBuilder(250, group_by=group_by, columns=absent)
        builder.push(start.reverse())
        builder = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
        expected = start.select(group_by).unique(maintain_order=True)
        got = builder.push(rise).select(group_by)
        assert got.schema == expected.schema
        assert got.unique(maintain_order=True).equals(expected)
