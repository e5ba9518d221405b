"""Floods of trades: many in a second, many in a millisecond, many symbols at once; memory and threads."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from exchange import Exchange, Tape
from live.commands import Called, Command
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from repetitions import IS_LONG, repeated

THRESHOLDS = (250, 500)
#: Above the minimum of each of ten symbols.
TEN_THRESHOLDS = (1_000, 2_000)
MIB = 1 << 20
#: Messages of a flood, and how many of them a second.
FLOOD, RATE = repeated((10_000, None), (500_000, 50_000.0))
IN_A_MILLISECOND = repeated(10_000, 100_000)
EACH_OF_TEN = repeated(1_000, 50_000)
FLOOD_MIB = 100
#: The marks of the memory of a long run, in messages.
FIRST, LAST = 200_000, 1_000_000
ABOVE_POLARS_MIB, GROWTH_MIB = 120, 20
POLARS = "import polars, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def flood_of(now, symbol, count, seed=0):
    """So many trades in the ten minutes from now on, and some before."""
    per_minute = count / 10.5
    span = {"before": timedelta(seconds=30), "after": timedelta(minutes=10)}
    options = {"volatility": 0.002 * count**0.5, "seed": seed, "price_digits": 4}
    return Tape.around(now, symbol=symbol, per_minute=per_minute, **span, **options)


def at_once(tape, first_row, count):
    """The tape with so many trades in one millisecond."""
    ticks = tape.ticks.with_row_index()
    begin = ticks["timestamp"][first_row]
    row = pl.col("index").cast(pl.Int64) - first_row
    inside = begin + pl.duration(microseconds=row * 999 // count)
    moved = pl.when(row.is_between(0, count - 1)).then(inside).otherwise("timestamp")
    ticks = ticks.with_columns(timestamp=moved.cast(ticks.schema["timestamp"])).drop("index")
    rest = ticks["timestamp"].cum_max()
    return replace(tape, ticks=ticks.with_columns(timestamp=rest))


def called(exchange, folder, thresholds):
    """A sidecar of all symbols, whose callback is not held."""
    gate = folder / "gate"
    gate.touch()
    symbols = [tape.symbol for tape in exchange.tapes]
    options = {"symbols": symbols, "thresholds": thresholds, "gate": gate}
    return Called(exchange, folder / "cache", folder, **options)


def run_flood(exchange, folder, thresholds=THRESHOLDS, *, rate=None):
    """Play the flood beside a sidecar, and judge its bars, its memory and its threads."""
    start = day_start_of(exchange.now)
    with called(exchange, folder, thresholds) as program:
        program.wait_ready()
        before, most = program.rss_bytes(), 0
        end = exchange.now + timedelta(minutes=10)
        while exchange.now < end:
            exchange.play(min(end, exchange.now + timedelta(minutes=1)), rate=rate)
            most = max(most, program.rss_bytes())
        program.wait_applied(exchange)
        most = max(most, program.rss_bytes())
        for tape in exchange.tapes:
            for threshold in thresholds:
                judge(program, tape, threshold, start, exchange.now)
        assert program.ended(signal.SIGTERM) == 0, program.said()
    assert most - before <= FLOOD_MIB * MIB
    said = program.read()[-1]
    assert (said["undelivered"], said["threads"]) == ({}, [])
    assert "Traceback" not in program.said()


def judge(program, tape, threshold, start, until):
    true = Truth.of(tape, threshold, [start], until=until)
    wait_for(
        lambda: (
            true.last_ids[-1:]
            == [one["last_agg_trade_id"] for one in program.lines(tape.symbol, threshold)[-1:]]
        ),
        lambda: (tape.symbol, threshold, program.health(), program.said()),
    )
    lines = program.lines(tape.symbol, threshold)
    assert len(lines) > 2
    true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)


def test_many_messages_a_second(tmp_path):
    """L13: as fast as the exchange can."""
    now = this_moment()
    with Exchange(flood_of(now, "BTCUSDT", FLOOD), now=now) as exchange:
        run_flood(exchange, tmp_path, rate=RATE)


def test_many_trades_in_a_millisecond(tmp_path):
    """L13: a bar may not close at the time at which it opened."""
    now = this_moment()
    tape = flood_of(now, "BTCUSDT", 2 * IN_A_MILLISECOND)
    tape = at_once(tape, tape.ticks.height // 4, IN_A_MILLISECOND)
    with Exchange(tape, now=now) as exchange:
        run_flood(exchange, tmp_path)


def test_ten_symbols_at_once(tmp_path):
    """L13."""
    now = this_moment()
    names = ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "AVAX", "LINK", "DOT")
    tapes = [flood_of(now, f"{one}USDT", EACH_OF_TEN, seed) for seed, one in enumerate(names)]
    with Exchange(*tapes, now=now) as exchange:
        run_flood(exchange, tmp_path, TEN_THRESHOLDS)


@pytest.mark.skipif(not IS_LONG, reason="plays a million messages")
def test_memory_of_a_million_messages(tmp_path):
    """A16."""
    now = this_moment()
    run = subprocess.run([sys.executable, "-c", POLARS], check=True, capture_output=True, text=True)
    base = int(run.stdout) * (1 if sys.platform == "darwin" else 1024)
    tape = flood_of(now, "BTCUSDT", LAST)
    first_at = tape.ticks["timestamp"][FIRST]
    with Exchange(tape, now=now) as exchange:
        options = {"symbols": ["BTCUSDT"], "thresholds": (250, 500, 750, 1000)}
        with Command(exchange, tmp_path / "cache", tmp_path, **options) as command:
            command.wait_ready()
            exchange.play(first_at, rate=50_000.0)
            command.wait_applied(exchange)
            first = command.rss_bytes()
            exchange.play(tape.ticks["timestamp"][-1], rate=50_000.0)
            command.wait_applied(exchange)
            last = command.rss_bytes()
            assert command.ended(signal.SIGTERM) == 0, command.said()
    assert first - base <= ABOVE_POLARS_MIB * MIB
    assert last - first <= GROWTH_MIB * MIB
