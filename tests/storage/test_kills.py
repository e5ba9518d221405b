"""A process killed at any step leaves the old state or the new one, and the next one continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rangebar_polars._files.failpoints import Step
from rangebar_polars.storage.parquet import TickStorage
from storage import jobs
from storage.stock import (
    FEBRUARY,
    JANUARY,
    SYMBOL,
    day_files,
    given_day,
    make_old,
    quarantined,
    temporaries,
    trades,
    whole,
)

WORKERS = Path(__file__).with_name("workers.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

#: Every step of a change of the tick store.
DISK_STEPS = [step for step in Step if step.area == "disk"]
#: The job that reaches a step. A write reaches all others.
ACTIONS = {
    Step.STALE_TEMP_REMOVED: "write",
    Step.FILE_QUARANTINED: "read",
    Step.QUARANTINE_SYNCED: "read",
    Step.FILE_PUT_BACK: "restore",
    Step.GARBAGE_REMOVED: "collect",
}


@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(
        [sys.executable, str(WORKERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    with process:
        yield process
    assert process.returncode == 0


def run(server: subprocess.Popen, **job: object) -> int:
    """Run a job in a process, and return the signal that ended it, or 0."""
    server.stdin.write(json.dumps(job) + "\n")
    server.stdin.flush()
    status = int(server.stdout.readline())
    assert status == 0 or os.WIFSIGNALED(status), "the job failed"
    return os.WTERMSIG(status)


def prepare(folder: Path, action: str) -> TickStorage:
    """Return a store before a job."""
    storage = TickStorage(folder)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    if action == "write":
        stale = storage.root / "binance" / "spot" / SYMBOL / "2024" / ".2024.999999999.00000000.tmp"
        stale.touch()
        make_old(stale)
    if action == "read":
        (path,) = day_files(storage)
        path.write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    if action == "restore":
        (path,) = day_files(storage)
        right = path.read_bytes()
        path.write_bytes(b"PAR1")
        jobs.read(storage)
        (aside,) = quarantined(storage)
        aside.write_bytes(right)
    if action == "collect":
        jobs.write(storage)
        for path in storage.root.rglob("*"):
            make_old(path)
    return storage


def check_state(storage: TickStorage, action: str) -> None:
    """Check the state after a kill: all files are whole, and each month is old or new."""
    found = storage.verify()
    assert set(found["state"]) <= {"ok", "unreferenced"} or action in ("read", "restore")
    if action == "write":
        rows = storage.get_ticks(SYMBOL, JANUARY, JANUARY)
        assert rows.equals(trades(JANUARY, 30 if rows.height == 30 else 50, 1)) or rows.equals(
            jobs.BEFORE.select(rows.columns)
        )
        if FEBRUARY in storage.list_days(SYMBOL):
            assert rows.height == 50
            assert whole(storage).equals(jobs.AFTER)
    if action == "collect":
        assert whole(storage).equals(jobs.AFTER)


def finish(storage: TickStorage, action: str) -> None:
    """Run the job again without a kill: the result is as if there had been none."""
    getattr(jobs, action)(storage)
    if action == "write":
        assert whole(storage).equals(jobs.AFTER)
        assert storage.write_ticks(SYMBOL, jobs.AFTER).rows_added == 0
    if action == "read":
        assert storage.coverage(SYMBOL, JANUARY, JANUARY)["state"].to_list() == ["quarantined"]
        assert [path.read_bytes()[:4] for path in quarantined(storage)] == [b"PAR1"]
        storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, 50, 1))])
        assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).height == 50
    if action == "restore":
        assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).height == jobs.BEFORE.height
        assert storage.coverage(SYMBOL, JANUARY, JANUARY)["state"].to_list() == ["given"]
    if action == "collect":
        assert whole(storage).equals(jobs.AFTER)
        assert "unreferenced" not in storage.verify()["state"]
    for path in temporaries(storage):
        make_old(path)
    storage.write_ticks(SYMBOL, trades(FEBRUARY, 40, 51).with_columns(price=50.0)[:0])
    storage.delete_ticks(SYMBOL, FEBRUARY, FEBRUARY)
    assert not temporaries(storage)


@pytest.mark.parametrize("step", DISK_STEPS, ids=lambda step: step.name)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(server, step, tmp_path):
    action = ACTIONS.get(step, "write")
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        storage = prepare(folder, action)
        job = {"action": action, "folder": str(folder), "step": step.name, "number": kills + 1}
        ended = run(server, **job)
        check_state(storage, action)
        finish(storage, action)
        if not ended:
            break
        assert ended == signal.SIGKILL
        kills += 1
    assert kills, "no job reaches this step"


@pytest.mark.parametrize("step", [Step.LINKED, Step.PLACE_SYNCED, Step.DAYS_PLACED])
def test_a_source_that_was_killed_puts_its_days_again(server, step, tmp_path):
    storage = TickStorage(tmp_path)
    job = {"action": "put", "folder": str(tmp_path), "step": step.name, "number": 1}
    assert run(server, **job) == signal.SIGKILL
    assert storage.list_days(SYMBOL) == []
    jobs.put(storage)
    assert whole(storage).equals(jobs.AFTER)
    assert storage.verify()["state"].to_list() == ["ok", "ok"]
