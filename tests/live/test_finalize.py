"""Finalizing: closed days become final, their bars units, and what differs is reported."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import polars as pl
import pytest

from exchange import Exchange, Tape
from exchange.archive import trades_csv, zip_of
from live.market import SYMBOL, point_at, tape_of, truth, wait_for
from live.test_compact import columns
from rangebar_polars._utils import clock
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.live_builders import bars_digest, bars_state
from rangebar_polars.compute.builder import RangeBarBuilder
from rangebar_polars.exceptions import CacheUnavailableError
from rangebar_polars.live.bars import live_bars
from rangebar_polars.live.finalizing.passes import Finalizer, FinalizingOptions
from rangebar_polars.live.helper.base import Base
from rangebar_polars.live.helper.client import Helper
from rangebar_polars.live.helper.commands import Commands
from rangebar_polars.live.helper.messages import Message, series_values
from rangebar_polars.live.helper.states import LocalStates
from rangebar_polars.populate.local_checkpoint import read_live
from rangebar_polars.storage.live.journal import LiveJournal
from rangebar_polars.storage.live.journal_file import list_journals
from rangebar_polars.storage.live.state_file import read_state
from rangebar_polars.storage.parquet import TickStorage

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
ONE = timedelta(days=1)
#: The first day that is not closed. Whatever time it is now, archives of the days before are expected.
TODAY = NOW.date() - ONE
FIRST, LAST = TODAY - 2 * ONE, TODAY - ONE
ID = "agg_trade_id"


@pytest.fixture(scope="module")
def tape():
    return tape_of(NOW, before=timedelta(days=3, hours=12), per_minute=2, volatility=1.0)


@pytest.fixture
def market(tmp_path, monkeypatch, tape):
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange


@pytest.fixture
def helper(tmp_path):
    found = Helper(tmp_path)
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path):
    return TickStorage(tmp_path).symbol_dir(SYMBOL, "binance", "spot")


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def stream(folder, tape, *days):
    """Journal whole days as a writer does."""
    for day in days:
        ticks = tape.day(day)
        with LiveJournal(folder, day=day, applied_id=int(ticks[ID][0]) - 1) as journal:
            for part in ticks.iter_slices(1000):
                journal.append_trades(day, columns(part))
            journal.close_day(day)


def specs(*thresholds, reset="year"):
    return [BarSpec.of(SYMBOL, one, reset=reset) for one in thresholds]


def finalize_values(series, *, cache=True, first=FIRST, last=LAST):
    return {
        "source": "binance",
        "market": "spot",
        "symbol": SYMBOL,
        "first_day": str(first),
        "last_day": str(last),
        "series": [series_values(one) for one in series],
        "cache": cache,
    }


def finalize(helper, series, **options):
    return helper.call("finalize", finalize_values(series, **options))


def states(folder):
    storage = TickStorage(folder)
    frame = storage.coverage(SYMBOL, FIRST, LAST)
    return dict(zip(frame["day"], frame["state"], strict=True))


def digest(ticks, threshold=250):
    builder = RangeBarBuilder(threshold, features="microstructure", incomplete="keep")
    builder.push(ticks)
    return bars_digest(bars_state(builder.checkpoint()))


#: Units of a folder, as their rows prove them: threshold, day, rows and hash of the rows.
UNITS = """
import json, sys
import rangebar_polars as rb
from rangebar_polars.clickhouse.query.units import read_chains
with rb.open_cache(cache_dir=sys.argv[1]) as cache:
    print(json.dumps(sorted(
        (series.spec.threshold, str(series.anchor), str(unit.day), unit.rows, unit.row_hash_sum)
        for series, chain in read_chains(cache).items() for unit in chain.units
    )))
"""
POPULATE = """
import json, sys, rangebar_polars as rb
folder, symbol, first, last, reset, *thresholds = sys.argv[1:]
rb.populate_cache_resumable(
    symbol, first, last, threshold_decimal_bps=[int(one) for one in thresholds], ouroboros=reset,
    cache_dir=folder, verbose=False)
