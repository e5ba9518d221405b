"""Time zones, wrong clocks, midnight during a run, and instants at which something begins."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exchange import Exchange, Tape
from population import calls
from population.oracle import assert_kept, chains, judge, spec, table
from population.places import Place
from population.tape import (
    DAY_US,
    ONE_DAY,
    SYMBOL,
    at,
    bars,
    between,
    microseconds,
    store,
    tape,
    walk,
)
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.ingest.newest_day import ClampWarning, ClockSkewError, newest_day

#: The month in which the clocks of New York go forward.
FIRST, LAST = date(2024, 3, 8), date(2024, 3, 13)
TICKS = tape(FIRST, LAST, 120)
CALL = {
    "symbol": SYMBOL,
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "threshold_decimal_bps": 250,
    "ouroboros": "day",
    "notify": False,
}


@pytest.fixture(scope="module")
def clean(new_folder):
    place = Place(new_folder())
    store(place.folder, TICKS)
    with place.open():
        assert int(place.populate(FIRST, LAST, ouroboros="day")) > 50
        return place.folder, table(place)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_a_time_zone_changes_nothing(workers, clean, embedded, zone):
    """The time zone of the writer and of the reader."""
    folder, expected = clean
    embedded.with_ticks_of(folder)
    child = workers.start("populate", environment={"TZ": zone}, **CALL, **embedded.arguments)
    assert child.result() > 50
    judge(embedded, expected, lambda: embedded.populate(FIRST, LAST, ouroboros="day"))
    where = {"symbol": SYMBOL, "first": str(FIRST), "last": str(LAST), "reset": "day"}
    there = workers.start("read", environment={"TZ": zone}, **where, **embedded.arguments)
    here = calls.read(**where, **embedded.arguments)
    assert there.result() == here
    assert here[0] > 50


@pytest.mark.parametrize("skew_s", [86_400, -3_600])
def test_a_wrong_clock_changes_nothing_about_past_days(workers, clean, server, skew_s):
    folder, expected = clean
    server.with_ticks_of(folder)
    child = workers.start("populate", skew_s=skew_s, **CALL, **server.arguments)
    assert child.result() > 50
    judge(server, expected, lambda: server.populate(FIRST, LAST, ouroboros="day"))


@pytest.mark.parametrize("skew_s", [3_600, -86_400])
def test_a_wrong_clock_leaves_the_newest_day_uncertain(embedded, monkeypatch, skew_s):
    today = datetime.now(UTC).date()
    first = today - 3 * ONE_DAY
    real = time.time

    def dated(_request, answer):
        return replace(answer, headers={**answer.headers, "Date": formatdate(real(), usegmt=True)})

    with Exchange(Tape.generate("BTCUSDT", first, days=3, per_day=200)) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        box.fail(".zip", dated, times=None)
        defaults = {**newest_day.__kwdefaults__, "now": lambda: real() + skew_s}
        monkeypatch.setattr(newest_day, "__kwdefaults__", defaults)
        with pytest.raises(ClockSkewError, match="end_date"):
            embedded.populate(first, None)
        # A day that is over by either clock.
        assert int(embedded.populate(first, first)) >= 0


def test_midnight_in_a_run_changes_neither_its_days_nor_its_series(embedded, monkeypatch):
    """The last day is fixed at the start; the next run resumes from there."""
    today = datetime.now(UTC).date()
    first, before = today - 6 * ONE_DAY, today - 2 * ONE_DAY
    ticks = tape(first, today - ONE_DAY)
    store(embedded.folder, between(ticks, first, before))
    real, added = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + added[0])

    def strike(step):
        # The clock passes midnight, and the source has another day.
        if step is Step.BARS_BEFORE and not added[0]:
            added[0] = 86_400.0
            store(embedded.folder, between(ticks, today - ONE_DAY, today - ONE_DAY))

    with embedded.open() as cache:
        with on_failpoint(strike), pytest.warns(ClampWarning, match=str(before)):
            embedded.populate(first, None, ouroboros="none")
        assert added[0]
        (series, chain), *more = chains(cache).items()
        assert (more, chain.frontier) == ([], before + ONE_DAY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClampWarning)
            report = embedded.populate(first, None, ouroboros="none")
        assert report.published == 1
        ((again, chain),) = chains(cache).items()
        assert (again, chain.frontier) == (series, today)
        assert_kept(embedded, bars(ticks), spec(reset="none"))


# Resumed at each boundary, with ticks on both sides of it

#: Days, with a Sunday, a month, and in the first of the two a year, that begin in them.
WINDOWS = [(date(2023, 12, 29), 6), (date(2024, 1, 30), 7)]
AROUND_US = (-2, -1, 0, 1, 2)


@pytest.fixture(scope="module")
def boundary_place(new_folder):
    place = Place(new_folder())
    with pytest.MonkeyPatch.context() as patch, place.open():
        patch.setenv("RANGEBAR_SYMBOL_GATE", "off")
        yield place


_used = iter(range(10_000))


# Shrinking an example takes long.
@settings(max_examples=settings().max_examples // 8, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from(["day", "week", "month", "year", "none"]),
    st.sampled_from(WINDOWS),
    st.lists(st.integers(0, 6), max_size=3),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(AROUND_US)), min_size=3, max_size=20),
    st.integers(0, 1_000),
)
def test_resumed_at_a_boundary_with_ticks_on_both_sides(
    boundary_place, reset, window, stops, around, seed
):
    (begin, count), symbol = window, f"B{next(_used)}USDT"
    days = [begin + n * ONE_DAY for n in range(count)]
    regular = [microseconds(at(day)) + DAY_US // 2 for day in days]
    near = [microseconds(at(begin + n * ONE_DAY)) + offset for n, offset in around]
    times = np.sort([one for one in regular + near if regular[0] <= one <= regular[-1]])
    ticks = walk(times, np.random.default_rng(seed), 0.004, len(times))
    store(boundary_place.folder, ticks, symbol)
    for stop in [*sorted(stops), count - 1]:
        last = min(days[stop % count], days[-1])
        boundary_place.populate(begin, last, symbol=symbol, ouroboros=reset)
    # A bar that is forming at the end has ended if its day's reset is over.
    later = _and_a_later_tick(ticks) if reset == "day" else ticks
    expected = bars(later, reset=None if reset == "none" else reset)
    assert_kept(boundary_place, expected, spec(reset=reset, symbol=symbol))


def _and_a_later_tick(ticks):
    """Append a tick after the reset, which ends the forming bar."""
    last = ticks.tail(1)
    return ticks.vstack(
        last.with_columns(
            timestamp=last["timestamp"] + timedelta(days=2), agg_trade_id=last["agg_trade_id"] + 1
        )
    )
