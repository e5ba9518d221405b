"""The command `rangebar sidecar` from outside: lines, signals, the HTTP interface and its numbers.

By default, the clocks of the processes and of the exchange run faster than those of the machine.
"""

from __future__ import annotations

import random
import signal
from contextlib import ExitStack
from datetime import timedelta

import pytest

from exchange import Exchange, Tape, faults, stream_faults
from live.commands import Command
from live.market import day_start_of, this_moment, wait_for
from live.oracle import assert_delivered, assert_stored, truth
from repetitions import repeated

NOW = this_moment()
START = day_start_of(NOW)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
#: The last one is so high that no bar of it ends in the first runs.
THRESHOLDS = (250, 500, 20_000)
KILLS = repeated(1, 20)
SPEED = repeated(10.0, 1.0)
MINUTES = repeated(3, 5)
RETRY_AFTER_S = 20


def tape_of(symbol, seed, **options):
    span = {"before": timedelta(minutes=20), "after": timedelta(hours=1)}
    return Tape.around(
        NOW, symbol=symbol, seed=seed, per_minute=120, volatility=1.0, **span, **options
    )


def sidecar(exchange, folder):
    """Start the command."""
    options = {"symbols": SYMBOLS, "thresholds": THRESHOLDS, "rate": SPEED}
    return Command(exchange, folder / "cache", folder, **options)


def judge(exchange, folder, runs, *, replays):
    counts = {}
    for tape in exchange.tapes:
        gone = {n for first, last in tape.source_absent for n in range(first, last + 1)}
        end = assert_stored(folder / "cache", tape, START, gone)
        for threshold in THRESHOLDS:
            counts[tape.symbol, threshold] = assert_delivered(
                [run.lines(tape.symbol, threshold) for run in runs],
                truth(tape, threshold, [START], without=gone),
                end,
                orphans=False,
                from_start=False,
                replays=replays,
            )
    for run in runs:
        assert "Traceback" not in run.said()
    assert exchange.streams.most_connects() <= 60
    return counts


@pytest.fixture
def exchange():
    absent = tape_of(SYMBOLS[1], seed=2, first_id=1_000)
    gone = int(absent.agg_ids[0]) + 2 * 1_250
    tapes = tape_of(SYMBOLS[0], seed=1), absent.with_absent(gone, gone + 9)
    with Exchange(*tapes, now=NOW) as found:
        yield found


def counter(command, name):
    """The sum of a metric over its labels."""
    lines = command.get("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_run_that_is_stopped(exchange, tmp_path):
    """A01, with the faults of A03 in the same minutes."""
    streams = exchange.streams
    with sidecar(exchange, tmp_path) as command:
        command.wait_ready()
        seen = [stream_faults.lost(), stream_faults.doubled(), stream_faults.close(1008)]
        seen += [
            stream_faults.garbage("malformed"),
            stream_faults.server_shutdown(close_after_s=30),
        ]
        seen += [stream_faults.reordered(10), stream_faults.conflicting()]
        rules = [streams.fail("&id=", one, times=20 if one is seen[5] else 1) for one in seen]
        with exchange.live(speed=SPEED):
            wait_for(lambda: exchange.now >= NOW + timedelta(minutes=MINUTES), command.health)
            wait_for(lambda: all(rule.times == 0 for rule in rules), lambda: rules)
        command.wait_applied(exchange)
        command.wait_ready()
        for name in ("trades_total", "duplicates_total", "gaps_total", "ids_missing_total"):
            assert counter(command, f"rangebar_live_{name}") > 0, command.get("/metrics")[1]
        assert command.ended(signal.SIGTERM) == 0, command.said()
        counts = judge(exchange, tmp_path, [command], replays=False)
        assert all(counts[symbol, 250] > 5 for symbol in SYMBOLS), counts


def test_a_run_that_is_killed_again_and_again(exchange, tmp_path):
    """A02."""
    rng, runs = random.Random(5), []
    with ExitStack() as stack:

        def start():
            runs.append(stack.enter_context(sidecar(exchange, tmp_path)))
            runs[-1].wait_ready()
            return runs[-1]

        with exchange.live(speed=SPEED):
            for _ in range(KILLS):
                killed = start()
                end = exchange.now + timedelta(seconds=rng.uniform(20, 60))
                wait_for(lambda end=end: exchange.now >= end)
                killed.ended(signal.SIGKILL)
            command = start()
        exchange.play(timedelta(minutes=1))
        command.wait_applied(exchange)
        assert command.ended(signal.SIGTERM) == 0, command.said()
    counts = judge(exchange, tmp_path, runs, replays=True)
    assert all(counts[symbol, 250] > 5 for symbol in SYMBOLS), counts


def test_rest_refuses_while_a_gap_is_open(exchange, tmp_path):
    """A05: what `/ready` says."""
    with sidecar(exchange, tmp_path) as command:
        command.wait_ready()
        exchange.fail("/aggTrades", faults.banned(retry_after=RETRY_AFTER_S))
        exchange.streams.fail("&id=", stream_faults.lost(), after=30)
        exchange.play(timedelta(minutes=2))
        wait_for(lambda: command.get("/ready")[0] == 503, command.health)
        wait_for(
            lambda: "rest_refused" in {one["reason"] for one in command.health()}, command.health
        )
        command.wait_ready()
        command.wait_applied(exchange)
        (refused,) = [one for one in exchange.requests if one.status == 418]
        after = [one.at_s for one in exchange.requests if one.number > refused.number]
        assert min(after) - refused.at_s >= RETRY_AFTER_S / SPEED
        assert command.ended(signal.SIGTERM) == 0, command.said()
        judge(exchange, tmp_path, [command], replays=False)
