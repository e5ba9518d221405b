"""A pass that is killed at any step, one that waits for another, and one beside all other processes."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from exchange.archive import trades_csv, zip_of
from live.commands import Command, Program
from live.market import SYMBOL, point_at, wait_for
from live.test_acceptance_crowd import Crowd
from live.test_finalize import stream
from population.places import Bridge
from rangebar_polars._files.failpoints import Step
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.readers.cached import get_cached_bars
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, FIRST, LAST, ONE, THRESHOLDS, files, populate, ticks, units
from repair.processes import Repair, held, is_open, watched
from repair.test_damages import folder_of, put_without, sql
from repetitions import repeated

#: The number of the repetition of each step at which a pass is killed.
COUNTS = repeated([1], [1, 2, 3])
READERS = repeated(1, 4)
STEPS = [step for step in Step if step.area == "repair"]


@pytest.fixture
def stock(market, tape, damaged, tmp_path, monkeypatch):
    """A folder of its own with missing ids, journals without a writer, and missing bars."""
    if not damaged.exists():
        with monkeypatch.context() as closing:
            # It is copied after it was closed.
            closing.setenv("RANGEBAR_CACHE_IDLE_S", "0")
            span = {"threshold_decimal_bps": 250, "verbose": False, "cache_dir": damaged}
            rb.populate_cache_resumable(SYMBOL, FIRST, LAST, **span)
            sql(damaged, f"ALTER TABLE {{bars}} DELETE WHERE unit_day = '{DAYS[2]}'")
        put_without(damaged, DAYS[1], tape.day(DAYS[1])["timestamp"].dt.hour() == 7, tape)
        TickStorage(damaged).delete_ticks(SYMBOL, DAYS[3], DAYS[3])
        stream(folder_of(damaged), tape, DAYS[3])
    folder = tmp_path / "cache"
    shutil.copytree(damaged, folder)
    return folder


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "cache"


@pytest.fixture(scope="module")
def repaired():
    """What a pass leaves that is not killed; the first test of a process that asks finds out."""
    return {}


def end_state(folder):
    coverage = TickStorage(folder).coverage(SYMBOL, FIRST, LAST)
    states = coverage.select("day", "state", "rows").rows()
    return units(folder), states, ticks(folder)["agg_trade_id"].to_list(), ticks(folder)


def assert_same(found, expected):
    assert found[:-1] == expected[:-1]
    assert found[-1].equals(expected[-1])


def assert_nothing_left(folder):
    """The next pass is clean, and changes nothing."""
    before = files(folder), units(folder)
    again = kintsugi_pass(cache_dir=folder)
    assert (again.status, len(again)) == ("clean", 0), str(again)
    assert (files(folder), units(folder)) == before


def whole_lines(folder):
    """The lines of the ledger, none of them torn."""
    text = (folder / "kintsugi" / "ledger.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_pass_visits_every_step(market, stock, tape, repaired, tmp_path):
    trace = tmp_path / "trace"
    with Repair(market, stock, tmp_path, site=watched(trace=trace, traced=tuple(STEPS))) as command:
        assert command.report()["status"] == "healed"
    assert set(trace.read_text().split()) == {step.value for step in STEPS}
    repaired["state"] = end_state(stock)
    assert (
        repaired["state"][2]
        == tape.between(FIRST, DAYS[4] + (DAYS[1] - DAYS[0]))["agg_trade_id"].to_list()
    )
    assert_nothing_left(stock)
    kinds = {line["kind"] for line in whole_lines(stock)}
    assert kinds >= {"tick_gap", "orphan_journal", "unit_damaged"}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_pass_that_is_killed_and_repeated(
    step, count, market, stock, damaged, repaired, tmp_path
):
    """L37."""
    if "state" not in repaired:
        whole = tmp_path / "whole"
        shutil.copytree(damaged, whole)
        assert kintsugi_pass(cache_dir=whole).status == "healed"
        repaired["state"] = end_state(whole)
    with Repair(market, stock, tmp_path, site=watched(step, count=count)) as command:
        status = command.ended()
    if count == 1 or status:
        assert status == -signal.SIGKILL, command.said()
        assert command.texts == []
    report = kintsugi_pass(cache_dir=stock)
    assert report.status in ("clean", "healed"), str(report)
    assert_same(end_state(stock), repaired["state"])
    assert_nothing_left(stock)
    lines = whole_lines(stock)
    assert {line["action"] for line in lines} == {"repaired"}
    assert len({line["key"] for line in lines}) == len(lines)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no /proc")
def test_of_two_passes_at_once_one_waits(market, stock, tmp_path):
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    lock = (stock / "kintsugi" / ".lock").resolve()
    with ExitStack() as stack:
        site = watched(Step.TASK_PLANNED, gate=gate)
        first = stack.enter_context(Repair(market, stock, tmp_path, site=site))
        wait_for(lambda: held(gate), first.said)
        site = watched(trace=trace, traced=tuple(STEPS))
        # However long the first one takes.
        environment = {"RANGEBAR_TICK_LOCK_WAIT_S": "0"}
        options = {"site": site, "environment": environment}
        second = stack.enter_context(Repair(market, stock, tmp_path, **options))
        wait_for(lambda: is_open(second.process.pid, lock), second.said)
        gate.touch()
        assert first.report()["status"] == "healed"
        # It has looked only after the first one had ended.
        assert second.report() == {"status": "clean", "tasks": [], "failures": []}
    assert not trace.exists()
    assert_nothing_left(stock)


#: Reads the cached bars of a span for each line of stdin, in two ways.
READER = """
import json, sys, warnings
import rangebar_polars as rb
from rangebar_polars.readers.cached import get_cached_bars

