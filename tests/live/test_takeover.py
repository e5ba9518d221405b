"""A follower that becomes the writer, and a writer that gives way to a service (L44)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta

import polars as pl
import pytest

from exchange import Exchange
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
from rangebar_polars.live import follower, parts
from rangebar_polars.live.bars import live_bars
from rangebar_polars.live.session import LiveSession
from rangebar_polars.storage.live.writer_lock import WriterLock, claimant, has_writer
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

NOW = this_moment()
START = day_start_of(NOW)
THRESHOLDS = [250, 500]


@pytest.fixture
def market(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "FREE_S", 0.2)
    monkeypatch.setattr(parts, "CLAIM_S", 0.05)
    monkeypatch.setattr(follower, "WRITER_S", 0.05)
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange, tape


@pytest.fixture
def folder(tmp_path):
    return TickStorage(tmp_path).symbol_dir(SYMBOL, "binance", "spot")


def start(sidecars, exchange, cache):
    found = sidecars.start(exchange, cache, thresholds=THRESHOLDS, rate=1.0)
    found.wait_state("live")
    return found


def last_id(exchange, tape):
    return int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])


def status(live):
    return next(iter(live.status()), {"state": "", "applied_id": None})


def play(exchange, tape, seconds, *lives):
    """Let time pass, and wait until all of it is applied."""
    exchange.play(timedelta(seconds=seconds))
    last = last_id(exchange, tape)
    for live in lives:
        wait_for(lambda live=live: (status(live)["applied_id"] or -1) >= last, live.status)
    return last


def writes(live):
    return [part for part in live._parts._parts() if isinstance(part, LiveSession)]


def assert_bars(live, tape, through_id, after_id=0):
    """All bars of the iteration so far are those of a builder, none missing and none twice."""
    expected = {dbps: truth(tape, dbps, START, through_id) for dbps in THRESHOLDS}
    expected = {
        dbps: bars.filter(pl.col("last_agg_trade_id") > after_id) for dbps, bars in expected.items()
    }
    count = sum(bars.height for bars in expected.values())
    found = live.collect(count, timeout=120)
    assert found.height == count > 5
    for dbps, bars in expected.items():
        assert_same_bars(found.filter(pl.col("threshold") == dbps), bars)
    return through_id


@pytest.mark.parametrize("since", [START, None])
def test_a_follower_takes_over_after_a_kill(market, sidecars, folder, tmp_path, since):
    exchange, tape = market
    one = start(sidecars, exchange, tmp_path)
    with live_bars(SYMBOL, THRESHOLDS, since=since, takeover=True) as live:
        wait_for(lambda: status(live)["state"] == "live", live.status)
        begun = 0 if since else status(live)["applied_id"]
        assert not writes(live)
        play(exchange, tape, 120, live)
        one.kill()
        # What happens meanwhile is requested by the next writer.
        exchange.play(timedelta(seconds=60))
        wait_for(lambda: writes(live), live.status)
        wait_for(lambda: status(live)["state"] == "live", live.status)
        assert has_writer(folder)
        last = play(exchange, tape, 240, live)
        assert_bars(live, tape, last, begun)
    assert not has_writer(folder)


def test_without_takeover_a_follower_waits(market, sidecars, folder, tmp_path):
    exchange, tape = market
    one = start(sidecars, exchange, tmp_path)
    with live_bars(SYMBOL, THRESHOLDS, since=START) as live:
        last = play(exchange, tape, 120, live)
        one.kill()
        assert_bars(live, tape, last)
        assert live.collect(1, timeout=1).is_empty()
        assert not writes(live)
        assert not has_writer(folder)


def test_a_sidecar_takes_the_symbol_of_a_notebook(market, sidecars, folder, tmp_path):
    exchange, tape = market
    with live_bars(SYMBOL, THRESHOLDS, since=START) as live:
        play(exchange, tape, 120, live)
        assert writes(live)
        one = start(sidecars, exchange, tmp_path)
        assert not writes(live)
        assert claimant(folder) is None
        last = play(exchange, tape, 240, live)
        one.wait_applied(last)
        assert_bars(live, tape, last)
        own = [line for line in one.lines() if line["threshold"] == 250]
    assert one.stop() == 0
    # What the sidecar delivered is true, too.
    expected = truth(tape, 250, START, last)["last_agg_trade_id"].to_list()
    ids = [line["last_agg_trade_id"] for line in own]
    assert ids == expected[-len(ids) :] if ids else True


def test_of_several_symbols_only_the_claimed_one_is_given(market, sidecars, tmp_path, monkeypatch):
    _, tape = market
    other = tape_of(NOW, "ETHUSDT", seed=9)
    with Exchange(tape, other, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        with live_bars([SYMBOL, "ETHUSDT"], 250, since=START) as live:
            wait_for(lambda: [one["state"] for one in live.status()] == ["live"] * 2, live.status)
            one = sidecars.start(
                exchange, tmp_path, symbols=["ETHUSDT"], thresholds=[250], rate=1.0
            )
            one.wait_state("live")
            wait_for(lambda: [one["state"] for one in live.status()] == ["live"] * 2, live.status)
            (session,) = writes(live)
            assert list(session.plan.specs) == [SYMBOL]
            exchange.play(timedelta(seconds=240))
            frames = []
            for name, of_one in ((SYMBOL, tape), ("ETHUSDT", other)):
                last = last_id(exchange, of_one)
                place = [SYMBOL, "ETHUSDT"].index(name)
                wait_for(lambda: live.status()[place]["applied_id"] >= last, live.status)  # noqa: B023
                frames.append(truth(of_one, 250, START, last))
            found = live.collect(sum(frame.height for frame in frames), timeout=120)
            for name, expected in zip((SYMBOL, "ETHUSDT"), frames, strict=True):
                assert_same_bars(found.filter(pl.col("symbol") == name), expected)


@pytest.mark.parametrize("_number", range(repeated(1, 50)))
def test_two_followers_take_over_at_once(market, sidecars, tmp_path, _number):
    exchange, tape = market
    one = start(sidecars, exchange, tmp_path)
    with ExitStack() as stack:
        lives = [
            stack.enter_context(live_bars(SYMBOL, THRESHOLDS, since=START, takeover=True))
            for _ in range(2)
        ]
        play(exchange, tape, 60, *lives)
        one.kill()
        wait_for(lambda: any(map(writes, lives)))
        last = play(exchange, tape, 240, *lives)
        assert sum(len(writes(live)) for live in lives) == 1
        for live in lives:
            assert_bars(live, tape, last)
        # The one that lost follows, and takes over in its turn.
        (winner,) = (live for live in lives if writes(live))
        (loser,) = (live for live in lives if not writes(live))
        winner.close()
        wait_for(lambda: writes(loser), loser.status)
        after = play(exchange, tape, 240, loser)
        assert_bars(loser, tape, after, last)


def ended_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


CLAIMS = {
    "of an ended process": lambda: str(ended_process()),
    "of the writer": lambda: str(os.getpid()),
    "not a number": lambda: "sidecar",
    "not a process": lambda: "9" * 30,
    "every process": lambda: "0",
    "negative": lambda: "-1",
    "empty": lambda: "",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_does_not_count(name, folder):
    with WriterLock.take(folder):
        (folder.live / ".claim").write_text(CLAIMS[name]())
        assert claimant(folder) is None


def test_a_writer_ignores_the_claim_of_a_dead_process(market, folder, monkeypatch):
    exchange, tape = market
    asked = []

    def counted(place):
        asked.append(claimant(place))
        return asked[-1]

    monkeypatch.setattr(parts, "claimant", counted)
    with live_bars(SYMBOL, THRESHOLDS, since=START) as live:
        (folder.live / ".claim").write_text(str(ended_process()))
        last = play(exchange, tape, 240, live)
        seen = len(asked)
        wait_for(lambda: len(asked) > seen + 3)
        assert writes(live)
        assert set(asked) == {None}
        assert_bars(live, tape, last)


def test_a_claim_ends_with_the_wait(folder):
    with WriterLock.take(folder):
        script = (
            "import sys; from rangebar_polars.storage.live.writer_lock import WriterLock;"
            "from rangebar_polars.storage.parquet import TickStorage;"
            "place = TickStorage(sys.argv[1]).symbol_dir('BTCUSDT', 'binance', 'spot');"
            "WriterLock.take_all([place], wait_s=600, claims=True);"
        )
        words = [sys.executable, "-c", script, str(folder.root.parent.parent)]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
            wait_for(lambda: claimant(folder) == process.pid)
            process.send_signal(signal.SIGINT)
            process.wait()
        assert claimant(folder) is None
        assert not (folder.live / ".claim").exists()


def test_the_argument_must_be_a_bool():
    with pytest.raises(TypeError, match="takeover"):
        live_bars(SYMBOL, 250, takeover="yes")
