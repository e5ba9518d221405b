"""Ctrl-C at any moment, or a full disk, leaves no folder locked; many openings are reported."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack

import pytest
from series_data import SERIES, drafts

import rangebar_polars as rb
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars._files.interrupts import Uninterrupted, raise_if_interrupted
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.exceptions import CacheUnavailableError
from rangebar_polars.readers.cached import count_bars

BARS = 36


@pytest.fixture(autouse=True)
def _no_idle_time(monkeypatch, _no_settings_of_the_user):
    """Close the folder after every call, so that the test can check what the call leaves behind."""
    monkeypatch.setenv("RANGEBAR_CACHE_IDLE_S", "0")


@pytest.fixture
def folder(embedded):
    """A cache folder with bars of three days."""
    with embedded.open(write=True) as cache:
        publish(cache, drafts(3))
    return embedded.folder


@pytest.fixture(autouse=True)
def _interrupts_are_raised():
    """Raise interrupts, which a process in the background ignores by default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def count(folder):
    return count_bars(SERIES.spec.symbol, 250, cache_dir=folder)


def interrupt(_step=None):
    os.kill(os.getpid(), signal.SIGINT)


def fail(_step):
    raise KeyboardInterrupt


COUNT = """
import sys
import rangebar_polars as rb
from rangebar_polars.readers.cached import count_bars
print(count_bars("BTCUSDT", 250, cache_dir=sys.argv[1]))
"""


@pytest.mark.parametrize("happening", [interrupt, fail])
def test_an_interrupt_while_the_folder_opens_leaves_it_free(folder, run, happening, monkeypatch):
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        on_failpoint(lambda step: happening(step) if step == Step.CACHE_OPENED else None),
    ):
        count(folder)
    # A notebook refers to the last traceback, and so to all variables of its frames.
    assert caught.tb is not None
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    assert FolderLock(folder / "clickhouse").is_free()
    assert count(folder) == BARS
    other = run(COUNT, folder)
    assert other.communicate()[0].split() == [str(BARS)]


POKED = """
import os, random, signal, sys, threading, time
import rangebar_polars as rb
from rangebar_polars.readers.cached import count_bars
from rangebar_polars.clickhouse.open import _POOL
from rangebar_polars._files.locks import _OPEN

random.seed(7)
signal.signal(signal.SIGINT, signal.default_int_handler)

def poke(begun):
    begun.wait()
    time.sleep(random.uniform(0, 0.15))
    os.kill(os.getpid(), signal.SIGINT)

last, came = None, 0
for _ in range(40):
    begun = threading.Event()
    thread = threading.Thread(target=poke, args=(begun,))
    thread.start()
    try:
        begun.set()
        while thread.is_alive():
            count_bars("BTCUSDT", 250, cache_dir=sys.argv[1])
        time.sleep(600)
    except KeyboardInterrupt as error:
        last, came = error, came + 1
    thread.join()
    assert not _POOL._entries and not _OPEN, last
print("free" if came == 40 else came)
"""


def test_interrupts_at_random_moments_leave_it_free(folder, run):
    out, errors = run(POKED, folder).communicate()
    assert out.split() == ["free"], errors[-2000:]


def test_an_interrupt_is_deferred():
    steps = []

    def two_steps():
        with Uninterrupted():
            interrupt()
            steps.append("done")

    with pytest.raises(KeyboardInterrupt):
        two_steps()
    assert steps == ["done"]


def test_a_deferred_interrupt_is_raised_at_a_safe_point():
    steps = []

    def wait():
        with Uninterrupted():
            interrupt()
            raise_if_interrupted()
            steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert steps == []


def test_a_handler_set_meanwhile_stays():
    def handler(_number, _frame):
        pass

    before = signal.getsignal(signal.SIGINT)
    try:
        with Uninterrupted() as interrupts:
            interrupts.allow()
            signal.signal(signal.SIGINT, handler)
            interrupts.defer()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_and_nested_calls_change_no_handler(folder):
    before, found = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=lambda: found.append(count(folder)))
    thread.start()
    with Uninterrupted(), Uninterrupted():
        thread.join()
    assert found == [BARS]
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_release_the_folder(folder):
    before = signal.getsignal(signal.SIGINT)
    for enter_here in (True, False):
        stack, errors = ExitStack(), []

        def do(step, errors=errors):
            try:
                step()
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        steps = [
            lambda stack=stack: stack.enter_context(rb.open_cache(cache_dir=folder)),
            stack.close,
        ]
        for step, is_here in zip(steps, (enter_here, not enter_here), strict=True):
            if is_here:
                do(step)
            else:
                thread = threading.Thread(target=do, args=(step,))
                thread.start()
                thread.join()
        assert errors == []
        assert FolderLock(folder / "clickhouse").is_free()
        assert signal.getsignal(signal.SIGINT) is before


FULL = """
import resource, sys
from pathlib import Path
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
lock = FolderLock(Path(sys.argv[1]))
assert lock.acquire(0)
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.read()
"""


def test_a_lock_works_on_a_full_disk(tmp_path, run):
    folder = tmp_path / "clickhouse"
    process = run(FULL, folder)
    assert process.stdout.readline() == "held\n"
    lock = FolderLock(folder)
    assert not lock.is_free()
    assert lock.holder() is None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "released\n"
    assert lock.is_free()


WAITS = """
import sys
import rangebar_polars as rb
with rb.open_cache(cache_dir=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_waiting_process_gets_the_folder_before_the_next_call(folder, run, monkeypatch):
    lock = FolderLock(folder / "clickhouse")
    with rb.open_cache(cache_dir=folder):
        waiting = run(WAITS, folder)
        while not lock.is_wanted():
            threading.Event().wait(0.01)
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    with pytest.raises(CacheUnavailableError, match=f"process `{waiting.pid}`"):
        count(folder)
    assert waiting.stdout.readline() == "held\n"


OPENS = """
import sys, warnings
from rangebar_polars.clickhouse.connection import pool
from rangebar_polars.readers.cached import count_bars

pool._MANY_OPENINGS = 3
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for n in range(8):
        count_bars("BTCUSDT", 250, cache_dir=sys.argv[1])
        print(len(caught))
    print(caught[0].filename, str(caught[0].message).replace(chr(10), " "))
"""


def test_many_openings_are_reported_once(folder, run):
    *counts, last = run(OPENS, folder).communicate()[0].splitlines()
    assert counts == ["0"] * 3 + ["1"] * 5
    assert "with rb.open_cache()" in last
