"""Concurrent writers, readers and garbage collection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from faulty import in_plan
from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.exceptions import SnapshotExpiredError
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.manifest.versions import (
    manifest_versions,
    read_manifest,
    update_manifest,
)
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated
from storage import jobs
from storage.stock import FEBRUARY, JANUARY, SYMBOL, day_files, given_day, make_old, trades, whole

if TYPE_CHECKING:
    from rangebar_polars._files.locks import LockFile

WORKERS = Path(__file__).with_name("workers.py")
WRITERS, WRITES, ROWS = 3, 20, 2_000
LEAST_REPLACEMENTS = repeated(60, 200)


@contextmanager
def worker(folder: Path, action: str, *arguments: object):
    """Run a job in another process, wait for it, and check that it succeeded."""
    job = json.dumps({"action": action, "folder": str(folder), "arguments": arguments})
    process = subprocess.Popen(
        [sys.executable, str(WORKERS), job],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    with process:
        try:
            yield process
            process.communicate()
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0


def test_three_writers_of_one_month_lose_no_row_and_disturb_no_reader(tmp_path):
    storage = TickStorage(tmp_path)
    first, last = date(2024, 1, 1), date(2024, 1, 31)
    heights = []
    with (
        worker(tmp_path, "write_many", 0, WRITES, ROWS) as one,
        worker(tmp_path, "write_many", 1, WRITES, ROWS) as two,
        worker(tmp_path, "write_many", 2, WRITES, ROWS) as three,
    ):
        while any(process.poll() is None for process in (one, two, three)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CoverageWarning)
                rows = storage.get_ticks(SYMBOL, first, last, on_gap="report")
            assert rows.height % ROWS == 0
            assert rows["agg_trade_id"].is_unique().all()
            heights.append(rows.height)
    assert heights == sorted(heights)
    ticks = storage.get_ticks(SYMBOL, first, date(2024, 1, 28))
    assert ticks["agg_trade_id"].to_list() == list(range(WRITERS * WRITES * ROWS))
    assert (storage.verify()["state"] != "corrupt").all()


def test_a_reader_sees_one_of_two_snapshots_through_many_replacements(tmp_path):
    storage = TickStorage(tmp_path)
    before = JANUARY - timedelta(days=1)
    jobs.replace_often(storage, 1)
    seen = set()
    with worker(tmp_path, "replace_until_stopped", LEAST_REPLACEMENTS) as writer:
        while seen != {2.0, 3.0} or not (tmp_path / "replaced").exists():
            assert writer.poll() is None
            rows = storage.get_ticks(SYMBOL, before, JANUARY)
            assert rows.height == 100
            prices = rows["price"] // 100
            assert prices.n_unique() == 1
            seen.add(prices[0])
            lazy = storage.scan_ticks(SYMBOL, before, JANUARY).select(pl.col("price") // 100)
            assert lazy.collect().n_unique() == 1
        writer.stdin.write("enough\n")
        writer.stdin.flush()


class Watched(Disk):
    """A disk that signals when a writer waits for the lock."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def lock(self, path: Path) -> LockFile:
        self.waiting.set()
        return super().lock(path)


def prepared(folder, action):
    """Return a store in which the action needs the lock."""
    storage = TickStorage(folder)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    if action == "read":
        day_files(storage)[0].write_bytes(b"")
    return storage


@pytest.mark.parametrize("action", ["write", "collect", "read"])
def test_one_process_at_a_time_changes_a_symbol(tmp_path, action):
    act = getattr(jobs, action)
    storage = prepared(tmp_path, action)
    others = [prepared(tmp_path / f"other-{number}", action) for number in range(3)]
    marker = tmp_path / "marker"
    with worker(tmp_path, "hold_lock", str(marker)) as holder:
        assert holder.stdout.readline() == "locked\n"
        storage._disk = disk = Watched()
        locked = threading.Event()
        thread = threading.Thread(target=act, args=[storage])

        def note(step: Step) -> None:
            if step is Step.LOCKED and threading.current_thread() is thread:
                locked.set()

        with on_failpoint(note):
            thread.start()
            assert disk.waiting.wait(600)
            # A writer that ignored the lock would finish before the same is done elsewhere.
            for other in others:
                act(other)
            assert not locked.is_set()
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            assert locked.wait(600)
            assert marker.exists()
            thread.join()


def test_of_two_writers_of_one_version_the_second_builds_on_the_first(tmp_path):
    """Where locks do not work, the version numbers still order the writers."""
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    symbol_dir = storage.symbol_dir(SYMBOL, "binance", "spot")
    entry = read_manifest(symbol_dir, "2024-01").days[JANUARY]
    other = JANUARY - timedelta(days=1)
    seen = []

    def change(old):
        seen.append(old.version)
        if len(seen) == 1:
            empty = DayEntry("absent_confirmed", reason="for a test")
            update_manifest(symbol_dir, "2024-01", lambda _: {other: empty})
        return {JANUARY: entry.quarantined("for a test")}

    update_manifest(symbol_dir, "2024-01", change)
    assert seen == [1, 2]
    assert read_manifest(symbol_dir, "2024-01").days.keys() == {other, JANUARY}
    assert list(manifest_versions(symbol_dir, "2024-01")) == [1, 2, 3]


