"""Opening and sharing a cache, and the errors when it is unavailable."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from places import QUICK, Place
from series_data import SERIES, SPEC, drafts

from rangebar_polars._files.locks import FileLock
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.retry import Retry
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import (
    CacheError,
    CacheForkedError,
    CacheQueryError,
    CacheUnavailableError,
    CacheWriteError,
    RangeBarError,
    SettingError,
    StorageError,
)

HOLD = """
import sys
from rangebar_polars.clickhouse.open import open_cache
with open_cache(cache_dir=sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""

# A program that does not use this package.
HOLD_BY_ENGINE = """
import sys, chdb
handle = chdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def started(process):
    assert process.stdout.readline() == "open\n"
    return process


# --- the address of a cache ----------------------------------------------------------------------


def test_the_argument_overrides_the_setting_and_the_setting_the_folder(monkeypatch, tmp_path):
    assert resolve(None, tmp_path).folder == tmp_path / "clickhouse"
    monkeypatch.setenv("RANGEBAR_CLICKHOUSE_DSN", "http://setting:8123")
    assert resolve(None, tmp_path).address == "http://setting:8123/rangebar"
    assert resolve("https://argument/db").address == "https://argument/db"
    assert resolve(f"chdb://{tmp_path}/kept").folder == tmp_path / "kept"


def test_a_password_is_never_shown(tmp_path):
    target = resolve("http://me:secret@127.0.0.1:1/db?x=1")
    assert "secret" in target.dsn
    assert target.address == "http://127.0.0.1:1/db"


@pytest.mark.parametrize(
    "dsn", ["chdb://memory", "chdb://", "chdb:///", "ftp://host", "host:8123", "http://"]
)
def test_an_invalid_address_is_refused(dsn):
    with pytest.raises(SettingError):
        resolve(dsn)


@pytest.mark.parametrize(
    ("dsn", "said", "hint"),
    [
        ("localhost:8123", "`localhost:8123`", "http://localhost:8123"),
        ("10.0.0.7:8123/db", "`10.0.0.7:8123/db`", "http://10.0.0.7:8123/db"),
        ("me:secret@host:8123", "`host:8123`", "http://host:8123"),
        ("/data/kept", "`/data/kept`", "chdb:///data/kept"),
        ("http://me:secret@127.0.0.1:99999", "`127.0.0.1:99999`", "up to 65535"),
        ("http://me:secret/x@host", "`host`", "http://localhost:8123"),
        ("http://me:secret@host:port", "`host:port`", "http://localhost:8123"),
        ("http://[::1", "not a valid address", "http://localhost:8123"),
        ("chdb:///data/kept?mode=ro", "takes no options", "chdb:///data/kept"),
        ("mysql://host", "`mysql`", ""),
    ],
)
def test_a_refusal_suggests_a_valid_address_without_the_password(dsn, said, hint):
    with pytest.raises(SettingError) as refused:
        resolve(dsn)
    sentence, _, remedy = str(refused.value).partition("\n")
    assert said in sentence
    assert hint in remedy
    assert "secret" not in str(refused.value)


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.touch()
    for place in ({"cache_dir": path}, {"cache_dir": path / "a"}, {"dsn": f"chdb://{path}"}):
        with pytest.raises(StorageError, match="is a file") as refused:
            resolve(**place)
        assert f"`{path}`" in str(refused.value)
    assert not resolve("http://localhost:8123", path).is_embedded


# --- sharing in a process ------------------------------------------------------------------------


def test_calls_within_an_open_cache_use_it(place):
    with place.open() as outer:
        with place.open(write=True) as inner:
            assert inner is outer
        assert outer.scalar("SELECT 1") == 1
    with place.open() as later:
        # A folder stays open for the next call, a connection to a server does not.
        assert (later is outer) == later.is_embedded


def test_threads_share_one_opening(embedded):
    barrier = threading.Barrier(8)

    def call(number):
        barrier.wait()
        with embedded.open() as cache:
            assert cache.scalar(f"SELECT {number}") == number
            return id(cache) if barrier.wait() >= 0 else None

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(call, range(8)))) == 1


def test_threads_read_while_another_publishes(place):
    with place.open(write=True) as cache:
        publish(cache, drafts(2))
        stop = threading.Event()

        def read():
            lengths = set()
            while not stop.is_set():
                with place.open() as one:
                    lengths.add(len(read_chains(one, [SPEC])[SERIES].units))
            return lengths

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            built_on = read_chains(cache, [SPEC])[SERIES].units[-1].attempt
            first = SERIES.first_day.replace(month=2, day=1)
            publish(cache, drafts(3, first=first, built_on=built_on))
            stop.set()
            found = set.union(*(reader.result() for reader in readers))
    assert found <= {2, 5}


def test_without_an_idle_time_the_folder_is_free_after_the_last_call(embedded, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_IDLE_S", "0")
    lock = FileLock(embedded.folder / "clickhouse.lock")
    with embedded.open():
        with embedded.open():
            pass
        assert not lock.try_acquire()
    assert lock.try_acquire()
    lock.release()


def test_a_second_folder_waits_for_the_first_of_another_thread(embedded, tmp_path):
    other = Place(None, tmp_path / "other")
    is_open = threading.Event()
    done = threading.Event()

    def hold():
        with embedded.open():
            is_open.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_open.wait()
    threading.Timer(0.05, done.set).start()
    with other.open() as cache:
        assert done.is_set()
        assert cache.scalar("SELECT 1") == 1
    thread.join()


def test_a_second_folder_within_the_first_is_refused_at_once(embedded, tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "3600")
    begin = time.monotonic()
    with (
        embedded.open(),
        pytest.raises(CacheUnavailableError, match="one embedded cache"),
        open_cache(cache_dir=tmp_path / "other"),
    ):
        pass
    # It would have waited for an hour.
    assert time.monotonic() - begin < 600


def test_an_opening_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "clickhouse").write_text("no folder")
    for _ in range(2):
        with pytest.raises(CacheUnavailableError), open_cache(cache_dir=tmp_path):
            pass
    (tmp_path / "clickhouse").unlink()
    with open_cache(cache_dir=tmp_path) as cache:
        assert cache.scalar("SELECT 1") == 1


# --- sharing among processes ---------------------------------------------------------------------


def test_a_wait_that_ends_in_vain_names_the_holder(embedded, run, monkeypatch):
    holder = started(run(HOLD, embedded.folder))
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0.1")
    with pytest.raises(CacheUnavailableError) as caught, embedded.open():
        pass
    assert caught.value.holder == holder.pid
    assert f"process `{holder.pid}`" in str(caught.value)
    assert "RANGEBAR_CLICKHOUSE_DSN" in str(caught.value)


def test_a_folder_that_another_program_holds_is_waited_for(embedded, run, monkeypatch):
    (embedded.folder / "clickhouse").mkdir()
    holder = started(run(HOLD_BY_ENGINE, embedded.folder / "clickhouse"))
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0.1")
    with pytest.raises(CacheUnavailableError) as caught, embedded.open():
        pass
    assert caught.value.holder == holder.pid
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "600")
    threading.Timer(0.2, holder.kill).start()
    with embedded.open() as cache:
        assert cache.scalar("SELECT 1") == 1


def test_a_folder_is_free_when_its_holder_is_killed(embedded, run, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "600")
    holder = started(run(HOLD, embedded.folder))
    threading.Timer(0.2, holder.kill).start()
    with embedded.open() as cache:
        assert cache.scalar("SELECT 1") == 1
    assert holder.wait() != 0


TAKE_TURNS = """
import sys
from rangebar_polars.clickhouse.open import open_cache
for number in range(int(sys.argv[2])):
    with open_cache(cache_dir=sys.argv[1], write=True) as cache:
        place = cache.table("schema_version")
        # The database drops a repeated insert of identical rows.
        moment = int(sys.argv[3]) + number
        cache.command(f"INSERT INTO {place} VALUES (1, toDateTime64({moment}, 3))")
print("open", flush=True)
"""


def test_processes_take_turns_without_an_error(embedded, run, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "600")
    processes = [run(TAKE_TURNS, embedded.folder, 4, start) for start in (100, 200)]
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert (process.returncode, out) == (0, "open\n"), err
    with embedded.open() as cache:
        assert cache.query(f"SELECT version FROM {cache.table('schema_version')}").height == 9


def _open_in_a_fork(folder, answers):
    try:
        with open_cache(cache_dir=folder):
            answers.put("opened")
    except CacheForkedError as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_is_refused_instead_of_hanging(embedded):
    with embedded.open():
        pass
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_open_in_a_fork, args=(embedded.folder, answers))
    child.start()
    answer = answers.get(timeout=600)
    child.join(600)
    assert "spawn" in answer


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    lock = FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    end_of_child, end = os.pipe()
    is_there, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.write(there, b".")
        os.read(end_of_child, 1)
        os._exit(0)
    os.read(is_there, 1)
    # As if this process had been killed: `release` would unlock it for both.
    lock._file.abandon()
    other = FileLock(tmp_path / "lock")
    assert other.is_free()
    assert other.try_acquire()
    other.release()
    os.close(end)
    os.waitpid(child, 0)
    for one in (end_of_child, is_there, there):
        os.close(one)


# --- errors --------------------------------------------------------------------------------------


def driver_errors():
    from clickhouse_connect.driver import exceptions

    return [
        one
        for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, exceptions.ClickHouseError)
    ]


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        (driver.opening, CacheUnavailableError),
        (driver.reading, CacheError),
        (driver.writing, CacheWriteError),
    ],
)
def test_every_error_of_the_driver_is_translated(door, kind):
    makers = [*driver_errors(), ConnectionResetError, TimeoutError, OSError, RuntimeError]
    assert len(makers) > 12
    for make in makers:
        arguments = () if make.__name__ == "StreamClosedError" else ("word\nmore",)
        with pytest.raises(kind) as caught, door("http://host/db"):
            raise make(*arguments)
        assert isinstance(caught.value, ConnectionError | RangeBarError)
        assert caught.value.__cause__.__class__ is make
        assert "http://host/db" in str(caught.value)


def test_other_errors_pass_unchanged():
    for door in (driver.opening, driver.reading, driver.writing):
        for error in (KeyError("x"), ImportError("x"), CacheForkedError("x")):
            with pytest.raises(type(error)) as caught, door("http://host"):
                raise error
            assert caught.value is error


def test_an_invalid_query_raises_with_the_error_code(cache):
    with pytest.raises(CacheQueryError) as caught:
        cache.query("SELECT * FROM no_such_table")
    assert caught.value.code == 60
    with pytest.raises(CacheWriteError):
        cache.command("INSERT INTO no_such_table VALUES (1)")


def test_a_server_that_is_down_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("rangebar_polars.clickhouse.open.READS", QUICK)
    with (
        pytest.raises(CacheUnavailableError, match="use_cache=False") as caught,
        open_cache("http://me:secret@127.0.0.1:1", cache_dir=tmp_path),
    ):
        pass
    assert isinstance(caught.value, ConnectionError)
    assert "secret" not in str(caught.value)


def test_a_retry_waits_longer_each_time_and_gives_up():
    tries = []

    def fail():
        tries.append(time.monotonic())
        raise TimeoutError

    policy = Retry(attempts=4, first_wait_s=0.02, longest_wait_s=0.04, jitter_s=0.0)
    with pytest.raises(TimeoutError):
        policy.run(fail, transient=driver.is_transient)
    waits = [after - before for before, after in pairwise(tries)]
    assert len(tries) == 4
    assert all(wait >= least for wait, least in zip(waits, (0, 0.02, 0.04), strict=True))


def test_a_slow_failure_is_not_retried():
    tries = []

    def fail():
        tries.append(None)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Retry(attempts=4, longest_try_s=0).run(fail, transient=driver.is_transient)
    assert len(tries) == 1


def test_a_server_that_never_answers_is_unavailable(monkeypatch):
    monkeypatch.setattr(driver, "_SILENCE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"http://127.0.0.1:{silent.getsockname()[1]}/bars"
        with pytest.raises(CacheUnavailableError, match="cannot be reached"), open_cache(dsn):
            pass


def test_two_users_of_a_server_do_not_share_a_connection():
    one, other = (resolve(f"http://{user}:secret@localhost:8123/bars") for user in ("ann", "bob"))
    assert one.address == other.address
    assert one.key != other.key
    assert one.key == resolve("http://ann:secret@localhost:8123/bars").key
