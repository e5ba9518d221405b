"""Readers in one process beside a writer in another one, against the trades of the exchange."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from exchange.stream_faults import refused, reset
from live.market import (
    SYMBOL,
    assert_same_bars,
    day_start_of,
    point_at,
    tape_of,
    this_moment,
    truth,
    wait_for,
)
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import CoverageWarning, StorageError
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from exchange import Tape

WORKER = Path(__file__).with_name("writer_worker.py")
NOW = this_moment()
START = day_start_of(NOW)
ID = "agg_trade_id"


class Writer:
    """A process that streams the symbol."""

    def __init__(self, now: datetime) -> None:
        offset_s = (now - datetime.now(UTC)).total_seconds()
        arguments = [sys.executable, str(WORKER), str(offset_s), START.isoformat(), SYMBOL]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def status(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def wait_until_applied(self, last_id: int) -> None:
        wait_for(lambda: (self.status()["applied_id"] or -1) >= last_id, self.status)

    def stop(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        assert kill or status == 0


class Market:
    """An exchange, and the writer of its symbol, which a test may kill."""

    def __init__(self, exchange: Exchange, tape: Tape) -> None:
        self.exchange, self.tape = exchange, tape
        self.writer: Writer | None = None

    def set_clock(self) -> None:
        """Set the clock of this process to that of the exchange."""
        clock.install(offset_s=(self.exchange.now - datetime.now(UTC)).total_seconds())

    def start_writer(self) -> Writer:
        """Start a writer, unless there is one, and wait until it is live."""
        if self.writer is None:
            self.writer = Writer(self.exchange.now)
        wait_for(lambda: self.writer.status()["state"] == "live", self.writer.status)
        return self.writer

    def stop_writer(self, *, kill: bool = False) -> None:
        if self.writer is not None:
            self.writer.stop(kill=kill)
            self.writer = None

    def play(self, seconds: float) -> int:
        """Let time pass at the exchange, and return the id of the last trade."""
        self.exchange.play(timedelta(seconds=seconds))
        self.set_clock()
        return int(self.tape.ticks.filter(pl.col("timestamp") <= self.exchange.now)[ID][-1])

    def requests(self) -> int:
        """The number of requests for trades so far: pages of REST by id, and archives."""
        return len(
            self.exchange.asked(lambda one: "fromId" in one.query or one.path.startswith("/data"))
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    tape = tape_of(NOW)
    with pytest.MonkeyPatch.context() as patch, Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path_factory.mktemp("live-reads"), patch)
        found = Market(exchange, tape)
        yield found
        found.stop_writer()


@pytest.fixture
def market(shared):
    shared.start_writer()
    shared.set_clock()
    yield shared
    clock.install()


def bars_now(**options):
    options = {"anchor": START, "use_cache": False} | options
    return rb.scan_range_bars(SYMBOL, START, clock.utc_now(), 250, **options).collect()


def test_reads_are_prefixes_with_all_that_was_applied_before(market):
    tape = market.tape
    everything = tape.ticks[ID].to_list()
    asked = market.requests()
    last = 0
    for seconds in (1, 30, 200, 400):
        last = market.play(seconds)
        # The writer may be behind the first time; the second time it is not.
        for _ in range(2):
            applied = market.writer.status()["applied_id"]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                ids = rb.scan_ticks(SYMBOL, START, clock.utc_now()).collect()[ID].to_list()
                bars = bars_now()
            assert ids == everything[: len(ids)]
            assert ids[-1] >= applied
            assert_same_bars(bars, truth(tape, 250, START).head(bars.height))
            assert bars.height >= truth(tape, 250, START, applied).height
            market.writer.wait_until_applied(last)
    assert bars_now().height > 5
    # Readers leave the day to its writer.
    assert market.requests() == asked
    frame = rb.get_range_bars(SYMBOL, START, clock.utc_now(), 250, anchor=START, use_cache=False)
    assert len(frame) == truth(tape, 250, START, last).height
    assert frame.attrs["rangebar"][-1]["source"] == "ticks"
    forming = bars_now(include_incomplete=True).tail(1)
    assert forming["last_agg_trade_id"].to_list() == [last]


def test_other_processes_leave_the_day_to_its_writer(market):
    last = market.play(60)
    market.writer.wait_until_applied(last)
    day, asked = START.date(), market.requests()
    report = rb.fetch_ticks(SYMBOL, day, day)
    assert (report.tail, report.rows) == ([day], 0)
    assert market.requests() == asked
    storage = TickStorage()
    ticks = storage.get_ticks(SYMBOL, day, day)
    assert ticks[ID].to_list() == market.tape.ticks.filter(pl.col(ID) <= last)[ID].to_list()
    assert storage.coverage(SYMBOL, day, day)["state"].to_list() == ["tail"]
    who = rf"process {market.writer.process.pid} streams the symbol"
    with pytest.raises(StorageError, match=who):
        storage.write_ticks(SYMBOL, ticks)
    with pytest.raises(StorageError, match=who):
        storage.delete_ticks(SYMBOL)


def test_a_read_says_if_its_writer_is_not_live(market):
    writer = market.writer
    last = market.play(300)
    writer.wait_until_applied(last)
    refusal = market.exchange.streams.fail("", refused(503), times=None)
    market.exchange.streams.strike(reset())
    wait_for(lambda: writer.status()["reason"] == "disconnected", writer.status)
    with pytest.warns(CoverageWarning, match=r"its state is `degraded \(disconnected\)`"):
        bars = bars_now()
    assert_same_bars(bars, truth(market.tape, 250, START, last))
    with pytest.warns(CoverageWarning, match="ticks of .* end with the last trade"):
        rb.scan_ticks(SYMBOL, START, clock.utc_now())
    # What ends before the last trade is whole.
    before = clock.utc_now() - timedelta(seconds=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rb.scan_range_bars(SYMBOL, START, before, 250, use_cache=False)
    refusal.cancel()


def test_a_killed_writer_leaves_what_it_had_applied(market):
    tape = market.tape
    market.exchange.play(timedelta(seconds=200))
    applied = market.writer.status()["applied_id"]
    market.stop_writer(kill=True)
    market.set_clock()
    with pytest.warns(CoverageWarning, match="its state is `writer gone`"):
        left = bars_now(fetch_if_missing=False)
    assert_same_bars(left, truth(tape, 250, START).head(left.height))
    assert left.height >= truth(tape, 250, START, applied).height
    # Without a writer, the rest of the day comes from REST.
    last = market.play(200)
    assert_same_bars(bars_now(), truth(tape, 250, START, last))
    # The next writer continues from the journals and the day file together.
    writer = market.start_writer()
    last = market.play(120)
    writer.wait_until_applied(last)
    assert_same_bars(bars_now(), truth(tape, 250, START, last))


def test_bars_of_a_population_are_continued_by_journals(tmp_path, monkeypatch):
    pytest.importorskip("chdb")
    # Ten hours after midnight, the archive of the day before is published.
    begin, noon = START - timedelta(days=1), START + timedelta(hours=12)
    tape = tape_of(noon, before=noon - begin, per_minute=6)
    with Exchange(tape, now=noon) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        market = Market(exchange, tape)
        market.set_clock()
        try:
            with rb.live_bars(SYMBOL, 250, since=START) as live:
                wait_for(lambda: [one["state"] for one in live.status()] == ["live"], live.status)
                day = begin.date()
                assert int(rb.populate_cache_resumable(SYMBOL, day, day, verbose=False)) > 5
                last = market.play(300)
                wait_for(lambda: live.status()[0]["applied_id"] >= last, live.status)
                asked = market.requests()
                frame = rb.get_range_bars(SYMBOL, begin, clock.utc_now(), 250)
                bars = rb.scan_range_bars(SYMBOL, begin, clock.utc_now(), 250).collect()
                assert market.requests() == asked
        finally:
            clock.install()
    assert frame.attrs["rangebar"][-1]["source"] == "cache+ticks"
    assert_same_bars(bars, truth(tape, 250, begin, last))
    assert len(frame) == bars.height
