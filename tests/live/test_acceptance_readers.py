"""Readers and followers in processes of their own, beside the command `rangebar sidecar` and alone."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from datetime import timedelta

import pytest

from exchange import Exchange, Tape
from live.commands import Command
from live.followers import Follower, Reader, as_read
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from repetitions import repeated

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
READS = repeated(6, 60)
PAUSE_S = repeated(0.2, 1.0)
RESTARTS = repeated(1, 10)


@pytest.fixture
def exchange():
    now = this_moment()
    span = {"before": timedelta(minutes=10), "after": timedelta(minutes=30)}
    with Exchange(Tape.around(now, per_minute=600, volatility=0.15, **span), now=now) as found:
        yield found


@pytest.fixture
def start(exchange):
    return day_start_of(exchange.now)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def sidecar(exchange, cache, folder):
    return Command(exchange, cache, folder, symbols=[SYMBOL], thresholds=THRESHOLDS)


def ready(stack, exchange, cache, folder):
    """Start a sidecar, and wait until it is live: a follower that is faster would be the writer."""
    command = stack.enter_context(sidecar(exchange, cache, folder))
    command.wait_ready()
    return command


def test_reads_beside_a_running_sidecar_are_prefixes(exchange, start, cache, tmp_path):
    """A06."""
    (tape,) = exchange.tapes
    # The end of a read is cut to the last trade.
    end = exchange.now + timedelta(minutes=10)
    with sidecar(exchange, cache, tmp_path) as command:
        command.wait_ready()
        health = f"http://127.0.0.1:{command.port}/health"
        reads = []
        with Reader(exchange, cache, tmp_path, start, health) as reader, exchange.live():
            for _ in range(READS):
                reads.append(reader.bars(end, 250, use_cache=False))
                threading.Event().wait(PAUSE_S)
        assert command.ended(signal.SIGTERM) == 0, command.said()
        assert "Traceback" not in command.said()
    true = Truth.of(tape, 250, [start])
    rows = as_read(true)
    heights = [len(read["rows"]) for read in reads]
    for read, height in zip(reads, heights, strict=True):
        assert read["rows"] == rows[:height]
        assert height >= len(true.through(read["applied_id"]).bars)
    assert heights == sorted(heights)
    assert heights[-1] > heights[0] > 5


@pytest.mark.parametrize("how", ["plain", "async"])
def test_live_bars_alone(how, exchange, start, cache, tmp_path):
    """A07, without a sidecar: history and then live, with a connection of its own."""
    with Follower(exchange, cache, tmp_path, how, start, THRESHOLDS) as live:
        live.wait_state("live")
        with exchange.live(speed=20.0):
            end = exchange.now + timedelta(minutes=1)
            wait_for(lambda: exchange.now >= end)
        live.wait_all()
        live.close()
    assert len(exchange.streams.connections) == 1


@pytest.mark.parametrize("how", ["plain", "async"])
def test_live_bars_beside_a_sidecar_that_is_killed(how, exchange, start, cache, tmp_path):
    """A07, beside a sidecar, which is killed and started again."""
    with ExitStack() as stack:
        command = ready(stack, exchange, cache, tmp_path)
        live = stack.enter_context(Follower(exchange, cache, tmp_path, how, start, THRESHOLDS))
        live.wait_state("live")
        for _ in range(RESTARTS):
            exchange.play(timedelta(seconds=40))
            command.wait_applied(exchange)
            live.wait_all()
            command.ended(signal.SIGKILL)
            live.wait_state("writer gone")
            before = live.count()
            exchange.play(timedelta(seconds=40))
            live.wait_state("writer gone")
            assert live.count() == before
            assert exchange.streams.open == []
            command = ready(stack, exchange, cache, tmp_path)
            live.wait_state("live")
        exchange.play(timedelta(seconds=20))
        live.wait_all()
        live.close()
        assert command.ended(signal.SIGTERM) == 0, command.said()
    # One of each sidecar, and none of the follower.
    assert len(exchange.streams.connections) == 1 + RESTARTS
