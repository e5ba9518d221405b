"""Files of a year or of days: order over several of them, tails, and damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exness_files import HEADER, hourly_rows, row, write_text
from rangebar_polars.exceptions import CorruptSourceError, TickOrderError, TradeFileWarning
from rangebar_polars.fetch.exness.archive import Exness
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "EURUSD_Raw_Spread"


def put(root: Path, when: str, rows: list[str]) -> Path:
    name = f"Exness_{ACCOUNT}_{when.replace('/', '_')}.zip"
    return write_text(root / "ticks" / ACCOUNT / when / name, "\n".join([HEADER, *rows]) + "\n")


def fetched(root: Path):
    return Exness(url=root.as_uri()).fetch_month("EURUSD", 2024, 1)


def test_a_time_that_runs_back_between_files_of_days_is_an_error(tmp_path):
    put(tmp_path, "2024/01/01", [row("2024-01-02 01:00:00.000Z", 1.25, 1.26)])
    put(tmp_path, "2024/01/02", [row("2024-01-01 00:00:00.000Z", 1.25, 1.26)])
    with pytest.raises(TickOrderError, match=r"2024_01_02\.zip`, line 2: the time runs back"):
        fetched(tmp_path)


def test_a_short_step_back_between_files_of_days_is_raised(tmp_path):
    put(tmp_path, "2024/01/01", [row("2024-01-01 23:59:59.900Z", 1.25, 1.26)])
    put(
        tmp_path,
        "2024/01/02",
        [
            row("2024-01-01 23:59:59.500Z", 1.25, 1.27),
            row("2024-01-02 00:00:02.000Z", 1.25, 1.28),
            row("2024-01-02 00:00:01.500Z", 1.25, 1.29),
        ],
    )
    first, second = fetched(tmp_path)[:2]
    assert first.ticks["ask"].to_list() == [1.26, 1.27]
    assert second.ticks["ask"].to_list() == [1.28, 1.29]
    assert (first.origin.raised, second.origin.raised) == (1, 1)
    ids = [*first.ticks["agg_trade_id"], *second.ticks["agg_trade_id"]]
    assert ids == list(range(20240100000000, 20240100000004))


def test_tails_in_files_of_days_are_counted_and_warned_of(tmp_path):
    put(tmp_path, "2024/01/01", [row("2024-01-01 01:00:00.000Z", "1.1375899999999999", 1.26)])
    with pytest.warns(TradeFileWarning, match="2024_01_01.zip`: 1 rounded to 8 decimals"):
        first = fetched(tmp_path)[0]
    assert (first.ticks["bid"].item(), first.origin.tails) == (1.13759, 1)


@pytest.mark.parametrize("when", ["2024/01", "2024", "2024/01/01"])
def test_a_damaged_file_is_downloaded_once_more(when, tmp_path, monkeypatch):
    path = put(tmp_path, when, hourly_rows(2024, 1)[:20])
    good = path.read_bytes()
    path.write_bytes(good[:-40])
    source = Exness(url=tmp_path.as_uri())
    for _ in range(2):
        with pytest.raises(CorruptSourceError, match="damaged zip"):
            source.fetch_month("EURUSD", 2024, 1)
    get = Transport.get

    def corrected(self, path_of, *, fresh=False, **options):
        if fresh:
            path.write_bytes(good)
        return get(self, path_of, fresh=fresh, **options)

    monkeypatch.setattr(Transport, "get", corrected)
    days = source.fetch_month("EURUSD", 2024, 1)
    assert sum(day.ticks.height for day in days) == 20
