"""Files that were made to do harm: they take little memory, and end in an error that names them."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import faults
from rangebar_polars.exceptions import CorruptSourceError, SourceError, TickDataError
from rangebar_polars.fetch import BinanceRest, Exness
from rangebar_polars.fetch.binance import csv as agg_trades_csv
from rangebar_polars.fetch.binance.csv import LONGEST_LINE_BYTES, parse_trades
from rangebar_polars.fetch.csv_lines import first_fault, places_of
from rangebar_polars.fetch.exness.csv import MonthFile, read_month
from rangebar_polars.fetch.zipped import PIECE_BYTES, DamagedFileError, member_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exchange import Exchange

TIME_MS = 1_723_161_255_342
MEBIBYTE = 1 << 20
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def row(number: int, price: str = "100.5", quantity: str = "1") -> str:
    return f"{number},{price},{quantity},{number},{number},{TIME_MS + number},true,true\n"


TABLE = "".join(row(number) for number in range(1, 200)).encode()


def zip_of(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.csv", content)
    return bytearray(file.getvalue())


def spoiled(file: bytearray, at: int, value: int | None = None) -> bytes:
    """The file with a byte turned, or set."""
    file[at] = file[at] ^ 0xFF if value is None else value
    return bytes(file)


def directory_at(file: bytearray) -> int:
    return file.rindex(b"PK\x01\x02")


def end_at(file: bytearray) -> int:
    return file.rindex(b"PK\x05\x06")


def with_sizes(file: bytearray, packed: int | None, size: int | None) -> bytes:
    """The file with other sizes in its directory."""
    for offset, value in ((20, packed), (24, size)):
        if value is not None:
            struct.pack_into("<I", file, directory_at(file) + offset, value)
    return bytes(file)


# Raw errors


def cases() -> dict[str, bytes]:
    deflated = zip_of(TABLE)
    made = {
        "a price of a tiny exponent": row(1, "1e-999999999999999999999").encode(),
        "a price of a huge exponent": row(1, "1e999999999999999999999").encode(),
        "a price of nothing and a tiny exponent": row(1, "0e-999999999999999999999").encode(),
        "a price of no digit": row(1, ".e5").encode(),
        "a price of many digits": row(1, "1" * 5000).encode(),
        "a price of an endless fraction": row(1, "1." + "1" * 5000).encode(),
        "a price with an exponent of many digits": row(1, "1e" + "9" * 5000).encode(),
        "an id of many digits": ("9" * 5000 + row(1)[1:]).encode(),
        "an id below 64 bits": ("-" + "9" * 19 + row(1)[1:]).encode(),
        "an id of another script": ("٣" + row(1)[1:]).encode(),
        "bytes that are no text": b"1,100.5,\xff\xfe\x00,1,1,1,true,true\n",
        "a null byte": b"1,100.5,1\0,1,1,1,true,true\n",
        "a directory at another offset": spoiled(deflated[:], end_at(deflated) + 17),
        "a directory beyond the file": spoiled(deflated[:], end_at(deflated) + 19),
        "a directory of another size": spoiled(deflated[:], end_at(deflated) + 13),
        "a huge directory": spoiled(deflated[:], end_at(deflated) + 15, 0x7F),
        "a member at another offset": spoiled(deflated[:], directory_at(deflated) + 42),
        "a member beyond the file": spoiled(deflated[:], directory_at(deflated) + 45),
        "an unknown method": spoiled(deflated[:], directory_at(deflated) + 10, 97),
        "an end only": b"PK" + bytes(deflated[end_at(deflated) :]),
    }
    for name, method in METHODS.items():
        file = zip_of(TABLE, method)
        for share in (0.3, 0.5, 0.9):
            made[f"{name}, damaged at {share}"] = spoiled(
                file[:], 35 + int((directory_at(file) - 36) * share)
            )
        # LZMA data begin behind their properties.
        made[f"{name}, the first byte damaged"] = spoiled(file[:], 44 if name == "lzma" else 35)
        made[f"{name}, cut off"] = with_sizes(file[:], 40, None)
        made[f"{name}, said to be shorter"] = with_sizes(file[:], None, len(TABLE) - 7)
        made[f"{name}, said to be longer"] = with_sizes(file[:], None, len(TABLE) + 7)
    lzma = zip_of(TABLE, zipfile.ZIP_LZMA)
    # Its properties: lengths, then what is packed into a byte; the rest is the size of a dictionary.
    for at in (37, 38, 39):
        made[f"lzma, byte {at} damaged"] = spoiled(lzma[:], at)
    return made


CASES = cases()


@contextmanager
def raises_on_collect(match: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Expect a `TickDataError` of a plan, which Polars before 2.0 wraps in its own error."""
    with pytest.raises(pl.exceptions.ComputeError, match=match) as caught:
        yield caught
    wrapped = ("exception: TickDataError: ", "exception: DamagedFileError: ")
    assert isinstance(caught.value, TickDataError) or any(
        start in str(caught.value) for start in wrapped
    )


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.zip" if CASES[name][:2] == b"PK" else "a.csv")
    file.write_bytes(CASES[name])
    with raises_on_collect() as caught:
        rb.scan_agg_trades(file).collect()
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 1000
    if file.suffix == ".csv":
        assert ", line 1: " in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a price of a tiny exponent", "an id of many digits", "lzma, cut off"]
)
def test_the_command_says_so_without_a_traceback(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(CASES[name])
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", "bars", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert "a.csv" in run.stderr


@pytest.mark.parametrize("method", METHODS)
def test_each_method_of_compression_gives_back_what_was_written(method: str) -> None:
    content = b"".join(row(number).encode() for number in range(60_000))
    assert len(content) > 2 * PIECE_BYTES
    pieces = list(member_pieces(bytes(zip_of(content, METHODS[method])), "a.zip"))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("text", "places"),
    [
        *[("1", 0), ("1.50", 1), ("1.5e-3", 4), ("125e-2", 2), ("1e2", 0), ("0.000", 0)],
        *[(".5", 1), ("1.25e1", 1), ("100e-2", 0), ("1e-000000000000000000008", 8)],
        *[("", None), (".", None)],
    ],
)
def test_places_are_counted_without_reading_the_number(text: str, places: int | None) -> None:
    assert places_of(text) == places


