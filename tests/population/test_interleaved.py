"""A fetch and the bars of what was fetched take turns by month: an interrupt keeps both."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, Tape, faults
from exchange.tape import instant_us
from population.oracle import assert_kept, chains, judge, spec, table
from population.places import Place
from population.tape import SYMBOL, bars, between
from rangebar_polars._files.failpoints import Step
from rangebar_polars.exceptions import PopulationError
from rangebar_polars.populate import ticks as population_ticks
from rangebar_polars.populate.workers import publish
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

FIRST, LAST = date(2024, 1, 30), date(2024, 4, 3)
OTHER = "ETHUSDT"
PER_DAY = 40
TAPE = Tape.generate(SYMBOL, FIRST, days=65, per_day=PER_DAY, absent=2, archive_lacks=2, seed=5)
SECOND = Tape.generate(OTHER, FIRST, days=65, per_day=PER_DAY, absent=0, archive_lacks=0, seed=6)
THRESHOLDS = [250, 500]
ONE_DAY = timedelta(days=1)
#: An end within the third month, where nothing depends on a fourth.
SHORT = date(2024, 3, 10)

pytestmark = pytest.mark.usefixtures("quick_retries")


def use(box, monkeypatch):
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def box(monkeypatch):
    with Exchange(TAPE, SECOND) as one:
        use(one, monkeypatch)
        yield one


@pytest.fixture(scope="module")
def fetched_before(new_folder):
    """Return the table of a population that finds all ticks in the store."""
    place = Place(new_folder())
    with Exchange(TAPE) as box, pytest.MonkeyPatch.context() as patch:
        use(box, patch)
        rb.fetch_ticks(SYMBOL, FIRST, LAST, cache_dir=place.folder, verbose=False)
        place.populate(FIRST, LAST, THRESHOLDS)
    with place.open():
        for threshold in THRESHOLDS:
            assert_kept(place, bars(TAPE.ticks, threshold, reset="year"), spec(threshold))
        return table(place)


def until(rows, last):
    """Return the rows of a table up to a day."""
    return [row for row in rows if row[1] <= last]


class Turns:
    """The turns that a population takes: (fetched, first, last) and (published, first, last)."""

    def __init__(self, patch):
        self.taken = []
        self.stop_at_fetch = 0
        ensure, publishing = population_ticks.ensure_days, publish.publish

        def fetch(venue, symbol, span, **options):
            count = sum(turn[0] == "fetch" for turn in self.taken) + 1
            self.taken.append(("fetch", span.first_day, span.last_day))
            if count == self.stop_at_fetch:
                raise KeyboardInterrupt
            return ensure(venue, symbol, span, **options)

        def published(cache, drafts):
            days = [draft.day for draft in drafts]
            self.taken.append(("bars", min(days), max(days)))
            return publishing(cache, drafts)

        patch.setattr(population_ticks, "ensure_days", fetch)
        patch.setattr(publish, "publish", published)


@pytest.fixture
def turns(monkeypatch):
    return Turns(monkeypatch)


def test_each_month_is_computed_before_the_next_one_is_fetched(
    box, embedded, turns, fetched_before
):
    embedded.populate(FIRST, LAST, THRESHOLDS)
    fetches = [turn[1:] for turn in turns.taken if turn[0] == "fetch"]
    # The first day of a month shows whether ticks have moved over midnight.
    assert fetches == [
        (FIRST, date(2024, 2, 1)),
        (date(2024, 2, 2), date(2024, 3, 1)),
        (date(2024, 3, 2), date(2024, 4, 1)),
        (date(2024, 4, 2), LAST),
    ]
    for number, (kind, first, _) in enumerate(turns.taken):
        if kind == "fetch" and number:
            done = max(turn[2] for turn in turns.taken[:number] if turn[0] == "bars")
            assert done == date(first.year, first.month, 1) - ONE_DAY
    with embedded.open():
        judge(embedded, fetched_before, lambda: embedded.populate(FIRST, LAST, THRESHOLDS))


# Each month, and each kind of cache; a long run has all combinations.
STOPS = repeated(
    [("embedded", 1), ("server", 2), ("embedded", 4)],
    [(place, stop) for place in ("embedded", "server") for stop in (1, 2, 4)],
)


@pytest.mark.parametrize(("place", "stop"), STOPS, indirect=["place"])
def test_an_interrupt_keeps_the_bars_of_every_month_that_was_fetched(
    box, place, turns, fetched_before, stop
):
    last = LAST if stop == 4 else SHORT
    wanted = (last - FIRST).days + 1
    turns.stop_at_fetch = stop
    with pytest.raises(KeyboardInterrupt) as interrupt:
        place.populate(FIRST, last, THRESHOLDS)
    end = {1: None, 2: date(2024, 2, 1), 3: date(2024, 3, 1), 4: date(2024, 4, 1)}[stop]
    days = 0 if end is None else (end - FIRST).days
    notes = interrupt.value.__notes__
    if end is None:
        none = f"0 of {wanted} days are stored"
        assert notes[:-1] == [
            f"BTCUSDT: ticks of {none}",
            *(f"BTCUSDT at {threshold} dbps: bars of {none}" for threshold in THRESHOLDS),
        ]
    else:
        assert notes[:-1] == [
            f"BTCUSDT: ticks of {days + 1} of {wanted} days are stored, the last is {end}",
            *(
                f"BTCUSDT at {threshold} dbps: bars of {days} of {wanted} days are stored, "
                f"the last is {end - ONE_DAY}"
                for threshold in THRESHOLDS
            ),
        ]
    assert notes[-1] == "run it again to resume from there"
    with place.open() as cache:
        assert {chain.frontier for chain in chains(cache).values()} == ({end} - {None})
    asked = len(box.requests)
    turns.stop_at_fetch = 0
    with place.open():
        place.populate(FIRST, last, THRESHOLDS)
        expected = until(fetched_before, last)
        judge(place, expected, lambda: place.populate(FIRST, last, THRESHOLDS))
    stored = [FIRST + n * ONE_DAY for n in range(days + 1 if days else 0)]
    again = {request.path for request in box.requests[asked:]}
    assert again.isdisjoint(box.path(day) for day in stored)


def test_stored_months_are_computed_before_anything_is_fetched(
    box, embedded, turns, fetched_before
):
    rb.fetch_ticks(SYMBOL, FIRST, "2024-03-10", cache_dir=embedded.folder, verbose=False)
    turns.taken.clear()
    turns.stop_at_fetch = 1
    with pytest.raises(KeyboardInterrupt):
        embedded.populate(FIRST, LAST, THRESHOLDS)
    with embedded.open() as cache:
        assert {chain.frontier for chain in chains(cache).values()} == {date(2024, 3, 1)}
    assert turns.taken[-1] == ("fetch", date(2024, 3, 11), date(2024, 4, 1))
    turns.stop_at_fetch = 0
    with embedded.open():
        embedded.populate(FIRST, LAST, THRESHOLDS)
        judge(embedded, fetched_before, lambda: embedded.populate(FIRST, LAST, THRESHOLDS))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_kill_between_two_months_leaves_the_same_table(
    box, workers, embedded, fetched_before, number
):
    """Killed as the units of a group are inserted; a month has two groups at most."""
    last = LAST if number == 4 else SHORT
    child = workers.start(
        "populate",
        die_at=(f"cache:{Step.UNITS_INSERTED.name}", number),
        symbol=SYMBOL,
        start_date=str(FIRST),
        end_date=str(last),
        threshold_decimal_bps=THRESHOLDS,
        notify=False,
        **embedded.arguments,
    )
    assert child.ended() == signal.SIGKILL
    with embedded.open() as cache:
        frontiers = {chain.frontier for chain in chains(cache).values()}
        stored = TickStorage(embedded.folder).list_days(SYMBOL)
    # At most the month that was being computed is behind the ticks.
    assert not frontiers or (max(stored) - max(frontiers)).days <= 32
    with embedded.open():
        embedded.populate(FIRST, last, THRESHOLDS)
        expected = until(fetched_before, last)
        judge(embedded, expected, lambda: embedded.populate(FIRST, last, THRESHOLDS))


EXECUTORS = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn")),
}


# Each executor, and each kind of cache; a long run has all combinations.
WORKERS = repeated(
    [("server", "threads"), ("embedded", "processes")],
    [(place, name) for place in ("embedded", "server") for name in EXECUTORS],
)


@pytest.mark.parametrize(("place", "name"), WORKERS, indirect=["place"])
def test_workers_compute_each_month_before_the_next_one_is_fetched(
    name, box, place, turns, fetched_before
):
    options = {"symbol": [SYMBOL, OTHER], "executor": EXECUTORS[name]()}
    turns.stop_at_fetch = 5  # the third month of the first symbol
    with pytest.raises(KeyboardInterrupt) as interrupt:
        place.populate(FIRST, SHORT, THRESHOLDS, **options)
    with place.open() as cache:
        frontiers = {chain.frontier for chain in chains(cache).values()}
        assert len(chains(cache)) == 4
    assert frontiers == {date(2024, 3, 1)}
    assert "BTCUSDT: ticks of 32 of 41 days are stored, the last is 2024-03-01" in (
        interrupt.value.__notes__
    )
    turns.stop_at_fetch = 0
    with place.open():
        place.populate(FIRST, SHORT, THRESHOLDS, **options)
        of_first = [row for row in table(place) if row[0].spec.symbol == SYMBOL]
        assert of_first == until(fetched_before, SHORT)
        for threshold in THRESHOLDS:
            expected = bars(between(SECOND.ticks, FIRST, SHORT), threshold, reset="year")
            assert_kept(place, expected, spec(threshold, symbol=OTHER))
        assert int(place.populate(FIRST, SHORT, THRESHOLDS, **options)) == 0


def moved(tape, day, by):
    """Return the tape with its last trades before a midnight moved behind it."""
    row, midnight = tape.rows_before(day), instant_us(day)
    rows = pl.int_range(pl.len()).is_between(row - by, row - 1)
    time = pl.when(rows).then(pl.lit(midnight)).otherwise(pl.col("timestamp").to_physical())
    times = time.cum_max().cast(tape.ticks.schema["timestamp"])
    return replace(tape, ticks=tape.ticks.with_columns(timestamp=times))


@pytest.mark.parametrize("boundary", [date(2024, 2, 1), date(2024, 3, 1)])
def test_trades_that_a_new_edition_moves_over_the_end_of_a_month_are_no_change_later(
    embedded, monkeypatch, boundary
):
    """The days before the boundary are stored in their first edition."""
    with Exchange(TAPE) as box:
        use(box, monkeypatch)
        rb.fetch_ticks(SYMBOL, FIRST, boundary - ONE_DAY, cache_dir=embedded.folder, verbose=False)
    again = moved(TAPE, boundary, 5)
    with Exchange(again) as box:
        use(box, monkeypatch)
        last = boundary + 7 * ONE_DAY
        report = embedded.populate(FIRST, last)
        assert report.is_complete
        assert report.stale == []
        storage = TickStorage(embedded.folder)
        stored = storage.get_ticks(SYMBOL, FIRST, last)
        expected = between(again.ticks, FIRST, last)
        assert stored.drop("timestamp").equals(expected.drop("timestamp"))
        with embedded.open():
            assert_kept(embedded, bars(stored, reset="year"))


def test_a_day_that_is_unavailable_ends_the_population_and_nothing_after_it_is_fetched(
    box, embedded, turns
):
    lost, path = date(2024, 2, 20), partial(box.path, symbol=OTHER)
    box.fail(path(lost), faults.flip(), times=None)
    with pytest.raises(PopulationError) as incomplete:
        embedded.populate(FIRST, LAST, THRESHOLDS, symbol=OTHER)
    report = incomplete.value.report
    assert {one.hole.day for one in report.series} == {lost}
    assert [one.published for one in report.series] == [(lost - FIRST).days] * 2
    assert max(turn[2] for turn in turns.taken if turn[0] == "fetch") == date(2024, 3, 1)
    assert not box.asked(path("2024-03-15"))


def test_a_series_past_a_lost_day_keeps_its_bars_while_another_stops_there(box, embedded):
    """At one threshold everything up to March is stored; February is damaged for the other."""
    embedded.populate(FIRST, "2024-03-10", 500)
    storage = TickStorage(embedded.folder)
    storage.delete_ticks(SYMBOL, date(2024, 2, 10), date(2024, 2, 11))
    box.fail(box.path("2024-02-10"), faults.flip(), times=None)
    with pytest.raises(PopulationError) as incomplete:
        embedded.populate(FIRST, LAST, THRESHOLDS)
    (small, large) = incomplete.value.report.series
    assert (small.threshold, small.hole.day) == (250, date(2024, 2, 10))
    # Its bars include the lost day, so it ends with the stored ticks: nothing after them is fetched.
    assert (large.threshold, large.hole.day) == (500, date(2024, 3, 11))
    assert (large.kept, large.published) == (41, 0)


def test_quotes_are_fetched_a_month_at_a_time_and_each_archive_once(embedded, monkeypatch, turns):
    quotes = QuoteTape.generate("EURUSD", "2024-01-29", "2024-03-08")
    with Exchange(Tape.generate(), quotes) as box:
        use(box, monkeypatch)
        options = {"symbol": "EURUSD", "source": "exness"}
        report = embedded.populate("2024-01-29", "2024-02-29", 50, **options)
        assert report.is_complete
        fetches = [turn[1:] for turn in turns.taken if turn[0] == "fetch"]
        assert fetches[0][1] == date(2024, 1, 31)
        assert fetches[1][0] == date(2024, 2, 1)
        archives = [request.path for request in box.requests if request.method == "GET"]
        zips = [path for path in archives if path.endswith(".zip")]
        name = "EURUSD_Raw_Spread"
        files = [f"/ticks/{name}/2024/{month}/Exness_{name}_2024_{month}" for month in ("01", "02")]
        assert zips == [f"{file}.zip" for file in files]


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from rangebar_polars.cli import main
sys.exit(main())
"""


