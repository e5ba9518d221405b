"""Rows with missing or inexact values are refused or left out, never read as something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from faulty import in_plan
from rangebar_polars.exceptions import TickDataError
from trade_files.samples import DATABENTO

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

HEAD = "timestamp,price,quantity,side\n"
TIME = "2024-01-01T00:00:00Z"
TARDIS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def read(folder: Path, text: str, **arguments) -> pl.DataFrame:
    path = folder / "x.csv"
    path.write_text(text)
    return rb.scan_trades(path, **arguments).collect()


@pytest.mark.parametrize("empty_first", [True, False])
def test_a_row_without_an_action_is_no_trade(empty_first: bool, tmp_path: Path) -> None:
    trade = "2025-09-08T00:00:01Z,2025-09-08T00:00:01Z,0,1,7,T,B,0,6505.5,2,0,1,1,ESU5\n"
    none = trade.replace(",T,", ",,").replace("6505.5", "1.5")
    rows = [none, trade] if empty_first else [trade, none]
    trades = read(tmp_path, f"{DATABENTO},symbol\n" + "".join(rows))
    assert trades["price"].to_list() == [6505.5]


def tardis(*rows: tuple[str, float]) -> str:
    times = enumerate(rows, start=1585699202957000)
    return TARDIS + "".join(
        f"x,{symbol},{at},1,{at},buy,{price},12\n" for at, (symbol, price) in times
    )


def test_a_row_without_a_symbol_is_not_one_of_the_other_symbol(tmp_path: Path) -> None:
    for text in (tardis(("AAA", 1.5), ("", 2.5)), tardis(("", 2.5), ("AAA", 1.5))):
        with pytest.raises(
            in_plan(TickDataError), match=r'line 3: trades of several[\s\S]*symbol="AAA"'
        ):
            read(tmp_path, text)
        assert read(tmp_path, text, symbol="AAA")["price"].to_list() == [1.5]
    with pytest.raises(in_plan(TickDataError), match=r'no trade of `BBB`[\s\S]*symbol="AAA"'):
        read(tmp_path, text, symbol="BBB")


def test_a_large_price_of_more_digits_than_a_double_holds_is_refused(tmp_path: Path) -> None:
    good = f"{TIME},200000000.5,2,buy\n"
    assert read(tmp_path, HEAD + good)["price"].to_list() == [200000000.5]
    with pytest.raises(
        in_plan(TickDataError), match=r"line 3: `price` is `200000000\.00000001`, more digit"
    ):
        read(tmp_path, HEAD + good + f"{TIME},200000000.00000001,2,buy\n")
