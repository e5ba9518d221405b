"""Values are read exactly, or refused with file and line."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars.fetch.csv_lines import number_of
from rangebar_polars.fetch.normalise import TradeFileWarning

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "timestamp,price,quantity,side\n"
TIME = "2024-01-01T00:00:00Z"


def read(folder: Path, text: str | bytes, **arguments) -> pl.DataFrame:
    path = folder / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return rb.scan_trades(path, **arguments).collect()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1.1375899999999999", 1.13759), ("0.010000000000000009", 0.01)],
        *[("1234567.1000000001", 1234567.1), ("61837.630000000005", 61837.63)],
    ],
)
def test_a_tail_is_cut_off_and_warned_of_once(text: str, value: float, tmp_path: Path) -> None:
    rows = f"{TIME},{text},2,buy\n" * 3
    if float(text) == value or value > 2**20:
        assert read(tmp_path, HEAD + rows)["price"].to_list() == [value] * 3
        return
    with pytest.warns(TradeFileWarning, match="3 rounded to 8 decimals"):
        assert read(tmp_path, HEAD + rows)["price"].to_list() == [value] * 3


def test_a_quantity_of_nothing_but_a_tail_is_nothing(tmp_path: Path) -> None:
    with pytest.warns(TradeFileWarning, match="1 rounded"):
        trades = read(tmp_path, f"{HEAD}{TIME},1.5,1.38e-17,buy\n")
    assert trades["quantity"].to_list() == [0.0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{TIME},1.123456789,2,buy", "more than 8 decimals"),
        (f"{TIME},1.38e-17,2,buy", "not above 0"),
        (f"{TIME},0,2,buy", "not above 0"),
        (f"{TIME},-1,2,buy", "not above 0"),
        (f"{TIME},1.5,-2,buy", "below 0"),
        (f"{TIME},nan,2,buy", "not a number"),
        (f"{TIME},inf,2,buy", "not a number"),
        (f'{TIME},"1,234.5",2,buy', "not a number"),
        (f"{TIME},99999999999.1234567,2,buy", "more digits"),
        (f"{TIME},,2,buy", "not a number"),
        (f"{TIME},1.5,2,hold", "neither a purchase nor a sale"),
        (f"{TIME},1.5,2", "3 fields instead of 4"),
        (f"{TIME},1.5,2,buy,9", "5 fields instead of 4"),
        ("01/02/2024 00:00,1.5,2,buy", "not ISO 8601"),
        ("1970-01-01T00:00:00Z,1.5,2,buy", "outside 2000 to 2100"),
        (f"{TIME},\xff,2,buy", "not a number"),
    ],
)
def test_a_line_that_is_no_trade_is_named(line: str, words: str, tmp_path: Path) -> None:
    good = f"{TIME},1.5,2,buy\n"
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        read(tmp_path, HEAD + good * 2 + line + "\n" + good)
    assert "x.csv`, line 4: " in str(caught.value)
    assert words in str(caught.value)


def test_a_time_of_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    head = "id,price,qty,quote_qty,time,is_buyer_maker\n"
    row = "1,1.5,2,3,1704067200000,true\n"
    with pytest.raises(pl.exceptions.ComputeError, match=r"line 3: the time `time` is `1\.7E\+12`"):
        read(tmp_path, head + row + "2,1.5,2,3,1.7E+12,true\n")


TABLE = (
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    + "".join(f"{i},34651.{i},0.5,{i},{i},{1698796805027 + i},true\n" for i in range(1, 9))
)
FORMS = {
    "CRLF": TABLE.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + TABLE,
    "quotes": "".join(
        ",".join(f'"{field}"' for field in line.split(",")) + "\n" for line in TABLE.splitlines()
    ),
    "blanks": TABLE.replace(",", " , "),
    "capitals": TABLE.replace("true", "TRUE"),
    "ones": TABLE.replace("true", "1"),
    "tabs": TABLE.replace(",", "\t"),
    "semicolons": TABLE.replace(",", ";"),
    "empty lines": TABLE.replace("\n", "\n\n"),
    "names in the middle": TABLE + TABLE.splitlines()[0] + "\n",
    "plus signs": TABLE.replace(",34651", ",+34651"),
    "no end of the last line": TABLE.rstrip(),
    "other order": "\n".join(",".join(line.split(",")[::-1]) for line in TABLE.splitlines()),
    "an index": "\n".join(f"{n},{line}" for n, line in enumerate(TABLE.splitlines())).replace(
        "0,agg", ",agg"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_programs_do_to_a_file_does_not_change_it(form: str, tmp_path: Path) -> None:
    assert read(tmp_path, FORMS[form]).equals(read(tmp_path, TABLE))


def test_utf_16_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UTF-16"):
        read(tmp_path, TABLE.encode("utf-16"))


SYMBOLS = (
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    "x,AAA,1585699202957000,1,1,buy,1.5,12\nx,BBB,1585699201957000,1,2,buy,2.5,12\n"
    "x,AAA,1585699203957000,1,3,sell,1.75,12\n"
)


def test_several_symbols_need_a_name(tmp_path: Path) -> None:
    with pytest.raises(
        pl.exceptions.ComputeError, match=r'line 3: .*`BBB` after `AAA`[\s\S]*symbol="AAA"'
    ):
        read(tmp_path, SYMBOLS)
    assert read(tmp_path, SYMBOLS, symbol="aaa")["price"].to_list() == [1.5, 1.75]
    with pytest.raises(pl.exceptions.ComputeError, match="no trade of `CCC`; it has `AAA`, `BBB`"):
        read(tmp_path, SYMBOLS, symbol="CCC")


@given(st.decimals("0.00000001", "1e12", places=8))
def test_a_number_of_eight_decimals_is_read_as_its_double(number: Decimal) -> None:
    text = f"{number:.8f}"
    value = number_of(text)
    if value is not None:
        assert value == float(text)
    assert value is not None or Decimal(f"{float(text):.8f}") != Decimal(text)


@given(st.decimals("0.00000001", "1e6", places=8), st.integers(-9, 9))
def test_a_short_tail_is_the_point_and_a_long_one_is_none(number: Decimal, tail: int) -> None:
    near, far = number + tail * Decimal("1e-11"), number + Decimal("4e-9")
    assert number_of(f"{near:.12f}") == float(number)
    assert number_of(f"{far:.10f}") is None
