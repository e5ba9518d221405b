"""Runs from the exchange to the local copy of a state, killed at each of their steps."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from datetime import date

import pytest

import rangebar_polars as rb
from exchange import Exchange, Tape, faults
from population import calls
from population.oracle import assert_kept, chains, judge, spec, table
from population.places import Place
from population.tape import ONE_DAY, SYMBOL, bars
from rangebar_polars._files.failpoints import Step
from rangebar_polars.storage.parquet import TickStorage

#: Three days on each side of a reset.
DAYS = ("2024-12-29", "2025-01-03")
BOUNDARY = date(2025, 1, 1)
TAPE = Tape.generate("BTCUSDT", DAYS[0], days=6, per_day=400, absent=1, archive_lacks=1)

DISK_STEPS = {step for step in Step if step.area == "disk"}
# Only a population that adds optional feature groups reaches the last one.
CACHE_STEPS = {step for step in Step if step.area == "cache"} - {Step.COLUMNS_ADDED}

#: Steps that a run without faults or leftovers does not reach.
NOT_REACHED = {
    Step.STALE_TEMP_REMOVED,
    Step.FILE_QUARANTINED,
    Step.QUARANTINE_SYNCED,
    Step.FILE_PUT_BACK,
    Step.GARBAGE_REMOVED,
}
OF_REFRESH = {
    Step.GENERATION_OPENED,
    Step.GENERATION_PUBLISHED,
    Step.GENERATION_DISCARDED,
}
#: Steps of a local copy of a state.
OF_COPY = [
    Step.TEMP_CREATED,
    Step.TEMP_HALF_WRITTEN,
    Step.TEMP_WRITTEN,
    Step.TEMP_SYNCED,
    Step.LINKED,
    Step.PLACE_SYNCED,
]


@pytest.fixture(scope="module")
def box():
    with Exchange(TAPE) as one, pytest.MonkeyPatch.context() as patch:
        for name, value in one.environment.items():
            patch.setenv(name, value)
        # So that each step that opens the cache can be killed.
        patch.setenv("RANGEBAR_CACHE_IDLE_S", "0")
        yield one


def run(place):
    return place.populate(*DAYS, [250, 500])


@pytest.fixture(scope="module")
def clean(box, new_folder):
    """Return the result of an undisturbed run, and its steps."""
    place, labels = Place(new_folder()), []
    with ExitStack() as stack:
        for _ in calls.watched(labels.append, stack):
            run(place)
    with place.open():
        for threshold in (250, 500):
            assert_kept(place, bars(TAPE.ticks, threshold, reset="year"), spec(threshold))
        return table(place), labels


def test_the_steps_of_the_path_are_all_known(clean):
    labels = set(clean[1])
    assert labels == {
        *(f"disk:{step.name}" for step in DISK_STEPS - NOT_REACHED),
        *(f"cache:{step.name}" for step in CACHE_STEPS - OF_REFRESH),
    }


def kill(workers, place, label, number=1, **options):
    arguments = {
        "symbol": SYMBOL,
        "start_date": DAYS[0],
        "end_date": DAYS[1],
        "threshold_decimal_bps": [250, 500],
        "notify": False,
    }
    child = workers.start(
        "populate", die_at=(label, number), **{**arguments, **place.arguments, **options}
    )
    assert child.ended() == signal.SIGKILL, label


def finish(place, clean):
    with place.open():
        run(place)
        judge(place, clean[0], lambda: run(place))
    found = set(TickStorage(place.folder).verify()["state"])
    assert found <= {"ok", "unreferenced"}, found


def test_killed_at_each_step_of_a_fetch_one_after_another(box, workers, clean, embedded):
    """Each run starts from what the last one left, until the days are in the store."""
    steps = [label for label in dict.fromkeys(clean[1]) if label.startswith("disk:")]
    assert len(steps) == len(DISK_STEPS) - len(NOT_REACHED)
    for label in steps:
        kill(workers, embedded, label)
    assert TickStorage(embedded.folder).list_days(SYMBOL)
    finish(embedded, clean)


def test_killed_between_the_fetch_and_the_first_bar(box, workers, clean, embedded):
    opened = f"cache:{Step.CACHE_OPENED.name}"
    kill(workers, embedded, opened)
    assert not TickStorage(embedded.folder).list_days(SYMBOL)
    # The cache is closed while the ticks of a segment are fetched.
    assert clean[1].count(opened) == 3
    kill(workers, embedded, opened, 2)
    assert len(TickStorage(embedded.folder).list_days(SYMBOL)) == 3
    with embedded.open() as cache:
        assert not chains(cache)
    finish(embedded, clean)


@pytest.mark.parametrize("steps", [OF_COPY[:3], OF_COPY[3:]], ids=["before", "after"])
def test_killed_at_each_step_of_a_local_copy_one_after_another(
    box, workers, clean, embedded, steps
):
    """Each run adds a day; a copy that was not written leaves only an older one."""
    rb.fetch_ticks(SYMBOL, *DAYS, cache_dir=embedded.folder)
    first = date.fromisoformat(DAYS[0])
    # Nothing continues a segment after its last day, so its state has no copy then.
    days = [day for n in range(6) if (day := first + n * ONE_DAY) + ONE_DAY != BOUNDARY]
    for step, day in zip(steps, days, strict=False):
        kill(workers, embedded, f"disk:{step.name}", end_date=str(day))
    finish(embedded, clean)


def test_a_reset_is_the_same_however_often_it_is_reached(box, workers, clean, embedded):
    """Killed around the group that ends the last bar of the year, and at the next group."""
    kill(workers, embedded, "cache:BARS_PROVED")
    with embedded.open() as cache:
        assert not chains(cache)
    for step in ("UNITS_INSERTED", "BARS_PROVED"):
        kill(workers, embedded, f"cache:{step}")
        with embedded.open() as cache:
            assert {chain.frontier for chain in chains(cache).values()} == {BOUNDARY}
    finish(embedded, clean)


@pytest.mark.parametrize("after", [0.6])
def test_a_kill_in_the_middle_of_a_download_loses_nothing(box, workers, clean, embedded, after):
    asked = threading.Event()

    def stall(request, answer):
        asked.set()
        return faults.stall(after=after)(request, answer)

    rule = box.fail(box.path("2024-12-31"), stall, times=None, method="GET")
    child = workers.start(
        "populate",
        symbol=SYMBOL,
        start_date=DAYS[0],
        end_date=DAYS[1],
        threshold_decimal_bps=[250, 500],
        **embedded.arguments,
    )
    assert asked.wait(600)
    assert child.kill() == signal.SIGKILL
    rule.cancel()
    finish(embedded, clean)


def test_a_run_after_the_fetch_asks_for_no_ticks(box, embedded, clean):
    rb.fetch_ticks(SYMBOL, *DAYS, cache_dir=embedded.folder)
    asked = len(box.requests)
    finish(embedded, clean)
    assert len(box.requests) == asked
