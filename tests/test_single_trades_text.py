"""The text of files of single trades: tails, lines without an end, and files of months."""

from __future__ import annotations

import tracemalloc
from datetime import date

import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import ArchiveMissingError, TickDataError, TradeFileWarning
from rangebar_polars.fetch.binance.csv import LONGEST_LINE_BYTES
from rangebar_polars.fetch.binance.trades import TradesArchive, as_agg_trades
from test_single_trades import DAY, lines, put


def test_tails_of_single_trades_are_counted_and_warned_of(tmp_path):
    text = lines("spot").replace(",60001.1,", ",60001.100000000006,", 1)
    put(tmp_path, "spot", text)
    archive = TradesArchive("spot", url=tmp_path.as_uri())
    with pytest.warns(TradeFileWarning, match="1 rounded to 8 decimals"):
        found = archive.fetch_day("BTCUSDT", DAY)
    assert (found.ticks["price"][1], found.origin.tails) == (60001.1, 1)


def test_a_line_without_an_end_is_refused_before_it_fills_memory():
    pieces = (b"1" * (1 << 16) for _ in range(1 << 10))
    tracemalloc.start()
    with pytest.raises(TickDataError, match=r"`day\.csv`, line 1: longer than"):
        list(as_agg_trades(pieces, "day.csv"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LONGEST_LINE_BYTES


def test_a_mark_of_utf_8_is_no_part_of_the_first_id():
    text = b"\xef\xbb\xbf7,1.5,2,3.0,1704067200000,true\n"
    expected = b"7,1.5,2,7,7,1704067200000,true\n"
    assert b"".join(as_agg_trades([text], "day.csv")) == expected


def test_without_a_file_of_the_month_the_day_is_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", tmp_path.as_uri())
    with pytest.raises(ArchiveMissingError, match=r"trades-2024-03-04\.zip"):
        rb.fetch_ticks(
            "BTCUSDT", DAY, date(2024, 3, 5), kind="trades", cache_dir=tmp_path / "c", verbose=False
        )
