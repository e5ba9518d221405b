"""Faults of the stream and of REST: the bars of a sidecar are true, and it says what happened."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange, Tape, faults, stream_faults
from exchange.stream_faults import GARBAGE
from live.market import point_at, wait_for
from live.oracle import assert_oracle
from rangebar_polars.exceptions import ClockSkewWarning, RangeBarError

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
START = NOW.replace(hour=0)
THRESHOLDS = (250, 500)
#: Every ten minutes of the exchange are some ten bars.
MARKET = {"before": timedelta(minutes=10), "after": timedelta(hours=2), "per_minute": 120}
CLOSES = (1000, 1001, 1006, 1008, 1011, 1012, 1013)


def tape_of(symbol="BTCUSDT", **options):
    return Tape.around(NOW, symbol=symbol, **MARKET, volatility=1.0, **options)


def id_at(tape, instant):
    return int(tape.ticks.filter(pl.col("timestamp") >= instant)["agg_trade_id"][0])


def last_id(exchange, tape):
    return int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])


def play(exchange, sidecar, tape, seconds):
    """Let time pass, and wait until all of it is applied."""
    exchange.play(timedelta(seconds=seconds))
    sidecar.wait_applied(last_id(exchange, tape), tape.symbol)


def judge(exchange, cache, *runs, at_least=5, **options):
    options = {"thresholds": THRESHOLDS, "resets": [START], "replays": False} | options
    count = assert_oracle(exchange, cache, runs, **options)
    assert count >= at_least, count


def asked_ids(exchange, symbol=""):
    """Ids of the pages that were requested, in order."""
    pages = exchange.asked(lambda one: "fromId" in one.query and one.query["symbol"] != symbol)
    return [int(one.query["fromId"]) for one in pages]


def pages_of(exchange, symbol):
    return exchange.asked(lambda one: "fromId" in one.query and one.query["symbol"] == symbol)


@pytest.fixture
def market():
    tape = tape_of()
    with Exchange(tape, now=NOW) as exchange:
        yield exchange, tape


def test_each_way_in_which_a_connection_ends(market, sidecars, tmp_path):
    exchange, tape = market
    streams = exchange.streams
    one = sidecars.start(exchange, tmp_path, rate=30.0)
    one.wait_state("live")
    first, begun = last_id(exchange, tape), len(exchange.requests)
    ends = [stream_faults.reset(), stream_faults.end(), stream_faults.cut("header")]
    ends += [stream_faults.cut("frame"), stream_faults.cut("utf8", drop=False)]
    ends += [stream_faults.close(code) for code in CLOSES]
    for number, end in enumerate(ends, 1):
        streams.fail("/stream", end)
        exchange.play(timedelta(seconds=20))
        streams.wait(lambda number=number: len(streams.connections) > number)
        streams.wait_open()
        play(exchange, one, tape, 5)
    assert one.stop() == 0
    judge(exchange, tmp_path, one)
    assert {"sidecar_reconnected", "sidecar_degraded"} <= one.names()
    # Trades that had been applied were not requested again, and a gap is at most a page.
    pages = exchange.asked(lambda one: "fromId" in one.query)
    ids = [int(page.query["fromId"]) for page in pages if page.number >= begun]
    assert min(ids) > first
    assert len(ids) <= 4 * len(ends)


def test_a_symbol_that_falls_silent_beside_another_one(sidecars, tmp_path):
    loud, mute = tape_of(), tape_of("ETHUSDT", seed=3, first_id=1_000)
    with Exchange(loud, mute, now=NOW) as exchange:
        one = sidecars.start(exchange, tmp_path, symbols=["BTCUSDT", "ETHUSDT"], rate=30.0)
        for tape in (loud, mute):
            one.wait_state("live", tape.symbol)
        begun = len(pages_of(exchange, "BTCUSDT"))
        exchange.streams.strike(stream_faults.muted("ETHUSDT"))
        exchange.play(timedelta(seconds=60))
        # It is found by what REST says; the connection is replaced, and the gap backfilled.
        one.wait_applied(last_id(exchange, mute), "ETHUSDT")
        exchange.streams.wait(lambda: len(exchange.streams.connections) > 1)
        wait_for(lambda: "sidecar_degraded" in one.names())
        reasons = {event["reason"] for event in one.events() if "reason" in event}
        assert "silent" in reasons
        exchange.play(timedelta(minutes=5))
        for tape in (loud, mute):
            one.wait_applied(last_id(exchange, tape), tape.symbol)
            one.wait_state("live", tape.symbol)
        assert one.stop() == 0
        judge(exchange, tmp_path, one)
        assert len(pages_of(exchange, "BTCUSDT")) == begun


def test_doubles_swaps_and_garbage(market, sidecars, tmp_path):
    exchange, tape = market
    streams = exchange.streams
    one = sidecars.start(exchange, tmp_path, rate=30.0)
    one.wait_state("live")
    kinds = [stream_faults.doubled(), stream_faults.repeated(1_000), stream_faults.lost()]
    kinds += [stream_faults.malformed(), stream_faults.truncated(), stream_faults.without("q")]
    kinds += [stream_faults.changed(p="-1.0"), stream_faults.changed(p="0.123456789")]
    kinds += [stream_faults.pings(50, b"x" * 125)]
    kinds += [stream_faults.garbage(name) for name in GARBAGE]
    for kind in kinds:
        streams.wait_open()
        streams.fail("&id=", kind)
        play(exchange, one, tape, 3)
    one.wait_state("live")
    streams.fail("&id=", stream_faults.reordered(10), times=30)
    play(exchange, one, tape, 60)
    streams.fail("&id=", stream_faults.conflicting())
    play(exchange, one, tape, 300)
    one.wait_state("live")
    assert one.stop() == 0
    judge(exchange, tmp_path, one)
    assert "trade_conflict" in one.names()


def test_ids_that_exist_nowhere_are_given_up_after_half_a_minute(sidecars, tmp_path):
    whole = tape_of()
    gone = id_at(whole, NOW + timedelta(seconds=30))
    tape = whole.with_absent(gone, gone + 9)
    with Exchange(tape, now=NOW) as exchange:
        rate = 20.0
        one = sidecars.start(exchange, tmp_path, rate=rate)
        one.wait_state("live")
        exchange.play(timedelta(seconds=29))
        asked = exchange.asked
        exchange.play(timedelta(minutes=10))
        play(exchange, one, tape, 1)
        assert one.stop() == 0
        judge(exchange, tmp_path, one)
        assert {"gap_detected", "coverage_gap", "gap_healed"} <= one.names()
        over = [page.at_s for page in asked(f"fromId={gone}&") if page.status == 200]
        # Two answers, five seconds apart, and the last one half a minute after the first.
        assert len(over) >= 2
        assert over[-1] - over[0] >= 29.0 / rate
        (event,) = [one for one in one.events() if one["event"] == "coverage_gap"]
        assert (event["first_id"], event["last_id"]) == (gone, gone + 9)


def test_while_rest_refuses_nobody_asks_and_no_bar_crosses_the_gap(
    market, sidecars, tmp_path, monkeypatch
):
    exchange, tape = market
    point_at(exchange, tmp_path, monkeypatch)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    one = sidecars.start(exchange, tmp_path, rate=1.0)
    one.wait_state("live")
    lost = id_at(tape, NOW + timedelta(seconds=60))
    exchange.streams.fail(f"&id={lost}", stream_faults.lost())
    exchange.fail("/aggTrades", faults.banned(retry_after=5))
    exchange.play(timedelta(minutes=10))
    wait_for(lambda: any(page.status == 418 for page in exchange.requests))
    refused = next(page for page in exchange.requests if page.status == 418)
    # Another process, which shares the store and with it what REST has said.
    wait_for(lambda: one.state().get("reason") == "rest_refused", one.state)
    assert all(line["last_agg_trade_id"] < lost for line in one.lines())
    with suppress(RangeBarError), pytest.warns(ClockSkewWarning):
        rb.fetch_ticks("BTCUSDT", START - timedelta(days=1), START, verbose=False)
    one.wait_applied(last_id(exchange, tape))
    after = [
        page.at_s
        for page in exchange.requests
        if page.number > refused.number and page.path.startswith("/api/")
    ]
    assert min(after) - refused.at_s >= 5.0, [
        (round(page.at_s - refused.at_s, 3), page.target, page.status)
        for page in exchange.requests[refused.number :][:6]
    ]
    one.wait_state("live")
    assert one.stop() == 0
    judge(exchange, tmp_path, one)


@pytest.mark.parametrize("close_after_s", [1.0, None])
def test_a_server_that_shuts_down(close_after_s, market, sidecars, tmp_path):
    exchange, tape = market
    streams = exchange.streams
    one = sidecars.start(exchange, tmp_path, rate=20.0)
    one.wait_state("live")
    begun = len(asked_ids(exchange))
    fault = stream_faults.server_shutdown(close_after_s=close_after_s, as_stream=True)
    streams.strike(fault)
    streams.wait(lambda: len(streams.connections) == 2)
    play(exchange, one, tape, 300)
    streams.wait(lambda: len(streams.open) == 1)
    assert one.stop() == 0
    judge(exchange, tmp_path, one)
    if close_after_s is None:
        # The connections overlap: nothing was missing.
        assert len(asked_ids(exchange)) == begun


def test_a_server_whose_queue_is_behind(market, sidecars, tmp_path):
    exchange, tape = market
    streams = exchange.streams
    one = sidecars.start(exchange, tmp_path, rate=10.0, max_lag_s=10.0)
    one.wait_state("live")
    with exchange.live(speed=10.0):
        streams.strike(stream_faults.held_back(25.0))
        # A freshness check may come first, and find the same.
        late = {"lagging", "silent"}
        wait_for(lambda: late & {event.get("reason") for event in one.events()}, one.said)
        streams.wait(lambda: len(streams.connections) >= 2)
        streams.wait(lambda: not streams.connections[0].is_open or streams.connections[0].is_ended)
        one.wait_state("live")
    one.wait_applied(last_id(exchange, tape))
    assert one.stop() == 0
    judge(exchange, tmp_path, one, at_least=1)


def test_an_exchange_that_is_away_at_the_start_and_again(market, sidecars, tmp_path):
    exchange, tape = market
    streams = exchange.streams
    streams.down()
    away = exchange.fail("/aggTrades", faults.status(503), times=None)
    one = sidecars.start(exchange, tmp_path, rate=30.0)
    wait_for(lambda: away.met >= 3)
    away.cancel()
    wait_for(lambda: one.state().get("reason") == "disconnected", one.state)
    streams.up()
    one.wait_state("live")
    play(exchange, one, tape, 120)
    streams.down()
    wait_for(lambda: one.state().get("reason") == "disconnected", one.state)
    exchange.play(timedelta(minutes=5))
    streams.up()
    one.wait_applied(last_id(exchange, tape))
    one.wait_state("live")
    assert one.stop() == 0
    judge(exchange, tmp_path, one)


def test_the_first_page_is_refused(market, sidecars, tmp_path):
    """Whatever REST does between its newest id and the first trade of the day, the symbol starts."""
    exchange, tape = market
    bad = [faults.status(503), faults.banned(retry_after=1), faults.malformed_json(), faults.drop()]
    for fault in bad:
        exchange.fail("fromId=", fault, after=0)
        exchange.fail("startTime=", fault)
    one = sidecars.start(exchange, tmp_path, rate=30.0)
    one.wait_state("live")
    assert "sidecar_failed" not in one.names()
    play(exchange, one, tape, 300)
    assert one.stop() == 0
    judge(exchange, tmp_path, one)


def test_midnight_in_each_state_of_the_stream(sidecars, tmp_path):
    """The day turns while the stream is away: trades of both days come by REST."""
    now = START + timedelta(hours=23, minutes=59)
    tape = Tape.around(now, volatility=1.0, **MARKET)
    midnight = START + timedelta(days=1)
    with Exchange(tape, now=now) as exchange:
        options = {"ouroboros": "day", "include_orphaned_bars": True, "rate": 30.0}
        one = sidecars.start(exchange, tmp_path, **options)
        one.wait_state("live")
        exchange.streams.down()
        exchange.play(timedelta(minutes=5))
        exchange.streams.up()
        one.wait_applied(last_id(exchange, tape))
        play(exchange, one, tape, 60)
        assert one.stop() == 0
        runs = [one]
        # The same again for a process that is not there at midnight.
        exchange.now = midnight + timedelta(minutes=30)
        runs.append(sidecars.start(exchange, tmp_path, **options))
        runs[1].wait_applied(last_id(exchange, tape))
        assert runs[1].stop() == 0
        judge(exchange, tmp_path, *runs, resets=[START, midnight], orphans=True)


def test_a_day_that_turns_while_nobody_streams(sidecars, tmp_path):
    now = START + timedelta(hours=23, minutes=58)
    tape = Tape.around(now, volatility=1.0, **MARKET)
    midnight = START + timedelta(days=1)
    with Exchange(tape, now=now) as exchange:
        options = {"ouroboros": "day", "include_orphaned_bars": True, "rate": 30.0}
        runs = [sidecars.start(exchange, tmp_path, **options)]
        runs[0].wait_state("live")
        play(exchange, runs[0], tape, 30)
        assert runs[0].stop() == 0
        exchange.now = midnight + timedelta(minutes=5)
        runs.append(sidecars.start(exchange, tmp_path, **options))
        runs[1].wait_state("live")
        play(exchange, runs[1], tape, 60)
        assert runs[1].stop() == 0
        judge(exchange, tmp_path, *runs, resets=[START, midnight], orphans=True)