@pytest.fixture
def replaced(tmp_path):
    """Return a store whose days were replaced after a plan was made, and the plan."""
    storage = TickStorage(tmp_path)
    storage.put_days(
        SYMBOL,
        [given_day(JANUARY, trades(JANUARY, 50, 1)), given_day(FEBRUARY, trades(FEBRUARY, 40, 51))],
    )
    plan = storage.scan_ticks(SYMBOL, JANUARY, FEBRUARY)
    storage.put_days(SYMBOL, [given_day(FEBRUARY, trades(FEBRUARY, 40, 51, price=9.0))])
    return storage, plan


def test_garbage_of_less_than_a_week_stays_for_the_plans_that_read_it(replaced):
    storage, plan = replaced
    assert storage.gc(dry_run=False).is_empty()
    assert plan.collect().equals(jobs.AFTER)


def test_a_plan_whose_file_was_swept_away_says_what_to_repeat(replaced):
    storage, plan = replaced
    for path in storage.root.rglob("*"):
        make_old(path)
    listed = storage.gc()
    assert len(day_files(storage)) == 3
    assert storage.gc(dry_run=False).equals(listed)
    assert len(day_files(storage)) == 2
    with pytest.raises(in_plan(SnapshotExpiredError), match=r"scan_ticks\(\"BTCUSDT\""):
        plan.collect()
    assert whole(storage)["price"].min() == 9.0
    assert storage.verify()["state"].to_list() == ["ok", "ok"]


def test_the_age_of_a_replaced_file_begins_when_it_is_replaced(tmp_path):
    storage = TickStorage(tmp_path)
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY))])
    for path in storage.root.rglob("*"):
        make_old(path)
    plan = storage.scan_ticks(SYMBOL, JANUARY, JANUARY)
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, price=9.0))])
    assert all(path.endswith(".json") for path in storage.gc(dry_run=False)["file"])
    assert plan.collect().equals(trades(JANUARY))


def test_garbage_is_collected_while_it_is_read(replaced):
    storage, _ = replaced
    for path in storage.root.rglob("*"):
        make_old(path)
    fresh = storage.scan_ticks(SYMBOL, JANUARY, FEBRUARY)
    thread = threading.Thread(target=storage.gc, args=[False])
    thread.start()
    for _ in range(20):
        assert fresh.collect().height == 90
    thread.join()
    assert fresh.collect().height == 90
    assert len(day_files(storage)) == 2


def test_garbage_that_two_collect_at_once_goes_once_and_nothing_else(replaced):
    storage, _ = replaced
    for path in storage.root.rglob("*"):
        make_old(path)
    listed = storage.gc()["file"].to_list()
    gone: list[str] = []
    threads = [
        threading.Thread(target=lambda: gone.extend(storage.gc(dry_run=False)["file"]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(gone) == sorted(listed) != []
    assert storage.gc(dry_run=False).is_empty()
    assert whole(storage).height == 90
    assert storage.verify()["state"].to_list() == ["ok", "ok"]


def test_the_manifest_is_read_again_before_each_file_is_removed(replaced):
    storage, _ = replaced
    symbol_dir = storage.symbol_dir(SYMBOL, "binance", "spot")
    old = read_manifest(symbol_dir, "2024-02").days[FEBRUARY]
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, 50, 1, price=9.0))])
    for path in storage.root.rglob("*"):
        make_old(path)
    first = json.loads(symbol_dir.manifests("2024-02").joinpath("000001.json").read_text())
    name = first["days"][FEBRUARY.isoformat()]["file"]
    of_file = ("file", "sha256", "bytes", "content")
    values = {key: first["days"][FEBRUARY.isoformat()][key] for key in of_file}
    revived = replace(old, **values)
    is_revived = False

    def revive(step: Step) -> None:
        """Write as another machine, which knows nothing of the lock."""
        nonlocal is_revived
        if step is Step.GARBAGE_REMOVED and not is_revived:
            is_revived = True
            update_manifest(symbol_dir, "2024-02", lambda _: {FEBRUARY: revived})

    with on_failpoint(revive):
        storage.gc(dry_run=False)
    assert is_revived
    assert name in [path.name for path in day_files(storage)]
    assert storage.get_ticks(SYMBOL, FEBRUARY, FEBRUARY).equals(trades(FEBRUARY, 40, 51))


def test_a_file_comes_back_into_use_without_being_swept_away(replaced):
    storage, _ = replaced
    for path in storage.root.rglob("*"):
        make_old(path)
    storage.put_days(SYMBOL, [given_day(FEBRUARY, trades(FEBRUARY, 40, 51))])
    storage.gc(dry_run=False)
    assert whole(storage).equals(jobs.AFTER)


def test_what_is_in_quarantine_is_never_swept_away(tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    day_files(storage)[0].write_bytes(b"rot")
    jobs.read(storage)
    for path in storage.root.rglob("*"):
        make_old(path)
    storage.gc(dry_run=False)
    assert [path.read_bytes() for path in storage.root.rglob("quarantine/*")] == [b"rot"]
    assert storage.verify()["state"].to_list()[-1] == "quarantined"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_the_time_zone_of_the_machine_changes_nothing(tmp_path, zone):
    """Test March, when clocks change in New York."""
    storage = TickStorage(tmp_path)
    days = [date(2024, 3, 9), date(2024, 3, 10), date(2024, 3, 11)]
    for number, day in enumerate(days):
        storage.write_ticks(SYMBOL, trades(day, 50, 1 + 50 * number))
    ticks = storage.get_ticks(SYMBOL, days[0], days[-1])
    assert ticks.height == 150
    job = json.dumps({"action": "print_days", "folder": str(tmp_path)})
    done = subprocess.run(
        [sys.executable, str(WORKERS), job],
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"150 {ticks.hash_rows(seed=1).sum()} {days}"
