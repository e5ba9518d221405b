"""Columns that the caller names, and whole numbers of up to 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from faulty import in_plan
from rangebar_polars.exceptions import MissingColumnError, TickDataError
from rangebar_polars.fetch.decimals import TELLING_BELOW, is_near_grid, is_near_point
from rangebar_polars.trade_files import line_faults
from trade_files.samples import SAMPLES, content, spot

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

AGG = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
T0 = 1_704_067_200_000


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("layout", ["auto", "csv"])
def test_a_misspelt_column_is_named_with_its_file(layout: str, tmp_path: Path) -> None:
    path = put(tmp_path, "timestamp,price,qty_base,side\n2024-01-01T00:00:00Z,1.5,2,buy\n")
    with pytest.raises(MissingColumnError, match=r"x\.csv`: .*no column `qty_bsae`") as seen:
        rb.scan_trades(path, layout=layout, columns={"quantity": "qty_bsae"})
    assert '{"quantity": "qty_base"}' in str(seen.value)
    trades = rb.scan_trades(path, layout=layout, columns={"quantity": "qty_base"}).collect()
    assert trades["quantity"].to_list() == [2.0]


def test_a_misspelt_column_of_a_known_layout_is_named_with_its_file(tmp_path: Path) -> None:
    path = put(tmp_path, spot(range(1, 3)))
    with pytest.raises(MissingColumnError, match=r"x\.csv`: .*no column `prize`"):
        rb.scan_trades(path, columns={"price": "prize"})


def test_a_misspelt_column_of_parquet_is_named_with_its_file(tmp_path: Path) -> None:
    rb.sample_ticks().write_parquet(tmp_path / "t.parquet")
    with pytest.raises(MissingColumnError, match=r"t\.parquet`: .*no column `prize`"):
        rb.scan_trades(tmp_path / "t.parquet", columns={"price": "prize"})


def test_aggregate_trades_without_their_id_have_first_and_last(tmp_path: Path) -> None:
    path = put(tmp_path, f"{AGG}7,1.5,2,71,73,{T0},true\n8,1.6,2,74,74,{T0},true\n")
    trades = rb.scan_trades(path, columns={"agg_trade_id": None}).collect()
    assert "agg_trade_id" not in trades.columns
    assert trades.select("price", "first_trade_id", "last_trade_id").rows() == [
        (1.5, 71, 73),
        (1.6, 74, 74),
    ]


@pytest.mark.parametrize("number", [10**18, 2**63 - 1])
def test_ids_of_nineteen_digits_are_whole(number: int, tmp_path: Path) -> None:
    row = f"{number - 1},1.5,2,71,73,{T0},true\n"
    path = put(tmp_path, f"{AGG}{row}{number},1.5,2,74,74,{T0},true\n")
    assert rb.scan_trades(path).collect()["agg_trade_id"].to_list() == [number - 1, number]
    put(tmp_path, f"{AGG}{row}{number},abc,2,74,74,{T0},true\n")
    with pytest.raises(in_plan(TickDataError), match="line 3: `price` is `abc`"):
        rb.scan_trades(path).collect()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{2**63}", "not a whole number of 64 bits"),
        ("9" * 5000, "not a whole number of 64 bits"),
        ("1.5", "not a whole number"),
        ("-1", "below 0"),
    ],
)
def test_other_ids_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = put(tmp_path, f"{AGG}1,1.5,2,71,73,{T0},true\n{text},1.5,2,74,74,{T0},true\n")
    with pytest.raises(
        in_plan(TickDataError), match=f"line 3: `agg_trade_id` is `{text[:40]}`, {words}"
    ):
        rb.scan_trades(path).collect()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("tardis", "1585699203957000", "158569920395700_0"),
        ("tardis", "1585699203957000", "1585699203957"),
        ("tardis", "1585699203957000", "9" * 30),
        ("bybit, linear", "1784851200.0548", "1784851200_0"),
        ("bybit, linear", "1784851200.0548", "nan"),
        ("coinbase", "2024-01-01T00:00:01Z", "2024-13-01T00:00:01Z"),
    ],
)
def test_a_wrong_time_is_named_with_its_line(
    name: str, good: str, bad: str, tmp_path: Path
) -> None:
    text = content(SAMPLES[name]).decode()
    assert rb.scan_trades(put(tmp_path, text)).collect().height == 2
    path = put(tmp_path, bad.join(text.rsplit(good, 1)))
    with pytest.raises(in_plan(TickDataError), match=rf"line 3: the time `\w+` is `{bad}`"):
        rb.scan_trades(path).collect()


@pytest.mark.parametrize(("name", "queries"), [("tardis", 0), ("coinbase", 1)])
def test_a_fault_far_down_takes_no_query_a_line(
    name: str, queries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = content(SAMPLES[name]).decode()
    head, row = text.splitlines()[:2]
    path = put(tmp_path, "\n".join([head, *[row] * 3000, row.replace("buy", "bay")]) + "\n")
    made = []
    rule = line_faults.is_time
    monkeypatch.setattr(line_faults, "is_time", lambda unit: made.append(unit) or rule(unit))
    with pytest.raises(in_plan(TickDataError), match="line 3002: `side` is `bay`"):
        rb.scan_trades(path).collect()
    assert len(made) == queries


@given(st.decimals(0, 2**20, places=12, allow_nan=False) | st.decimals(0, 1, places=18))
def test_one_number_is_near_the_grid_where_a_column_is(number: Decimal) -> None:
    frame = pl.DataFrame({"value": [float(number)]})
    if abs(float(number)) < TELLING_BELOW:
        assert is_near_grid(f"{number:f}") == frame.select(is_near_point("value")).item()
