"""Fetches that are killed, interrupted or concurrent: nothing is lost and nothing hangs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape, faults
from pipeline.oracle import SPAN, SYMBOL, judge, point_at, truth
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = Path(__file__).with_name("workers.py")
KILLS = repeated(8, 20)
LONGEST_END_S = 300  # only where it hangs: until a stall of 600 s or a timeout of 3600 s ends
TAPE = Tape.generate(per_day=2_000, absent=1, archive_lacks=2)

pytestmark = [
    pytest.mark.usefixtures("quick_retries"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


def environment(box: Exchange, folder: Path) -> dict[str, str]:
    return {**box.environment, "RANGEBAR_CACHE_DIR": str(folder)}


def command(box: Exchange, folder: Path) -> dict[str, object]:
    return {"environment": environment(box, folder), "span": SPAN}


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, str(WORKERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


def fetch_and_kill(
    server: subprocess.Popen, job: dict, is_time: Callable[[], bool] = lambda: False
) -> int:
    """Fetch, and kill the process when it is time; return the signal that ended it, or 0."""
    server.stdin.write(json.dumps(job) + "\n")
    server.stdin.flush()
    process = int(server.stdout.readline())
    ended = threading.Event()

    def kill() -> None:
        while not is_time():
            if ended.wait(0.001):
                return
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    status = int(server.stdout.readline())
    ended.set()
    killer.join()
    assert os.WIFSIGNALED(status) or status == 0, "the fetch failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def after(box: Exchange, rng: random.Random, most: int) -> Callable[[], bool]:
    """Return a check: a fetch has made some requests, and a random delay has passed."""
    wanted = len(box.requests) + rng.randint(0, most)
    moment_s = rng.uniform(0, 0.02)

    def is_time() -> bool:
        if len(box.requests) < wanted:
            return False
        time.sleep(moment_s)
        return True

    return is_time


def days_asked(box: Exchange, since: int) -> set[str]:
    """Return the days whose archive was requested."""
    paths = [request.path for request in box.requests[since:] if request.path.endswith(".zip")]
    return {path[-len("2024-12-30.zip") : -len(".zip")] for path in paths}


def test_a_fetch_that_is_killed_at_any_moment_resumes_after_its_stored_days(
    server: subprocess.Popen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    kills = rounds = 0
    with Exchange(TAPE) as box:
        point_at(box, monkeypatch, tmp_path)
        assert not fetch_and_kill(server, command(box, tmp_path / "clean"))
        requests = len(box.requests)
        clean = TickStorage(tmp_path / "clean").coverage(*SPAN)
        while kills < KILLS:
            rounds += 1
            folder = tmp_path / str(rounds)
            job, storage = command(box, folder), TickStorage(folder)
            stored: set[str] = set()
            for _ in range(6):
                asked = len(box.requests)
                kills += bool(fetch_and_kill(server, job, after(box, rng, requests)))
                assert days_asked(box, asked).isdisjoint(stored), "fetched twice"
                stored = {f"{day}" for day in storage.list_days(SYMBOL)}
            for path in storage.root.rglob("*.tmp"):  # what is left is swept by the next writer
                os.utime(path, (0, 0))
            storage.delete_ticks(SYMBOL, SPAN[2], SPAN[2])
            assert not fetch_and_kill(server, job)
            assert_frame_equal(storage.coverage(*SPAN), clean)
            judge(box, TAPE, folder)


STALLS = {
    "before an archive's answer": (".zip", faults.stall()),
    "inside an archive": (".zip", faults.stall(after=0.5)),
    "before an answer of REST": ("/aggTrades?", faults.stall()),
}


@pytest.mark.parametrize("name", STALLS)
def test_an_interrupt_ends_a_fetch_that_waits_for_a_server(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    match, fault = STALLS[name]
    waiting = threading.Event()

    def note(request: object, answer: object) -> object:
        waiting.set()
        return fault(request, answer)

    with Exchange(TAPE) as box:
        if "aggTrades?" in match:
            box.put(box.path("2024-12-30"), None)
        box.fail(match, note, times=None)
        process = subprocess.Popen(
            [sys.executable, str(WORKERS), json.dumps(command(box, tmp_path))],
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert waiting.wait(600)
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=LONGEST_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_two_processes_may_fetch_the_same_symbol(tmp_path: Path, monkeypatch: object) -> None:
    with Exchange(TAPE) as box:
        point_at(box, monkeypatch, tmp_path)
        arguments = [sys.executable, str(WORKERS), json.dumps(command(box, tmp_path))]
        running = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        errors = [process.communicate(timeout=600)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], errors
        judge(box, TAPE)


def test_a_thread_that_fetches_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test of this process may have ended while a server of its own did not answer.
    before = threading.enumerate()
    with Exchange(TAPE) as box:
        point_at(box, monkeypatch, tmp_path)
        assert_frame_equal(rb.scan_ticks(*SPAN).collect(), truth(TAPE))
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("rangebar-fetch"):
            thread.join(LONGEST_END_S)
            assert not thread.is_alive()
