"""Trades for the laws: hostile small frames, long seeded ones, and all ways of splitting a frame."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from hypothesis import strategies as st

import rangebar_polars as rb
from properties.model import TEN, Case

if TYPE_CHECKING:
    from collections.abc import Sequence

# Opening prices in units of 1e-8: smallest, where 250 dbps is one unit, meme coin, small, usual, 2^52 and
# 2^53 units (where doubles no longer hold the grid), close to the largest price.
BASES = (10**10, 1, 7, 400, 399, 123_456, 12_345_678, 5 * 10**12, 2**52 - 1, 2**52 + 5, 2**53 + 9)
HUGE = 2**63 - 2**45
FACTORS = (
    0,
    1,
    -1,
    0.3,
    -0.6,
    1.0001,
    -1.0001,
    0.9999,
    -0.9999,
    2.5,
    -0.5,
    0.5,
    0.01,
    -0.01,
    1.5,
    -2,
)
QUANTITIES = (10**8, 0, 1, 12_345, 33_333_333, 10**11 + 1, 250_000, 99)
SPANS = (0, 0, 1, 5, 2**31, 2**40, 0, 3)
ID_STEPS = (1, 1, 2, 977)
THRESHOLDS = (250, 1, 10, 100, 333, 1000, 100_000)
# Just before a year, 1970 and the end of its first day, a leap day, a Sunday and a Monday.
STARTS = (
    1_704_067_199_900_000,
    0,
    86_399_998_500,
    1_709_251_199_999_000,
    1_735_430_399_000_000,
    1_735_516_799_500_000,
)
JUMPS = (dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=8), dt.timedelta(days=380))
RESETS = (None, "day", "week", "1w", "month", "year", "1d", "1mo", "1y")
US_PER_UNIT = {"ms": 1_000, "us": 1}


class Digits:
    """Source of small choices from one integer, so that one draw makes one trade and shrinks with it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def take(self, choices: int) -> int:
        self.number, choice = divmod(self.number, choices)
        return choice


def times_in_unit(microseconds: int, unit: str) -> int:
    return microseconds * 1000 if unit == "ns" else microseconds // US_PER_UNIT[unit]


