"""Files of the Binance archive in every layout they have had, and what is wrong in them."""

from __future__ import annotations

import warnings
import zipfile
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from faulty import in_plan
from properties import entry_points
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import TickDataError, TickOrderError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = {
    "timestamp": pl.Datetime("us", "UTC"),
    "price": pl.Float64,
    "quantity": pl.Float64,
    "agg_trade_id": pl.Int64,
    "first_trade_id": pl.Int64,
    "last_trade_id": pl.Int64,
    "is_buyer_maker": pl.Boolean,
}
HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
START = 1_723_161_255_000  # ms
# id, price, quantity, first id, last id, ms after the start, seller is aggressor
ROWS = [
    (1, "61837.63000000", "0.02000000", 10, 10, 342, True),
    (2, "61837.64000000", "0.04827000", 11, 14, 617, False),
    (3, "61990.00000000", "0.02073000", 15, 15, 617, False),
    (4, "62100.00000000", "0.50000000", 16, 20, 900, True),
]


def line(row: tuple, *, spot: bool, micro: bool = False, flag: str | None = None) -> str:
    agg, price, quantity, first, last, after, maker = row
    time = (START + after) * (1000 if micro else 1)
    words = {True: "True", False: "False"} if spot else {True: "true", False: "false"}
    fields = [agg, price, quantity, first, last, time, flag or words[maker]]
    return ",".join(map(str, [*fields, "True"] if spot else fields))


