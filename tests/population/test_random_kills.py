"""A population that is killed again and again leaves the same as an uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date

import pytest

from population.oracle import judge, kept, spec, table
from population.places import Place
from population.tape import SYMBOL, bars, store, tape
from population.workers import Workers, wait_for
from repetitions import repeated

FIRST, LAST = date(2024, 1, 10), date(2024, 3, 9)
TICKS = tape(FIRST, LAST)
THRESHOLDS = (250, 400)
KILLS = repeated(16, 200)
ON_SERVER = repeated(4, 20)

CALL = {
    "symbol": SYMBOL,
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "threshold_decimal_bps": list(THRESHOLDS),
    "ouroboros": "month",
    "notify": False,
}


def run(place):
    return place.populate(FIRST, LAST, list(THRESHOLDS), ouroboros="month")


@pytest.fixture(scope="module")
def clean(all_workers, new_folder):
    """Run without a kill; return the resulting table and the number of steps."""
    place = Place(new_folder())
    store(place.folder, TICKS)
    steps = new_folder() / "steps"
    child = all_workers.start("populate", count_in=str(steps), **CALL, **place.arguments)
    assert child.result() > 100
    for threshold in THRESHOLDS:
        made = kept(place, spec(threshold, reset="month"))
        expected = bars(TICKS, threshold, reset="month")
        # The forming bar at the end belongs to a month that has not ended.
        assert made.equals(expected.select(made.columns))
    return place.folder, table(place), steps.stat().st_size


def disturb(workers, place, rng, steps):
    """Kill at random moments until the work is done; return the number of kills."""
    kills = 0
    for number in range(rng.randint(2, 5)):
        count = place.folder / f"steps-{number}"
        count.touch()
        child = workers.start("populate", count_in=str(count), **CALL, **place.arguments)
        # After some steps and a random delay, so that kills fall between steps, too.
        wanted = rng.randrange(steps)
        wait_for(
            lambda child=child, count=count, wanted=wanted: (
                count.stat().st_size >= wanted or not child.is_running()
            )
        )
        time.sleep(rng.uniform(0, 0.02))
        if child.kill() != signal.SIGKILL:
            break
        kills += 1
    return kills


def kill_often(many, places, seed, steps, wanted):
    """Disturb one place after another until enough kills have hit; return their number."""
    rng, kills, disturbed = random.Random(seed), 0, []
    while kills < wanted:
        place = places(len(disturbed))
        kills += disturb(many, place, rng, steps)
        disturbed.append(place)
    return disturbed


def test_killed_at_random_moments(in_memory, clean, new_folder):
    folder, expected, steps = clean

    def fresh(_number):
        return Place(new_folder()).with_ticks_of(folder)

    # Two at a time, each with processes of its own.
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        both = []
        for seed in (2, 3):
            many = Workers(in_memory / f"seed{seed}")
            stack.callback(many.stop)
            both.append(threads.submit(kill_often, many, fresh, seed, steps, KILLS // 2))
        disturbed = [place for one in both for place in one.result()]
    for place in disturbed:
        with place.open():
            run(place)
            judge(place, expected, lambda place=place: run(place))


def test_killed_at_random_moments_beside_a_server(workers, clean, server):
    folder, expected, steps = clean
    server.with_ticks_of(folder)

    def fresh(number):
        return Place(server.folder, f"{server.dsn}_{number}")

    for place in kill_often(workers, fresh, 4, steps, ON_SERVER):
        with place.open():
            run(place)
            judge(place, expected, lambda place=place: run(place))
