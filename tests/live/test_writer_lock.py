"""The lock of a symbol's writer, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.exceptions import LeaseError
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.live.writer_lock import WriterLock, has_writer, writer_process
from repetitions import repeated

COMMON = """
import sys
from pathlib import Path
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.live.writer_lock import WriterLock, has_writer
def of(symbol):
    return SymbolDir(Path(sys.argv[1]), "binance", "spot", symbol)
def say(text):
    print(text, flush=True)
"""
HOLD = COMMON + 'lock = WriterLock.take(of("BTCUSDT")); say("held"); sys.stdin.read()'
PROBE = (
    COMMON
    + """
say("ready")
while not Path(sys.argv[2]).exists():
    has_writer(of("BTCUSDT"))
say("done")
"""
)
WAIT = COMMON + 'say("waiting"); WriterLock.take(of("BTCUSDT")); say("taken")'


def symbol_dir(root, symbol="BTCUSDT"):
    return SymbolDir(root, "binance", "spot", symbol)


@contextmanager
def process(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child):
    return child.stdout.readline().strip()


def test_one_process_has_the_lock_and_the_other_learns_which(tmp_path):
    where = symbol_dir(tmp_path)
    with process(HOLD, tmp_path) as child:
        assert line(child) == "held"
        assert (where.live / ".writer").read_text() == f"{child.pid}\n"
        assert writer_process(where) == child.pid
        assert has_writer(where)
        assert WriterLock.try_take(where) is None
        with pytest.raises(LeaseError, match=f"by process {child.pid}\n") as found:
            WriterLock.take(where, wait_s=0.05)
        assert f"kill {child.pid}" in str(found.value)
        assert found.value.holder == f"process {child.pid}"
        os.kill(child.pid, signal.SIGKILL)
        with WriterLock.take(where):  # the kernel releases the lock of a process that is killed
            assert writer_process(where) == os.getpid()
    assert not has_writer(where)


def test_a_waiting_process_gets_the_lock_when_its_holder_ends(tmp_path):
    lock = WriterLock.take(symbol_dir(tmp_path))
    with process(WAIT, tmp_path) as child:
        assert line(child) == "waiting"
        lock.release()
        assert line(child) == "taken"
        assert child.wait() == 0


def test_a_probe_makes_no_file_and_needs_no_right_to_write(tmp_path):
    where = symbol_dir(tmp_path)
    assert not has_writer(where)
    assert list(tmp_path.iterdir()) == []
    lock = WriterLock.take(where)
    path = where.live / ".writer"
    path.chmod(0o444)
    before = path.stat()
    assert has_writer(where)
    lock.release()
    assert not has_writer(where)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_probing_readers_do_not_keep_a_writer_out(tmp_path):
    where = symbol_dir(tmp_path)
    WriterLock.take(where).release()
    with (
        process(PROBE, tmp_path, tmp_path / "stop") as one,
        process(PROBE, tmp_path, tmp_path / "stop") as other,
    ):
        assert line(one) == line(other) == "ready"
        for _ in range(repeated(20, 500)):
            with WriterLock.take(where):
                assert has_writer(where)
        (tmp_path / "stop").touch()
        assert line(one) == line(other) == "done"


def test_all_locks_are_taken_or_none(tmp_path):
    dirs = [symbol_dir(tmp_path, name) for name in ("ETHUSDT", "BTCUSDT", "ADAUSDT")]
    with process(HOLD, tmp_path) as child:
        assert line(child) == "held"
        with pytest.raises(LeaseError, match="BTCUSDT"):
            WriterLock.take_all(dirs, wait_s=0.05)
        assert [has_writer(one) for one in dirs] == [False, True, False]
    taken = WriterLock.take_all(dirs)
    assert [lock.symbol_dir.symbol for lock in taken] == ["ADAUSDT", "BTCUSDT", "ETHUSDT"]
    for lock in taken:
        lock.release()
    assert not any(map(has_writer, dirs))


def test_a_second_lock_of_one_process_is_refused_in_its_own_words(tmp_path):
    with WriterLock.take(symbol_dir(tmp_path)):
        with pytest.raises(LeaseError, match=f"this process \\({os.getpid()}\\)"):
            WriterLock.take(symbol_dir(tmp_path), wait_s=0.01)
        found = []
        thread = threading.Thread(
            target=lambda: found.append(WriterLock.try_take(symbol_dir(tmp_path)))
        )
        thread.start()
        thread.join()
        assert found == [None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_no_part_in_the_lock(tmp_path):
    where = symbol_dir(tmp_path)
    lock = WriterLock.take(where)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # it lives on when the parent releases the lock
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    assert has_writer(where)
    lock.release()
    assert not has_writer(where)
    os.close(writer)
    os.waitpid(child, 0)


def test_steps_are_reported(tmp_path):
    seen = []
    with on_failpoint(seen.append):
        lock = WriterLock.take(symbol_dir(tmp_path))
        assert WriterLock.try_take(symbol_dir(tmp_path)) is None
        lock.release()
    assert [step for step in seen if step.area == "live"] == [Step.LOCK_TAKEN, Step.LOCK_RELEASED]