def test_leading_zeros_do_not_make_an_id_too_long() -> None:
    columns = ["agg_trade_id", "price"]
    assert first_fault(b"0" * 5000 + b"7,0.5\n", columns, 1) is None
    assert "64 bits" in str(first_fault(b"9223372036854775808,0.5\n", columns, 1))
    assert first_fault(b"9223372036854775807,0.5\n", columns, 1) is None


QUOTES = b'"Exness","Symbol","Timestamp","Bid","Ask"\n'
BAD_QUOTES = {
    "a field of many characters": b'exness,"' + b"x" * 200_000 + b'",2024-01-15 00:00:00Z,1,2\n',
    "a carriage return": b"exness,EUR\rUSD,2024-01-15 00:00:00Z,1,2\n",
    "a null byte": b"exness,EURUSD\0,2024-01-15 00:00:00Z,1,2\n",
    "a tiny exponent": b"exness,EURUSD,2024-01-15 00:00:00Z,1e-99999999999999999999,2\n",
    "many digits": b"exness,EURUSD,2024-01-15 00:00:00Z," + b"9" * 5000 + b",2\n",
    "no such day": b"exness,EURUSD,2024-01-99 00:00:00Z,1,2\n",
    "no text": b"\xff\xfe,EURUSD\xff,2024-01-15 00:00:00Z,1,2\n",
    "an open quote": b'"exness,EURUSD,2024-01-15 00:00:00Z,1,2\n',
}


@pytest.mark.parametrize("name", BAD_QUOTES)
def test_a_line_that_is_no_quote_is_named(name: str) -> None:
    with pytest.raises(TickDataError, match=r"^`month\.zip`, lines? (2|from 2)"):
        read_month([QUOTES, BAD_QUOTES[name]], MonthFile("EURUSD", 2024, 1, "month.zip"))


PAGE = {"a": 7, "p": "0.10", "q": "2.5", "f": 9, "l": 9, "T": TIME_MS, "m": True}
PAGES = {
    "half a character": [PAGE | {"p": "\ud800"}],
    "a number of many digits": [PAGE | {"a": 10**30}],
    "a number beyond all": [PAGE | {"T": float("inf")}],
    "values of several kinds": [PAGE, PAGE | {"m": "true"}],
    "a list in a list": [PAGE | {"q": [[["1"]]]}],
    "an amount of many digits": [PAGE | {"p": "1" * 5000}],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_cannot_be_read_is_no_answer(
    name: str, exchange: Exchange, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "2")
    exchange.fail("", faults.replaced(json.dumps(PAGES[name]).encode()), times=None)
    with BinanceRest() as rest, pytest.raises((SourceError, TickDataError)) as caught:
        rest.newest_id("BTCUSDT")
    str(caught.value).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'[{"a":' * 990,
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe",
        b'{"code":1,"msg":"\\ud800"}',
    ],
)
def test_json_that_cannot_be_read_is_no_answer(
    body: bytes, exchange: Exchange, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "2")
    exchange.fail("", faults.replaced(body), times=None)
    with BinanceRest() as rest, pytest.raises(SourceError) as caught:
        rest.newest_id("BTCUSDT")
    str(caught.value).encode()


