"""The end of a process: what waits is sent, and nothing is waited for longer than 5 s."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from notify.receiver import Receiver

HEAD = """
from rangebar_polars._utils import clock
from rangebar_polars.events import emit_hook
from rangebar_polars.notify import enable_notifications
assert enable_notifications()
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + code],
        cwd=folder, capture_output=True, text=True, timeout=1200, check=False, env=os.environ,
    )  # fmt: skip


def test_200_events_and_the_end_are_two_messages(receiver: Receiver, tmp_path: Path) -> None:
    code = 'for _ in range(200): emit_hook("download_failed", "BTCUSDT")'
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(receiver.messages) == 2
    assert "199 more" in receiver.texts[1]


def test_what_the_limit_has_stopped_is_in_the_last_message(
    receiver: Receiver, tmp_path: Path
) -> None:
    code = 'for n in range(30): emit_hook("download_failed", f"S{n}")'
    assert run(code, tmp_path).returncode == 0
    assert len(receiver.messages) == 21
    assert receiver.messages[-1]["title"] == "rangebar: 10 events in one message"


def test_an_exit_by_an_error_sends_too(receiver: Receiver, tmp_path: Path) -> None:
    done = run('emit_hook("population_failed", "BTCUSDT", reason="x")\n1 / 0', tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert [text.partition(" (")[0] for text in receiver.texts] == ["BTCUSDT: reason x"]


@pytest.mark.parametrize("rest", ["", "/?rto=600"])
def test_a_service_that_hangs_does_not_keep_the_process(
    rest: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", receiver.url(rest))
    receiver.answers.clear()
    # The clock of the package runs so that its 5 s are short, and says how many have passed.
    code = """
import atexit
clock.install(rate=20.0)
begun_at = []
atexit.register(lambda: print(clock.monotonic() - begun_at[0] >= 4.9))
enable_notifications()
from rangebar_polars.events import _hooks
atexit.unregister(_hooks._subscribers.end)
atexit.register(_hooks._subscribers.end, _hooks._EXIT_WAIT_S)
for n in range(3): emit_hook("download_failed", f"S{n}")
begun_at.append(clock.monotonic())
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert len(receiver.messages) <= 3


def test_a_service_that_refuses_does_not_keep_the_process(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 500
    done = run('emit_hook("download_failed", "BTCUSDT")', tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(receiver.messages) == 1
