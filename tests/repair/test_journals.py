"""Journals whose writer has gone: of yesterday, torn, beside a final day, and while a sidecar starts (L41)."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from datetime import timedelta

import pytest

from exchange import Exchange
from live.commands import Command
from live.market import (
    SYMBOL,
    day_start_of,
    point_at,
    tape_of,
    this_moment,
    wait_for,
)
from live.test_finalize import stream
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.live.journal_file import list_journals
from rangebar_polars.storage.live.writer_lock import WriterLock
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.parquet import TickStorage
from repair.processes import Repair, held, watched

NOW = this_moment()
TODAY = day_start_of(NOW)
YESTERDAY = (TODAY - timedelta(days=1)).date()
ID = "agg_trade_id"


@pytest.fixture(scope="module")
def tape():
    return tape_of(NOW, before=timedelta(days=1, hours=23), per_minute=1, volatility=0.7)


@pytest.fixture
def exchange(tape, tmp_path, monkeypatch):
    with Exchange(tape, now=NOW) as found:
        # Only REST has yesterday.
        found.put(found.path(YESTERDAY), None)
        point_at(found, tmp_path / "none", monkeypatch)
        yield found


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def folder(cache):
    return TickStorage(cache).symbol_dir(SYMBOL, "binance", "spot")


def day_ids(cache):
    return TickStorage(cache).get_ticks(SYMBOL, YESTERDAY, YESTERDAY, on_gap="report")[ID].to_list()


def entry(folder):
    return read_manifest(folder, month_of(YESTERDAY)).days.get(YESTERDAY)


def repair(cache):
    """A pass, and how many days it compacted."""
    compacted = []

    def observe(step):
        if step is Step.DAY_COMPACTED:
            compacted.append(step)

    with on_failpoint(observe):
        return kintsugi_pass(cache_dir=cache), len(compacted)


def assert_nothing_left(cache, folder):
    before = entry(folder)
    report, compacted = repair(cache)
    assert (report.status, len(report), compacted) == ("clean", 0, 0), str(report)
    assert entry(folder) == before


def test_a_journal_of_yesterday(tape, exchange, cache, folder):
    stream(folder, tape, YESTERDAY)
    report, compacted = repair(cache)
    assert (report.status, compacted) == ("healed", 1), str(report)
    assert {(one.shard.kind, one.shard.priority) for one in report} == {("orphan_journal", "P0")}
    assert day_ids(cache) == tape.day(YESTERDAY)[ID].to_list()
    assert (entry(folder).state, entry(folder).origin.kind) == ("tail", "stream")
    assert_nothing_left(cache, folder)


@pytest.mark.parametrize("lost", [1, 20, 200])
def test_a_journal_with_a_torn_end(lost, tape, exchange, cache, folder):
    """What is readable is compacted; the rest of the day comes with the day itself."""
    stream(folder, tape, YESTERDAY)
    (file,) = list_journals(folder, YESTERDAY, YESTERDAY)
    file.path.write_bytes(file.path.read_bytes()[:-lost])
    report, compacted = repair(cache)
    assert (report.status, compacted) == ("healed", 1), str(report)
    ids = tape.day(YESTERDAY)[ID].to_list()
    found = day_ids(cache)
    assert found == ids[: len(found)]
    assert len(found) >= len(ids) - 1_000
    assert (len(found) < len(ids)) == (lost > 1)
    assert_nothing_left(cache, folder)


def test_journals_beside_a_final_day(tape, exchange, cache, folder):
    TickStorage(cache).write_ticks(SYMBOL, tape.day(YESTERDAY))
    stream(folder, tape, YESTERDAY)
    before = entry(folder)
    assert_nothing_left(cache, folder)
    assert entry(folder) == before


def test_a_writer_that_holds_the_lock_compacts_by_itself(tape, exchange, cache, folder):
    stream(folder, tape, YESTERDAY)
    with WriterLock.take(folder):
        report, compacted = repair(cache)
    assert (report.status, len(report), compacted) == ("clean", 0, 0), str(report)
    report, compacted = repair(cache)
    assert (report.status, compacted) == ("healed", 1), str(report)


#: Says that the process has tried to take the lock of the writer in vain.
TRIED = """
from pathlib import Path
from rangebar_polars.storage.live import writer_lock
_try_take = writer_lock.WriterLock.try_take.__func__
def try_take(kind, symbol_dir):
    lock = _try_take(kind, symbol_dir)
    if lock is None:
        Path({path!r}).touch()
    return lock
writer_lock.WriterLock.try_take = classmethod(try_take)
"""


def test_a_sidecar_that_starts_during_the_compaction(tape, exchange, cache, folder, tmp_path):
    pytest.importorskip("chdb")
    stream(folder, tape, YESTERDAY)
    gate, tried, trace = (tmp_path / name for name in ("gate", "tried", "trace"))
    traced = {"trace": trace, "traced": (Step.DAY_COMPACTED,)}
    with ExitStack() as stack:
        site = watched(Step.DAY_COMPACTED, gate=gate, **traced)
        command = stack.enter_context(Repair(exchange, cache, tmp_path, site=site))
        wait_for(lambda: held(gate), command.said)
        site = TRIED.format(path=str(tried)) + watched(**traced)
        series = {"symbols": [SYMBOL], "thresholds": [250], "site": site}
        sidecar = stack.enter_context(Command(exchange, cache, tmp_path, **series))
        wait_for(tried.exists, sidecar.said)
        gate.touch()
        sidecar.wait_ready()
        assert command.report()["status"] == "healed"
        exchange.play(timedelta(minutes=30))
        sidecar.wait_applied(exchange)
        assert sidecar.ended(signal.SIGTERM) == 0, sidecar.said()
    assert trace.read_text().split() == [Step.DAY_COMPACTED.value]
    assert day_ids(cache) == tape.day(YESTERDAY)[ID].to_list()
