"""Waits for another writer end, and name the holder of the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from rangebar_polars._files import locks
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars._files.locks import (
    FileLock,
    LockFile,
    LockWaitWarning,
    beat,
    sign_with_command,
    wait_for_lock,
)
from rangebar_polars.exceptions import ParquetCorruptionError, StorageError
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.parquet import TickStorage
from storage import jobs
from storage.stock import JANUARY, SYMBOL, day_files, trades
from storage.test_together import worker

# Guards against a hang; no test depends on how soon something is done.
DEADLINE_S = 300


@pytest.fixture
def storage(tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    return storage


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setenv("RANGEBAR_TICK_LOCK_WAIT_S", "0.2")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no states of processes here")
@pytest.mark.parametrize("action", ["write", "put", "collect", "delete", "read"])
def test_a_writer_that_is_stopped_is_named_and_not_waited_for(storage, limit, action, tmp_path):
    work = {
        "write": lambda: jobs.write(storage),
        "put": lambda: jobs.put(storage),
        "collect": lambda: storage.gc(dry_run=False),
        "delete": lambda: storage.delete_ticks(SYMBOL),
        "read": lambda: storage.get_ticks(SYMBOL, JANUARY, JANUARY),
    }[action]
    (path,) = day_files(storage)
    right = path.read_bytes()
    if action == "read":  # which needs the lock to set a file aside
        path.write_bytes(b"")
    with worker(tmp_path, "hold_lock", str(tmp_path / "marker")) as holder:
        assert holder.stdout.readline() == "locked\n"
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            with pytest.raises(StorageError) as caught:
                work()
        finally:
            holder.send_signal(signal.SIGCONT)
        error = caught.value
        if action == "read":
            assert isinstance(error, ParquetCorruptionError)
            error = error.__cause__
        assert f"process {holder.pid} (workers.py), which is stopped" in str(error)
        assert "kill -CONT" in str(error)
        holder.stdin.write("go on\n")
        holder.stdin.flush()
    path.write_bytes(right)
    jobs.write(storage)
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).height == 50


def test_a_thread_of_the_same_process_is_named(storage, limit):
    symbol_dir = storage.symbol_dir(SYMBOL, "binance", "spot")
    with writing(symbol_dir), pytest.raises(StorageError, match="another thread of this process"):
        jobs.write(storage)
    jobs.write(storage)


class Clock:
    """A clock that advances by a second at every sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, object] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.now += 1.0
        self.at.get(self.now, lambda: None)()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(locks, "time", clock)
    return clock


@pytest.fixture
def lock_file(tmp_path):
    path = tmp_path / ".lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    sign_with_command(file)
    yield path, file
    os.close(file)


def test_a_wait_without_progress_is_reported_every_few_seconds_and_ends_at_its_limit(
    clock, lock_file
):
    path, file = lock_file
    with warnings.catch_warnings(record=True) as reports:
        warnings.simplefilter("always")
        with pytest.raises(StorageError, match="no progress for 30 s"):
            wait_for_lock(lambda: False, file, path)
    assert clock.now == 30
    assert [str(report.message).split(": ")[0] for report in reports] == [
        f"waiting for `{path}` for {seconds} s" for seconds in (5, 10, 15, 20, 25)
    ]
    assert {report.category for report in reports} == {LockWaitWarning}


