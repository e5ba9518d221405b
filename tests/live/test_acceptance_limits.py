"""Full disks, slow callbacks, floods, and signals at random times, beside the command `rangebar sidecar`."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from exchange import Exchange, Tape
from live.commands import Called, Command
from live.followers import Follower
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from rangebar_polars.storage.parquet import TickStorage
from repetitions import IS_LONG, repeated

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
DISK_MIB = 64
MIB = 1 << 20
SIGNALS = repeated(4, 20)
#: Trades beside which a callback is slow, and the most bars that wait for it.
SLOW_TRADES, PENDING = repeated((2_000, 100), (24_000, 1_000))
SLOW_RATE = repeated(None, 400.0)
SLOW_PAUSE_S = repeated(0.05, 1.0)
#: The most that memory may grow beside a slow callback.
GROWTH = 50 * MIB
PATHS = ("/live", "/ready", "/health", "/metrics")


def tape_of(now, *, minutes=30, per_minute=600, volatility=0.15):
    span = {"before": timedelta(minutes=10), "after": timedelta(minutes=minutes)}
    return Tape.around(now, per_minute=per_minute, volatility=volatility, **span)


@pytest.fixture
def exchange():
    now = this_moment()
    with Exchange(tape_of(now), now=now) as found:
        yield found


@pytest.fixture
def start(exchange):
    return day_start_of(exchange.now)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own for the cache."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def sidecar(exchange, cache, folder, **options):
    options = {"symbols": [SYMBOL], "thresholds": THRESHOLDS} | options
    return Command(exchange, cache, folder, **options)


def fill(path):
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def assert_lines(program, tape, start, *, until=None):
    """All lines are the truth, from the first one to the last bar that ends in time."""
    for threshold in THRESHOLDS:
        lines = program.lines(tape.symbol, threshold)
        assert len(lines) > 5
        true = Truth.of(tape, threshold, [start], until=until)
        true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)
        assert [line["is_replay"] for line in lines] == [False] * len(lines)


def test_a_cache_on_a_full_disk(exchange, start, disk, tmp_path):
    """A12."""
    (tape,) = exchange.tapes
    with sidecar(exchange, disk, tmp_path) as command:
        command.wait_ready()
        fill(disk / "other")
        with exchange.live(speed=20.0):
            wait_for(lambda: command.get("/ready")[0] == 503, command.health)
            wait_for(lambda: "disk_full" in command.get("/ready")[1], command.health)
        exchange.play(timedelta(seconds=30))
        assert command.get("/live")[0] == 200
        assert command.health()[0]["reason"] == "disk_full"
        written = {line["last_agg_trade_id"] for line in command.read()}
        days = TickStorage(disk).coverage(SYMBOL, start.date(), start.date())
        assert max(written, default=0) <= days["last_id"].max()
        (disk / "other").unlink()
        command.wait_ready()
        exchange.play(timedelta(seconds=30))
        command.wait_applied(exchange)
        assert command.ended(signal.SIGTERM) == 0, command.said()
    assert "Traceback" not in command.said()
    assert_lines(command, tape, start, until=exchange.now)


def test_a_slow_callback_beside_another_process(tmp_path):
    """A13. The callback is held until the other process has every bar."""
    now, gate = this_moment(), tmp_path / "gate"
    cache, start = tmp_path / "cache", day_start_of(now)
    tape = tape_of(now, minutes=60, volatility=0.5)
    options = {"gate": gate, "pause_s": SLOW_PAUSE_S, "max_pending_bars": PENDING}
    if IS_LONG:
        gate.touch()
    with Exchange(tape, now=now) as exchange, ExitStack() as stack:
        called = Called(
            exchange, cache, tmp_path, symbols=[SYMBOL], thresholds=THRESHOLDS, **options
        )
        stack.enter_context(called)
        called.wait_ready()
        live = stack.enter_context(Follower(exchange, cache, tmp_path, "plain", start, THRESHOLDS))
        live.wait_state("live")
        before, most = called.rss_bytes(), 0
        for _ in range(4):
            exchange.play(timedelta(minutes=SLOW_TRADES / 600 / 4), rate=SLOW_RATE)
            called.wait_applied(exchange)
            most = max(most, called.rss_bytes())
        live.wait_all()
        if not IS_LONG:
            # It has a frame in hand, and the others wait.
            assert sum(len(called.lines(SYMBOL, one)) for one in THRESHOLDS) <= 1_000
            assert "lagging" in {one["state"] for one in consumers(called)}
        gate.touch()
        due = {one: due_lines(called, tape, start, one, exchange.now) for one in THRESHOLDS}
        for threshold, true in due.items():
            count = len(true.bars)
            wait_for(
                lambda t=threshold, n=count: len(called.lines(SYMBOL, t)) >= n,
                lambda: (consumers(called), called.said()),
            )
            most = max(most, called.rss_bytes())
            true.assert_equals(called.lines(SYMBOL, threshold))
        assert most - before <= GROWTH
        assert called.ended(signal.SIGTERM) == 0, called.said()
        live.close()
    said = called.read()[-1]
    assert (said["undelivered"], said["threads"]) == ({}, [])


def consumers(program):
    return json.loads(program.get("/health")[1])["consumers"]


def due_lines(program, tape, start, threshold, until):
    """The bars from the first one that was delivered on."""
    first = program.lines(SYMBOL, threshold)[0]["last_agg_trade_id"]
    return Truth.of(tape, threshold, [start], until=until).since(first)


def scrape(command, counters):
    """Read the four paths; each is well-formed, and no counter has fallen."""
    parser = pytest.importorskip("prometheus_client.parser")
    answers = {path: command.get(path) for path in PATHS}
    assert {status for status, _ in answers.values()} <= {0, 200, 503}
    if not all(status for status, _ in answers.values()):
        return
    assert answers["/live"][0] == 200
    assert json.loads(answers["/health"][1])["pid"] == command.process.pid
    text = answers["/metrics"][1]
    comments = [tuple(line.split(" ", 3)[1:3]) for line in text.splitlines() if line[0] == "#"]
    assert len(comments) == len(set(comments)) > 20
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if family.type == "counter":
                key = sample.name, *sorted(sample.labels.items())
                assert sample.value >= counters.get(key, 0.0), key
                counters[key] = sample.value


def test_signals_at_random_times(exchange, start, tmp_path):
    """A16: each start is live, and each end in order, whatever it is doing."""
    (tape,) = exchange.tapes
    cache, rng, runs = tmp_path / "cache", random.Random(3), []
    with exchange.live(speed=4.0), ExitStack() as stack:
        for number in range(SIGNALS):
            command = stack.enter_context(sidecar(exchange, cache, tmp_path))
            runs.append(command)
            counters = {}
            wait_for(lambda c=command: c.get("/live")[0], command.said)
            for _ in range(rng.randrange(8)):
                scrape(command, counters)
                threading.Event().wait(rng.uniform(0.0, 0.2))
            if number % 2:
                command.wait_ready()
                scrape(command, counters)
                assert counters
            assert command.ended(signal.SIGTERM) == 0, command.said()
            assert "Traceback" not in command.said()
    with sidecar(exchange, cache, tmp_path) as last:
        runs.append(last)
        last.wait_ready()
        exchange.play(timedelta(minutes=1))
        last.wait_applied(exchange)
        assert last.ended(signal.SIGTERM) == 0, last.said()
    for threshold in THRESHOLDS:
        lines = [line for run in runs for line in run.lines(SYMBOL, threshold)]
        true = Truth.of(tape, threshold, [start], until=exchange.now)
        assert len(lines) > 5
        true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)
