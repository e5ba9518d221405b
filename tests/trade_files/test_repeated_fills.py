"""Fills that count twice are warned of once a file; files out of order are said to be so."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars.fetch.normalise import RepeatedFillsWarning, TradeFileWarning
from rangebar_polars.trade_files import csv_blocks

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_704_067_200_000
AGG = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
SCANS = pytest.mark.parametrize("scan", ["scan_trades", "scan_agg_trades"])


def put(folder: Path, name: str, rows: list[tuple[int, int, int]]) -> Path:
    """Write a file of records: the id, the first and the last fill."""
    lines = [f"{i},1.5,2,{first},{last},{T0 + i},true\n" for i, first, last in rows]
    (folder / name).write_text(AGG + "".join(lines))
    return folder / name


def said(plan) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        plan.collect()
    assert all(issubclass(one.category, TradeFileWarning) for one in seen)
    return [str(one.message) for one in seen]


@SCANS
def test_one_warning_a_file_whatever_its_blocks(
    scan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 200)
    rows = [(i, 2 * i, 2 * i + (i % 10 == 3) * 2) for i in range(1, 101)]
    (words,) = said(getattr(rb, scan)(put(tmp_path, "a.csv", rows)))
    assert re.search(
        r"a\.csv`, line 5: the record `4` repeats fill 8, which an earlier record has; 9 more such records: they",
        words,
    )


@SCANS
def test_files_in_reverse_order_are_not_said_to_repeat_fills(scan: str, tmp_path: Path) -> None:
    first = put(tmp_path, "a.csv", [(1, 1, 2), (2, 3, 4)])
    second = put(tmp_path, "b.csv", [(3, 5, 6), (4, 7, 8)])
    assert said(getattr(rb, scan)([first, second])) == []
    (words,) = said(getattr(rb, scan)([second, first]))
    assert re.search(r"not in the order of their trades: `.*a\.csv` comes after `.*b\.csv`", words)


@SCANS
def test_a_file_that_comes_twice_repeats_its_fills(scan: str, tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", [(1, 1, 2), (2, 3, 4)])
    (words,) = said(getattr(rb, scan)([path, path]))
    assert re.search(r"line 2: the record `1` repeats fills 1 to 2.*; 1 more such record:", words)


@SCANS
def test_a_misplaced_file_that_overlaps_repeats_fills_as_well(scan: str, tmp_path: Path) -> None:
    second = put(tmp_path, "b.csv", [(3, 5, 6), (4, 7, 8)])
    first = put(tmp_path, "a.csv", [(1, 1, 2), (2, 3, 6)])
    repeated, order = said(getattr(rb, scan)([second, first]))
    assert re.search(r"a\.csv` repeats fills 5 to 6, which `.*b\.csv` has", repeated)
    assert "not in the order" in order


@SCANS
def test_only_fills_of_the_file_itself_are_said_to_be_repeated(scan: str, tmp_path: Path) -> None:
    spans = {"july": (1, 1000), "day20": (600, 650), "day10": (300, 330)}
    paths = [
        put(tmp_path, f"{name}.csv", [(first, first, first), (last, first + 1, last)])
        for name, (first, last) in spans.items()
    ]
    of_day20, of_day10, order = said(getattr(rb, scan)(paths))
    assert re.search(r"day20\.csv`, line 2: the record `600` repeats fill 600, which", of_day20)
    assert re.search(r"day10\.csv`, line 2: the record `300` repeats fill 300, which", of_day10)
    assert re.search(r"not in the order.*: `.*day10\.csv` comes after `.*day20\.csv`\.", order)


@SCANS
def test_a_file_after_those_of_its_days_repeats_their_fills_in_one_warning(
    scan: str, tmp_path: Path
) -> None:
    days = [put(tmp_path, f"day{i}.csv", [(i, 10 * i, 10 * i + 5)]) for i in range(1, 6)]
    month = put(tmp_path, "month.csv", [(0, 1, 2), (9, 3, 53)])
    repeated, order = said(getattr(rb, scan)([*days, month]))
    first = r"month\.csv` repeats fills 10 to 15, which `.*day1\.csv` has; fills 20 to 25, which"
    assert re.search(first, repeated)
    assert repeated.endswith(
        "; and 2 more: they count twice. To count them once, drop these records"
    )
    assert "month.csv` comes after" in order


def test_without_ids_the_record_is_named_by_its_line(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", [(1, 1, 2), (2, 2, 4)])
    plan = rb.scan_trades(path, columns={"agg_trade_id": None})
    with pytest.warns(RepeatedFillsWarning, match="line 3: the record repeats fill 2, which"):
        plan.collect()


def test_without_ids_files_are_compared_by_time(tmp_path: Path) -> None:
    paths = [put(tmp_path, f"{i}.csv", [(i, i, i)]) for i in (1, 9)]
    assert said(rb.scan_trades(paths, columns={"agg_trade_id": None})) == []
