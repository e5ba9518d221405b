"""Files of the Binance archive that are odd, broken or cut in any place."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import in_plan
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import TickDataError, TickOrderError
from rangebar_polars.fetch.binance import csv as agg_trades_csv
from rangebar_polars.fetch.binance import files as agg_trade_files

if TYPE_CHECKING:
    from pathlib import Path

START = 1_723_161_255_000
GOOD = [
    f"{i},{100 + i}.5,0.25,{10 * i},{10 * i + 2},{START + 10 * i},True,True" for i in range(1, 9)
]


def read(source: object) -> pl.DataFrame:
    return rb.scan_agg_trades(source).collect()


def written(folder: Path, content: bytes | str, name: str = "day.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def plain(tmp_path: Path) -> pl.DataFrame:
    return read(written(tmp_path, "\n".join(GOOD) + "\n", "plain.csv"))


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + "\n".join(GOOD).encode(),
        "\n".join(GOOD).encode() + b"\n\n\n",
        "\r\n".join(GOOD).encode() + b"\r\n\r\n",
    ],
    ids=["byte order mark", "empty lines at the end", "line ends of Windows"],
)
def test_marks_and_empty_ends_do_not_matter(
    content: bytes, plain: pl.DataFrame, tmp_path: Path
) -> None:
    assert_same_bars(read(written(tmp_path, content)), plain)


def test_a_header_alone_is_a_day_without_trades(plain: pl.DataFrame, tmp_path: Path) -> None:
    header = (
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    )
    assert_same_bars(read(written(tmp_path, header)), plain.clear())


@pytest.mark.parametrize(
    "row",
    [
        "",
        '"9",100,1,1,1,{t},True,True',
        "9.0,100,1,1,1,{t},True,True",
        "99999999999999999999,100,1,1,1,{t},True,True",
        "9,100,1,5,4,{t},True,True",
        "9,100,1,1,1,{t},1,True",
        "9,100,1,1,1,{t}.5,True,True",
        "9,1_0,1,1,1,{t},True,True",
        "9,1\x0000,1,1,1,{t},True,True",
        "9,100,1,1,1,1723161255,True,True",
        "9,100,1,1,1,1723161255000000000,True,True",
        "9,100,1,1,1,99999999999999,True,True",
        "8,777,0.25,80,82,{t},True,True",
    ],
    ids=repr,
)
def test_a_row_that_is_no_trade_is_named_by_its_line(row: str, tmp_path: Path) -> None:
    lines = [*GOOD, row.format(t=START + 90), f"10,100,1,1,1,{START + 99},True,True"]
    with pytest.raises(in_plan(TickDataError), match=r"(?s)day\.csv.*line"):
        read(written(tmp_path, "\n".join(lines)))


@pytest.mark.filterwarnings("error")
def test_a_row_given_twice_counts_once(plain: pl.DataFrame, tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join([*GOOD, GOOD[-1]]))
    with pytest.warns(UserWarning, match=r"\b1\b"):
        frame = read(path)
    assert_same_bars(frame, plain)


def test_sentinels_alone_are_a_day_without_trades(plain: pl.DataFrame, tmp_path: Path) -> None:
    path = written(tmp_path, f"1,0,0,-1,-1,{START},True,True\n2,0,0,-1,-1,{START},False,True\n")
    with pytest.warns(UserWarning, match=r"\b2\b"):
        frame = read(path)
    assert_same_bars(frame, plain.clear())


@pytest.mark.parametrize(("back", "error"), [(1000, None), (1001, TickOrderError)])
def test_a_second_is_how_far_a_time_may_run_back(
    back: int, error: type[Exception] | None, tmp_path: Path
) -> None:
    late = f"9,100,1,1,1,{START + 80 - back},True,True"
    path = written(tmp_path, "\n".join([*GOOD, late]))
    if error is not None:
        with pytest.raises(in_plan(error), match="line"):
            read(path)
        return
    with pytest.warns(UserWarning, match=r"\b1\b"):
        frame = read(path)
    assert frame["timestamp"].is_sorted()


@pytest.mark.parametrize("name", ["day.csv", "day.zip"])
@pytest.mark.parametrize("zipped", [False, True])
def test_content_decides_what_a_file_is(
    name: str, zipped: bool, plain: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / name
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("day.csv", "\n".join(GOOD))
    else:
        path.write_text("\n".join(GOOD))
    assert_same_bars(read(path), plain)


def test_a_zip_of_two_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.csv", GOOD[0])
        out.writestr("b.csv", GOOD[1])
    with pytest.raises(in_plan(TickDataError), match=r"two\.zip"):
        read(path)


def test_a_zip_with_a_byte_flipped_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bent.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr("day.csv", "\n".join(GOOD))
    content = bytearray(path.read_bytes())
    place = content.index(b"0.25")
    content[place + 3] = ord("6")
    path.write_bytes(bytes(content))
    with pytest.raises(in_plan(TickDataError), match=r"bent\.zip"):
        read(path)


@pytest.mark.parametrize("piece", [2, 17, 4096])
@pytest.mark.parametrize("size", [*range(1, 130, 7), 4096])
def test_blocks_may_end_anywhere(
    piece: int, size: int, plain: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agg_trade_files, "PIECE_BYTES", piece)
    monkeypatch.setattr(agg_trades_csv, "BLOCK_BYTES", size)
    assert_same_bars(read(written(tmp_path, "\n".join(GOOD))), plain)
    bad = [*GOOD[:6], "7,abc,1,1,1,1,True,True"]
    with pytest.raises(in_plan(TickDataError), match=r"(?s)day\.csv.*line 7\b"):
        read(written(tmp_path, "\n".join(bad)))


@pytest.mark.parametrize(
    ("source", "error"),
    [([], ValueError), (5, TypeError), (None, TypeError), (b"a.csv", TypeError), ([5], TypeError)],
)
def test_what_is_no_path_is_refused_at_the_call(source: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        rb.scan_agg_trades(source)


def test_a_folder_is_refused_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=tmp_path.name):
        rb.scan_agg_trades(tmp_path)


def test_one_scan_serves_two_plans(plain: pl.DataFrame, tmp_path: Path, engine: str) -> None:
    lazy = rb.scan_agg_trades(written(tmp_path, "\n".join(GOOD)))
    both = pl.concat([lazy, lazy]).collect(engine=engine)
    assert_same_bars(both, pl.concat([plain, plain]))


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join(GOOD))
    lazy = rb.scan_agg_trades(path)
    assert lazy.collect().height == 8
    path.write_text(GOOD[0])
    assert lazy.collect().height == 1
