"""Messages count the rows of a Parquet file from 0, as Polars does, and name them rows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import in_plan
from rangebar_polars.exceptions import RepeatedFillsWarning, TickDataError, TickOrderError

if TYPE_CHECKING:
    from pathlib import Path

TICKS = rb.sample_ticks().head(4)


def written(folder: Path, **columns: pl.Expr | pl.Series) -> pl.LazyFrame:
    TICKS.with_columns(**columns).write_parquet(folder / "t.parquet")
    return rb.scan_trades(folder / "t.parquet")


def only_at(row: int, value: pl.Expr, column: str) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(column).alias(column)


def test_a_row_that_is_no_trade(tmp_path: Path) -> None:
    plan = written(tmp_path, price=only_at(2, -pl.col("price"), "price"))
    with pytest.raises(in_plan(TickDataError), match=r"t\.parquet`, row 2: not a trade"):
        plan.collect()


def test_rows_of_one_id(tmp_path: Path) -> None:
    plan = written(tmp_path, agg_trade_id=only_at(2, pl.col("agg_trade_id") - 1, "agg_trade_id"))
    with pytest.raises(
        in_plan(TickDataError), match=r"rows 1 and 2: conflicting[\s\S]*one of the rows"
    ):
        plan.collect()


def test_a_row_whose_time_runs_back(tmp_path: Path) -> None:
    earlier = pl.col("timestamp") - timedelta(hours=1)
    plan = written(tmp_path, timestamp=only_at(3, earlier, "timestamp"))
    with pytest.raises(
        in_plan(TickOrderError), match=r"row 3: the time runs back[\s\S]*sort the rows"
    ):
        plan.collect()


def test_a_row_of_another_symbol(tmp_path: Path) -> None:
    plan = written(tmp_path, symbol=pl.Series(["A", "A", "B", "B"]))
    with pytest.raises(
        in_plan(TickDataError), match="row 2: trades of several symbols: `B` after `A`"
    ):
        plan.collect()


def test_a_row_whose_fills_an_earlier_one_has(tmp_path: Path) -> None:
    first = pl.Series(TICKS["first_trade_id"]).to_list()
    repeated = pl.Series([first[0], first[0], *first[2:]])
    plan = written(tmp_path, first_trade_id=repeated)
    with pytest.warns(RepeatedFillsWarning, match=r"t\.parquet`, row 1: the record"):
        plan.collect()