def write(
    path: Path, rows: list[tuple], *, spot: bool = True, micro: bool = False, header: bool = False
) -> Path:
    lines = [HEADER] * header + [line(row, spot=spot, micro=micro) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def expected(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(
        [((START + t) * 1000, float(p), float(q), a, f, l, m) for a, p, q, f, l, t, m in rows],
        schema={**SCHEMA, "timestamp": pl.Int64},
        orient="row",
    ).with_columns(pl.col("timestamp").cast(SCHEMA["timestamp"]))


def read(source: object) -> pl.DataFrame:
    return rb.scan_agg_trades(source).collect().select(list(SCHEMA))


LAYOUTS = [
    {"spot": True},
    {"spot": True, "micro": True},
    {"spot": False},
    {"spot": False, "header": True},
    {"spot": False, "header": True, "micro": True},
    {"spot": True, "header": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_layout_gives_the_same_trades(layout: dict, zipped: bool, tmp_path: Path) -> None:
    if layout.get("header") and layout["spot"]:
        path = write(tmp_path / "a.csv", ROWS, **(layout | {"header": False}))
        path.write_text(HEADER + ",is_best_match\n" + path.read_text())
    else:
        path = write(tmp_path / "a.csv", ROWS, **layout)
    if zipped:
        archive = tmp_path / "a.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            out.write(path, "a.csv")
        path = archive
    lazy = rb.scan_agg_trades(path)
    assert isinstance(lazy, pl.LazyFrame)
    assert list(lazy.collect_schema().items()) == list(SCHEMA.items())
    assert_same_bars(lazy.collect().select(list(SCHEMA)), expected(ROWS))


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_ends_do_not_matter(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [line(row, spot=True) for row in ROWS]
    path.write_bytes(((ending or "\n").join(lines) + ending).encode())
    assert_same_bars(read(path), expected(ROWS))


def test_paths_lists_and_globs_are_read_in_order(tmp_path: Path) -> None:
    later = [(a + 4, p, q, f + 100, l + 100, t + 1_000, m) for a, p, q, f, l, t, m in ROWS]
    first = write(tmp_path / "T-2024-08-08.csv", ROWS)
    second = write(tmp_path / "T-2024-08-09.csv", later, micro=True)
    both = expected([*ROWS, *later])
    assert_same_bars(read(str(first)), expected(ROWS))
    assert_same_bars(read([first, second]), both)
    assert_same_bars(read(f"{tmp_path}/T-*.csv"), both)
    assert_same_bars(read(tmp_path / "T-*.csv"), both)


def test_what_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    for source in (tmp_path / "no.csv", str(tmp_path / "*.zip"), [tmp_path / "no.csv"]):
        with pytest.raises(FileNotFoundError):
            rb.scan_agg_trades(source).collect()


def test_rows_are_sorted_by_id_with_a_warning(tmp_path: Path) -> None:
    mixed = [ROWS[0], ROWS[2], ROWS[1], ROWS[3]]
    path = write(tmp_path / "a.csv", mixed)
    with pytest.warns(UserWarning, match=r"(?s)a\.csv.*\d") as caught:
        frame = read(path)
    assert len(caught) == 1
    assert_same_bars(frame, expected(ROWS))


def test_a_file_is_warned_of_once_however_often_it_is_read(tmp_path: Path) -> None:
    lazy = rb.scan_agg_trades(write(tmp_path / "a.csv", [ROWS[1], ROWS[0]]))
    with pytest.warns(UserWarning, match="moved") as caught:
        assert [lazy.collect().height for _ in range(3)] == [2, 2, 2]
    assert len(caught) == 1
    write(tmp_path / "a.csv", [ROWS[2], ROWS[1], ROWS[0]])
    with pytest.warns(UserWarning, match="2 moved"):
        lazy.collect()


@pytest.mark.parametrize("back", [1, 1000])
def test_a_time_that_runs_back_a_little_is_raised_with_a_warning(back: int, tmp_path: Path) -> None:
    rows = [*ROWS, (5, "62100", "1", 21, 21, 900 - back, True)]
    path = write(tmp_path / "a.csv", rows)
    with pytest.warns(UserWarning, match=r"\b1\b"):
        frame = read(path)
    assert_same_bars(frame, expected([*ROWS, (5, "62100", "1", 21, 21, 900, True)]))


def test_a_raised_time_stays_the_running_maximum(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        (5, "1", "1", 21, 21, 500, True),
        (6, "1", "1", 22, 22, 800, True),
        (7, "1", "1", 23, 23, 950, True),
    ]
    path = write(tmp_path / "a.csv", rows)
    with pytest.warns(UserWarning, match=r"\b2\b"):
        frame = read(path)
    times = (frame["timestamp"].dt.epoch("ms") - START).to_list()
    assert times == [342, 617, 617, 900, 900, 900, 950]


def test_a_time_that_runs_back_more_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*ROWS, (5, "62100", "1", 21, 21, 900 - 1001, True)])
    with pytest.raises(in_plan(TickOrderError), match=r"a\.csv"):
        read(path)


def test_sentinel_rows_are_dropped_with_a_warning(tmp_path: Path) -> None:
    lines = [line(row, spot=True) for row in ROWS]
    lines.insert(1, f"77,0.00000000,0.00000000,-1,-1,{START + 400},True,True")
    lines.append(f"78,0,0,-1,-1,{START + 900},False,True")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=r"\b2\b") as caught:
        frame = read(path)
    assert len(caught) == 1
    assert_same_bars(frame, expected(ROWS))


def test_nothing_is_warned_of_where_nothing_was_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path)


BAD = {
    "price that is no number": "3,abc,1,15,15,{t},True,True",
    "empty price": "3,,1,15,15,{t},True,True",
    "negative price": "3,-5,1,15,15,{t},True,True",
    "zero price of a real trade": "3,0,1,15,15,{t},True,True",
    "negative quantity": "3,100,-1,15,15,{t},True,True",
    "flag that is no flag": "3,100,1,15,15,{t},maybe,True",
    "id that is no number": "x,100,1,15,15,{t},True,True",
    "empty id": ",100,1,15,15,{t},True,True",
    "time that is no number": "3,100,1,15,15,soon,True,True",
    "line cut short": "3,100,1",
    "field too many": "3,100,1,15,15,{t},True,True,True",
    "infinite price": "3,inf,1,15,15,{t},True,True",
    "price that is NaN": "3,NaN,1,15,15,{t},True,True",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_row_is_named_by_file_and_line(name: str, zipped: bool, tmp_path: Path) -> None:
    lines = [line(row, spot=True) for row in ROWS[:2]]
    lines += [BAD[name].format(t=START + 700), line(ROWS[3], spot=True)]
    path = tmp_path / "day.csv"
    path.write_text("\n".join(lines) + "\n")
    if zipped:
        archive = tmp_path / "day.zip"
        with zipfile.ZipFile(archive, "w") as out:
            out.write(path, "day.csv")
        path = archive
    with pytest.raises(in_plan(TickDataError), match=r"(?s)day.*\b3\b") as caught:
        read(path)
    assert "line" in str(caught.value)


@pytest.mark.parametrize("header", [False, True])
def test_lines_count_the_header(header: bool, tmp_path: Path) -> None:
    lines = (
        [HEADER] * header + [line(row, spot=False) for row in ROWS[:2]] + ["3,abc,1,15,15,1,true"]
    )
    path = tmp_path / "day.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(in_plan(TickDataError), match=rf"(?s)line {4 if header else 3}\b"):
        read(path)


def test_times_of_two_units_in_one_file_are_refused(tmp_path: Path) -> None:
    lines = [line(ROWS[0], spot=True), line(ROWS[1], spot=True, micro=True)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(in_plan(TickDataError), match=r"a\.csv"):
        read(path)


@pytest.mark.parametrize("text", ["", "\n", "a,b,c\n1,2,3\n", "hello", "1,2\n"])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(in_plan(TickDataError), match=r"a\.csv"):
        read(path)


def test_a_broken_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.csv", "\n".join(line(row, spot=True) for row in ROWS) * 50)
    for content in (b"", b"not a zip", whole.read_bytes()[:-40], whole.read_bytes()[:60]):
        path.write_bytes(content)
        with pytest.raises(in_plan(TickDataError), match=r"a\.zip"):
            read(path)


def test_a_scan_goes_straight_to_bars(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    lazy = rb.scan_agg_trades(path).rangebar.bars(250)
    bars = entry_points.collect(lazy, engine)
    assert_same_bars(bars, expected(ROWS).rangebar.bars(250))
    assert bars["close"].to_list() == [62100.0] or bars.height


def test_a_scan_is_cut_and_filtered_like_any_plan(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    lazy = rb.scan_agg_trades(path)
    frame = expected(ROWS)
    sells = pl.col("is_buyer_maker")
    for plan, wanted in (
        (lazy.head(2), frame.head(2)),
        (lazy.filter(sells), frame.filter(sells)),
        (lazy.head(2).filter(sells), frame.head(2).filter(sells)),
        (lazy.select("price", "quantity"), frame.select("price", "quantity")),
    ):
        assert_same_bars(entry_points.collect(plan, engine).select(wanted.columns), wanted)
