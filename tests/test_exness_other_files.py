"""Files of a year or of days: order over several of them, tails, and damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exness_files import HEADER, hourly_rows, row, write_text
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    CorruptSourceError,
    TickOrderError,
    TradeFileWarning,
)
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


@pytest.fixture
def downloads(monkeypatch) -> list[str]:
    """The names of the files that the transport has found so far."""
    names: list[str] = []
    get = Transport.get

    def counted(self, path, **options):
        found = get(self, path, **options)
        names.append(path.rpartition("/")[2])
        return found

    monkeypatch.setattr(Transport, "get", counted)
    return names


def test_a_month_that_the_file_of_its_year_does_not_have_is_missing(tmp_path, downloads):
    put(tmp_path, "2024", hourly_rows(2024, 7)[:20])
    source = Exness(url=tmp_path.as_uri())
    with pytest.raises(ArchiveMissingError, match=r"has no file `.*2024_03\.zip`"):
        source.fetch_month("EURUSD", 2024, 3)
    july = source.fetch_month("EURUSD", 2024, 7)
    assert sum(day.ticks.height for day in july) == 20
    assert downloads == [f"Exness_{ACCOUNT}_2024.zip"]


def test_a_month_that_the_file_of_its_year_does_not_have_comes_from_its_days(tmp_path, downloads):
    put(tmp_path, "2024", hourly_rows(2024, 7)[:20])
    put(tmp_path, "2024/03/01", [row("2024-03-01 01:00:00.000Z", 1.25, 1.26)])
    day = Exness(url=tmp_path.as_uri()).fetch_month("EURUSD", 2024, 3)[0]
    assert day.ticks["ask"].to_list() == [1.26]
    assert downloads == [f"Exness_{ACCOUNT}_{when}.zip" for when in ("2024", "2024_03_01")]


def test_a_month_file_without_quotes_is_damaged(tmp_path, downloads):
    path = put(tmp_path, "2024/01", [])
    with pytest.raises(CorruptSourceError, match="has no quote of its month") as caught:
        fetched(tmp_path)
    assert caught.value.url == path.as_uri()
    assert len(downloads) == 2


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


def test_tails_are_warned_of_with_the_file_of_their_day(tmp_path):
    put(tmp_path, "2024/01/01", [row("2024-01-01 01:00:00.000Z", 1.25, 1.26)])
    put(tmp_path, "2024/01/02", [row("2024-01-02 01:00:00.000Z", "1.1375899999999999", 1.26)])
    with pytest.warns(TradeFileWarning) as seen:
        days = fetched(tmp_path)
    (warning,) = seen
    assert "2024_01_02.zip`: 1 rounded to 8 decimals" in str(warning.message)
    assert [day.origin.tails for day in days[:2]] == [0, 1]


def test_a_step_back_over_a_second_is_measured_from_the_file_before(tmp_path):
    put(tmp_path, "2024/01/01", [row("2024-01-02 00:00:00.000Z", 1.25, 1.26)])
    times = ("2024-01-01 23:59:59.500Z", "2024-01-01 23:59:58.700Z")
    put(tmp_path, "2024/01/02", [row(time, 1.25, 1.26) for time in times])
    match = r"2024_01_02\.zip`, line 3: .* from `2024-01-02 00:00:00\+00:00` to"
    with pytest.raises(TickOrderError, match=match):
        fetched(tmp_path)


@pytest.mark.parametrize("when", ["2024/01", "2024", "2024/01/01"])
def test_a_damaged_file_is_downloaded_once_more(when, tmp_path, monkeypatch):
    path = put(tmp_path, when, hourly_rows(2024, 1)[:20])
    good = path.read_bytes()
    path.write_bytes(good[:-40])
    source = Exness(url=tmp_path.as_uri())
    for _ in range(2):
        with pytest.raises(CorruptSourceError, match="damaged zip") as caught:
            source.fetch_month("EURUSD", 2024, 1)
        assert caught.value.url == path.as_uri()
    get = Transport.get

    def corrected(self, path_of, *, fresh=False, **options):
        if fresh:
            path.write_bytes(good)
        return get(self, path_of, fresh=fresh, **options)

    monkeypatch.setattr(Transport, "get", corrected)
    days = source.fetch_month("EURUSD", 2024, 1)
    assert sum(day.ticks.height for day in days) == 20
