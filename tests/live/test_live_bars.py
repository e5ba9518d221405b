"""`live_bars`: the bars that are given live are those of a builder over the same trades."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import (
    SYMBOL,
    assert_same_bars,
    day_start_of,
    pages_asked,
    point_at,
    tape_of,
    this_moment,
    truth,
    wait_for,
)
from rangebar_polars._utils.contracts import with_coins
from rangebar_polars.exceptions import (
    SymbolNotRegisteredError,
    ThresholdError,
)
from rangebar_polars.live.bars import live_bars
from rangebar_polars.live.interfaces import SeriesBars
from rangebar_polars.live.plan import plan_live
from rangebar_polars.live.protocol.freshness import check_interval_s
from rangebar_polars.live.session import LiveSession, SessionOptions

NOW = this_moment()
START = day_start_of(NOW)


@pytest.fixture
def market(tmp_path, monkeypatch):
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange, tape


def applied_id(live):
    statuses = live.status()
    return -1 if not statuses else statuses[0]["applied_id"] or -1


def play(exchange, live, tape, seconds):
    """Let time pass, and wait until all of it is applied."""
    exchange.play(timedelta(seconds=seconds))
    last = int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])
    wait_for(lambda: applied_id(live) >= last, live.status)
    return last


def is_live(live):
    return [one["state"] for one in live.status()] == ["live"]


def drained(live, height):
    found = live.collect(height, timeout=60)
    assert found.height == height
    return found


@pytest.mark.parametrize("features", ["core", "microstructure", ["ofi", "vwap_close_deviation"]])
def test_they_are_the_bars_of_a_builder(market, features):
    exchange, tape = market
    with live_bars(SYMBOL, [250, 500], since=START, features=features) as live:
        last = play(exchange, live, tape, 900)
        expected = {dbps: truth(tape, dbps, START, last) for dbps in (250, 500)}
        found = drained(live, sum(bars.height for bars in expected.values()))
        assert found.schema == live.schema
        for dbps, bars in expected.items():
            assert bars.height > 3
            assert_same_bars(found.filter(pl.col("threshold") == dbps), bars)
        assert found.get_column("symbol").unique().to_list() == [SYMBOL]
        assert found.get_column("anchor").unique().to_list() == [START]
        assert not found.get_column("is_revised").any()
        # The order is that of the trades that ended the bars.
        assert found.get_column("last_agg_trade_id").is_sorted()


@pytest.mark.parametrize(("name", "symbol"), [("um", SYMBOL), ("cm", "BTCUSD_PERP")])
def test_futures_have_the_quantities_of_archives(name, symbol, tmp_path, monkeypatch):
    tape = tape_of(NOW, symbol, market=name, quantity_digits=0)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        with live_bars(symbol, 250, since=START, market=name) as live:
            last = play(exchange, live, tape, 300)
            ticks = tape.ticks.filter(pl.col("agg_trade_id") <= last)
            if name == "cm":
                ticks = with_coins(ticks, 100).drop("contracts")
            bars = rb.RangeBarBuilder(250).push(ticks)
            assert_same_bars(drained(live, bars.height), bars)


def test_without_since_they_begin_where_the_symbol_is_live(market):
    exchange, tape = market
    with live_bars(SYMBOL, 250) as live:
        wait_for(lambda: is_live(live), live.status)
        first = applied_id(live)
        last = play(exchange, live, tape, 900)
        bars = truth(tape, 250, START, last).filter(pl.col("last_agg_trade_id") > first)
        assert bars.height > 3
        assert_same_bars(drained(live, bars.height), bars)


def test_a_second_call_continues_from_what_is_stored(market):
    exchange, tape = market
    with live_bars(SYMBOL, 250, since=START) as live:
        play(exchange, live, tape, 300)
    begun = len(pages_asked(exchange))
    with live_bars(SYMBOL, 250, since=START) as live:
        last = play(exchange, live, tape, 300)
        bars = truth(tape, 250, START, last)
        assert_same_bars(drained(live, bars.height), bars)
    # The trades of before were not requested again: there is no backfill of them.
    assert len(pages_asked(exchange)) - begun <= 2


def test_it_can_be_iterated_plain_and_async(market):
    exchange, tape = market
    with live_bars(SYMBOL, 250, since=START, until=NOW + timedelta(seconds=600)) as live:
        exchange.play(timedelta(seconds=900))
        plain = pl.concat(list(live))

    async def collected():
        async with live_bars(SYMBOL, 250, since=START, until=NOW + timedelta(seconds=600)) as live:
            return pl.concat([frame async for frame in live])

    until = pl.col("close_time") < NOW + timedelta(seconds=600)
    bars = truth(tape, 250, START).filter(until)
    assert_same_bars(plain, bars)
    assert_same_bars(asyncio.run(collected()), bars)


def test_partial_is_the_forming_bar(market):
    exchange, tape = market
    with live_bars(SYMBOL, [250, 100_000], since=START) as live:
        last = play(exchange, live, tape, 60)
        builder = rb.RangeBarBuilder(100_000)
        ticks = tape.ticks.filter((pl.col("timestamp") >= START) & (pl.col("agg_trade_id") <= last))
        builder.push(ticks)
        forming = live.partial().filter(pl.col("threshold") == 100_000)
        assert_same_bars(forming, builder.partial())


def test_collect_returns_what_has_arrived_in_time(market):
    with live_bars(SYMBOL, 100_000) as live:
        wait_for(lambda: is_live(live), live.status)
        found = live.collect(1, timeout=0.05)
        assert found.height == 0
        assert found.schema == live.schema


@pytest.mark.parametrize("how", ["close", "garbage"])
def test_its_threads_end(market, how):
    before = set(threading.enumerate())
    live = live_bars(SYMBOL, 250)
    wait_for(lambda: is_live(live), live.status)
    if how == "close":
        live.close()
        assert list(live) == []
    else:
        del live
        gc.collect()
    wait_for(lambda: not {one for one in threading.enumerate() if "rangebar" in one.name} - before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files")
def test_its_journals_are_closed(market, tmp_path):
    exchange, tape = market
    with live_bars(SYMBOL, 250, since=START) as live:
        play(exchange, live, tape, 60)
        assert open_journals(tmp_path)
    assert open_journals(tmp_path) == []


def open_journals(folder):
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            found.append(str(link.readlink()))
    return [name for name in found if ".journal" in name and name.startswith(str(folder))]


def test_bars_that_begin_now_store_nothing(market, tmp_path):
    exchange, tape = market
    with live_bars(SYMBOL, 250, anchor="now") as live:
        wait_for(lambda: is_live(live), live.status)
        first = applied_id(live) + 1
        last = play(exchange, live, tape, 900)
        ticks = tape.ticks.filter(pl.col("agg_trade_id").is_between(first, last))
        bars = rb.RangeBarBuilder(250).push(ticks)
        assert_same_bars(drained(live, bars.height), bars)
    assert list(tmp_path.rglob("*.journal")) == []


def test_wrong_arguments_are_refused_before_anything_connects(market, monkeypatch):
    exchange, _ = market
    with pytest.raises(ValueError, match="has no stream"):
        live_bars("EURUSD", 250, source="exness")
    with pytest.raises(ValueError, match="`symbol` is an empty list"):
        live_bars([], 250)
    for wrong in (5, None, {"BTCUSDT": 250}, {"BTCUSDT"}, b"BTCUSDT"):
        with pytest.raises(TypeError, match="symbol"):
            live_bars(wrong, 250)
    with pytest.raises(ValueError, match="`lookback`"):
        live_bars(SYMBOL, 250, features="lookback")
    with pytest.raises(ThresholdError):
        live_bars(SYMBOL, 0)
    with pytest.raises(TypeError, match="treshold"):
        live_bars(SYMBOL, treshold=250)
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "strict")
    with pytest.raises(SymbolNotRegisteredError):
        live_bars("NOSUCHUSDT", 250)
    assert exchange.requests == []


def test_the_error_of_a_symbol_that_the_exchange_does_not_know(market, monkeypatch):
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    with live_bars("NOSUCHUSDT", 250) as live, pytest.raises(rb.exceptions.RangeBarError):
        next(live)


@pytest.mark.parametrize("since", [START, None])
def test_a_second_call_follows_the_first_without_a_connection(market, since):
    exchange, tape = market
    with live_bars(SYMBOL, 250, anchor=START) as writer:
        wait_for(lambda: is_live(writer), writer.status)
        with live_bars(SYMBOL, 250, anchor=START, since=since) as follower:
            wait_for(lambda: is_live(follower), follower.status)
            last = play(exchange, writer, tape, 900)
            bars = truth(tape, 250, START, last)
            own = writer.collect(3)
            if since is None:
                bars = bars.filter(pl.col("last_agg_trade_id") >= own.item(0, "last_agg_trade_id"))
            assert_same_bars(drained(follower, bars.height), bars)
        assert len(exchange.streams.connections) == 1


def test_a_follower_waits_for_a_writer_and_goes_on_with_the_next_one(market):
    exchange, tape = market
    writer = live_bars(SYMBOL, 250, anchor=START)
    wait_for(lambda: is_live(writer), writer.status)
    with live_bars(SYMBOL, 250, anchor=START, since=START) as follower:
        last = play(exchange, writer, tape, 300)
        first = drained(follower, truth(tape, 250, START, last).height)
        writer.close()
        wait_for(lambda: follower.status()[0]["state"] == "writer gone", follower.status)
        exchange.play(timedelta(seconds=300))
        assert follower.collect(1, timeout=0.1).height == 0
        with live_bars(SYMBOL, 250, anchor=START) as writer:
            last = play(exchange, writer, tape, 300)
            bars = truth(tape, 250, START, last)
            rest = drained(follower, bars.height - first.height)
            assert_same_bars(pl.concat([first, rest]), bars)


def test_checks_take_a_tenth_of_the_rest_budget(market, monkeypatch):
    """With little weight a minute, a symbol is checked less often."""
    monkeypatch.setenv("RANGEBAR_REST_WEIGHT_PER_MINUTE", "20")
    with live_bars(SYMBOL, 250, anchor="now") as live:
        wait_for(lambda: is_live(live), live.status)
        # A request weighs 4, and live bars may use 1.5 times the setting.
        assert live.status()[0]["freshness_interval_s"] == check_interval_s(1, 4, 30) == 80.0


def test_each_bar_is_a_line_of_a_verbose_log(tmp_path, caplog):
    arguments = {"source": "binance", "market": "spot", "reset": "year", "anchor": None}
    plan = plan_live([SYMBOL], [250], prevent_same_timestamp_close=True, **arguments)
    bars = rb.sample_ticks().rangebar.bars(250).head(2)
    found = [SeriesBars(0, plan.specs[SYMBOL][0].series(START), bars)]
    for is_verbose, lines in ((False, 0), (True, 2)):
        options = SessionOptions(cache_dir=tmp_path, is_verbose=is_verbose)
        with caplog.at_level(logging.DEBUG, "rangebar_polars.live"):
            LiveSession(plan, options).bars(SimpleNamespace(name=SYMBOL, sequencing=None), found)
        assert [one.getMessage().count("event=bar") for one in caplog.records] == [1] * lines
    assert f"close={bars['close'][0]}" in caplog.records[0].getMessage()
