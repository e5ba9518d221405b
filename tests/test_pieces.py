"""However a frame is cut into chunks, it crosses into the kernel in few pieces and gives its bars."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from rangebar_polars._utils.io_source import batches
from rangebar_polars.compute import _pieces
from rangebar_polars.compute._pieces import in_pieces
from rangebar_polars.exceptions import TickDataError, TickOrderError

TRADES = long_frame(seed=41, rows=6_000, step=8 * 10**9)
IDS = TRADES.with_columns(bar=pl.int_range(pl.len()) // 17)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a short frame take several pieces."""
    monkeypatch.setattr(_pieces, "_PIECE_ROWS", 700)
    monkeypatch.setattr(_pieces, "_PIECE_ROWS_PER_CHUNK", 1)


def cut(frame: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Return the same frame in chunks of so many rows."""
    return pl.concat(frame.iter_slices(rows), rechunk=False)


@given(
    lengths=st.lists(st.integers(0, 3_000), min_size=1, max_size=40),
    other=st.lists(st.integers(0, 3_000), max_size=3),
)
def test_pieces_are_the_columns_in_long_chunks(lengths: list[int], other: list[int]) -> None:
    values = pl.Series("a", range(sum(lengths)), dtype=pl.Int64)
    column = pl.concat([values.head(0), *parts_of(values, lengths)], rechunk=False)
    second = pl.concat([values.head(0), *parts_of(values, [*other, values.len()])], rechunk=False)
    pieces = list(in_pieces([column, second]))
    for index in range(2):
        assert pl.concat([piece[index] for piece in pieces]).to_list() == values.to_list()
    for piece in pieces:
        assert len({part.len() for part in piece}) == 1
        for part in piece:
            assert part.n_chunks() == 1 or part.len() >= part.n_chunks() * 1_000


def parts_of(values: pl.Series, lengths: list[int]) -> list[pl.Series]:
    """Return slices of these lengths, one after another, as far as the values go."""
    ends = [min(sum(lengths[:n]), values.len()) for n in range(len(lengths) + 1)]
    return [values.slice(start, end - start) for start, end in pairwise(ends)]


def test_long_chunks_are_not_copied() -> None:
    frame = cut(TRADES, 2_000)
    columns = frame.get_columns()
    (piece,) = in_pieces(columns)
    assert piece is columns
    assert [column.n_chunks() for column in piece] == [3] * frame.width


def test_a_piece_is_bounded_by_rows_or_by_what_its_chunks_take() -> None:
    size = 1 << 18
    long = pl.concat([pl.Series("a", [0.5]).new_from_index(0, 999)] * 1_000, rechunk=False)
    assert [piece[0].len() for piece in in_pieces([long])] == [size, size, size, 999_000 - 3 * size]
    short = pl.concat([pl.Series("a", [0.5] * 9)] * 40_000, rechunk=False)
    assert [piece[0].len() for piece in in_pieces([short])] == [360_000]


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("rows", [1, 10, 333, 1_000])
def test_chunks_make_no_difference_to_bars(rows: int) -> None:
    fragmented = cut(TRADES, rows)
    assert fragmented.n_chunks() >= 0.99 * TRADES.height / rows
    assert_same_bars(fragmented.rangebar.bars(50), TRADES.rangebar.bars(50))
    keyed = TRADES.with_columns(k=pl.int_range(pl.len()) % 7)
    assert_same_bars(
        cut(keyed, rows).rangebar.bars(50, group_by="k"), keyed.rangebar.bars(50, group_by="k")
    )
    assert_same_bars(cut(IDS, rows).rangebar.aggregate("bar"), IDS.rangebar.aggregate("bar"))


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("door", ["bars", "by key", "aggregate", "builder"])
def test_a_fault_in_a_later_piece_names_its_row_and_changes_nothing(door: str) -> None:
    row = 5_432
    faulty = IDS.with_columns(
        price=pl.when(pl.int_range(pl.len()) == row).then(-1.0).otherwise("price"),
        k=pl.int_range(pl.len()) % 7,
    )
    frame = cut(faulty, 10)
    builder = rb.RangeBarBuilder(50)
    doors = {
        "bars": lambda: frame.rangebar.bars(50),
        "by key": lambda: frame.rangebar.bars(50, group_by="k"),
        "aggregate": lambda: frame.rangebar.aggregate("bar"),
        "builder": lambda: builder.push(frame.slice(100)),
    }
    builder.push(IDS.head(100))
    before = builder.checkpoint()
    expected = row - 100 if door == "builder" else row
    with pytest.raises(TickDataError, match=rf"at row {expected}\b"):
        doors[door]()
    assert builder.checkpoint() == before
    nulled = cut(IDS.with_columns(price=pl.when(pl.int_range(pl.len()) != row).then("price")), 10)
    with pytest.raises(TickDataError, match=rf"null at row {row}\b"):
        nulled.rangebar.bars(50)


@pytest.mark.usefixtures("short_pieces")
def test_order_is_judged_across_pieces() -> None:
    swapped = pl.concat([TRADES.slice(2_800, 100), TRADES.head(2_800), TRADES.slice(2_900)])
    with pytest.raises(TickOrderError, match=r"row 100\b"):
        cut(swapped, 10).rangebar.bars(50)
    late = pl.concat([TRADES.head(1_400), TRADES.slice(1_300)])
    with pytest.raises(TickOrderError, match=r"row 1400\b"):
        cut(late, 10).rangebar.bars(50)


def test_a_plan_over_short_row_groups_is_read_in_long_batches(tmp_path) -> None:
    path = tmp_path / "trades.parquet"
    rows = 100_000
    trades = long_frame(seed=42, rows=rows, step=8 * 10**9)
    trades.write_parquet(path, row_group_size=500)
    names = trades.columns
    read = [batch.height for batch in batches(pl.scan_parquet(path), names)]
    assert sum(read) == rows
    assert len(read) == 2
    assert_same_bars(pl.scan_parquet(path).rangebar.bars(50).collect(), trades.rangebar.bars(50))


def test_the_frame_of_no_bars_belongs_to_the_caller() -> None:
    builder = rb.RangeBarBuilder(250, incomplete="keep")
    first = builder.push(TRADES.head(1))
    schema = first.schema
    first.insert_column(0, pl.Series("mine", [], dtype=pl.Int8))
    second = builder.push(TRADES.slice(1, 1))
    assert second.schema == schema
    assert second.height == 0
    assert TRADES.rangebar.bars(250, incomplete="keep").schema == schema