class Tape:
    """Writer of trades, with a clock and ids per key."""

    def __init__(
        self, base: int, threshold: int, unit: str, start: int, jump: dt.timedelta, keys: int = 4
    ) -> None:
        self.base, self.threshold, self.unit, self.keys = base, threshold, unit, keys
        self.jump = times_in_unit(jump // dt.timedelta(microseconds=1), unit)
        self.start = times_in_unit(start, unit)
        self.clocks: dict[int, int] = {}
        self.ids: dict[int, int] = {}
        self.next_fill = -30

    def record(self, number: int) -> tuple[object, ...]:
        digits = Digits(number)
        move = FACTORS[digits.take(16)] * self.base * self.threshold / 100_000
        price = min(max(1, self.base + round(move)), 2**63 - 2**20)
        key = digits.take(4) % self.keys
        step = (1, 0, 0, 0, 1000, 2, 0, self.jump)[digits.take(8)]
        self.clocks[key] = self.clocks.get(key, self.start + key) + step
        self.ids[key] = self.ids.get(key, -3) + ID_STEPS[digits.take(4)]
        quantity = QUANTITIES[digits.take(8)]
        # No fill is in two records, of any key.
        first_id = self.next_fill
        half_a_unit = digits.take(8) == 7
        # None: a record without an aggressor.
        sell = (False, True, False, True, None)[digits.take(5)]
        last_id = first_id + SPANS[digits.take(8)]
        self.next_fill = last_id + 1 + first_id % 3
        if digits.take(16) == 15:
            self.base = price
        return (
            self.clocks[key],
            price,
            half_a_unit,
            quantity,
            sell,
            self.ids[key],
            first_id,
            last_id,
            key,
        )


RECORDS = 16 * 4 * 8 * 4 * 8 * 8 * 2 * 8 * 16
KEYS = ("BTC", "ETH", None, "DOGE")


def floats(units: Sequence[int], halves: Sequence[bool]) -> pl.Series:
    return pl.Series(
        [(u + 0.5 * h) / 1e8 for u, h in zip(units, halves, strict=True)], dtype=pl.Float64
    )


def decimals(units: Sequence[int], halves: Sequence[bool]) -> pl.Series:
    values = [Decimal(u * 10 + 5 * h).scaleb(-9) for u, h in zip(units, halves, strict=True)]
    return pl.Series(values, dtype=pl.Decimal(30, 9))


def key_columns(kind: str | None, keys: Sequence[int]) -> dict[str, pl.Series]:
    names = pl.Series([KEYS[k] for k in keys], dtype=pl.String)
    numbers = pl.Series([None if k == 2 else k for k in keys], dtype=pl.Int16)
    if kind == "boolean":
        return {"symbol": pl.Series([(True, False, None)[k] for k in keys], dtype=pl.Boolean)}
    kinds: dict[str | None, dict[str, pl.Series]] = {
        None: {},
        "string": {"symbol": names},
        "categorical": {"symbol": names.cast(pl.Categorical)},
        "enum": {"symbol": names.cast(pl.Enum(["DOGE", "ETH", "BTC"]))},
        "integer": {"symbol": numbers},
        "two": {"symbol": numbers % 2, "venue": names},
    }
    return kinds[kind]


def assemble(
    records: Sequence[tuple], unit: str, zone: str | None, *, exact: bool, key: str | None
) -> pl.DataFrame:
    columns = list(zip(*records, strict=True)) or [()] * 9
    time, price, halves, quantity, sell, agg, first, last, keys = columns
    prices, quantities = (decimals if exact else floats)(price, halves), floats(quantity, halves)
    if key is None:  # one clock: sort the clocks into one, and give the ids in that order
        order = sorted(range(len(time)), key=lambda row: time[row])
        time = [time[row] for row in order]
        agg = [-7 + 3 * row for row in range(len(time))]
    return pl.DataFrame(
        {
            "timestamp": pl.Series(time, dtype=pl.Int64).cast(pl.Datetime(unit, zone)),
            "price": prices,
            "quantity": quantities,
            "is_buyer_maker": pl.Series(sell, dtype=pl.Boolean),
            "agg_trade_id": pl.Series(agg, dtype=pl.Int64),
            "first_trade_id": pl.Series(first, dtype=pl.Int64),
            "last_trade_id": pl.Series(last, dtype=pl.Int64),
            **key_columns(key, keys),
        }
    )


ABSENT = st.sampled_from(
    [
        [],
        [],
        ["is_buyer_maker"],
        ["quantity"],
        ["agg_trade_id", "first_trade_id", "last_trade_id"],
        ["first_trade_id"],
        ["quantity", "is_buyer_maker", "agg_trade_id", "first_trade_id", "last_trade_id"],
    ]
)
FEATURES = st.one_of(
    st.sampled_from(["core", "microstructure", "ofi"]),
    st.lists(st.sampled_from(TEN), min_size=1, unique=True),
)
GAPS = st.sampled_from(
    [None, None, "1ms", "1s", "30m", dt.timedelta(hours=1), dt.timedelta(days=2)]
)


def distances(base: int, thresholds: Sequence[int]) -> list[rb.Distance]:
    """Return absolute distances about as large as the thresholds at the base price."""
    grids = dict.fromkeys(max(1, base * threshold // 100_000) for threshold in thresholds)
    return [rb.Distance(Decimal(grid).scaleb(-8)) for grid in grids]


# Values of a column of sides: buys, sells and records without an aggressor.
WORDS = ("buy", "Sell", "none", "B", "S", "N", "unknown", "", None, "bid", "ask", "UNKNOWN")
SIGNS = (1, -1, 0, None)
SIDE_DTYPES = (
    pl.String(),
    pl.Categorical(),
    pl.Enum([word for word in WORDS if word is not None]),
    pl.Int8(),
    pl.Int64(),
)


@st.composite
def sides(draw: st.DrawFn, rows: int) -> pl.Series:
    """Draw a column of sides of any dtype, in which all or few or none have an aggressor."""
    dtype = draw(st.sampled_from(SIDE_DTYPES))
    choices = SIGNS if dtype.is_integer() else WORDS
    some = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=4))
    values = draw(st.lists(st.sampled_from(some), min_size=rows, max_size=rows))
    return pl.Series("side", values, dtype=dtype)


@st.composite
def cases(
    draw: st.DrawFn, *, rows: int = 50, keys: Sequence[str | None] = (None, "string", "two")
) -> Case:
    """Draw a frame of hostile trades, and the arguments for its bars."""
    threshold = draw(st.sampled_from(THRESHOLDS))
    several = draw(st.lists(st.sampled_from(THRESHOLDS), unique=True, max_size=3))
    unit = draw(st.sampled_from(["us", "ms", "ns"]))
    zone = draw(st.sampled_from([None, "UTC", "America/New_York"]))
    exact = draw(st.booleans())
    base = draw(st.sampled_from(BASES if exact else (*BASES, HUGE)))
    start, jump = draw(st.sampled_from(STARTS)), draw(st.sampled_from(JUMPS))
    key = draw(st.sampled_from(list(keys)))
    tape = Tape(base, threshold, unit, start, jump, keys=3 if key == "boolean" else 4)
    size = draw(st.integers(0, rows))
    numbers = draw(st.lists(st.integers(0, RECORDS - 1), min_size=size, max_size=size))
    frame = assemble([tape.record(n) for n in numbers], unit, zone, exact=exact, key=key)
    if draw(st.booleans()):
        frame = frame.drop("is_buyer_maker").with_columns(draw(sides(frame.height)))
    group_by = {None: None, "two": ["symbol", "venue"]}.get(key, "symbol")
    thresholds = [threshold, *(t for t in several if t != threshold)]
    if draw(st.integers(0, 3)) == 0:
        thresholds = distances(base, thresholds)
    return Case(
        frame.drop(draw(ABSENT), strict=False),
        threshold=thresholds if several else thresholds[0],
        rule=draw(st.sampled_from(["open", "high_low"])),
        group_by=group_by,
        features=draw(FEATURES),
        reset=draw(st.sampled_from(RESETS)),
        max_gap=draw(GAPS),
        incomplete=draw(st.sampled_from(["drop", "keep"])),
        gate=draw(st.booleans()),
    )


def cuts(rows: int, most: int = 6) -> st.SearchStrategy[list[int]]:
    """Draw rows at which to split a frame, some of them twice, so that some pieces are empty."""
    return st.lists(st.integers(0, rows), max_size=most).map(sorted)


def pieces(frame: pl.DataFrame, at: Sequence[int]) -> list[pl.DataFrame]:
    bounds = [0, *at, frame.height]
    return [frame.slice(a, b - a) for a, b in itertools.pairwise(bounds)]


def rechunked(frame: pl.DataFrame, at: Sequence[int]) -> pl.DataFrame:
    """Return the same frame in chunks that end at the cuts."""
    return pl.concat([p.clone() for p in pieces(frame, at)], rechunk=False)


def misaligned(frame: pl.DataFrame, at: Sequence[int]) -> pl.DataFrame:
    """Return the same frame with chunks that end elsewhere in each column."""
    columns = []
    for index, column in enumerate(frame.get_columns()):
        shifted = sorted((cut + 3 * index) % (frame.height + 1) for cut in at)
        columns.append(rechunked(column.to_frame(), shifted).to_series())
    return pl.DataFrame(columns)


def offset(frame: pl.DataFrame, before: int) -> pl.DataFrame:
    """Return the same frame as a slice that starts inside larger buffers."""
    if frame.is_empty():
        return frame
    whole = pl.concat([*[frame.head(1)] * before, frame, frame.tail(1)]).rechunk()
    return whole.slice(before, frame.height)


def long_frame(
    seed: int,
    rows: int,
    *,
    base: int = 5 * 10**12,
    step: int = 10**8,
    burst: int = 3,
    unit: str = "us",
    halves: bool = False,
) -> pl.DataFrame:
    """Return a seeded random walk on the grid or half a unit off it, with runs of equal times."""
    rng = np.random.default_rng(seed)
    walk = base + np.cumsum(rng.integers(-step, step + 1, rows))
    price = np.maximum(walk, 1) + 0.5 * halves * rng.integers(0, 2, rows)
    quantity = rng.choice([0, 1, 10**4, 10**8, 123_456_789], rows) * rng.integers(1, 50, rows)
    quantity = quantity + 0.5 * halves * rng.integers(0, 2, rows)
    time = 1_704_067_100_000_000 + np.cumsum(
        rng.integers(0, 2, rows) * rng.integers(0, burst, rows)
    )
    ids = np.cumsum(rng.integers(1, 4, rows))
    first = 10 * ids
    return pl.DataFrame(
        {
            "timestamp": pl.Series(time).cast(pl.Datetime("us", "UTC")).dt.cast_time_unit(unit),
            "price": price / 1e8,
            "quantity": quantity / 1e8,
            "is_buyer_maker": rng.integers(0, 2, rows).astype(bool),
            "agg_trade_id": ids,
            "first_trade_id": first,
            "last_trade_id": first + rng.integers(0, 10, rows),
        }
    )
