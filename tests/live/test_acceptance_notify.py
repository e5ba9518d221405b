"""Notifications beside the command `rangebar sidecar`: a service that hangs, and keys in no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from exchange import Exchange, Tape, faults, stream_faults
from live.commands import Command
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from notify.receiver import Receiver
from repetitions import repeated

pytest.importorskip("apprise")

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
TOKEN = "tOkEn7SeCrEt"
EVENTS = 200
MINUTES = repeated(3, 10)

#: What a user calls, and the ends of all connections that the process makes.
CALLS = """
import sys
from rangebar_polars.events import emit_hook
from rangebar_polars.notify import enable_notifications, pushover, telegram

peers = []
sys.addaudithook(lambda name, values: peers.append(values[1]) if name == "socket.connect" else None)
print(enable_notifications())
print(telegram.send_telegram("text"), telegram.enable_telegram_notifications())
print(telegram.enable_failure_notifications(), telegram.is_configured())
print(pushover.send_critical_alert("title", "text"), pushover.is_configured())
print(pushover.alert_checksum_failure("BTCUSDT", "2026-11-02", "a", "b"))
for _ in range(200):
    emit_hook("download_failed", "BTCUSDT")
print(len(peers))
"""
#: Everything that is logged goes to a file.
LOG_ALL = """
import logging
logging.basicConfig(level=logging.DEBUG, filename={path!r})
"""


@pytest.fixture
def exchange():
    now = this_moment()
    span = {"before": timedelta(minutes=10), "after": timedelta(minutes=30)}
    with Exchange(Tape.around(now, per_minute=300, volatility=0.15, **span), now=now) as found:
        yield found


@pytest.fixture
def receiver():
    with Receiver() as found:
        yield found


def keys(urls=""):
    """The environment of a user who has no other keys."""
    names = ("PUSHOVER_API_TOKEN", "PUSHOVER_USER_KEY", "TELEGRAM_TOKEN", "TELEGRAM_CHAT_ID")
    return dict.fromkeys([f"RANGEBAR_{name}" for name in names], "") | {
        "RANGEBAR_NOTIFY_URLS": urls
    }


def run_calls(tmp_path, urls=""):
    environment = {**os.environ, **keys(urls), "XDG_CONFIG_HOME": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if value}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CALLS],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )


def test_without_keys_nothing_is_connected(tmp_path):
    """A15."""
    assert set(run_calls(tmp_path).stdout.split()) == {"False", "0"}


def test_repeated_events_and_the_end_are_two_messages(receiver, tmp_path):
    """A15."""
    said = run_calls(tmp_path, receiver.url()).stdout.split()
    assert said[0] == "True"
    assert len(receiver.messages) == 2
    assert f"{EVENTS - 1} more" in receiver.texts[1]


def test_a_service_that_hangs_delays_nothing(exchange, receiver, tmp_path):
    """A15: bars are those of A01, and the key is in no file and no stream."""
    (tape,) = exchange.tapes
    start = day_start_of(exchange.now)
    receiver.answers.clear()
    log = tmp_path / "debug.log"
    own = keys(receiver.url(f"/{TOKEN}").replace("//", f"//user:{TOKEN}@", 1))
    own["RANGEBAR_EVENT_LOG"] = str(tmp_path / "events.jsonl")
    options = {"symbols": [SYMBOL], "thresholds": THRESHOLDS, "rate": 10.0, "environment": own}
    options["site"] = LOG_ALL.format(path=str(log))
    options["options"] = ["--no-cache", "--notify", "failures", "-v"]
    with Command(exchange, tmp_path / "cache", tmp_path, **options) as command:
        command.wait_ready()
        exchange.fail("fromId=", faults.status(503), times=8)
        exchange.streams.fail("&id=", stream_faults.lost(), after=30)
        exchange.play(timedelta(minutes=MINUTES))
        wait_for(lambda: receiver.messages, lambda: (command.get("/health"), command.said()))
        command.wait_applied(exchange)
        command.wait_ready()
        bodies = "".join(command.get(path)[1] for path in ("/health", "/metrics", "/ready"))
        assert command.ended(signal.SIGTERM) == 0, command.said()
    assert "Traceback" not in command.said()
    for threshold in THRESHOLDS:
        lines = command.lines(SYMBOL, threshold)
        true = Truth.of(tape, threshold, [start], until=exchange.now)
        assert len(lines) > 5
        true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)
    assert log.stat().st_size > 0
    assert TOKEN in receiver.paths[0]
    assert TOKEN not in bodies + "".join(command.texts)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
