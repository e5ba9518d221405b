"""A sidecar that is killed at any step: what it delivered is true, and its successor goes on."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from exchange import Exchange, Tape, stream_faults
from live.market import wait_for
from live.oracle import assert_idle, assert_oracle, midnight_after, stored
from rangebar_polars._files.failpoints import Step
from repetitions import repeated

SYMBOL = "BTCUSDT"
#: Two minutes before a midnight, after which a day closes and its bars end.
NOW = datetime(2026, 11, 2, 23, 58, tzinfo=UTC)
START, MIDNIGHT = NOW.replace(hour=0, minute=0), midnight_after(NOW)
#: The last one is so high that no bar of it ends before the midnight.
THRESHOLDS = (250, 500, 20_000)
#: A kill at these steps takes a finalized day: test_finalize.py and test_revision_kills.py have them.
IN_FINALIZING = {
    Step.DAY_COMPACTED,
    Step.DAY_FINAL,
    Step.UNITS_STORED,
    Step.REVISION_WRITTEN,
    Step.REVISED,
}
STEPS = [step for step in Step if step.area == "live" and step not in IN_FINALIZING]
OPTIONS = {
    "thresholds": THRESHOLDS,
    "ouroboros": "day",
    "include_orphaned_bars": True,
    "gap_patience_s": 5.0,
}
KILLS = repeated(4, 200)


def id_at(tape, instant):
    return int(tape.ticks.filter(pl.col("timestamp") >= instant)["agg_trade_id"][0])


@pytest.fixture(scope="module")
def tape():
    whole = Tape.around(
        NOW,
        before=timedelta(minutes=20),
        after=timedelta(minutes=20),
        per_minute=240,
        volatility=1.2,
    )
    gone = id_at(whole, NOW + timedelta(seconds=50))
    return whole.with_absent(gone, gone + 4)


@pytest.fixture
def exchange(tape):
    with Exchange(tape, now=NOW) as found:
        yield found


def last_id(exchange, tape):
    """The newest id at the exchange."""
    return int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])


class Course:
    """What happens at the exchange: lost and absent ids, a connection replaced, a midnight."""

    def __init__(self, exchange, tape):
        self.exchange, self.tape = exchange, tape

    def run(self, sidecar):
        """Let it happen until the sidecar has seen all of it, or has ended."""
        if not self._is_live(sidecar):
            return
        lost = id_at(self.tape, self.exchange.now + timedelta(seconds=20))
        self.exchange.streams.fail(f"&id={lost}", stream_faults.lost())
        for part in (70, 40, 30, 40):
            self.exchange.play(timedelta(seconds=part))
            if not self._has_all(sidecar):
                return
            if part == 40:
                self._replace(sidecar)

    def _is_live(self, sidecar):
        wait_for(
            lambda: not sidecar.is_running() or sidecar.state().get("state") == "live",
            lambda: (sidecar.state(), sidecar.said()),
        )
        return sidecar.is_running()

    def _has_all(self, sidecar):
        last = last_id(self.exchange, self.tape)
        wait_for(
            lambda: not sidecar.is_running() or (sidecar.state().get("applied_id") or 0) >= last,
            lambda: (last, sidecar.state(), sidecar.said()),
        )
        return sidecar.is_running()

    def _replace(self, sidecar):
        """Have the server announce its end, and wait for the connection that takes over."""
        streams = self.exchange.streams
        count = len(streams.connections)
        streams.strike(stream_faults.server_shutdown(close_after_s=60))
        wait_for(lambda: len(streams.connections) > count or not sidecar.is_running())


def successor(sidecars, exchange, tape, cache, **options):
    """Start another sidecar, let time pass, and stop it in order."""
    last = sidecars.start(exchange, cache, **OPTIONS, **options)
    last.wait_state("live")
    exchange.play(timedelta(minutes=2))
    last.wait_applied(last_id(exchange, tape))
    assert last.stop() == 0, last.said()
    return last


def judge(exchange, cache, runs, **options):
    options = {"thresholds": THRESHOLDS, "resets": (START, MIDNIGHT), "orphans": True} | options
    bars = assert_oracle(exchange, cache, runs, **options)
    # All runs together see at least the two minutes of the last one.
    assert bars > 20, bars


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(step, sidecars, exchange, tape, tmp_path):
    killed = sidecars.start(exchange, tmp_path, kill=(step, 1), **OPTIONS)
    Course(exchange, tape).run(killed)
    if killed.is_running():
        killed.stop()
    assert killed.wait() == -9, f"the step was never reached: {killed.said()}"
    last = successor(sidecars, exchange, tape, tmp_path)
    judge(exchange, tmp_path, [killed, last])


def test_a_second_run_without_new_trades_writes_and_delivers_nothing(
    sidecars, exchange, tape, tmp_path
):
    first = successor(sidecars, exchange, tape, tmp_path)
    before = stored(tmp_path, SYMBOL)
    second = sidecars.start(exchange, tmp_path, **OPTIONS)
    second.wait_state("live")
    assert second.stop() == 0
    judge(exchange, tmp_path, [first, second], replays=False)
    assert_idle(tmp_path, SYMBOL, before, second)


def test_killed_at_random_moments(sidecars, exchange, tape, tmp_path):
    rng = random.Random(7)
    runs = []
    with exchange.live(speed=2.0):
        for number in range(KILLS):
            counted = tmp_path / f"steps-{number}"
            counted.touch()
            one = sidecars.start(exchange, tmp_path, count_in=counted, **OPTIONS)
            runs.append(one)
            wanted = rng.randrange(60)
            wait_for(
                lambda counted=counted, wanted=wanted, one=one: (
                    counted.read_bytes().count(b"\n") >= wanted or not one.is_running()
                )
            )
            one.kill()
            assert one.wait() == -9, one.said()
    runs.append(successor(sidecars, exchange, tape, tmp_path))
    judge(exchange, tmp_path, runs)