"""


def in_process(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def units(folder):
    return json.loads(in_process(UNITS, folder))


def test_units_are_those_of_a_population_without_a_stream(market, helper, folder, tmp_path, tape):
    stream(folder, tape, FIRST, LAST)
    series = [one.series(FIRST) for one in specs(250, 500)]
    answer = finalize(helper, series).values
    assert answer["compacted"] == [str(FIRST), str(LAST)]
    assert (answer["through"], answer["differences"], answer["waiting"]) == (str(LAST), [], [])
    assert states(tmp_path) == {FIRST: "final", LAST: "final"}
    ticks = tape.between(FIRST, TODAY)
    for one, threshold in zip(answer["states"], (250, 500), strict=True):
        assert (one["day"], one["last_id"]) == (str(LAST), ticks[ID][-1])
        assert one["digest"] == digest(ticks, threshold)
    again = finalize(helper, series).values
    assert again == {**answer, "compacted": [], "number": again["number"]}
    helper.close()
    other = tmp_path / "other"
    in_process(POPULATE, other, SYMBOL, FIRST, LAST, "year", 250, 500)
    assert units(tmp_path) == units(other)
    assert len(units(tmp_path)) == 4


def test_an_archive_that_differs_is_reported(market, helper, folder, tmp_path, tape):
    stream(folder, tape, FIRST, LAST)
    path = market.path(FIRST)
    row = 700
    market.republish(path, changed_quantity(row))
    number = int(tape.day(FIRST)[ID][row])
    series = [one.series(FIRST) for one in specs(250, 500)]
    answer = finalize(helper, series).values
    (found,) = answer["differences"]
    assert (found["day"], found["ids"], found["trades"]) == (str(FIRST), [number], [1, 0, 0])
    # In each series, the quantity is that of one bar that has ended.
    bars = [truth(Tape(SYMBOL, tape.day(FIRST)), dbps, midnight(FIRST)) for dbps in (250, 500)]
    inside = [
        one.filter(
            (pl.col("first_agg_trade_id") <= number) & (pl.col("last_agg_trade_id") >= number)
        ).height
        for one in bars
    ]
    assert found["bars"] == [[count, 0, 0] for count in inside]
    assert sum(inside) >= 1
    assert answer["through"] == str(LAST)
    (aside,) = folder.quarantine.iterdir()
    assert pl.read_parquet(aside)[ID].to_list() == [number]
    final = TickStorage(tmp_path).get_ticks(SYMBOL, FIRST, LAST)
    streamed = tape.between(FIRST, TODAY)
    assert final.filter(pl.col(ID) != number).equals(streamed.filter(pl.col(ID) != number))
    assert [one["digest"] for one in answer["states"]] == [digest(final, 250), digest(final, 500)]


def changed_quantity(row):
    """Change the quantity of a row of an archive."""

    def change(text):
        lines = text.splitlines(keepends=True)
        cells = lines[row].split(b",")
        cells[2] = b"7.77700000"
        lines[row] = b",".join(cells)
        return b"".join(lines)

    return change


def test_a_day_without_archive_waits_and_is_not_asked_of_rest(
    market, helper, folder, tmp_path, tape
):
    stream(folder, tape, FIRST, LAST)
    market.put(market.path(LAST), None)
    series = [specs(250)[0].series(FIRST)]
    answer = finalize(helper, series).values
    assert answer["compacted"] == [str(FIRST), str(LAST)]
    assert answer["through"] == str(FIRST)
    (waiting,) = answer["waiting"]
    assert (waiting["kind"], waiting["day"]) == ("archive", str(LAST))
    assert waiting["command"] == f"rangebar fetch {SYMBOL} {FIRST} {LAST}"
    assert states(tmp_path) == {FIRST: "final", LAST: "tail"}
    assert TickStorage(tmp_path).get_ticks(SYMBOL, LAST, LAST).equals(tape.day(LAST))
    assert market.asked("/aggTrades?") == []


def test_without_a_cache_states_are_stored_in_files(market, helper, folder, tmp_path, tape):
    stream(folder, tape, FIRST, LAST)
    noon = midnight(FIRST) + timedelta(hours=12)
    series = [specs(250)[0].series(FIRST), specs(500)[0].series(noon)]
    ticks = tape.between(FIRST, TODAY)
    afternoon = ticks.filter(pl.col("timestamp") >= noon)
    answer = finalize(helper, series, cache=False, last=FIRST).values
    assert answer["through"] == str(FIRST)
    answer = finalize(helper, series, cache=False, first=LAST).values
    assert answer["through"] == str(LAST)
    assert [one["digest"] for one in answer["states"]] == [digest(ticks), digest(afternoon, 500)]
    for one in series:
        local = read_live(tmp_path, one)
        assert (local.day, local.tick_last_id) == (LAST, ticks[ID][-1])
        base = LocalStates(tmp_path).base(one)
        assert base == Base(bars_state(local.state), TODAY, ticks[ID][-1])
    assert not (tmp_path / "clickhouse").exists()


def test_days_before_and_after_a_reset_have_series_of_their_own(
    market, helper, folder, tmp_path, tape
):
    stream(folder, tape, FIRST, LAST)
    (spec,) = specs(250, reset="day")
    series = [spec.series(FIRST), spec.series(LAST), spec.series(TODAY)]
    answer = finalize(helper, series).values
    assert answer["through"] == str(LAST)
    found = [None if one is None else one["digest"] for one in answer["states"]]
    assert found == [digest(tape.day(FIRST)), digest(tape.day(LAST)), None]
    helper.close()
    other = tmp_path / "other"
    in_process(POPULATE, other, SYMBOL, FIRST, LAST, "day", 250)
    assert units(tmp_path) == units(other)


def test_a_cache_that_is_in_use_waits(market, helper, folder, tmp_path, tape, monkeypatch):
    stream(folder, tape, FIRST, LAST)
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    script = (
        "import sys, rangebar_polars as rb\n"
        "with rb.open_cache(cache_dir=sys.argv[1], write=True):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    series = [specs(250)[0].series(FIRST)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        answer = finalize(helper, series).values
        holder.stdin.close()
    assert answer["through"] is None
    assert [one["kind"] for one in answer["waiting"]] == ["cache"]
    assert f"process `{holder.pid}`" in answer["waiting"][0]["reason"]
    assert states(tmp_path) == {FIRST: "final", LAST: "final"}
    assert finalize(helper, series).values["through"] == str(LAST)


@pytest.mark.parametrize("step", ["DAY_COMPACTED", "DAY_FINAL", "UNITS_STORED"])
def test_a_pass_that_was_killed_is_done_again(market, helper, folder, tmp_path, tape, step):
    stream(folder, tape, FIRST, LAST)
    script = (
        "import os, sys\n"
        "from rangebar_polars._files.failpoints import on_failpoint\n"
        "from rangebar_polars.live.helper.commands import Commands\n"
        "from rangebar_polars.live.helper.messages import Message\n"
        "import json\n"
        "folder, step, values = sys.argv[1:]\n"
        "with on_failpoint(lambda reached: reached.name == step and os._exit(7)):\n"
        "    Commands(folder).run(Message(json.loads(values)))\n"
    )
    series = [specs(250)[0].series(FIRST)]
    values = {**finalize_values(series), "command": "finalize"}
    command = [sys.executable, "-c", script, str(tmp_path), step, json.dumps(values)]
    assert subprocess.run(command, check=False).returncode == 7
    answer = finalize(helper, series).values
    assert (answer["through"], answer["differences"]) == (str(LAST), [])
    assert answer["states"][0]["digest"] == digest(tape.between(FIRST, TODAY))


def test_journals_that_are_not_needed_are_removed_once_a_day(
    market, folder, tmp_path, tape, monkeypatch
):
    monkeypatch.setattr("rangebar_polars.storage.gc.GARBAGE_SECONDS", -10.0)
    stream(folder, tape, FIRST, LAST)
    commands = Commands(str(tmp_path))
    values = {**finalize_values([specs(250)[0].series(FIRST)], cache=False), "command": "finalize"}
    assert commands.run(Message(values)).values["through"] == str(LAST)
    assert list_journals(folder) == []
    stream(folder, tape, LAST)
    commands.run(Message(values))
    assert len(list_journals(folder)) == 1
    assert states(tmp_path) == {FIRST: "final", LAST: "final"}


# A sidecar


@pytest.mark.parametrize("row", [None, 1500])
def test_a_sidecar_finalizes_the_day_before_midnight(tmp_path, monkeypatch, tape, folder, row):
    """With a row, its quantity is another one in the archive. A follower sees what the consumer sees."""
    archived = tape.day(LAST) if row is None else with_quantity(tape.day(LAST), row)
    with Exchange(tape, now=midnight(TODAY) - timedelta(minutes=5)) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(tmp_path / "events"))
        command = [sys.executable, "-m", "rangebar_polars", "sidecar", SYMBOL, "-t", "250,500"]
        command += ["--ndjson", "--finalize-interval", "1", "--health-port", "0"]
        pipe = subprocess.PIPE
        with (
            open(tmp_path / "lines", "w") as lines,  # noqa: PTH123
            subprocess.Popen(command, stdout=lines, stderr=pipe, text=True) as sidecar,
            killed_at_the_end(sidecar),
            ExitStack() as stack,
        ):
            wait_for(lambda: said(folder, "state") == "live", lambda: said(folder))
            exchange.play(timedelta(minutes=10))
            wait_for(lambda: LAST in days(tmp_path), lambda: said(folder))
            assert days(tmp_path)[LAST] == "tail"
            exchange.play(midnight(TODAY) + timedelta(hours=6))
            wait_for(lambda: said(folder, "applied_id") == newest(tape, exchange.now))
            before = exchange.now
            follower = stack.enter_context(live_bars(SYMBOL, [250, 500], since=midnight(LAST)))
            followed = taken(follower, newest_bars(tape, before))
            path = exchange.path(LAST)
            member = path.rpartition("/")[2].replace(".zip", ".csv")
            exchange.put(path, zip_of({member: trades_csv(archived, tape)}))
            wait_for(lambda: said(folder, "finalized_through") == str(LAST), lambda: said(folder))
            wait_for(lambda: said(folder, "state") == "live", lambda: said(folder))
            exchange.play(midnight(TODAY) + timedelta(hours=9))
            wait_for(lambda: said(folder, "applied_id") == newest(tape, exchange.now))
            final = Tape(SYMBOL, pl.concat([archived, tape.between(TODAY, exchange.now)]))
            followed = pl.concat([followed, taken(follower, newest_bars(final, exchange.now))])
            sidecar.terminate()
            _, errors = sidecar.communicate()
    assert (sidecar.returncode, "Traceback" in errors) == (0, False)
    assert days(tmp_path)[LAST] == "final"
    found = [one for one in units(tmp_path) if one[2] == str(LAST)]
    assert [one[0] for one in found] == [250, 500]
    last = newest(tape, exchange.now)
    bars = {dbps: truth(final, dbps, midnight(LAST), last) for dbps in (250, 500)}
    until = pl.col("close_time") < midnight(TODAY)
    assert [one[3] for one in found] == [bars[dbps].filter(until).height for dbps in (250, 500)]
    rows = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    for dbps, expected in bars.items():
        own = [one for one in rows if one["threshold"] == dbps]
        ids = [one["last_agg_trade_id"] for one in own]
        # What was delivered goes on without a seam.
        assert ids == expected["last_agg_trade_id"].tail(len(ids)).to_list()
        assert len(ids) > 3
        marked = [one["last_agg_trade_id"] for one in own if one["is_revised"]]
        later = expected.filter(pl.col("last_agg_trade_id") > newest(tape, before))
        assert marked == ([] if row is None else [later["last_agg_trade_id"][0]])
        mine = followed.filter(pl.col("threshold") == dbps)
        assert mine.filter("is_revised")["last_agg_trade_id"].to_list() == marked
        for found in (pl.DataFrame(own), mine):
            assert_ends_with(found, later)
    reported = differences(tmp_path / "events")
    assert reported == ([] if row is None else [[int(archived[ID][row])]])


@contextmanager
def killed_at_the_end(process):
    """Leave no process behind if a test fails."""
    try:
        yield
    finally:
        process.kill()


def assert_ends_with(found, expected):
    """Compare the last bars by the columns that a changed quantity changes."""
    columns = ["last_agg_trade_id", "volume"]
    assert found.select(columns).tail(expected.height).rows() == expected.select(columns).rows()


def newest_bars(tape, until):
    """The last id of the newest bar of each threshold."""
    last = newest(tape, until)
    ids = {dbps: truth(tape, dbps, midnight(LAST), last) for dbps in (250, 500)}
    return {(dbps, bars["last_agg_trade_id"][-1]) for dbps, bars in ids.items()}


def taken(live, wanted):
    """Take bars until all that are wanted have come."""
    frames = []

    def has_all():
        frames.append(live.collect(1, timeout=1))
        rows = pl.concat(frames).select("threshold", "last_agg_trade_id").rows()
        return wanted <= set(rows)

    wait_for(has_all, live.status)
    return pl.concat(frames)


def with_quantity(ticks, row):
    """Change the quantity of a row."""
    number = ticks[ID][row]
    other = pl.when(pl.col(ID) == number).then(7.777).otherwise("quantity")
    return ticks.with_columns(quantity=other)


def differences(path):
    """The differing ids of each event in an event log."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [one["ids"] for one in lines if one["event_type"] == "archive_differs"]


