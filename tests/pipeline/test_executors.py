"""Jobs in workers: whatever happens, the cache holds what one process would have written."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

import rangebar_polars as rb
from pipeline.staged import (
    DAYS,
    SPAN,
    SYMBOL,
    THRESHOLDS,
    Bridge,
    Place,
    jobs_of,
    kept,
    kill,
    population,
    spawn_pool,
    store_ticks,
    truth,
)
from rangebar_polars import exceptions
from rangebar_polars.exceptions import (
    CacheWriteError,
    CheckpointError,
    LeaseLostError,
    WorkerLostError,
)
from rangebar_polars.populate.workers.executors import run_jobs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no embedded cache here")


@pytest.fixture(scope="module")
def in_memory():
    """Return a folder in memory where the machine has one, since every write is synced."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ticks(in_memory):
    return store_ticks(in_memory / "ticks")


@pytest.fixture(scope="module")
def expected(ticks):
    return truth(Place(None, ticks))


@pytest.fixture
def embedded(in_memory):
    return Place(None, in_memory / uuid.uuid4().hex[:12])


@pytest.fixture(scope="module")
def bridge(in_memory):
    one = Bridge(in_memory / "bridge")
    yield one
    one.stop()


@pytest.fixture
def server(bridge, tmp_path):
    """Return a database of its own, on the server in the environment or on the bridge."""
    root = os.environ.get("RANGEBAR_TEST_CLICKHOUSE_DSN", bridge.url).rstrip("/")
    one = Place(f"{root}/test_{uuid.uuid4().hex[:12]}", tmp_path)
    yield one
    bridge.drop(one.dsn)


@pytest.fixture(scope="module")
def pool():
    """Return a pool of two processes, shared since starting them is slow; do not kill them."""
    with spawn_pool() as executor:
        yield executor


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """Return an executor of two processes that are restarted when they are killed."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=tmp_path_factory.mktemp("dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def processes(executor):
    """Return the process ids of its workers."""
    return list(executor._processes)


def populate(place, ticks, executor, *, on_publish=lambda _: None):
    """Run all jobs; call `on_publish` before each group of an embedded cache."""
    with population(place) as (leases, publisher):

        def publish(drafts):
            on_publish(drafts)
            publisher.publish(drafts)

        days = []
        jobs = jobs_of(place, leases, ticks=ticks)
        results = list(run_jobs(jobs, executor, publish, on_days=days.append))
        assert sum(days) == DAYS or any(one.error for one in results)
        return results


def judge(place, results, expected):
    for one in results:
        assert one.error is None, one.error
        for outcome in one.outcome.series:
            units = [unit for (series, _), unit in expected.items() if series == outcome.series]
            bars = sum(rows for rows, *_ in units)
            assert (outcome.days, outcome.bars + outcome.orphans) == (len(units), bars)
            assert outcome.hole is None
    assert kept(place) == expected
    # The lock file stays for the next population.
    assert {path.name for path in place.folder.glob("clickhouse.staging/*")} <= {"0.lock"}


def test_threads_write_what_one_process_would(embedded, ticks, expected):
    with ThreadPoolExecutor(2) as executor:
        judge(embedded, populate(embedded, ticks, executor), expected)


def test_processes_publish_on_a_server_what_one_would(server, ticks, expected, pool):
    judge(server, populate(server, ticks, pool), expected)


# Killed processes


class _Killer:
    """Makes executors; a call kills a process of the first few."""

    def __init__(self, kills=1):
        self.kills = kills
        self.made = []
        self.killed = []

    def make(self):
        self.made.append(spawn_pool())
        return self.made[-1]

    def __call__(self, *_):
        if len(self.killed) < self.kills and self.made[-1] not in self.killed:
            self.killed.append(self.made[-1])
            kill(processes(self.made[-1])[0])


@contextmanager
def at_the_first_units(place, action):
    """Run an action as soon as anything is published on a server."""

    def watch():
        with place.open(write=True) as cache:
            while not done.is_set():
                if cache.scalar(f"SELECT count() FROM {cache.table('units')}"):
                    action()
                    return

    done = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_an_executor_that_can_be_replaced_survives_killed_processes(embedded, ticks, expected):
    # At the first groups of each executor, before it has finished a job.
    killer = _Killer(2)
    results = populate(embedded, ticks, killer.make, on_publish=killer)
    assert len(killer.made) == 3
    judge(embedded, results, expected)


def test_a_replaced_executor_works_with_a_server(server, ticks, expected):
    killer = _Killer()
    with at_the_first_units(server, killer):
        results = populate(server, ticks, killer.make)
    assert len(killer.made) == 2
    judge(server, results, expected)


def test_a_dask_cluster_survives_a_killed_worker(embedded, ticks, expected, dask):
    worker = next(iter(dask.run(os.getpid).values()))
    killed = []

    def kill_once(_):
        if not killed:
            killed.append(kill(worker))

    results = populate(embedded, ticks, dask.get_executor(pure=False), on_publish=kill_once)
    judge(embedded, results, expected)


def test_a_dask_cluster_works_with_a_server(server, ticks, expected, dask):
    worker = next(iter(dask.run(os.getpid).values()))
    with at_the_first_units(server, lambda: kill(worker)):
        results = populate(server, ticks, dask.get_executor(pure=False))
    judge(server, results, expected)


def test_a_broken_pool_is_an_error_and_its_published_days_are_stored(embedded, ticks, expected):
    executor = spawn_pool()
    killer = _Killer()
    killer.made.append(executor)
    with pytest.raises(WorkerLostError, match="pass a function that makes a new executor"):
        populate(embedded, ticks, executor, on_publish=killer)
    found = kept(embedded)
    assert 0 < len(found) < len(expected)
    assert found.items() <= expected.items()


def test_a_process_that_always_dies_fails_its_jobs_after_some_tries(embedded, ticks):
    made = []

    def make():
        spawn = multiprocessing.get_context("spawn")
        made.append(ProcessPoolExecutor(1, spawn, initializer=os._exit, initargs=(1,)))
        return made[-1]

    results = populate(embedded, ticks, make)
    assert len(made) >= 3
    assert len(results) == 2
    assert {type(one.error) for one in results} == {WorkerLostError}
    assert kept(embedded) == {}


DRIVER = """
import os, signal, sys
from pipeline.staged import SPAN, SYMBOL, THRESHOLDS, spawn_pool
import rangebar_polars as rb
from rangebar_polars._files.failpoints import Step, on_failpoint

