"""Limits of times and ids, and pushes that raise."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_matches, assert_same_bars
from properties.frames import cases, cuts, long_frame, pieces
from properties.model import Case, expect
from rangebar_polars import _internal
from rangebar_polars.exceptions import TickDataError

LAST = 2**63 - 1
FIRST = -(2**63)
BAD = {
    "price": [0.0, -1.0, float("nan"), float("inf"), 1e300, None],
    "quantity": [-1.0, float("nan"), float("-inf"), 1e12, None],
    "timestamp": [None],
    "agg_trade_id": [None, FIRST],
    "first_trade_id": [None, LAST],
    "last_trade_id": [None, FIRST],
}


def spoil(frame: pl.DataFrame, row: int, column: str, value: object) -> pl.DataFrame:
    bad = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value, frame.schema[column]))
    return frame.with_columns(bad.otherwise(pl.col(column)).alias(column))


@given(cases(), cuts(50, most=3), st.data())
def test_a_refused_push_is_as_if_it_had_never_been(
    case: Case, at: list[int], data: st.DataObject
) -> None:
    builder = entry_points.builder_of(case)
    got = []
    for part in pieces(case.frame, [min(cut, case.frame.height) for cut in at]):
        if part.height:
            column = data.draw(st.sampled_from([c for c in BAD if c in part.columns]))
            # The lowest id decreases only after another id, and a single id cannot be out of order.
            value = data.draw(st.sampled_from(BAD[column][:1] if "id" in column else BAD[column]))
            if case.frame.schema[column] == pl.Decimal:
                value = None
            before = builder.checkpoint()
            row = data.draw(st.integers(0, part.height - 1))
            with pytest.raises(TickDataError):
                builder.push(spoil(part, row, column, value))
            assert builder.checkpoint() == before
        got.append(builder.push(part))
    if case.incomplete == "keep":
        got.append(builder.partial())
    assert_same_bars(entry_points.concat(got), entry_points.eager(case))


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("column", BAD)
def test_a_bad_value_anywhere_in_a_long_run_is_found(column: str, instruction_set: str) -> None:
    frame = long_frame(seed=5, rows=9_001)
    try:
        _internal.force_instruction_set(instruction_set)
    except ValueError:
        pytest.skip(f"this machine has no {instruction_set}")
    try:
        for row in (1, 7, 8, 63, 64, 1023, 1024, 4095, 4096, 4097, 8999, 9000):
            for value in BAD[column]:
                bad = spoil(frame, row, column, value)
                with pytest.raises(TickDataError, match=rf"\brow {row}\b"):
                    bad.rangebar.bars([100, 100_000])
    finally:
        _internal.force_instruction_set(None)


@pytest.mark.parametrize("reset", [None, "day", "week", "1w", "month", "year"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("times", [[FIRST, FIRST + 1], [-1, 0], [0, LAST - 1, LAST]])
def test_times_outside_of_1970_to_2200_are_refused(
    times: list[int], unit: str, reset: str | None
) -> None:
    time = pl.Series(times, dtype=pl.Int64).cast(pl.Datetime(unit))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0 + i for i in range(len(times))]})
    case = Case(frame, 250, reset=reset, max_gap="1h", incomplete="keep")
    with pytest.raises(TickDataError, match=r"timestamp.*(before 1970|in the year)"):
        entry_points.eager(case)
    with pytest.raises(pl.exceptions.ComputeError, match="timestamp"):
        entry_points.eager_expression(case)


@pytest.mark.parametrize("reset", [None, "day", "week", "1w", "month", "year"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_at_the_ends_of_their_range_are_told_apart(unit: str, reset: str | None) -> None:
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    last = 7_258_118_400 * second - 1
    time = pl.Series([0, 1, last - 1, last], dtype=pl.Int64).cast(pl.Datetime(unit))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0 + i for i in range(4)]})
    for threshold in (250, 100_000):
        case = Case(frame, threshold, reset=reset, max_gap="1h", incomplete="keep")
        assert_matches(entry_points.eager(case), expect(case).bars)
        assert_same_bars(entry_points.eager_expression(case), entry_points.eager(case))
        assert_same_bars(entry_points.resumed_each_row(case), entry_points.eager(case))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_duration_beyond_64_bits_never_wraps(unit: str) -> None:
    time = pl.Series([FIRST, LAST], dtype=pl.Int64).cast(pl.Datetime(unit))
    frame = pl.DataFrame({"timestamp": time, "price": [100.0, 101.0]})
    try:
        bars = frame.rangebar.bars(250, features=["duration_us", "trade_intensity"])
    except TickDataError:
        return
    true = (LAST - FIRST) * {"ms": 10**6, "us": 10**3, "ns": 1}[unit] // 1000
    assert bars["duration_us"][0] in {true if true <= LAST else None, LAST}


IDS = ["agg_trade_id", "first_trade_id", "last_trade_id"]
SIGNED = [pl.Int8, pl.Int16, pl.Int32, pl.Int64]
UNSIGNED = [pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64]


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED])
def test_ids_of_any_integer_dtype_are_the_same_ids(dtype: pl.DataType, day: pl.DataFrame) -> None:
    small = day.with_columns(pl.col("first_trade_id", "last_trade_id") - 50)
    case = Case(small, features="microstructure", incomplete="keep")
    cast = case.with_frame(small.with_columns(pl.col(IDS).cast(dtype)))
    for entry_point in entry_points.ALL.values():
        assert_same_bars(entry_point(cast), entry_points.eager(case))


def test_ids_at_the_ends_of_their_range_come_back_whole(day: pl.DataFrame) -> None:
    ends = day.head(3).with_columns(
        price=pl.Series([100.0, 100.1, 101.0]),
        agg_trade_id=pl.Series([FIRST, 0, LAST]),
        first_trade_id=pl.Series([FIRST, 5, LAST]),
        last_trade_id=pl.Series([FIRST, 5, LAST]),
    )
    bars = ends.rangebar.bars(250)
    columns = ["first_trade_id", "last_trade_id", "first_agg_trade_id", "last_agg_trade_id"]
    assert bars.select(*columns, "individual_trade_count").rows() == [(FIRST, LAST, FIRST, LAST, 3)]


@pytest.mark.parametrize(
    ("dtype", "ids"),
    [
        (pl.UInt64, [0, 2**63, 2**64 - 1]),
        (pl.Int64, [FIRST, -1, LAST]),
        (pl.Int8, [127, -128, 0]),
    ],
)
def test_bar_ids_of_anyone_keep_their_dtype_and_value(
    dtype: pl.DataType, ids: list[int], day: pl.DataFrame
) -> None:
    column = pl.Series("mine", [i for i in ids for _ in range(2)], dtype)
    marked = day.head(6).with_columns(column)
    fold = marked.select(rb.aggregate("price", "mine")).unnest("bars")
    for bars in (
        fold,
        marked.rangebar.aggregate("mine"),
        marked.lazy().rangebar.aggregate("mine").collect(),
    ):
        assert bars.schema["bar_id"] == dtype
        assert bars["bar_id"].to_list() == ids


def test_a_null_id_between_equal_ids_means_the_same_at_every_entry_point(day: pl.DataFrame) -> None:
    marked = day.head(5).with_columns(mine=pl.Series([1, None, 1, 2, None], dtype=pl.Int64))

    def outcome(run: object) -> object:
        try:
            return run().rows()  # type: ignore[operator]
        except pl.exceptions.ComputeError as error:
            return "row 2" in str(error)

    fold = rb.aggregate("price", "mine", **{i: i for i in IDS})
    cut = pl.concat([marked.slice(i, 1) for i in range(5)], rechunk=False)
    with pl.Config() as config:
        config.set_streaming_chunk_size(1)
        outcomes = [
            outcome(lambda: marked.select(fold).unnest("bars")),
            outcome(lambda: cut.select(fold).unnest("bars")),
            outcome(lambda: marked.rangebar.aggregate("mine")),
            outcome(lambda: cut.lazy().rangebar.aggregate("mine").collect(engine="in-memory")),
            outcome(lambda: cut.lazy().rangebar.aggregate("mine").collect(engine="streaming")),
        ]
    assert all(o == outcomes[0] for o in outcomes)


@pytest.mark.parametrize("name", ["bar_id", "close", "ended_by", "threshold", "ofi"])
def test_a_key_named_like_a_column_of_bars_is_refused(name: str, day: pl.DataFrame) -> None:
    keyed = day.with_columns(pl.lit("A").alias(name))
    options = {"group_by": name, "incomplete": "keep", "features": "microstructure"}
    for entry_point in (keyed.rangebar.bars, keyed.lazy().rangebar.bars):
        with pytest.raises(ValueError, match=name):
            entry_point([250, 500], **options)
    with pytest.raises((ValueError, pl.exceptions.PolarsError), match=name):
        keyed.select(rb.bars("price", [250, 500], **options))


def test_one_column_may_play_two_roles(day: pl.DataFrame) -> None:
    twice = day.select(rb.bars("price", 250, quantity="price")).unnest("bars")
    copied = day.with_columns(quantity="price").rangebar.bars(250)
    assert twice["volume"].to_list() == copied["volume"].to_list()
    fills = day.select(
        rb.bars("price", 250, first_trade_id="agg_trade_id", last_trade_id="agg_trade_id")
    )
    assert fills.unnest("bars")["individual_trade_count"].to_list() == [4, 3]