def said(folder, name=None):
    state = read_state(folder) or {}
    return state if name is None else state.get(name)


def days(cache):
    frame = TickStorage(cache).coverage(SYMBOL, LAST, LAST)
    return {day: state for day, state in frame.select("day", "state").rows() if state != "missing"}


def newest(tape, now):
    return int(tape.ticks.filter(pl.col("timestamp") <= now)[ID][-1])


# The thread that runs passes


class Answers:
    """A helper whose answers are those of a list; the last one again and again."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def call(self, command, values):
        self.calls.append((command, values))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        if found.values["states"] is None:
            found = Message({**found.values, "states": [None for _ in values["series"]]})
        return found


def answer(through=None, *, waiting=(), differences=(), states=None):
    parts = tuple(b"state" for one in states or () if one is not None)
    return Message(
        {
            "compacted": [],
            "through": None if through is None else str(through),
            "differences": list(differences),
            "waiting": [
                {"kind": kind, "day": str(FIRST), "reason": kind, "command": "do it"}
                for kind in waiting
            ],
            "states": states,
        },
        parts,
    )


@pytest.fixture
def fast():
    """Ten hours of the package's clock in a second. Finalizers are closed at the end."""
    clock.install(rate=36_000.0)
    yield
    for run in Run.all:
        run.finalizer.close()
    Run.all.clear()
    clock.install()


