"""Lines that are read in one pass: the trades that a plain reading in Python and the slower ways find."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.trade_files.csv_blocks import TextReader, with_lines
from rangebar_polars.trade_files.opening import Request, head_of, open_text
from rangebar_polars.trade_files.values import LINE, TAIL, raw_schema, schema_of
from rangebar_polars.trade_layouts.table import BUY, SELL, column_key
from trade_files.samples import BYBIT, DATABENTO, POLYGON, SAMPLES, content

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.trade_files.opening import Opened

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
EVERY = pytest.mark.parametrize("name", SAMPLES)


class Form(NamedTuple):
    """Names and a first line of a file, and the columns whose texts vary: what each may hold."""

    head: str
    line: str
    varied: dict[str, str]


FORMS = {
    "agg": Form(
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
        "26129,0.01633102,4.70443515,27781,27781,1698796805027,true",
        {
            "agg_trade_id": "id",
            "price": "price",
            "quantity": "amount",
            "first_trade_id": "id",
            "last_trade_id": "id",
            "transact_time": "ms",
            "is_buyer_maker": "flag",
        },
    ),
    "bybit": Form(
        BYBIT,
        "1577836802.1234,BTCUSDT,Buy,0.5,7195.5,PlusTick,9c5d,1.0,2.0,3.0",
        {
            "timestamp": "s",
            "symbol": "symbol",
            "side": "side",
            "size": "amount",
            "price": "price",
            "tickDirection": "other",
            "trdMatchID": "text",
        },
    ),
    "bybit, inverse": Form(
        BYBIT,
        "1577836802.1234,BTCUSD,Buy,100,7195.5,PlusTick,9c5d,1.0,2.0,3.0",
        {"timestamp": "s", "side": "side", "size": "amount", "price": "price"},
    ),
    "coinbase": Form(
        "time,trade_id,price,size,side",
        "2024-01-01T00:00:00.123456Z,7,42000.5,0.5,buy",
        {"time": "iso", "trade_id": "id", "price": "price", "size": "amount", "side": "side"},
    ),
    "databento": Form(
        DATABENTO + ",symbol",
        "1704067200000000000,1704067200000000000,0,1,14160,T,B,0,4784250000000,3,0,13730,1,ESH4",
        {
            "ts_event": "ns",
            "action": "action",
            "side": "side",
            "price": "scaled",
            "size": "amount",
            "symbol": "symbol",
        },
    ),
    "polygon": Form(
        POLYGON,
        'AAPL,"12,37",0,4,71,1704186000000000000,187.15,1,1704186000000000001,100,3,0,0',
        {"conditions": "other", "price": "price", "sip_timestamp": "ns", "size": "amount"},
    ),
    "dukascopy": Form(
        "timestamp,askPrice,bidPrice,askVolume,bidVolume",
        "1704067200123,1.10427,1.10421,0.9,1.2",
        {"timestamp": "ms", "askPrice": "price", "bidPrice": "price", "askVolume": "other"},
    ),
    "csv": Form(
        "symbol;time;price;size;taker_side",
        "BTC;2024-01-01 00:00:00;1;2;sell",
        {"symbol": "symbol", "time": "iso", "price": "price", "size": "amount"},
    ),
}

SECONDS = st.integers(946_684_800, 4_102_444_799)
SMALL = st.integers(0, 10**8 - 1)


def decimals(whole: int, fraction: int, places: int) -> str:
    return f"{whole}.{fraction:08d}"[: len(f"{whole}") + 1 + places] if places else f"{whole}"


AMOUNTS = st.builds(decimals, st.integers(0, 10**7), SMALL, st.integers(0, 8))
TIMES = {
    "s": st.builds(decimals, SECONDS, SMALL, st.integers(0, 8)),
    "ms": st.builds("{}{:03d}".format, SECONDS, st.integers(0, 999)),
    "ns": st.builds("{}{:09d}".format, SECONDS, st.integers(0, 10**9 - 1)),
    "iso": st.builds(
        lambda second, micros, places, mark, end: (
            f"{EPOCH + timedelta(seconds=second):%Y-%m-%d{mark}%H:%M:%S}"
            + (f".{micros:09d}"[: places + 1] if places else "")
            + end
        ),
        SECONDS, st.integers(0, 10**9 - 1), st.integers(0, 9),
        st.sampled_from("T "), st.sampled_from(["", "Z"]),
    ),
}  # fmt: skip
PLAIN: dict[str, st.SearchStrategy[str]] = {
    **TIMES,
    "id": st.integers(0, 2**63 - 1).map(str),
    "price": AMOUNTS.filter(lambda text: float(text) > 0),
    "amount": AMOUNTS | st.integers(0, 2**53 - 1).map(str),
    "scaled": st.integers(1, 2**53 - 1).map(lambda units: f"{units}0"),
    "flag": st.sampled_from(["true", "True", "false", "False", "TRUE"]),
    "side": st.sampled_from(["buy", "Buy", "S", "SELL", "sell", "none", "", "bid_aggressor"]),
    "symbol": st.sampled_from(["BTCUSDT"]),
    "text": st.sampled_from(["9c5d", "d9cd8295-40dc-5dce-8deb-b2a1e0c3d4f5", "0", ""]),
    "action": st.just("T"),
    "other": st.sampled_from(["", "x", '"12,37"', "a b", "1.5e3"]),
}
HOSTILE = st.sampled_from(
    [
        "", " ", "-1", "+1", "1e3", "1.5E-7", "1.", ".5", "007", "0.1 ", " 0.1", "nan", "inf", "null",
        '"0.5"', '"', '"a""b"', 'a"b', "0.123456789", "0.12345678000", "1.1375899999999999",
        "123456789.12345678", "99999999999.1234567", "12345678901.00000000", "9223372036854775808",
        "10000000000000000000000", "67108864.5", "67108863.99999999", "1234567890123456789",
        "buy\r", "BTCUSDT ", "ETHUSDT", "\u2212", "é", "1,5", "1\n2", "\x00", "0x10", "1_000", "A",
        "2024-02-30T00:00:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00+01:00", "1704067200",
        "2024-1-1T00:00:00Z", "2024-01-01", "1704067200.1234567890123", "0", "0.000000001", "1",
    ]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", ""])


def opened(form: Form) -> Opened:
    head = head_of([f"{form.head}\n{form.line}\n".encode()], "trades.csv")
    assert head is not None
    return open_text(head, Request())


def blocks(form: Form, *, is_hostile: bool) -> st.SearchStrategy[bytes]:
    """Texts of some lines; of which some fields are not plain, if it is hostile."""
    separator = ";" if ";" in form.head else ","
    names, values = form.head.split(separator), next(csv.reader([form.line], delimiter=separator))
    rare = st.sampled_from([False] * 30 + [True])

    @st.composite
    def line(draw: st.DrawFn) -> str:
        texts = []
        for name, value in zip(names, values, strict=True):
            kind = form.varied.get(name)
            text = draw(PLAIN[kind]) if kind else value
            if separator in text and not text.startswith('"'):
                text = f'"{text}"'
            if is_hostile and draw(rare):
                text = draw(HOSTILE)
            texts.append(text)
        if is_hostile and draw(rare):
            texts = texts[:-1] if draw(st.booleans()) else [*texts, "1"]
        return separator.join(texts) + (draw(ENDS) if is_hostile else "\n")

    return st.lists(line(), min_size=1, max_size=12).map(lambda lines: "".join(lines).encode())


def time_of(text: str, unit: str) -> int:
    if unit == "s":
        return round(float(text) * 1e6)
    if unit == "iso":
        whole, _, fraction = text.removesuffix("Z").partition(".")
        seconds = (datetime.fromisoformat(f"{whole}+00:00") - EPOCH) // timedelta(seconds=1)
        return seconds * 10**6 + int(f"{fraction:0<6}"[:6])
    return int(Fraction(int(text) * 10**6, {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]))


def on_grid(value: float) -> float:
    return round(value * 1e8) / 1e8


def naive(block: bytes, file: Opened) -> pl.DataFrame:
    """The trades of plain lines, one value after another."""
    layout, rows = file.layout, []
    keys = [column_key(name) for name in file.names]
    for values in csv.reader(block.decode().splitlines(), delimiter=file.separator):
        texts = {
            field: values[keys.index(column_key(name))]
            for field, (name, _) in raw_schema(file).items()
        }
        row: dict[str, object] = {"timestamp": time_of(texts["time"], file.unit)}
        for field in ("price", "quantity", "contracts", "bid", "ask"):
            row[field] = float(texts[field]) if field in texts else None
        if file.is_scaled:
            row["price"] = float(Fraction(int(texts["price"]), 10**9))
        if layout.bid:
            units = sum(round(float(texts[field]) * 1e8) for field in ("bid", "ask"))
            row["price"] = float(Fraction(units, 2 * 10**8))
        if layout.contracts and not layout.quantity:
            row["quantity"] = on_grid(row["contracts"] / row["price"])
        if "buyer_maker" in texts:
            row["is_buyer_maker"] = texts["buyer_maker"].lower() == "true"
        elif "side" in texts:
            word = texts["side"].lower()
            sold = word in (BUY if layout.side_of == "maker" else SELL)
            row["is_buyer_maker"] = sold if word in BUY | SELL else None
        row["trade_id"] = texts.get("id") or None
        for name, field in (("agg", "id"), ("first", "first_id"), ("last", "last_id")):
            text = texts.get(field, texts.get("id", ""))
            row[f"{name}_trade_id"] = int(text) if text.isdigit() else None
        rows.append(row)
    schema = {**schema_of(layout), "timestamp": pl.Int64()}
    return pl.DataFrame([[row[name] for name in schema] for row in rows], schema, orient="row")


def is_kept(block: bytes, file: Opened) -> bool:
    """Whether the pairs of values that vary alone are those of a trade."""
    frame = naive(block, file)
    if file.layout.bid:
        return bool((frame["bid"] <= frame["ask"]).all())
    if file.layout.first_id:
        return bool((frame["first_trade_id"] <= frame["last_trade_id"]).all())
    return True


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_plain_lines_are_the_trades_that_python_reads(name: str, data: st.DataObject) -> None:
    file = opened(FORMS[name])
    block = data.draw(blocks(FORMS[name], is_hostile=False))
    found = TextReader(file, None).try_plain(block)
    if not is_kept(block, file):
        assert found is None
        return
    assert found is not None
    assert found.lines == block.count(b"\n")
    assert_frame_equal(found.trades, naive(block, file), check_exact=True)


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_lines_of_any_kind_are_read_as_by_polars_or_not_at_all(
    name: str, data: st.DataObject
) -> None:
    file = opened(FORMS[name])
    block = data.draw(blocks(FORMS[name], is_hostile=True))
    found = TextReader(file, None).try_plain(block)
    if found is None:
        return
    slow = TextReader(file, None)
    slow.plain = None
    try:
        other = slow.parse(block, 7)
    except TickDataError as error:
        pytest.fail(f"{error}\n{block!r}")
    assert found.symbols == other.symbols
    assert found.lines == other.lines
    assert not other.trades.get_column(TAIL, default=pl.Series([False])).any()
    trades = other.trades.drop(TAIL, strict=False)
    assert_frame_equal(with_lines(found.trades, 7), trades, check_exact=True)
    assert found.trades.columns == [name for name in trades.columns if name != LINE]


@pytest.mark.parametrize("name", FORMS)
def test_no_text_is_left_to_the_slower_ways(name: str) -> None:
    assert TextReader(opened(FORMS[name]), None).try_plain(b"") is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_of_names_alone_has_no_trades(tmp_path: Path, end: str) -> None:
    path = tmp_path / "trades.csv"
    path.write_bytes(f"timestamp,price,size,side{end}".encode())
    trades = rb.scan_trades(path).collect()
    assert trades.is_empty()
    assert trades.columns[:2] == ["timestamp", "price"]


@pytest.mark.parametrize("quote", ["9007199254740991,9007199254740991", "1.2,1.1", "1e300,1.1"])
def test_quotes_that_are_too_large_or_crossed_are_left_to_the_slower_ways(quote: str) -> None:
    line = f"1704067200123,{quote},0.9,1.2\n".encode()
    assert TextReader(opened(FORMS["dukascopy"]), None).try_plain(line) is None


#: Samples with lines that are left to the slower ways: rows that are no trades, and times of other forms.
NOT_PLAIN = {
    "binance agg, spot",
    "databento, raw",
    "dukascopy, GMT",
    "dukascopy, local time",
    "csv",
}


@EVERY
def test_samples_are_read_in_one_pass_or_as_before(name: str) -> None:
    text = content(SAMPLES[name])
    head = head_of([text], "trades.csv")
    assert head is not None
    file = open_text(head, Request())
    found = TextReader(file, None).try_plain(text[file.start :])
    slow = TextReader(file, None)
    slow.plain = None
    trades = slow.parse(text[file.start :], 1).trades.drop(TAIL, strict=False)
    is_plain = found is not None
    assert is_plain == (name not in NOT_PLAIN)
    if found is not None:
        assert_frame_equal(with_lines(found.trades, 1), trades, check_exact=True)
