"""A rebuild paused or killed at any step: readers see the old bars, whole, until the new ones."""

from __future__ import annotations

import shutil
import signal
import warnings
from datetime import date

import polars as pl
import pytest

import rangebar_polars as rb
from population.oracle import counts, judge, spec, table
from population.places import Place
from population.tape import ONE_DAY, SYMBOL, bars, between, store, tape
from population.workers import wait_for
from rangebar_polars._files.failpoints import Step
from rangebar_polars.clickhouse.commit.generations import open_generation
from rangebar_polars.exceptions import PopulationError
from rangebar_polars.readers.cached import count_bars, get_cached_bars, get_n_bars
from rangebar_polars.storage.coverage import CoverageWarning

FIRST, LAST = date(2024, 1, 20), date(2024, 2, 12)
#: The first day of the rebuild.
ANEW = date(2024, 1, 26)
OLD = tape(FIRST, LAST)
NEW = pl.concat(
    [
        between(OLD, FIRST, ANEW - ONE_DAY),
        between(OLD, ANEW, LAST).with_columns((pl.col("price") * 1.1).round(2)),
    ]
)
CALL = {
    "symbol": SYMBOL,
    "start_date": str(ANEW),
    "end_date": str(LAST),
    "threshold_decimal_bps": 250,
    "force_refresh": True,
    "notify": False,
}

#: Bars of a chart for either.
CLOSED = {name: bars(ticks).filter("is_closed") for name, ticks in (("old", OLD), ("new", NEW))}


def reads(place):
    """Return what each way of reading sees of the stored days: "old" or "new"."""
    where = place.arguments
    with warnings.catch_warnings():
        # The ticks have changed, which is a warning.
        warnings.simplefilter("ignore", CoverageWarning)
        cached = get_cached_bars(SYMBOL, 250, FIRST, LAST, **where)
        chart = rb.get_range_bars(SYMBOL, FIRST, LAST, 250, fetch_if_missing=False, **where)
        lazy = rb.scan_range_bars(SYMBOL, FIRST, LAST, 250, fetch_if_missing=False, **where)
        newest = get_n_bars(SYMBOL, 50, 250, **where)
    assert {one["source"] for one in chart.attrs["rangebar"]} == {"cache"}
    return {
        _which(cached, "close"),
        _which(lazy.collect(), "close"),
        _which(pl.DataFrame({"close": chart["Close"].to_numpy()}), "close"),
        _which(newest, "close", 50),
        *(name for name, made in CLOSED.items() if made.height == count_bars(SYMBOL, 250, **where)),
    }


def _which(seen, column, newest=None):
    for name, made in CLOSED.items():
        whole = made if newest is None else made.tail(newest)
        if seen[column].to_list() == whole[column].to_list():
            return name
    raise AssertionError("bars that are neither the old nor the new ones")


def make_old(place):
    """Store the old bars, then replace the ticks with new ones."""
    storage = store(place.folder, OLD)
    with place.open():
        place.populate(FIRST, LAST)
    storage.delete_ticks(SYMBOL, ANEW, LAST)
    storage.write_ticks(SYMBOL, NEW)
    return place


@pytest.fixture(scope="module")
def clean(new_folder):
    """Return the folder before a rebuild, the result of an undisturbed rebuild, and its steps."""
    place = make_old(Place(new_folder()))
    target = Place(new_folder() / "copy")
    shutil.copytree(place.folder, target.folder, symlinks=True)
    with target.open():
        assert int(target.populate(ANEW, LAST, force_refresh=True)) > 0
        assert reads(target) == {"new"}
        return place.folder, table(target)


def finish(place, expected):
    with place.open():
        place.populate(ANEW, LAST, force_refresh=True)
        assert reads(place) == {"new"}
        judge(place, expected, lambda: place.populate(FIRST, LAST))


# Columns are added for feature groups, of which these bars have none.
CACHE_STEPS = [s for s in Step if s.area == "cache" and s is not Step.COLUMNS_ADDED]


def test_readers_see_the_old_bars_at_every_step_until_the_new_ones_are(
    workers, clean, server, new_folder
):
    _, expected = clean
    make_old(server)
    with server.open() as cache:
        # A leftover rebuild must be discarded, which is a step, too.
        open_generation(cache, spec().series(FIRST), FIRST, fencing=1)
        steps = new_folder()
        hold = {"folder": str(steps), "prefix": "cache:"}
        child = workers.start("populate", hold_at=hold, **CALL, **server.arguments)
        reached = []
        while True:
            number = len(reached) + 1
            wait_for(lambda n=number: (steps / f"{n}").exists() or not child.is_running())
            if not child.is_running():
                break
            reached.append(Step[(steps / f"{number}").read_text().removeprefix("cache:")])
            is_shown = Step.GENERATION_PUBLISHED in reached
            assert reads(server) == {"new" if is_shown else "old"}, reached[-1]
            (steps / f"{number}.go").touch()
        assert child.result() > 0
        assert set(reached) == set(CACHE_STEPS)
        assert reads(server) == {"new"}
        judge(server, expected, lambda: server.populate(FIRST, LAST))


#: The other steps are covered by the test above and by tests of populations.
SOME = {
    Step.GENERATION_OPENED,
    Step.BARS_INSERTED,
    Step.UNITS_INSERTED,
    Step.GENERATION_PUBLISHED,
}


@pytest.mark.parametrize("step", CACHE_STEPS, ids=lambda step: step.name)
def test_killed_at_a_step_the_bars_are_the_old_ones_or_the_new(
    workers, clean, new_folder, step, is_long
):
    if step not in SOME and not is_long:
        pytest.skip("done only when there is time")
    folder, expected = clean
    place = Place(new_folder() / "copy")
    shutil.copytree(folder, place.folder, symlinks=True)
    if step is Step.GENERATION_DISCARDED:
        with place.open() as cache:
            open_generation(cache, spec().series(FIRST), FIRST, fencing=1)
    child = workers.start("populate", die_at=(f"cache:{step.name}", 1), **CALL, **place.arguments)
    assert child.ended() == signal.SIGKILL
    with place.open():
        is_shown = step in {Step.GENERATION_PUBLISHED, Step.LEASES_RELEASED}
        assert reads(place) == {"new" if is_shown else "old"}
        finish(place, expected)


def test_another_population_discards_a_leftover_rebuild(workers, clean, new_folder):
    folder, _ = clean
    place = Place(new_folder() / "copy")
    shutil.copytree(folder, place.folder, symlinks=True)
    child = workers.start("populate", die_at=("cache:UNITS_PROVED", 1), **CALL, **place.arguments)
    assert child.ended() == signal.SIGKILL
    with place.open() as cache:
        before = counts(place, "units")
        with pytest.raises(PopulationError, match="refresh_stale=True"):
            place.populate(FIRST, LAST)
        assert reads(place) == {"old"}
        assert counts(place, "units") == before
        states = cache.query(f"SELECT state FROM {cache.table('generations')}")["state"]
        assert sorted(states) == ["discarded", "open"]
        # A rebuild from another first day is a different one.
        place.populate(FIRST, LAST, refresh_stale=True)
        assert reads(place) == {"new"}
