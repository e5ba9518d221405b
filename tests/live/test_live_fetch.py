"""Fetches beside a writer: what the exchange is asked for, and what is left to the writer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import SYMBOL, day_start_of, point_at, tape_of, this_moment
from live.test_live_store import damage
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.storage.live.journal import LiveJournal
from rangebar_polars.storage.live.state_file import write_state
from rangebar_polars.storage.live.writer_lock import WriterLock
from rangebar_polars.storage.parquet import TickStorage

START = day_start_of(this_moment())
BEGIN = START - timedelta(days=1)
TODAY, YESTERDAY = START.date(), BEGIN.date()
ID, TIME = "agg_trade_id", "timestamp"


def columns_of(ticks):
    times = ticks.get_column(TIME).to_physical()
    rows = zip(times, *ticks.drop(TIME).iter_columns(), strict=True)
    return TradeColumns(Trade(*row) for row in rows)


class Streamed:
    """A store into which yesterday and today are streamed, some trades a record."""

    def __init__(self, folder, exchange, tape):
        self.exchange, self.tape = exchange, tape
        self.storage = TickStorage(folder)
        self.where = self.storage.symbol_dir(SYMBOL, "binance", "spot")
        self.ticks = tape.ticks.filter(pl.col(TIME) <= exchange.now)
        self.first, self.last = self.ticks[ID][0], self.ticks[ID][-1]
        with LiveJournal(self.where, day=YESTERDAY, applied_id=self.first - 1) as journal:
            for day, start in ((YESTERDAY, BEGIN), (TODAY, START)):
                inside = pl.col(TIME).is_between(start, start + timedelta(days=1), closed="left")
                for part in self.ticks.filter(inside).iter_slices(50):
                    journal.append_trades(day, columns_of(part))
        self.write_state()

    def write_state(self, **more):
        known = {"state": "live", "live_from": YESTERDAY.isoformat(), "applied_id": self.last}
        write_state(self.where, {**known, "applied_at": self.exchange.now.isoformat(), **more})

    def asked(self):
        """First ids of requested pages, and paths of archives that were downloaded."""
        found = self.exchange.asked(lambda one: one.method == "GET")
        pages = [one for one in found if "/aggTrades" in one.path and "/data/" not in one.path]
        files = [one.path for one in found if one.path.endswith(".zip")]
        return pages, files

    def ids(self):
        return self.storage.get_ticks(SYMBOL, YESTERDAY, TODAY)[ID].to_list()


@pytest.fixture
def streamed(tmp_path, monkeypatch, request):
    now = START + timedelta(hours=request.param)
    tape = tape_of(now, before=now - BEGIN, per_minute=1)
    clock.install(offset_s=(now - datetime.now(UTC)).total_seconds())
    with Exchange(tape, now=now) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        found = Streamed(tmp_path, exchange, tape)
        with WriterLock.take(found.where):
            yield found
    clock.install()


at_eight = pytest.mark.parametrize("streamed", [8], indirect=True)
at_noon = pytest.mark.parametrize("streamed", [12], indirect=True)


@at_eight
def test_days_that_are_not_published_are_left_to_the_writer(streamed):
    report = rb.fetch_ticks(SYMBOL, YESTERDAY, TODAY)
    assert report.tail == [YESTERDAY, TODAY]
    assert streamed.asked() == ([], [])
    assert streamed.ids() == streamed.ticks[ID].to_list()


@at_noon
def test_a_published_archive_is_fetched(streamed):
    report = rb.fetch_ticks(SYMBOL, YESTERDAY, TODAY)
    assert (report.fetched, report.tail) == ([YESTERDAY], [TODAY])
    pages, files = streamed.asked()
    assert (pages, len(files)) == ([], 1)
    states = streamed.storage.coverage(SYMBOL, YESTERDAY, TODAY)["state"].to_list()
    assert states == ["final", "tail"]
    assert streamed.ids() == streamed.ticks[ID].to_list()


@at_noon
def test_a_read_asks_for_nothing(streamed):
    bars = rb.scan_range_bars(SYMBOL, BEGIN, clock.utc_now(), 250, use_cache=False).collect()
    assert rb.scan_ticks(SYMBOL, BEGIN, clock.utc_now()).collect()[ID].to_list() == streamed.ids()
    assert bars.height == rb.RangeBarBuilder(250).push(streamed.ticks).height
    assert streamed.exchange.requests == []


@at_eight
def test_what_a_damaged_journal_has_lost_may_be_requested(streamed):
    damage(streamed.where, 1)
    with pytest.raises(CoverageError, match="journals have lost"):
        streamed.ids()
    with pytest.raises(CoverageError, match="missing ticks"):
        rb.scan_range_bars(SYMBOL, BEGIN, clock.utc_now(), 250, use_cache=False)
    assert streamed.exchange.requests == []
    report = rb.fetch_ticks(SYMBOL, YESTERDAY, TODAY)
    pages, _ = streamed.asked()
    assert pages
    assert report.filled_ids > 0
    assert streamed.ids() == streamed.ticks[ID].to_list()


@at_eight
def test_the_days_before_those_of_the_writer_are_fetched(streamed):
    streamed.write_state(live_from=TODAY.isoformat())
    report = rb.fetch_ticks(SYMBOL, YESTERDAY, TODAY)
    # Yesterday has all its trades; there is a request for later ones of it.
    assert sorted(report.tail) == [YESTERDAY, TODAY]
    assert streamed.asked()[0]
    assert streamed.ids() == streamed.ticks[ID].to_list()


@at_eight
def test_midnight_without_a_trade_ends_a_read(streamed):
    tomorrow = START + timedelta(days=1, seconds=5)
    clock.install(offset_s=(tomorrow - datetime.now(UTC)).total_seconds())
    streamed.write_state()
    for options in ({}, {"fetch_if_missing": False}):
        bars = rb.scan_range_bars(SYMBOL, BEGIN, tomorrow, 250, use_cache=False, **options)
        assert bars.collect().height == rb.RangeBarBuilder(250).push(streamed.ticks).height
    # Today is not closed, so that its forming bar is no orphan yet; that of yesterday is one.
    options = {"include_orphaned_bars": True, "use_cache": False}
    day = rb.scan_range_bars(SYMBOL, BEGIN, tomorrow, 20_000, reset="day", **options).collect()
    orphans = day.filter(pl.col("ended_by") == "reset")
    assert orphans["close_time"].dt.date().to_list() == [YESTERDAY]
    with LiveJournal(streamed.where, day=TODAY, applied_id=streamed.last) as journal:
        journal.close_day(TODAY)
    day = rb.scan_range_bars(SYMBOL, BEGIN, tomorrow, 20_000, reset="day", **options).collect()
    orphans = day.filter(pl.col("ended_by") == "reset")
    assert orphans["close_time"].dt.date().to_list() == [YESTERDAY, TODAY]
    assert streamed.exchange.requests == []
