"""Reads with and without a cache, a source and the optional libraries, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import rangebar_polars as rb
from exchange.box import Exchange
from exchange.tape import Tape
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import CacheUnavailableError, NotYetPublishedError
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.storage.coverage import CoverageWarning
from readers.shared import SYMBOL, bars, january, keep, ticks_between

SPAN = ("2023-02-03", "2023-02-20")

READ = """
import sys, json
from rangebar_polars.readers.bars import get_range_bars, scan_range_bars
folder, start, end = sys.argv[1:4]
options = {"ouroboros": "month", "cache_dir": folder}
frame = get_range_bars("BTCUSDT", start, end, fetch_if_missing=False, **options)
lazy = scan_range_bars("BTCUSDT", start, end, fetch_if_missing=False, **options).collect()
assert lazy["close"].to_list() == frame["Close"].to_list()
told = [one["source"] for one in frame.attrs["rangebar"]]
times = [str(time) for time in frame.index]
print(json.dumps([told, times, frame.to_numpy().tolist()]))
"""

WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"chdb", "clickhouse_connect"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout if not done.returncode else done.stderr


def told(frame):
    return [one["source"] for one in frame.attrs["rangebar"]]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_zone_of_the_machine_changes_nothing(shared, zone):
    here = get_range_bars(SYMBOL, *SPAN, ouroboros="month", **shared.place)
    sources, times, values = json.loads(run(READ, shared.folder, *SPAN, TZ=zone))
    assert sources == ["cache+ticks"]
    assert times == [str(time) for time in here.index]
    assert values == here.to_numpy().tolist()


def test_without_the_libraries_of_the_cache_bars_come_from_ticks(shared):
    fresh = get_range_bars(SYMBOL, *SPAN, ouroboros="month", use_cache=False, **shared.place)
    sources, times, values = json.loads(run(WITHOUT + READ, shared.folder, *SPAN))
    assert sources == ["ticks"]
    assert times == [str(time) for time in fresh.index]
    assert values == fresh.to_numpy().tolist()


def test_without_the_libraries_of_the_cache_the_limit_holds(shared):
    said = run(WITHOUT + READ, shared.folder, "2023-01-01", "2023-02-09")
    assert "CoverageError" in said
    assert "40 days" in said


def test_a_server_that_is_named_needs_its_library(shared):
    code = WITHOUT + READ.replace('"ouroboros"', '"dsn": "http://127.0.0.1:9", "ouroboros"')
    said = run(code, shared.folder, *SPAN)
    assert "MissingExtraError" in said
    assert "rangebar-polars[cache]" in said


def test_a_server_that_is_away_is_an_error_that_names_the_way_around(shared, nobody, quick_retries):
    read = {"ouroboros": "month", "dsn": nobody}
    with pytest.raises(CacheUnavailableError, match="use_cache=False"):
        get_range_bars(SYMBOL, *SPAN, **read, **shared.place)
    with pytest.raises(CacheUnavailableError, match="use_cache=False"):
        get_n_range_bars(SYMBOL, 3, **read, **shared.place)
    with pytest.raises(CacheUnavailableError, match="use_cache=False"):
        scan_range_bars(SYMBOL, *SPAN, **read, fetch_if_missing=False, cache_dir=shared.folder)
    assert told(get_range_bars(SYMBOL, *SPAN, use_cache=False, **read, **shared.place)) == ["ticks"]


def test_a_folder_that_is_held_is_an_error_that_names_the_way_around(shared, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0.05")
    lock = FolderLock(shared.folder / "clickhouse")
    assert lock.acquire(0)
    try:
        with pytest.raises(CacheUnavailableError, match="use_cache=False") as refused:
            get_range_bars(SYMBOL, *SPAN, ouroboros="month", **shared.place)
        assert refused.value.holder == os.getpid()
    finally:
        lock.release()


def test_a_folder_without_a_cache_is_not_given_one(shared, tmp_path):
    for name in ("ticks",):
        (tmp_path / name).symlink_to(shared.folder / name)
    place = {"fetch_if_missing": False, "cache_dir": tmp_path}
    assert told(get_range_bars(SYMBOL, *SPAN, ouroboros="month", **place)) == ["ticks"]
    assert not (tmp_path / "clickhouse").exists()


def test_the_cache_is_opened_once_for_a_read_and_closed_after_it(shared):
    steps = []
    with on_failpoint(steps.append):
        get_range_bars(SYMBOL, *SPAN, ouroboros="month", **shared.place)
        assert steps == [Step.CACHE_OPENED]
        lazy = scan_range_bars(
            SYMBOL, *SPAN, ouroboros="month", fetch_if_missing=False, cache_dir=shared.folder
        )
    lock = FolderLock(shared.folder / "clickhouse")
    assert lock.acquire(0)
    lock.release()
    assert lazy.collect().height


@pytest.fixture
def kept_day(exchange):
    """An exchange with four days, of which one is kept as bars; the folder is of the settings."""
    folder = Path(os.environ["RANGEBAR_CACHE_DIR"])
    rb.fetch_ticks(SYMBOL, "2024-12-30", "2024-12-30")
    with open_cache(cache_dir=folder, write=True) as cache:
        day = date(2024, 12, 30)
        keep(cache, folder, BarSpec.of(SYMBOL, 500), datetime(2024, 12, 30, tzinfo=UTC), day)
    return SimpleNamespace(box=exchange, folder=folder)


def test_what_is_missing_is_fetched_while_others_may_open_the_cache(kept_day, exchange_tape):
    lock, free = FolderLock(kept_day.folder / "clickhouse"), []

    def is_free(_request):
        free.append(lock.acquire(0))
        lock.release()
        return False

    kept_day.box.fail(is_free, times=None)
    frame = get_range_bars(SYMBOL, "2024-12-30", "2025-01-02", 500)
    assert free
    assert all(free)
    assert told(frame) == ["cache+ticks", "ticks"]
    expected = pl_bars(exchange_tape)
    assert frame["Close"].to_list() == expected["close"].to_list()
    asked = len(kept_day.box.requests)
    again = get_range_bars(SYMBOL, "2024-12-30", "2025-01-02", 500)
    pd.testing.assert_frame_equal(again, frame)
    assert len(kept_day.box.requests) == asked


def pl_bars(tape):
    ticks = rb.scan_ticks(SYMBOL, "2024-12-30", "2025-01-02", fetch=False).collect()
    assert ticks.height == tape.ticks.height
    return ticks.rangebar.bars(500, reset="year")


def test_a_file_of_ticks_that_is_corrupt_is_fetched_again(exchange, tmp_path):
    frame = get_range_bars(SYMBOL, "2024-12-30", "2025-01-02", 500)
    files = [path for path in tmp_path.rglob("*.parquet") if "2024-12-31" in path.name]
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    asked = len(exchange.requests)
    pd.testing.assert_frame_equal(get_range_bars(SYMBOL, "2024-12-30", "2025-01-02", 500), frame)
    assert len(exchange.requests) > asked


def test_a_read_ends_with_the_newest_tick_that_is_to_be_had(tmp_path, monkeypatch):
    today = datetime.now(UTC).date()
    start = today - timedelta(days=3)
    tape = Tape.generate(start=start.isoformat(), days=3, per_day=1_000)
    with Exchange(tape, now=datetime.now(UTC)) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
        with pytest.warns(CoverageWarning, match=f"end with {today - timedelta(days=1)}") as said:
            frame = get_range_bars(SYMBOL, start, today + timedelta(days=9), 500, ouroboros=None)
        assert [one.filename for one in said] == [__file__]
        assert told(frame) == ["ticks"]
        assert frame.attrs["rangebar"][0]["end"] == f"{today}T00:00:00+00:00"
        with pytest.warns(CoverageWarning, match="there is no tick of"):
            lazy = scan_range_bars(SYMBOL, start, today, 500, ouroboros=None)
        assert lazy.collect()["close"].to_list() == frame["Close"].to_list()
        with pytest.raises(NotYetPublishedError, match=f"{today}"):
            get_range_bars(SYMBOL, today, today, 500)


def test_bars_do_not_depend_on_what_is_kept_when_an_anchor_is_named(shared):
    begin, end = january(40), january(52)
    for use_cache in (True, False):
        frame = get_range_bars(
            SYMBOL, begin, end, anchor=begin, use_cache=use_cache, **shared.place
        )
        expected = bars(ticks_between(begin, end)).filter("is_closed")
        assert frame["Close"].to_list() == expected["close"].to_list()