warnings.simplefilter("ignore")  # the ticks have changed
symbol, first, last, dsn, *thresholds = sys.argv[1:]
for _ in sys.stdin:
    rows = []
    for threshold in map(int, thresholds):
        kept = get_cached_bars(symbol, threshold, first, last, dsn=dsn)
        chart = rb.get_range_bars(symbol, first, last, threshold, fetch_if_missing=False, dsn=dsn)
        rows.append([kept["close"].to_list(), kept["volume"].to_list()])
        rows.append([chart["Close"].to_list(), chart["Volume"].to_list()])
    print(json.dumps(rows), flush=True)
"""


class Reading(Program):
    """Reads the bars of two thresholds; `Crowd` lets it."""

    def __init__(self, exchange, cache, folder, dsn):
        words = ["-c", READER, SYMBOL, str(FIRST), str(LAST), dsn, *map(str, THRESHOLDS)]
        super().__init__(words, exchange, cache, folder)

    def bars(self, *_, **__):
        count = len(self.texts)
        self.process.stdin.write("read\n")
        self.process.stdin.flush()
        wait_for(
            lambda: len(self.texts) > count or self.process.poll() is not None,
            self.said,
        )
        assert self.process.poll() is None, self.said()
        return {"rows": self.read()[count]}


def kept(dsn):
    """Bars as a `Reading` gives them: of each threshold, by two functions."""
    found = []
    for threshold in THRESHOLDS:
        bars = get_cached_bars(SYMBOL, threshold, FIRST, LAST, dsn=dsn)
        found += [[bars["close"].to_list(), bars["volume"].to_list()]] * 2
    return found


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    pytest.importorskip("clickhouse_connect")
    one = Bridge(tmp_path_factory.mktemp("bridge") / "server")
    yield one
    one.stop()


def test_beside_a_sidecar_a_population_readers_and_gc(tape, bridge, tmp_path, monkeypatch):
    """Readers see the bars of before or those of after, whole."""
    place, other = bridge.database(tmp_path / "cache"), bridge.database(tmp_path / "other")
    cache, gate = place.folder, tmp_path / "gate"
    with Exchange(tape, now=datetime.now(UTC)) as exchange, ExitStack() as stack:
        point_at(exchange, cache, monkeypatch)
        for day in (LAST + ONE, LAST + 2 * ONE):
            exchange.put(exchange.path(day), None)
        populate(cache, dsn=place.dsn)
        old = kept(place.dsn)
        publish(exchange, tape, DAYS[2])
        stack.enter_context(exchange.live())
        options = ["--dsn", place.dsn, "--finalize-interval", "20"]
        series = {"symbols": [SYMBOL], "thresholds": THRESHOLDS, "options": options}
        sidecar = stack.enter_context(Command(exchange, cache, tmp_path, **series))
        sidecar.wait_ready()

        def rangebar(*words):
            words = ["-m", "rangebar_polars", *words, "--dsn", place.dsn]
            return Program(words, exchange, cache, tmp_path)

        readers = [
            stack.enter_context(Reading(exchange, cache, tmp_path, place.dsn))
            for _ in range(READERS)
        ]
        with Crowd(exchange) as crowd:
            for reader in readers:
                crowd.read(reader)
            site = watched(Step.TICKS_FILLED, gate=gate)
            options = ["--dsn", place.dsn]
            first = stack.enter_context(Repair(exchange, cache, tmp_path, *options, site=site))
            wait_for(lambda: held(gate), first.said)
            wait_for_reads(crowd)
            held_reads = [list(reads) for reads in crowd.reads]
            words = ["populate", SYMBOL, str(FIRST), str(LAST), "-t", "1000"]
            others = [stack.enter_context(rangebar(*one)) for one in (["cache", "gc"], words)]
            gate.touch()
            # What a population holds is left to the next pass.
            assert first.ended() in (0, 1), first.said()
            assert [one.ended() for one in others] == [0, 0], [one.said() for one in others]
            wait_for_reads(crowd)
        for _ in range(2):
            report = kintsugi_pass(cache_dir=cache, dsn=place.dsn)
        assert (report.status, len(report)) == ("clean", 0), str(report)
        assert sidecar.ended(signal.SIGTERM) == 0, sidecar.said()
        populate(other.folder, dsn=other.dsn)
        new = kept(other.dsn)
        assert kept(place.dsn) == new
        assert all(before != after for before, after in zip(old, new, strict=True))
    assert all(read == old for reads in held_reads for read in reads)
    for reads in crowd.reads:
        # Each series changes at a moment of its own, and once.
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            seen = [read[number] for read in reads]
            count = seen.count(before)
            assert seen == [before] * count + [after] * (len(seen) - count)
        assert reads[-1] == new
    for program in (first, sidecar, *others):
        assert "Traceback" not in program.said()


def wait_for_reads(crowd):
    """Wait until each reader has read once more, from its beginning."""
    counts = [len(reads) + 2 for reads in crowd.reads]
    wait_for(lambda: all(len(r) >= n for r, n in zip(crowd.reads, counts, strict=True)))


def publish(exchange, tape, day):
    """Publish the archive of a day again, with other prices."""
    path = exchange.path(day)
    member = path.rpartition("/")[2].replace(".zip", ".csv")
    ticks = tape.day(day).with_columns((pl.col("price") * 1.02).round(tape.price_digits))
    exchange.put(path, zip_of({member: trades_csv(ticks, tape)}))
