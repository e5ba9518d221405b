"""The types of accounts of Exness by `archive_name`, and files of a year or of a day."""

from __future__ import annotations

import zipfile
from datetime import date, datetime
from typing import TYPE_CHECKING

import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exness_files import HEADER, hourly_rows
from rangebar_polars.exceptions import ArchiveMissingError, SettingError, TickDataError
from rangebar_polars.fetch.exness.archive import Exness
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNTS = ["EURUSDm", "EURUSD", "EURUSD_Zero_Spread", "EURUSD_Pro", "EURUSD_Standart_Plus"]


def put(root: Path, account: str, when: str, rows: list[str]) -> Path:
    name = f"Exness_{account}_{when.replace('/', '_')}"
    path = root / "ticks" / account / when / f"{name}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([HEADER, *(row.replace("EURUSD_Raw_Spread", account) for row in rows)]) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.csv", text)
    return path


def register(tmp_path, monkeypatch, symbol: str, account: str) -> None:
    file = tmp_path / "symbols.toml"
    file.write_text(
        f'[symbols."{symbol}"]\nasset_class = "forex"\nexchange = "exness"\narchive_name = "{account}"\n'
    )
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))


def by_day(rows: list[str]) -> dict[str, list[str]]:
    days: dict[str, list[str]] = {}
    for row in rows:
        days.setdefault(row.split('"')[5][:10].replace("-", "/"), []).append(row)
    return days


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_type_of_account_is_fetched_by_its_archive_name(account, tmp_path, monkeypatch):
    register(tmp_path, monkeypatch, "EURUSDX", account)
    put(tmp_path, account, "2024/01", hourly_rows(2024, 1))
    monkeypatch.setenv("RANGEBAR_EXNESS_URL", tmp_path.as_uri())
    where = {"source": "exness", "cache_dir": tmp_path / "cache"}
    found = rb.scan_ticks("eurusdx", "2024-01-02", "2024-01-05", **where).collect()
    assert found.height == 4 * 24 - 2
    assert (
        rb.fetch_ticks("EURUSDX", "2024-01-01", "2024-01-31", **where, verbose=False).fetched == []
    )


def test_quotes_of_another_account_are_refused(tmp_path, monkeypatch):
    register(tmp_path, monkeypatch, "EURUSDM", "EURUSDm")
    path = put(tmp_path, "EURUSDc", "2024/01", hourly_rows(2024, 1))
    target = tmp_path / "ticks/EURUSDm/2024/01/Exness_EURUSDm_2024_01.zip"
    target.parent.mkdir(parents=True)
    path.rename(target)
    with pytest.raises(TickDataError, match="the symbol is `EURUSDc`, not `EURUSDm`"):
        Exness(url=tmp_path.as_uri()).read_day("EURUSDM", "2024-01-03")


def test_months_of_a_year_and_of_days_are_those_of_files_of_months(tmp_path):
    account = "EURUSD_Raw_Spread"
    roots = {name: tmp_path / name for name in ("month", "year", "days")}
    for month in (1, 2):
        put(roots["month"], account, f"2024/{month:02}", hourly_rows(2024, month))
        for when, rows in by_day(hourly_rows(2024, month)).items():
            put(roots["days"], account, when, rows)
    put(roots["year"], account, "2024", hourly_rows(2024, 1) + hourly_rows(2024, 2))
    sources = {name: Exness(url=root.as_uri()) for name, root in roots.items()}
    for month in (1, 2):
        expected = sources["month"].fetch_month("EURUSD", 2024, month)
        for name in ("year", "days"):
            found = sources[name].fetch_month("EURUSD", 2024, month)
            assert [item.day for item in found] == [item.day for item in expected]
            for one, other in zip(found, expected, strict=True):
                assert_frame_equal(one.ticks, other.ticks)
                assert one.is_tail is other.is_tail is False
            assert len({item.origin.sha256 for item in found}) == 1
    with pytest.raises(ArchiveMissingError):
        sources["days"].fetch_month("EURUSD", 2024, 3)


def test_days_end_at_the_first_weekday_without_a_file(tmp_path):
    for when, rows in by_day(hourly_rows(2024, 1)).items():
        if when != "2024/01/17":
            put(tmp_path, "EURUSD_Raw_Spread", when, rows)
    found = Exness(url=tmp_path.as_uri(), today=lambda: date(2024, 1, 25)).fetch_month(
        "EURUSD", 2024, 1
    )
    assert found[-1].day == date(2024, 1, 16)
    assert all(item.is_tail for item in found)
    assert found[-1].ticks["timestamp"][-1] < datetime.fromisoformat("2024-01-17T00:00:00Z")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "ü", "x" * 65])
def test_an_archive_name_is_a_part_of_an_address(name, tmp_path, monkeypatch):
    register(tmp_path, monkeypatch, "EURUSDM", name)
    with pytest.raises(SettingError, match="`archive_name` of"):
        get_symbol_entries()
