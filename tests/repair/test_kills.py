"""A pass that is killed at any step, one that waits for another, and one beside all other processes."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from contextlib import ExitStack

import pytest

from live.market import SYMBOL, wait_for
from live.test_finalize import stream
from rangebar_polars._files.failpoints import Step
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, FIRST, LAST, files, ticks, units
from repair.processes import Repair, held, is_open, watched
from repair.test_damages import folder_of, put_without, sql
from repetitions import repeated

#: The number of the repetition of each step at which a pass is killed.
COUNTS = repeated([1], [1, 2, 3])
STEPS = [step for step in Step if step.area == "repair"]


@pytest.fixture
def stock(clean, market, tape, damaged, monkeypatch):
    """A folder of its own with missing ids, journals without a writer, and missing bars."""
    if not damaged.exists():
        put_without(clean, DAYS[1], tape.day(DAYS[1])["timestamp"].dt.hour() == 7, tape)
        TickStorage(clean).delete_ticks(SYMBOL, DAYS[3], DAYS[3])
        stream(folder_of(clean), tape, DAYS[3])
        with monkeypatch.context() as closing:
            # It is copied after it was closed.
            closing.setenv("RANGEBAR_CACHE_IDLE_S", "0")
            sql(clean, f"ALTER TABLE {{bars}} DELETE WHERE unit_day = '{DAYS[2]}'")
        shutil.copytree(clean, damaged)
    folder = clean.parent / "damaged"
    shutil.copytree(damaged, folder)
    return folder


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "cache"


@pytest.fixture(scope="module")
def repaired():
    """What a pass leaves that is not killed; the first test that asks finds out."""
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
def test_a_pass_that_is_killed_and_repeated(step, count, market, stock, repaired, tmp_path):
    """L37."""
    if "state" not in repaired:
        pytest.skip("the pass that was not killed failed")
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