def test_ctrl_c_in_a_shell_says_what_is_stored(box, embedded, fetched_before, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    waits = threading.Event()

    def stall(request, answer):
        waits.set()
        return faults.stall()(request, answer)

    last = date(2024, 3, 14)
    rule = box.fail(box.path("2024-03-12"), stall, times=None)
    words = ["populate", SYMBOL, str(FIRST), str(last), "-t", "250,500", "--quiet", "--no-notify"]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *words, "--cache-dir", str(embedded.folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert waits.wait(600)
            process.send_signal(signal.SIGINT)
            out, heard = process.communicate(timeout=600)
        finally:
            process.kill()
    rule.cancel()
    assert (process.returncode, out) == (130, "")
    lines = heard.splitlines()
    assert lines[-2:] == ["rangebar: run it again to resume from there", "rangebar: interrupted"]
    for threshold in THRESHOLDS:
        stored = "bars of 31 of 45 days are stored, the last is 2024-02-29"
        assert f"rangebar: BTCUSDT at {threshold} dbps: {stored}" in lines
    (of_ticks,) = [line for line in lines if "ticks of" in line]
    assert int(of_ticks.split("ticks of ")[1].split()[0]) >= 32
    with embedded.open():
        embedded.populate(FIRST, last, THRESHOLDS)
        expected = until(fetched_before, last)
        judge(embedded, expected, lambda: embedded.populate(FIRST, last, THRESHOLDS))