class Run:
    """A finalizer with its events and noted states."""

    all: ClassVar[list[Run]] = []

    def __init__(self, helper, *, has_cache=True, series=None, interval_s=900.0):
        self.events, self.times, self.noted, self.helper = [], [], {}, helper
        self.finalizer = Finalizer(
            FinalizingOptions(interval_s, has_cache),
            specs(250)[0].venue,
            helper,
            self,
            self.event,
            self.revise,
        )
        self.all.append(self)
        self.revised, self.can_revise = [], True
        self.series = specs(250)[0].series(FIRST) if series is None else series

    def note(self, series, base):
        self.noted[series] = base

    def event(self, symbol, name, **fields):
        self.times.append(clock.monotonic())
        self.events.append((symbol, name, fields))

    def revise(self, symbol, revisions):
        self.revised.append(revisions)
        return self.can_revise

    def begin(self, **options):
        options = {"finalized_through": FIRST - ONE, "open_day": TODAY} | options
        self.finalizer.begin(SYMBOL, series=[self.series], **options)

    def passes(self, number):
        wait_for(lambda: self.finalizer.passes >= number or self.finalizer.error)
        assert self.finalizer.error is None

    def named(self, name):
        return [fields for _, found, fields in self.events if found == name]


def test_passes_follow_the_days_that_are_closed(fast):
    state = {"day": str(FIRST), "last_id": 9, "digest": ""}
    helper = Answers(answer(FIRST, states=[state]), answer())
    run = Run(helper)
    run.begin(open_day=LAST)
    run.passes(1)
    assert run.finalizer.finalized_through(SYMBOL) == FIRST
    assert run.finalizer.unfinalized_days(SYMBOL) == 0
    assert run.noted == {run.series: Base(b"state", LAST, 9)}
    run.finalizer.day_closed(SYMBOL, LAST, {run.series: "x"})
    assert run.finalizer.unfinalized_days(SYMBOL) == 1
    run.passes(run.finalizer.passes + 2)
    run.finalizer.close()
    days = [(values["first_day"], values["last_day"]) for _, values in helper.calls]
    assert days[0] == (str(FIRST), str(FIRST))
    assert days[-1] == (str(LAST), str(LAST))
    assert run.named("sidecar_checkpoint_saved") == [{"day": FIRST}]


