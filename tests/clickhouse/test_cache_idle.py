"""A folder stays open after a call, until another process waits for it or the idle time ends."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from places import Place
from series_data import BARS_A_DAY, SERIES, drafts

from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection import descriptors as counted
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.open import _POOL, engine_use, open_cache
from rangebar_polars.exceptions import CacheQueryError, CacheUnavailableError
from rangebar_polars.readers.cached import count_bars
from repetitions import repeated

DAYS = 2
BARS = DAYS * BARS_A_DAY
#: Longer than any step takes.
LONGEST_S = 600

PRELUDE = """
import os, resource, sys
import rangebar_polars as rb
from rangebar_polars.readers.cached import count_bars
from rangebar_polars.clickhouse.open import engine_use, open_cache

def count():
    return count_bars("BTCUSDT", 250, cache_dir=sys.argv[1])
"""
COUNT = PRELUDE + "print(count())"
IDLE = PRELUDE + "print(count(), flush=True); sys.stdin.read()"
IN_TURN = (
    PRELUDE
    + """
for line in sys.stdin:
    print(count(), flush=True)
print(engine_use().openings, engine_use().limit)
"""
)


@pytest.fixture(scope="module")
def filled(in_memory):
    """A closed cache folder with bars of two days, made once: an engine starts slowly."""
    one = Place(None, in_memory / "filled")
    fill(one)
    close_idle()
    return one.folder


@pytest.fixture
def folder(filled, embedded):
    """A copy of that folder."""
    close_idle()
    return shutil.copytree(filled, embedded.folder, symlinks=True, dirs_exist_ok=True)


def fill(place, days=DAYS):
    with place.open(write=True) as cache:
        publish(cache, drafts(days))


def close_idle():
    _POOL._close_idle()


def count(folder):
    return count_bars(SERIES.spec.symbol, 250, cache_dir=folder)


def wait_until(condition):
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def lock_of(folder):
    return FolderLock(folder / "clickhouse")


def answer(process):
    return process.stdout.readline().strip()


# --- openings are rare ---------------------------------------------------------------------------


def test_many_reads_open_the_folder_once_with_few_descriptors(folder, run):
    code = (
        PRELUDE
        + """
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
found = {count() for _ in range(int(sys.argv[2]))}
print(found, engine_use().openings, engine_use().left_behind)
"""
    )
    out, errors = run(code, folder, repeated(150, 2_000)).communicate(timeout=LONGEST_S)
    assert out == f"{{{BARS}}} 1 0\n", errors


def test_two_processes_alternate(folder, run):
    """Each opening leaves files open, so the first one raises the limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    rounds = repeated(5, 250)
    lowered = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, {hard}), {hard}))\n"
    processes = [run(lowered + IN_TURN, folder) for _ in range(2)]
    for _ in range(rounds):
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
            assert answer(process) == str(BARS)
    for process in processes:
        out, errors = process.communicate(timeout=LONGEST_S)
        assert out.split() == [str(rounds), str(min(hard, 1 << 20))], errors


def test_files_that_openings_leave_behind_are_counted(folder):
    before = engine_use().openings
    count(folder)
    count(folder)
    assert engine_use().openings == before + 1
    close_idle()
    count(folder)
    assert engine_use().openings == before + 2
    left, limit = engine_use().left_behind, engine_use().limit
    assert left is None or left > 0
    assert f"{before + 2} times" in str(engine_use())
    assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_an_opening_that_would_run_out_of_descriptors_is_refused(folder, run):
    code = (
        PRELUDE
        + """
from rangebar_polars.clickhouse.connection.descriptors import descriptors
most = descriptors().in_use + 90
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
try:
    count()
except rb.exceptions.CacheUnavailableError as error:
    print(error.holder == os.getpid(), str(error).replace(chr(10), " "))
"""
    )
    out, errors = run(code, folder).communicate(timeout=LONGEST_S)
    assert out.startswith("True "), errors
    assert "files open" in out
    assert "ulimit -n" in out


