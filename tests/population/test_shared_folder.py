"""A notebook reads and a population writes in one folder at the same time: neither fails."""

from __future__ import annotations

import warnings
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from population.oracle import judge, table
from population.places import Place
from population.tape import ONE_DAY, SYMBOL, at, bars, between, store, tape
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars
from rangebar_polars.storage.coverage import CoverageWarning

FIRST, LAST = date(2024, 1, 10), date(2024, 3, 2)
TICKS = tape(FIRST, LAST)
#: The least number of runs of each way of reading, and of each call that populates.
SHORT, LONG = 3, 60
RESET = "week"
#: Columns that a read from ticks gives, too.
WINDOW = (FIRST + 3 * ONE_DAY, FIRST + 24 * ONE_DAY)
CALL = {
    "symbol": SYMBOL,
    "start_date": str(FIRST),
    "threshold_decimal_bps": [250, 400],
    "ouroboros": RESET,
    "notify": False,
}

ALL = bars(TICKS, reset=RESET)
CLOSED = ALL.filter("is_closed")


def closed_before(day):
    return CLOSED.filter(pl.col("close_time") < at(day)).height


#: Number of bars by number of stored days.
COUNTS = {closed_before(FIRST + n * ONE_DAY) for n in range((LAST - FIRST).days + 2)}


def read_cached(place):
    seen = get_cached_bars(SYMBOL, 250, FIRST, LAST, ouroboros=RESET, **place.arguments)
    assert seen.height in COUNTS
    assert_frame_equal(seen, CLOSED.head(seen.height).select(seen.columns))
    return seen.height


def read_newest(place):
    seen = get_n_bars(SYMBOL, 20, 250, ouroboros=RESET, **place.arguments)
    if seen.height:
        until = CLOSED.filter(pl.col("close_time") <= seen["close_time"].max())
        assert until.height in COUNTS
        assert_frame_equal(seen, until.tail(20).select(seen.columns))
    return seen.height


def read_count(place):
    count = count_bars(SYMBOL, 250, ouroboros=RESET, **place.arguments)
    assert count in COUNTS
    return count


def read_coverage(place):
    states = coverage(SYMBOL, 250, FIRST, LAST, ouroboros=RESET, **place.arguments)["state"]
    # Stored days come first, then missing ones.
    kept = states.to_list().count("given")
    assert states.to_list() == ["given"] * kept + ["missing"] * (states.len() - kept)
    return kept


def read_chart(place):
    seen = rb.get_range_bars(
        SYMBOL, *WINDOW, 250, ouroboros=RESET, fetch_if_missing=False, **place.arguments
    )
    expected = CLOSED.filter(
        pl.col("close_time").is_between(at(WINDOW[0]), at(WINDOW[1] + ONE_DAY), closed="left")
    )
    first = seen.attrs["rangebar"][0]
    if first["source"] == "ticks":
        # No bars are stored before its start, so that the series begins there.
        made = bars(between(TICKS, *WINDOW), reset=RESET)
        expected = made.filter("is_closed")
    assert seen["Close"].to_list() == expected["close"].to_list()
    return len(seen)


def read_lazily(place):
    frame = rb.scan_range_bars(
        SYMBOL, FIRST, WINDOW[1], 250, ouroboros=RESET, fetch_if_missing=False, **place.arguments
    )
    seen = frame.collect()
    expected = CLOSED.filter(pl.col("close_time") < at(WINDOW[1] + ONE_DAY))
    assert_frame_equal(seen, expected.select(seen.columns))
    return seen.height


READS = [read_cached, read_newest, read_count, read_coverage, read_chart, read_lazily]


def read_in_turn(place, rounds, is_running, enough):
    """Read in every way, in turn, until the other process ends; return the counts.

    `enough` is called when everything was read so often, and the bars were seen to grow.
    """
    done = 0
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        while is_running():
            numbers = [read(place) for read in READS]
            seen.append(numbers[READS.index(read_count)])
            done += 1
            if done >= rounds and len(set(seen)) >= SHORT:
                enough()
    assert seen == sorted(seen), "bars that were there are gone"
    assert done >= rounds
    return seen


@pytest.fixture(scope="module")
def clean(new_folder):
    place = Place(new_folder())
    store(place.folder, TICKS)
    with place.open():
        assert int(place.populate(FIRST, LAST, [250, 400], ouroboros=RESET)) > CLOSED.height
        return place.folder, table(place)


def test_a_population_and_a_notebook_share_a_folder(workers, clean, embedded, is_long):
    folder, expected = clean
    embedded.with_ticks_of(folder)
    rounds = LONG if is_long else SHORT
    end = embedded.folder / "enough"
    # One day per call, then a rebuild of all days.
    child = workers.start(
        "populate_day_by_day",
        until=str(end),
        at_least=rounds,
        last_day=str(LAST),
        **CALL,
        **embedded.arguments,
    )
    seen = read_in_turn(embedded, rounds, child.is_running, end.touch)
    days, rebuilds = child.result()
    assert days >= SHORT
    assert days + rebuilds >= rounds
    assert len(set(seen)) >= SHORT, "it did not grow while it was read"
    finish(embedded, expected)


def test_one_long_population_lets_readers_in(workers, clean, embedded):
    """The folder is yielded between two groups."""
    folder, expected = clean
    embedded.with_ticks_of(folder)
    some = str(FIRST + 26 * ONE_DAY)
    child = workers.start("populate", end_date=some, **CALL, **embedded.arguments)
    seen = []
    while child.is_running():
        seen.append(read_count(embedded))
    assert child.result() > 0
    assert seen == sorted(seen)
    assert any(0 < count < read_count(embedded) for count in seen), "nobody was let in"
    finish(embedded, expected)


def finish(place, expected):
    def run():
        return place.populate(FIRST, LAST, [250, 400], ouroboros=RESET)

    with place.open():
        run()
        judge(place, expected, run)
