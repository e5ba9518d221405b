"""How a sidecar ends or does not: signals in each state, consumers that fail, locks, disks, wrong calls."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import zlib
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from exchange import Exchange, Tape, faults, stream_faults
from live.market import wait_for
from live.oracle import assert_oracle, stored

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
START = NOW.replace(hour=0)
THRESHOLDS = (250, 500)
CONFLICT = 3


@pytest.fixture(scope="module")
def tape():
    minutes = {"before": timedelta(minutes=20), "after": timedelta(hours=1)}
    return Tape.around(NOW, per_minute=120, volatility=1.0, **minutes)


@pytest.fixture
def exchange(tape):
    with Exchange(tape, now=NOW) as found:
        yield found


def last_id(exchange, tape):
    return int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])


def successor(sidecars, exchange, tape, cache, **options):
    """Start another sidecar, let time pass, and stop it in order."""
    last = sidecars.start(exchange, cache, **options)
    last.wait_state("live")
    exchange.play(timedelta(minutes=5))
    last.wait_applied(last_id(exchange, tape))
    assert last.stop() == 0, last.said()
    return last


def judge(exchange, cache, *runs, **options):
    assert_oracle(exchange, cache, runs, thresholds=THRESHOLDS, resets=[START], **options)


class States:
    """Bring a sidecar into a state."""

    def __init__(self, exchange, tape):
        self.exchange, self.tape = exchange, tape

    def history(self, start):
        """REST does not say its newest id."""
        self.exchange.fail("/aggTrades", faults.stall(), times=None)
        one = start()
        wait_for(lambda: self.exchange.asked("/aggTrades"))
        return one

    def first_trade(self, start):
        """REST does not say the first trade of the day."""
        self.exchange.fail("fromId=", faults.stall(), times=None)
        one = start()
        wait_for(lambda: self.exchange.asked("fromId="))
        return one

    def old_days(self, start):
        """Whole days are fetched, and the archive does not answer."""
        self.exchange.fail(".zip", faults.stall(), times=None)
        one = start(anchor="2026-10-30")
        wait_for(lambda: self.exchange.asked(".zip"))
        return one

    def backfill(self, start):
        """The first page arrives, and the next one does not."""
        first = int(self.tape.agg_ids[0])
        self.exchange.fail(f"fromId={first + 1000}&", faults.stall(), times=None)
        one = start()
        wait_for(lambda: self.exchange.asked(f"fromId={first + 1000}&"))
        return one

    def live(self, start):
        one = start()
        one.wait_state("live")
        return one

    def disconnected(self, start):
        one = self.live(start)
        self.exchange.streams.down()
        wait_for(lambda: one.state().get("reason") == "disconnected", one.state)
        return one

    def gap(self, start):
        one = self.live(start)
        self.exchange.streams.fail("&id=", stream_faults.lost(), after=20)
        self.exchange.fail("fromId=", faults.status(503), times=None)
        self.exchange.play(timedelta(minutes=1))
        wait_for(lambda: one.state().get("reason") in {"rest_unreachable", "gap"}, one.state)
        return one

    def half_open(self, start):
        """The peer reads nothing, not even our close frame."""
        one = self.live(start)
        self.exchange.streams.strike(stream_faults.half_open())
        return one


STATES = [name for name in vars(States) if not name.startswith("_")]


@pytest.mark.parametrize("state", STATES)
def test_a_signal_in_each_state(state, sidecars, exchange, tape, tmp_path):
    def start(**options):
        return sidecars.start(exchange, tmp_path, rate=10.0, **options)

    one = getattr(States(exchange, tape), state)(start)
    assert one.stop() == 0, one.said()
    assert "Traceback" not in one.said()
    exchange.script.clear()
    exchange.streams.up()
    if state == "old_days":
        return
    two = successor(sidecars, exchange, tape, tmp_path, rate=10.0)
    judge(exchange, tmp_path, one, two, replays=False)


def test_sighup_is_ignored_and_sigint_stops(sidecars, exchange, tape, tmp_path):
    one = sidecars.start(exchange, tmp_path)
    one.wait_state("live")
    one.signal(signal.SIGHUP)
    exchange.play(timedelta(minutes=5))
    one.wait_applied(last_id(exchange, tape))
    one.signal(signal.SIGINT)
    assert one.wait() == 0
    judge(exchange, tmp_path, one, replays=False)


def test_a_process_that_sleeps_continues(sidecars, exchange, tape, tmp_path):
    """SIGSTOP for a time in which the exchange drops the connection and trades go on."""
    one = sidecars.start(exchange, tmp_path, rate=30.0)
    one.wait_state("live")
    one.signal(signal.SIGSTOP)
    exchange.streams.fail("&id=", stream_faults.reset(), after=50)
    exchange.play(timedelta(minutes=10))
    threading.Event().wait(90.0 / 30.0)
    one.signal(signal.SIGCONT)
    one.wait_applied(last_id(exchange, tape))
    one.wait_state("live")
    assert one.stop() == 0
    judge(exchange, tmp_path, one, replays=False)


# Consumers


def test_a_callback_that_always_raises(sidecars, exchange, tape, tmp_path):
    one = sidecars.start(exchange, tmp_path, on_bars="raise", rate=20.0, shutdown_timeout_s=20.0)
    one.wait_state("live")
    exchange.play(timedelta(minutes=10))
    wait_for(lambda: "consumer_failed" in one.names(), one.said)
    one.wait_applied(last_id(exchange, tape))
    one.wait_state("live")
    assert one.stop() == 0


def test_a_callback_that_hangs_does_not_hold_up_the_end(sidecars, exchange, tape, tmp_path):
    one = sidecars.start(exchange, tmp_path, on_bars="hang", rate=20.0, shutdown_timeout_s=20.0)
    one.wait_state("live")
    exchange.play(timedelta(minutes=10))
    one.wait_applied(last_id(exchange, tape))
    assert one.stop() == 0


def test_a_second_signal_ends_it_at_once(sidecars, exchange, tape, tmp_path):
    one = sidecars.start(exchange, tmp_path, on_bars="hang", rate=1.0, shutdown_timeout_s=3600.0)
    one.wait_state("live")
    exchange.play(timedelta(minutes=10))
    one.wait_applied(last_id(exchange, tape))
    one.signal(signal.SIGTERM)
    # It waits for the callback.
    wait_for(lambda: not exchange.streams.open)
    one.signal(signal.SIGINT)
    assert one.wait() == 128 + signal.SIGINT


def test_a_callback_that_ends_the_program(sidecars, exchange, tape, tmp_path):
    one = sidecars.start(exchange, tmp_path, on_bars="exit")
    one.wait_state("live")
    exchange.play(timedelta(minutes=10))
    assert one.wait() == 7
    assert stored(tmp_path, "BTCUSDT").chain_end > 0
    assert one.state()["state"] == "stopped"


class Pipe:
    """A named pipe, and a thread that reads so much of it."""

    def __init__(self, path, lines=None):
        os.mkfifo(path)
        self.path, self.lines = path, lines
        self.read: list[str] = []
        self.may_end = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with self.path.open() as pipe:
            for line in pipe if self.lines else ():
                self.read.append(line)
                if len(self.read) == self.lines:
                    break
            else:
                self.may_end.wait()


def test_a_closed_pipe_stops_it(sidecars, exchange, tape, tmp_path):
    pipe = Pipe(tmp_path / "pipe", lines=2)
    one = sidecars.start(exchange, tmp_path, output=pipe.path)
    one.wait_state("live")
    exchange.play(timedelta(minutes=10))
    assert one.wait() == 0, one.said()
    assert len(pipe.read) == 2
    assert "Traceback" not in one.said()
    # What was written and not read is lost: a pipe says nothing about that.
    two = successor(sidecars, exchange, tape, tmp_path)
    judge(exchange, tmp_path, two)


def test_a_pipe_that_nobody_reads(sidecars, exchange, tape, tmp_path):
    """Trades are applied meanwhile, memory is bounded, and a signal ends it."""
    pipe = Pipe(tmp_path / "pipe", lines=0)
    options = {"rate": 20.0, "max_pending_bars": 100, "shutdown_timeout_s": 20.0}
    one = sidecars.start(exchange, tmp_path, output=pipe.path, **options)
    one.wait_state("live")
    exchange.play(timedelta(minutes=50))
    one.wait_applied(last_id(exchange, tape))
    assert one.stop() == 0, one.said()
    pipe.may_end.set()
    pipe.thread.join()
    two = successor(sidecars, exchange, tape, tmp_path)
    judge(exchange, tmp_path, two)
    assert two.lines()[0]["is_replay"]


# Locks


def test_a_second_sidecar_is_refused_until_the_first_one_is_killed(
    sidecars, exchange, tape, tmp_path
):
    one = sidecars.start(exchange, tmp_path)
    one.wait_state("live")
    command = ["sidecar", "BTCUSDT", "-t", "250", "--ndjson", "--health-port", "0", "--no-cache"]
    command += ["--cache-dir", str(tmp_path)]
    other = sidecars.start(exchange, tmp_path, command=command, rate=30.0)
    assert other.wait() == CONFLICT
    assert str(one.process) in other.said()
    assert "BTCUSDT" in other.said()
    one.kill()
    two = successor(sidecars, exchange, tape, tmp_path)
    judge(exchange, tmp_path, one, two)


# Disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(sidecars, exchange, tape, small_disk):
    one = sidecars.start(exchange, small_disk, rate=20.0)
    one.wait_state("live")
    with (small_disk / "other").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
    written = stored(small_disk, "BTCUSDT").chain_end
    exchange.play(timedelta(minutes=30))
    wait_for(lambda: "sidecar_degraded" in one.names(), one.said)
    reasons = {event.get("reason") for event in one.events()}
    assert "disk_full" in reasons
    threading.Event().wait(0.5)
    end = stored(small_disk, "BTCUSDT").chain_end
    assert end >= written
    # No bar of trades that are not stored.
    assert all(line["last_agg_trade_id"] <= end for line in one.lines())
    assert one.is_running()
    (small_disk / "other").unlink()
    one.wait_applied(last_id(exchange, tape))
    one.wait_state("live")
    assert one.stop() == 0, one.said()
    judge(exchange, small_disk, one, replays=False)


# Wrong calls


def wrong(*words, **environment):
    return pytest.param(words, environment, id=" ".join([*words, *environment]) or "nothing")


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        wrong(),
        wrong("nosuchusdt", RANGEBAR_SYMBOL_GATE="strict"),
        wrong("BTCUSDT", "-t", "0"),
        wrong("BTCUSDT", "-t", "x"),
        wrong("BTCUSDT", "--market", "moon"),
        wrong("BTCUSDT", "--source", "exness"),
        wrong("BTCUSDT", "--reset", "hour"),
        wrong("BTCUSDT", "--anchor", "yesterday"),
        wrong("BTCUSDT", RANGEBAR_BINANCE_STREAM_URL="http://127.0.0.1:1"),
        wrong("BTCUSDT", RANGEBAR_STREAMING_THRESHOLDS="250,,x"),
        wrong("BTCUSDT", RANGEBAR_HEALTH_PORT="99999"),
        wrong("BTCUSDT", RANGEBAR_STREAMING_WATCHDOG_TIMEOUT_S="soon"),
    ],
)
def test_a_wrong_call_ends_before_anything_connects(
    words, environment, sidecars, exchange, tmp_path
):
    command = ["sidecar", *words, "--ndjson", "--no-cache", "--cache-dir", str(tmp_path)]
    if "RANGEBAR_HEALTH_PORT" not in environment:
        command += ["--health-port", "0"]
    one = sidecars.start(exchange, tmp_path, command=command, environment=environment)
    assert one.wait() == 2, one.said()
    assert one.said().strip()
    assert "Traceback" not in one.said()
    assert exchange.requests == []
    assert exchange.streams.connections == []
    assert list(tmp_path.rglob(".writer")) == []


def test_a_port_that_is_taken(sidecars, exchange, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ["sidecar", "BTCUSDT", "--ndjson", "--no-cache", "--cache-dir", str(tmp_path)]
        one = sidecars.start(exchange, tmp_path, command=[*command, "--health-port", port])
        assert one.wait() == 2, one.said()
        assert port in one.said()


def test_a_journal_of_a_newer_version(sidecars, exchange, tmp_path):
    one = sidecars.start(exchange, tmp_path)
    one.wait_state("live")
    assert one.stop() == 0
    (path,) = tmp_path.rglob("*.journal")
    content = bytearray(path.read_bytes())
    content[8:12] = (2).to_bytes(4, "little")
    content[60:64] = zlib.crc32(bytes(content[:60])).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    command = ["sidecar", "BTCUSDT", "--ndjson", "--health-port", "0", "--no-cache"]
    two = sidecars.start(
        exchange, tmp_path, command=[*command, "--cache-dir", str(tmp_path)], rate=10.0
    )
    assert two.wait() == 2, two.said()
    assert "Traceback" not in two.said()
    assert path.read_bytes() == bytes(content)
