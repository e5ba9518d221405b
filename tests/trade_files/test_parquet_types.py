"""Columns of Parquet files are of a type that holds their field; names of files are no patterns."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import in_plan
from rangebar_polars.exceptions import TickDataError

if TYPE_CHECKING:
    from pathlib import Path

TICKS = rb.sample_ticks().head(3)


def with_column(folder: Path, column: str, values: pl.Series | list) -> Path:
    path = folder / "t.parquet"
    TICKS.with_columns(pl.Series(column, values)).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("column", "value", "dtype"),
    [
        ("price", [1.5], r"List\(Float64\)`, not `Float64`"),
        ("price", b"1.5", "Binary"),
        ("price", True, "Boolean"),
        ("price", date(2024, 1, 1), "Date"),
        ("price", time(1), "Time"),
        ("price", timedelta(1), "Duration"),
        ("quantity", {"a": 1}, "Struct"),
        ("is_buyer_maker", [True], "List"),
        ("is_buyer_maker", "true", "String"),
        ("agg_trade_id", [7], r"List\(Int64\)`, not `Int64`"),
        ("timestamp", [7], "List"),
        ("timestamp", date(2024, 1, 1), "Date"),
    ],
)
def test_a_column_of_another_type_is_named(
    column: str, value: object, dtype: str, tmp_path: Path
) -> None:
    path = with_column(tmp_path, column, [value] * 3)
    with pytest.raises(TickDataError, match=f"the column `{column}` is of type `{dtype}"):
        rb.scan_trades(path, time_unit="ms")


def test_categories_are_not_read_as_their_codes(tmp_path: Path) -> None:
    path = with_column(tmp_path, "price", pl.Series(["1", "2", "3"], dtype=pl.Categorical))
    with pytest.raises(TickDataError, match="`price` is of type `Categorical"):
        rb.scan_trades(path)


@pytest.mark.parametrize("dtype", [pl.String, pl.Decimal(20, 8), pl.Float64])
def test_prices_as_text_and_decimals_are_read(dtype: pl.DataType, tmp_path: Path) -> None:
    path = with_column(tmp_path, "price", TICKS["price"].cast(dtype))
    assert rb.scan_trades(path).collect().equals(TICKS)


def test_the_name_of_a_file_is_not_a_pattern(tmp_path: Path) -> None:
    TICKS.write_parquet(tmp_path / "x[1].parquet")
    TICKS.with_columns(price=pl.lit(9.0)).write_parquet(tmp_path / "x1.parquet")
    assert rb.scan_trades(tmp_path / "x[1].parquet").collect().equals(TICKS)
    other = rb.scan_trades(tmp_path / "x1.parquet").collect()
    assert other["price"].to_list() == [9.0] * 3


def test_flags_of_whole_numbers_are_0_or_1(tmp_path: Path) -> None:
    flags = TICKS["is_buyer_maker"].cast(pl.Int8)
    assert rb.scan_trades(with_column(tmp_path, "is_buyer_maker", flags)).collect().equals(TICKS)
    path = with_column(tmp_path, "is_buyer_maker", pl.Series([0, 1, -1]))
    with pytest.raises(
        in_plan(TickDataError), match="`, row 2: `is_buyer_maker` is `-1`; a flag is 0 or 1"
    ):
        rb.scan_trades(path).collect()