# Memory


def peak_of(action: Callable[[], object]) -> int:
    """Bytes that an action takes at most, as Python counts them."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@cache
def bomb(unit: bytes, method: int, mebibytes: int, head: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, archive.open("a.csv", "w") as member:
        member.write(head)
        for _ in range(mebibytes):
            member.write(unit * (MEBIBYTE // len(unit)))
    return file.getvalue()


@pytest.mark.parametrize(
    ("method", "unit", "head"),
    [
        *[(method, b"0", b"1,1.") for method in ("deflate", "bzip2", "lzma")],
        *[("deflate", b"\n", row(1).encode()), ("deflate", b" ", b""), ("deflate", b"\r\n", TABLE)],
    ],
)
def test_a_small_file_that_holds_much_takes_little_memory(
    method: str, unit: bytes, head: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "a.zip"
    # Below what is refused by its declared length: each line and run of lines is bounded, too.
    file.write_bytes(bomb(unit, METHODS[method], 60, head))

    def read() -> None:
        with raises_on_collect(match=r"a\.zip"):
            rb.scan_agg_trades(file).collect()

    assert peak_of(read) < 30 * MEBIBYTE


@pytest.mark.parametrize("method", ["deflate", "bzip2", "lzma"])
def test_a_declared_length_beyond_reason_is_refused_before_a_byte_is_made(method: str) -> None:
    content = bomb(b"0", METHODS[method], 100)
    with pytest.raises(DamagedFileError, match="a ratio that trades do not reach"):
        next(member_pieces(content, "a.zip"))


@pytest.mark.parametrize("method", ["deflate", "bzip2", "lzma"])
def test_a_member_gives_no_more_than_its_directory_declares(method: str) -> None:
    content = with_sizes(bytearray(bomb(b"0", METHODS[method], 100)), None, 1000)
    made: list[int] = []

    def read() -> None:
        with pytest.raises(DamagedFileError, match="longer than the declared 1000 bytes"):
            made.extend(map(len, member_pieces(content, "a.zip")))

    assert peak_of(read) < 8 * MEBIBYTE
    assert sum(made) <= 1000


def test_a_directory_of_many_entries_is_not_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(30_000):
            archive.writestr("a.csv", b"")
    content = file.getvalue()

    def read() -> None:
        with pytest.raises(DamagedFileError, match="its directory is larger"):
            next(member_pieces(content, "a.zip"))

    assert peak_of(read) < 4 * MEBIBYTE


@pytest.mark.parametrize(
    ("unit", "line", "said"),
    [(b"7", 200, "longer than"), (b"\n", 199, "empty lines"), (b" ", 199, "empty lines")],
)
def test_a_line_without_an_end_is_given_up_after_some_pieces(
    unit: bytes, line: int, said: str
) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        yield TABLE
        while True:
            taken += 1
            yield unit * (LONGEST_LINE_BYTES // 4)

    with pytest.raises(TickDataError, match=f"`day.csv`, line {line}: .*{said}"):
        parse_trades(pieces(), "day.csv")
    assert taken <= 5
    with pytest.raises(TickDataError, match=f"`month.zip`, line {line}: .*{said}"):
        read_month(pieces(), MonthFile("EURUSD", 2024, 1, "month.zip"))


def test_the_line_of_a_later_block_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agg_trades_csv, "BLOCK_BYTES", len(TABLE))
    ends = b"\n" * (LONGEST_LINE_BYTES + 1)
    with pytest.raises(TickDataError, match="line 796: followed by"):
        parse_trades([TABLE, TABLE, TABLE, TABLE, ends], "day.csv")
    assert parse_trades([TABLE, ends[:1000]], "day.csv").frame.height == 199


def test_a_month_of_quotes_that_holds_too_much_is_corrupt(
    exchange: Exchange, quick_retries: None
) -> None:
    path = "/ticks/EURUSD_Raw_Spread/2024/01/Exness_EURUSD_Raw_Spread_2024_01.zip"
    exchange.put(path, bomb(b"0", zipfile.ZIP_BZIP2, 100))
    with pytest.raises(CorruptSourceError, match="a ratio that trades do not reach"):
        Exness().read_day("EURUSD", "2024-01-15")


def test_a_checksum_of_the_zip_is_still_proved() -> None:
    file = zip_of(TABLE)
    struct.pack_into("<I", file, directory_at(file) + 16, zlib.crc32(b"other"))
    struct.pack_into("<I", file, 14, zlib.crc32(b"other"))
    with pytest.raises(DamagedFileError, match="CRC-32"):
        list(member_pieces(bytes(file), "a.zip"))