def test_without_a_cache_nothing_is_asked_before_a_day_is_closed(fast):
    helper = Answers(answer())
    run = Run(helper, has_cache=False)
    run.begin(finalized_through=LAST)
    run.passes(2)
    run.finalizer.close()
    assert helper.calls == []


def test_what_waits_for_a_day_is_reported_once_a_day(fast):
    run = Run(Answers(answer(waiting=["archive"])))
    begun = clock.monotonic()
    run.begin()
    wait_for(lambda: len(run.events) >= 2)
    run.finalizer.close()
    expected = {"day": FIRST, "reason": "archive", "command": "do it"}
    assert run.named("finalizing_behind")[:2] == [expected] * 2
    a_day_s = 86_400.0
    assert run.times[0] - begun >= a_day_s
    assert run.times[1] - run.times[0] >= a_day_s * 0.999


def test_too_many_days_are_reported_at_once(fast):
    run = Run(Answers(answer(waiting=["days"])))
    run.begin()
    run.passes(3)
    run.finalizer.close()
    assert len(run.named("finalizing_behind")) == 1


def test_a_helper_that_fails_is_asked_again(fast):
    run = Run(Answers(CacheUnavailableError("held"), answer(LAST)))
    run.begin()
    run.passes(2)
    run.finalizer.close()
    assert run.finalizer.finalized_through(SYMBOL) == LAST
    assert run.named("sidecar_checkpoint_saved") == [{"day": FIRST}, {"day": LAST}]


