"""The text of aggregate trades: blanks around values, and a last line without an end."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from faulty import in_plan
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.fetch.binance.csv import parse_trades, without_blanks

T0 = 1_704_067_200_000


@given(st.text(" \t,\r\n1a", max_size=40).map(str.encode))
def test_blanks_go_at_both_ends_of_a_value_only(text: bytes) -> None:
    parts = re.split(rb"([,\r\n])", text)
    assert without_blanks(text) == b"".join(part.strip(b" \t") for part in parts)


def test_a_long_run_of_blanks_does_not_take_the_square_of_its_length() -> None:
    run = b" " * (1 << 19)
    assert without_blanks(b"1," + run + b"2" + run + b"3" + run + b"\n") == b"1,2" + run + b"3\n"
    row = b"7,1.5" + run + b",2,7,7,%d,true,true\n" % T0
    assert parse_trades([row], "day.csv").frame["price"].to_list() == [1.5]


@pytest.mark.parametrize("end", ["\n", ""])
def test_the_layout_of_a_file_with_one_trade_is_named_without_a_last_newline(end, tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"id,price,qty,quote_qty,time,is_buyer_maker\n7,1.5,2,3,{T0},true{end}")
    with pytest.raises(in_plan(TickDataError), match="of the layout `binance-trades`"):
        rb.scan_agg_trades(path).collect()
    assert rb.scan_trades(path).collect()["is_buyer_maker"].to_list() == [True]


def test_a_last_line_without_an_end_is_read(tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"7,1.5,2,7,7,{T0},true,true")
    for scan in (rb.scan_agg_trades, rb.scan_trades):
        trades = scan(path).collect()
        assert trades.select(pl.len(), "is_buyer_maker").row(0) == (1, True)