def test_a_limit_that_the_system_refuses_is_halved(monkeypatch):
    asked = []

    def refuse(_kind, limits):
        asked.append(limits[0])
        if limits[0] > 10_000:
            raise ValueError("the system has a limit of its own")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    counted.raise_descriptor_limit()
    assert asked[0] == 1 << 20
    assert 256 < asked[-1] <= 10_000


# --- release of an idle folder -------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", ["0", "30"])
def test_an_idle_process_releases_the_folder_to_a_waiting_one(folder, run, monkeypatch, wait_s):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", wait_s)
    # Blocked in the interpreter's input, as a notebook between two cells.
    idle = run(IDLE, folder)
    assert answer(idle) == str(BARS)
    wait_until(lock_of(folder).is_idle)
    assert not lock_of(folder).is_free()
    assert count(folder) == BARS
    assert idle.poll() is None
    assert run(COUNT, folder).communicate(timeout=LONGEST_S)[0].split() == [str(BARS)]


def test_a_killed_idle_process_releases_the_folder(folder, run):
    idle = run(IDLE, folder)
    assert answer(idle) == str(BARS)
    idle.send_signal(signal.SIGSTOP)
    idle.kill()
    assert count(folder) == BARS


def test_a_process_in_a_call_does_not_release_the_folder(folder, run, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    code = PRELUDE + (
        "with open_cache(cache_dir=sys.argv[1]):\n"
        "    print(count(), flush=True)\n"
        "    sys.stdin.read()"
    )
    holder = run(code, folder)
    assert answer(holder) == str(BARS)
    with pytest.raises(CacheUnavailableError) as refused:
        count(folder)
    assert refused.value.holder == holder.pid


def test_the_folder_stays_open_after_a_waiting_process_was_killed(folder, run):
    with open_cache(cache_dir=folder) as first:
        waiting = run(COUNT, folder)
        wait_until(lock_of(folder).is_wanted)
        waiting.kill()
        wait_until(lambda: not lock_of(folder).is_wanted())
    with open_cache(cache_dir=folder) as second:
        assert second is first


def test_each_idle_closing_doubles_the_idle_time(folder, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_IDLE_S", "0.05")
    monkeypatch.setattr(_POOL, "_idle_closings", 0)
    for closings in (1, 2, 3):
        with open_cache(cache_dir=folder) as cache:
            entry = _POOL._entries[cache.target.address]
            assert _POOL._idle_limit_s(entry) == 0.05 * 2 ** (closings - 1)
        wait_until(lock_of(folder).is_free)
        assert _POOL._idle_closings == closings


def test_a_wait_is_reported(folder, run, monkeypatch, caplog):
    monkeypatch.setattr("rangebar_polars.clickhouse.connection.folder_lock._REPORT_S", 0.0)
    code = PRELUDE + (
        "with open_cache(cache_dir=sys.argv[1]):\n"
        "    print(count(), flush=True)\n"
        "    sys.stdin.readline()"
    )
    holder = run(code, folder)
    assert answer(holder) == str(BARS)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(count, folder)
        wait_until(lambda: caplog.records)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert waiting.result(LONGEST_S) == BARS
    assert f"held by process {holder.pid}" in caplog.messages[0]


# --- in one process ------------------------------------------------------------------------------


def test_another_folder_opens_without_a_wait_for_an_idle_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    assert count(folder) == BARS
    other = Place(None, tmp_path)
    fill(other, 1)
    assert [count(folder), count(tmp_path), count(folder)] == [BARS, BARS_A_DAY, BARS]


def test_threads_and_a_second_process_read_at_once(folder, run):
    process = run(IN_TURN, folder)
    rounds = repeated(8, 200)

    def reads(_):
        return {count(folder) for _ in range(rounds)}

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(reads, range(4))
        for _ in range(rounds):
            process.stdin.write("\n")
            process.stdin.flush()
            assert answer(process) == str(BARS)
        assert set.union(*found) == {BARS}


def test_a_folder_that_was_replaced_is_opened_again(folder, embedded):
    assert count(folder) == BARS
    shutil.rmtree(folder / "clickhouse")
    assert count(folder) == 0
    fill(embedded, 1)
    assert count(folder) == BARS_A_DAY
    for name in ("clickhouse", "clickhouse.lock"):
        (folder / name).rename(folder / f"{name}.old")
    assert count(folder) == 0
    shutil.rmtree(folder)
    assert count(folder) == 0
    folder.mkdir()
    fill(embedded)
    assert count(folder) == BARS


def fail_in_a_query(cache):
    cache.query("SELECT * FROM no_such_table")


def interrupt(_cache):
    raise KeyboardInterrupt


def ask_for_what_is_not_there(_cache):
    raise ValueError("not of the engine")


@pytest.mark.parametrize(
    ("action", "error", "stays_open"),
    [
        (fail_in_a_query, CacheQueryError, False),
        (interrupt, KeyboardInterrupt, False),
        (ask_for_what_is_not_there, ValueError, True),
    ],
)
def test_an_engine_that_failed_is_started_again(folder, action, error, stays_open):
    with pytest.raises(error), open_cache(cache_dir=folder) as first:
        action(first)
    with open_cache(cache_dir=folder) as second:
        assert (second is first) == stays_open
        assert count(folder) == BARS


def test_removed_tables_are_created_again(folder, embedded):
    from rangebar_polars.maintenance.drop import remove_tables

    assert count(folder) == BARS
    remove_tables(cache_dir=folder)
    assert count(folder) == 0
    fill(embedded, 1)
    assert count(folder) == BARS_A_DAY


# --- the end of a process, and forks -------------------------------------------------------------


@pytest.mark.parametrize(
    "last", ["", "sys.exit(3)", "raise ValueError('x')", "os._exit(4)", "held.__enter__()"]
)
def test_a_process_ends_with_an_idle_folder(folder, run, last):
    code = PRELUDE + f"held = open_cache(cache_dir=sys.argv[1])\nprint(count(), flush=True)\n{last}"
    process = run(code, folder)
    out, errors = process.communicate(timeout=LONGEST_S)
    assert out == f"{BARS}\n"
    assert process.returncode == {"sys": 3, "rai": 1, "os.": 4}.get(last[:3], 0)
    assert errors.strip().splitlines()[-1:] == (["ValueError: x"] if "raise" in last else [])
    assert count(folder) == BARS


FORKS = (
    PRELUDE
    + """
import warnings
warnings.simplefilter("ignore")
print(count(), flush=True)
child = os.fork()
if child == 0:
    try:
        count()
    except rb.exceptions.CacheForkedError as error:
        print("refused", "spawn" in str(error), "use_cache" in str(error), flush=True)
    # As a program does that ends by itself.
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count(), flush=True)
"""
)


@pytest.mark.skipif(
    tuple(map(int, pl.__version__.split(".")[:2])) < (2, 1),
    reason="no forked child of Polars before 2.1 ends by itself",
)
def test_a_forked_child_of_a_process_with_an_idle_folder_ends(folder, run):
    process = run(FORKS, folder)
    try:
        out, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    assert out.splitlines() == [str(BARS), "refused True False", f"7 {BARS}"], errors


FORKED_BEFORE = (
    PRELUDE
    + """
import warnings
warnings.simplefilter("ignore")
if sys.argv[2:]:
    import chdb
child = os.fork()
if child == 0:
    try:
        print(count(), count(), flush=True)
        with open_cache(cache_dir=sys.argv[1]) as cache:
            print(cache.scalar("SELECT 1"), flush=True)
    except rb.exceptions.CacheForkedError:
        print("refused", flush=True)
        os._exit(7)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count(), flush=True)
"""
)


@pytest.mark.skipif(
    tuple(map(int, pl.__version__.split(".")[:2])) < (2, 1),
    reason="no forked child of Polars before 2.1 ends by itself",
)
def test_a_child_that_was_forked_before_the_first_opening_opens_the_folder(folder, run):
    out, errors = run(FORKED_BEFORE, folder).communicate(timeout=120)
    assert out.splitlines() == [f"{BARS} {BARS}", "1", f"7 {BARS}"], errors


def test_a_child_that_inherits_the_library_of_the_engine_is_refused(folder, run):
    out, errors = run(FORKED_BEFORE, folder, "chdb").communicate(timeout=120)
    assert out.splitlines() == ["refused", f"7 {BARS}"], errors