def observe(step):
    reached.append(step)
    if reached.count(Step.UNITS_PROVED) == 3:
        print(*made[0]._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

made, reached = [], []
with on_failpoint(observe):
    rb.populate_cache_resumable(
        SYMBOL, *SPAN, threshold_decimal_bps=THRESHOLDS, cache_dir=sys.argv[1], dsn=sys.argv[2],
        executor=lambda: made.append(spawn_pool()) or made[0],
    )
"""


def test_a_population_resumes_after_its_driver_was_killed(embedded, ticks, expected, pool):
    dsn = f"chdb://{embedded.folder}/clickhouse"
    killed = subprocess.run(
        [sys.executable, "-c", DRIVER, str(ticks), dsn],
        capture_output=True, text=True, timeout=1200, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = kept(embedded)
    assert found.items() < expected.items()
    assert len(found) > 0
    span = (SYMBOL, *SPAN)
    where = {"threshold_decimal_bps": THRESHOLDS, "cache_dir": ticks, "dsn": dsn}
    report = rb.populate_cache_resumable(*span, **where, executor=pool)
    assert sum(one.published for one in report.series) == len(expected) - len(found)
    assert kept(embedded) == expected
    assert [path.name for path in embedded.folder.glob("*.staging/*")] == ["0.lock"]
    assert int(rb.populate_cache_resumable(*span, **where, executor=pool)) == 0
    deadline = time.monotonic() + 600
    while any(Path(f"/proc/{number}").exists() for number in killed.stdout.split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Errors


def test_forked_processes_are_refused_before_any_is_started(embedded, ticks):
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    with pytest.raises(ValueError, match="spawn"):
        populate(embedded, ticks, executor)
    assert processes(executor) == []


def spoilt(job):
    """Return a job that must fail."""
    return replace(
        job, series_jobs=tuple(replace(one, state=b"no state") for one in job.series_jobs)
    )


def test_the_error_of_a_job_comes_back_and_the_others_are_done(embedded, ticks, expected, pool):
    with population(embedded) as (leases, publisher):
        first, second = jobs_of(embedded, leases, ticks=ticks)
        bad, good = run_jobs([spoilt(first), second], pool, publisher.publish)
    assert isinstance(bad.error, CheckpointError)
    assert (bad.job.first_day, bad.outcome) == (first.first_day, None)
    assert (good.job.first_day, good.error) == (second.first_day, None)
    assert kept(embedded) == {
        (series, day): unit for (series, day), unit in expected.items() if day.year == 2024
    }


@pytest.mark.parametrize("name", exceptions.__all__)
def test_an_error_keeps_its_attributes_across_processes(name):
    kind = getattr(exceptions, name)
    parameters = inspect.signature(kind.__init__).parameters.values()
    details = {one.name: [one.name] for one in parameters if one.kind is one.KEYWORD_ONLY}
    error = kind("it failed\n\nhint: try again", **details)
    error.add_note("a note")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    assert vars(found).keys() >= details.keys()


def test_an_error_of_the_publisher_ends_the_run_and_the_workers_stop(embedded, ticks, pool):
    count = iter(range(3))

    def fail(_):
        if next(count) == 2:
            raise CacheWriteError("the disk is full")

    with pytest.raises(CacheWriteError):
        populate(embedded, ticks, pool, on_publish=fail)
    assert list(embedded.folder.glob("clickhouse.staging/*")) == [
        embedded.folder / "clickhouse.staging/0.lock"
    ]
    assert pool.submit(os.getpid).result(timeout=600) in processes(pool)


def test_workers_of_a_population_that_has_ended_publish_nothing(server, ticks, pool):
    with population(server) as (leases, _):
        jobs = list(jobs_of(server, leases, ticks=ticks))
    results = list(run_jobs(jobs, pool, print))
    assert {type(one.error) for one in results} == {LeaseLostError}
    assert kept(server) == {}


def test_a_job_is_drawn_only_when_there_is_room(embedded, ticks):
    asked, ended = [], 0
    with population(embedded) as (leases, publisher), ThreadPoolExecutor(1) as executor:
        job = spoilt(next(jobs_of(embedded, leases, ticks=ticks)))
        jobs = (asked.append(number) or job for number in range(6))
        for _ in run_jobs(jobs, executor, publisher.publish):
            # One more than can run, so that no worker waits.
            assert len(asked) <= ended + 2
            ended += 1
    assert ended == 6
