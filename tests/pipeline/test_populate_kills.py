"""A population that is killed at any step and run again leaves the same as an uninterrupted one."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
import uuid

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.tapes import SYMBOL, day, facts, kept, of_days, rows, specs, store, tape, whole
from population.workers import Workers
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.generations import open_generation
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.populate.populate import populate_cache_resumable

TICKS = of_days(tape(), 1, 14)
OLD = of_days(tape(), 1, 8)
NEW = pl.concat([of_days(tape(), 1, 3), of_days(tape(), 4, 14).with_columns(pl.col("price") * 1.1)])

#: Steps of the cache that a population without optional feature groups reaches.
CACHE_STEPS = [step for step in Step if step.area == "cache" and step is not Step.COLUMNS_ADDED]
#: Steps that only a refresh reaches.
OF_REFRESH = {Step.GENERATION_OPENED, Step.GENERATION_PUBLISHED, Step.GENERATION_DISCARDED}

PLAIN = {
    "symbol": SYMBOL,
    "start_date": str(day(1)),
    "end_date": str(day(14)),
    "threshold_decimal_bps": [250, 500],
}
REFRESH = {**PLAIN, "start_date": str(day(4)), "force_refresh": True}


def populate(**arguments):
    return populate_cache_resumable(**arguments, verbose=False, notify=False)


@pytest.fixture(scope="module")
def stocked(in_memory):
    """Return a folder with ticks only, and one with old bars, new ticks and an open rebuild."""
    pytest.importorskip("chdb")
    plain, old = in_memory / uuid.uuid4().hex[:12], in_memory / uuid.uuid4().hex[:12]
    store(plain, TICKS)
    storage = store(old, OLD)
    populate(**{**PLAIN, "end_date": str(day(8))}, cache_dir=old)
    storage.delete_ticks(SYMBOL, day(4), day(8))
    storage.write_ticks(SYMBOL, NEW)
    with open_cache(cache_dir=old) as cache:
        open_generation(cache, specs(250)[0].series(day(1)), day(2), fencing=1)
    return {"plain": plain, "refresh": old}


@pytest.fixture(scope="module")
def all_workers(in_memory):
    """Return a process that forks others, which are there sooner than new ones."""
    one = Workers(in_memory / "workers")
    yield one
    one.stop()


@pytest.fixture
def workers(all_workers):
    yield all_workers
    all_workers.end_all()


@pytest.fixture
def copy(stocked, folder):
    """Return a function that copies one of the folders."""

    def make(name):
        target = folder / name
        shutil.copytree(stocked[name], target, symlinks=True)
        return target

    return make


ARGUMENTS = {"plain": PLAIN, "refresh": REFRESH}


@pytest.fixture(scope="module")
def reached(stocked, in_memory):
    """Return the result of an uninterrupted run, and the steps that it reaches."""
    found = {}
    for name, arguments in ARGUMENTS.items():
        target = in_memory / uuid.uuid4().hex[:12]
        shutil.copytree(stocked[name], target, symlinks=True)
        steps = []
        with on_failpoint(steps.append):
            populate(**arguments, cache_dir=target)
        found[name] = (facts(target, 250, 500), steps)
    return found


def test_every_step_is_tried(reached):
    steps = {name: set(found[1]) & set(CACHE_STEPS) for name, found in reached.items()}
    assert steps["plain"] == set(CACHE_STEPS) - OF_REFRESH
    assert steps["refresh"] == set(CACHE_STEPS)


CASES = [
    *(("plain", step) for step in CACHE_STEPS if step not in OF_REFRESH),
    *(("refresh", step) for step in CACHE_STEPS),
]


@pytest.mark.parametrize(("name", "step"), CASES, ids=str)
def test_a_kill_and_another_run_are_one_run(copy, workers, reached, name, step):
    expected, steps = reached[name]
    # A population is killed in its last group, a refresh in its first.
    count = steps.count(step) if name == "plain" else 1
    folder = copy(name)
    die_at = (f"{step.area}:{step.name}", count)
    child = workers.start("populate", die_at=die_at, cache_dir=str(folder), **ARGUMENTS[name])
    assert child.ended() == signal.SIGKILL, child.output
    with open_cache(cache_dir=folder, write=True):
        if name == "refresh":
            judge_whole(folder)
        populate(**ARGUMENTS[name], cache_dir=folder)
        assert facts(folder, 250, 500) == expected
        before = rows(folder)
        populate(**{**ARGUMENTS[name], "force_refresh": False}, cache_dir=folder)
        assert rows(folder) == before


KILLS = 6
MOST_STEPS = 12  # before a kill; a whole run has many more

POPULATE = """
import json, sys
from rangebar_polars._files.failpoints import on_failpoint
from rangebar_polars.populate.populate import populate_cache_resumable

folder, arguments = sys.argv[1:]
print("ready", flush=True)
def tell(step):
    if step.area == "cache":
        print(step.name, flush=True)

with on_failpoint(tell):
    populate_cache_resumable(**json.loads(arguments), verbose=False, cache_dir=folder)
"""


def test_kills_at_any_moments_and_another_run_are_one_run(folder, run):
    # Many segments, so that there are many moments to be killed at.
    arguments = {**PLAIN, "ouroboros": "day"}
    store(folder, TICKS)
    moments = random.Random(20241223)
    killed = 0
    for _ in range(KILLS):
        process = run(POPULATE, folder, json.dumps(arguments))
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        # After some steps and a random delay, so that kills fall between steps, too.
        for _ in range(moments.randrange(MOST_STEPS)):
            process.stdout.readline()
        time.sleep(moments.uniform(0, 0.01))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed
    with open_cache(cache_dir=folder, write=True):
        populate(**arguments, cache_dir=folder)
        for threshold in (250, 500):
            expected = whole(tape(15), threshold, reset="day", last=14)
            assert_frame_equal(kept(folder, threshold, reset="day"), expected)
        before = rows(folder)
        populate(**arguments, cache_dir=folder)
        assert rows(folder) == before


def judge_whole(folder):
    """Check that readers see either the old bars or the new ones, whole."""
    for threshold in (250, 500):
        seen = kept(folder, threshold)
        days = seen["close_time"].dt.date().max()
        offset = (days - day(1)).days + 1
        old, new = whole(OLD, threshold, last=8), whole(NEW, threshold, last=max(offset, 8))
        assert_frame_equal(seen, old if offset <= 8 and seen.equals(old) else new)