def test_a_difference_is_reported_once(fast):
    one = {"day": str(FIRST), "ids": [4], "trades": [1, 0, 0], "bars": [[2, 1, 0]]}
    run = Run(Answers(answer(differences=[one])))
    run.begin()
    run.passes(3)
    run.finalizer.close()
    expected = {"day": FIRST, "ids": [4], "bars_changed": 2, "bars_added": 1, "bars_removed": 0}
    assert run.named("archive_differs") == [expected]


@pytest.mark.parametrize("own", ["same", "other"])
def test_a_state_with_another_digest_is_a_revision(fast, own):
    state = {"day": str(FIRST), "last_id": 9, "digest": "same"}
    run = Run(Answers(answer(FIRST, states=[state])))
    run.can_revise = False
    run.begin(open_day=FIRST)
    run.finalizer.day_closed(SYMBOL, FIRST, {run.series: own})
    # Passes may have ended before the day was closed.
    run.passes(run.finalizer.passes + 2)
    if own == "other":
        wait_for(lambda: len(run.revised) >= 2 or run.finalizer.error)
    run.finalizer.close()
    if own == "same":
        assert (run.revised, run.finalizer.finalized_through(SYMBOL)) == ([], FIRST)
        return
    # What cannot be revised now is tried again, and nothing is finalized before.
    assert len(run.revised) >= 2
    (revision,) = run.revised[0]
    assert (revision.series, revision.day, revision.first_id) == (run.series, FIRST, None)
    assert run.finalizer.finalized_through(SYMBOL) == FIRST - ONE
    assert run.noted == {}


def test_a_reset_adds_a_series_for_the_days_after_it(fast):
    (spec,) = specs(250, reset="day")
    run = Run(Answers(answer()), series=spec.series(TODAY))
    run.begin(held=[spec.series(FIRST - ONE), spec.series(FIRST)])
    run.passes(1)
    run.finalizer.close()
    _, values = run.helper.calls[0]
    expected = [spec.series(FIRST), spec.series(LAST), spec.series(TODAY)]
    assert values["series"] == [series_values(one) for one in expected]


def test_close_ends_a_wait(fast):
    run = Run(Answers(answer()), interval_s=1e9)
    run.begin(open_day=FIRST)
    (thread,) = [one for one in threading.enumerate() if one.name == "rangebar-finalizing"]
    run.finalizer.close()
    assert not thread.is_alive()
