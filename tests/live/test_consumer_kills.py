"""Kills between a delivery and its cursor: no bar is lost, and those that come again are marked."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live.bar_world import BarWorld
from repetitions import repeated

WORKER = Path(__file__).with_name("consumer_worker.py")


@pytest.fixture(scope="module")
def worker():
    with subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(**job):
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


def lines_of(folder):
    data = (folder / "lines").read_bytes() if (folder / "lines").exists() else b""
    whole = data[: data.rfind(b"\n") + 1]  # a last line without its end does not count
    return [json.loads(line) for line in whole.splitlines()]


def check(folder, orphans=True):
    world = BarWorld(8, (2, 9))
    world.applied_id = world.last_id
    lines = lines_of(folder)
    for threshold in world.thresholds:
        seen = []
        for line in lines:
            if line["threshold"] != threshold:
                continue
            last = line["last_agg_trade_id"]
            if last in seen:
                assert line["is_replay"], f"{last} comes again without a mark"
            else:
                seen.append(last)
        expected = [bar[1] for bar in world.expected(threshold, 30)]
        assert seen == expected
    return len(lines)


@pytest.mark.parametrize("kind", ["callback", "ndjson"])
@pytest.mark.parametrize("step", ["DELIVERED", "CURSOR_SAVED"])
def test_a_kill_at_each_failpoint_loses_no_bar(worker, tmp_path, kind, step):
    options = {"folder": str(tmp_path), "kind": kind, "batch": 7, "waits": True}
    kills = 0
    for number in (1, 2, 1, 3, 1, 5):
        status = worker(step=step, number=number, **options)
        kills += status == signal.SIGKILL
        assert status in (0, signal.SIGKILL)
        if not status:
            break
    assert kills >= 2
    assert worker(step=None, number=0, **options) == 0
    check(tmp_path)


@pytest.mark.parametrize("kind", ["callback", "ndjson"])
def test_kills_at_random_moments_lose_no_bar(worker, tmp_path, kind):
    for run in range(repeated(2, 100)):
        folder = tmp_path / str(run)
        folder.mkdir()
        draw = random.Random(f"{kind}/{run}")
        options = {"folder": str(folder), "kind": kind, "waits": False}
        for _ in range(5):
            step = draw.choice(["DELIVERED", "CURSOR_SAVED", "TEMP_HALF_WRITTEN", "LINKED"])
            status = worker(
                step=step, number=draw.randint(1, 6), batch=draw.randint(1, 9), **options
            )
            if not status:
                break
            assert status == signal.SIGKILL
        assert worker(step=None, number=0, batch=5, **options) == 0
        check(folder)