def test_a_holder_that_makes_progress_is_waited_for(clock, lock_file):
    path, file = lock_file
    for second in range(20, 400, 20):
        clock.at[float(second)] = lambda second=second: os.utime(path, (second, second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wait_for_lock(lambda: clock.now >= 390, file, path)
    assert clock.now == 390


def test_with_a_limit_of_0_nothing_is_waited_for(clock, lock_file, monkeypatch):
    monkeypatch.setenv("RANGEBAR_TICK_LOCK_WAIT_S", "0")
    path, file = lock_file
    with pytest.raises(StorageError, match="is locked by"):
        wait_for_lock(lambda: False, file, path)
    assert clock.now == 0
    wait_for_lock(lambda: True, file, path)


def test_every_file_that_is_placed_is_progress(storage, tmp_path):
    lock = storage.symbol_dir(SYMBOL, "binance", "spot").lock_file
    os.utime(lock, (0, 0))
    with writing(storage.symbol_dir(SYMBOL, "binance", "spot")):
        os.utime(lock, (0, 0))
        beat(lock)
        assert lock.stat().st_mtime > 0
    seen = []

    def look(step: Step) -> None:
        if step is Step.TEMP_CREATED:
            seen.append(lock.stat().st_mtime)
            os.utime(lock, (len(seen), len(seen)))

    with on_failpoint(look):
        storage.write_ticks(SYMBOL, jobs.AFTER)
    assert len(seen) == 4  # two days, two manifests
    assert all(after > 1_000 for after in seen[1:])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["rangebar", "fetch", "BTCUSDT", "2024-01-01"], "rangebar fetch BTCUSDT 2024-01-01"),
        (["/usr/bin/rangebar", "x", "--dsn", "http://me:secret@host"], "rangebar x"),
        (["job.py", "http://me:secret@host"], "job.py"),
        (["-c", "secret=1"], "python -c"),
        ([""], Path(sys.executable).name),
    ],
)
def test_the_command_of_a_holder_holds_no_secrets(lock_file, monkeypatch, words, command):
    path, file = lock_file
    monkeypatch.setattr(sys, "argv", words)
    sign_with_command(file)
    lines = path.read_text().splitlines()
    assert (int(lines[0]), lines[2]) == (os.getpid(), command)


@pytest.mark.parametrize(
    "text", ["", "x\ny\nz", "9" * 5_000, "1\n2", "\0\1\2\n\n\n", "\u0661\nx\ny"]
)
def test_a_file_that_says_nothing_names_another_process(clock, tmp_path, text):
    path = tmp_path / ".lock"
    path.write_text(text)
    with path.open() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(StorageError, match="is locked by another process"):
            wait_for_lock(lambda: False, file.fileno(), path)


KILLED = """
import os, signal, sys, time
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.parquet import TickStorage
with writing(TickStorage(sys.argv[1]).symbol_dir("BTCUSDT", "binance", "spot")):
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED)
"""

LEFT = """
import os, sys, time
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.parquet import TickStorage
with writing(TickStorage(sys.argv[1]).symbol_dir("BTCUSDT", "binance", "spot")):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print("left", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.parametrize("code", [KILLED, LEFT])
def test_a_child_does_not_keep_the_lock_of_its_parent(storage, limit, tmp_path, code):
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline().strip()
        if code == KILLED:
            process.kill()
            process.wait(DEADLINE_S)
        jobs.write(storage)  # while the child lives
        process.stdin.close()
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))


INHERITED = """
import os, sys
from pathlib import Path
from rangebar_polars._files.locks import FileLock
folder = Path(sys.argv[1])
inherited = FileLock(folder / "parent")
assert inherited.try_acquire()
child = os.fork()
if child == 0:
    own = FileLock(folder / "child")
    taken = own.try_acquire()  # in a file that may have the descriptor of the inherited one
    inherited.sign("note")
    inherited.release()
    is_held = not FileLock(folder / "child").is_free()
    os._exit(0 if taken and is_held and not inherited.is_in_place() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert not FileLock(folder / "parent").is_free()
assert (folder / "parent").read_text() == f"{os.getpid()}\\n"
print("held")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_an_inherited_lock_changes_nothing_in_a_child(tmp_path):
    command = [sys.executable, "-c", INHERITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "held\n", done.stderr


def test_a_lock_of_a_file_and_one_of_a_range_have_one_holder_each(tmp_path):
    for take in (
        lambda file: file.try_lock(),
        lambda file: file.try_lock_range(32, 16),
    ):
        first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
        assert take(first)
        assert not take(second)
        first.close()
        first.close()
        assert take(second)
        second.close()
        with pytest.raises(OSError, match="descriptor"):
            take(first)


def test_shared_locks_stand_beside_each_other_but_not_beside_an_exclusive_one(tmp_path):
    readers = [FileLock(tmp_path / "lock", shared=True) for _ in range(2)]
    writer = FileLock(tmp_path / "lock")
    assert all(reader.try_acquire() for reader in readers)
    assert not writer.try_acquire()
    for reader in readers:
        reader.release()
    assert writer.try_acquire()
    assert not readers[0].try_acquire()
    writer.release()


def test_a_wait_in_a_thread_ends_when_the_holder_leaves(storage):
    done = threading.Event()

    def write() -> None:
        jobs.write(storage)
        done.set()

    with writing(storage.symbol_dir(SYMBOL, "binance", "spot")):
        thread = threading.Thread(target=write)
        thread.start()
    assert done.wait(DEADLINE_S)
    thread.join()
