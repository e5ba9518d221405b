"""Many processes on one store: sidecars that start at once, readers, a population, followers, and gc."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from datetime import timedelta

import pytest

from exchange import Exchange, Tape
from live.acceptance_scripts import PLANNER
from live.commands import Command, Program
from live.followers import Follower, Reader, as_read
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from repetitions import repeated

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
STARTS = repeated(1, 5)
READERS = repeated(2, 20)
#: How often the writer is killed, and the minutes that are played meanwhile.
KILLS, MINUTES = repeated((1, 1), (4, 3))
HELD = 3


@pytest.fixture
def exchange():
    # Ten hours after midnight, the archive of the day before is published.
    now = day_start_of(this_moment()) + timedelta(hours=12)
    span = {"before": timedelta(hours=14), "after": timedelta(minutes=30)}
    with Exchange(Tape.around(now, per_minute=20, volatility=0.3, **span), now=now) as found:
        yield found


def sidecar(exchange, folder, **options):
    options = {"symbols": [SYMBOL], "thresholds": THRESHOLDS} | options
    return Command(exchange, folder / "cache", folder, **options)


@pytest.mark.parametrize("number", range(STARTS))
def test_of_two_sidecars_at_once_one_is_refused(number, exchange, tmp_path):
    """L26, beside readers that probe the lock."""
    start = day_start_of(exchange.now)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(Reader(exchange, tmp_path / "cache", tmp_path, start))
            for _ in range(READERS)
        ]
        both = [stack.enter_context(sidecar(exchange, tmp_path, rate=10.0)) for _ in range(2)]
        wait_for(lambda: any(one.process.poll() is not None for one in both))
        (winner,) = [one for one in both if one.process.poll() is None]
        (loser,) = [one for one in both if one is not winner]
        assert loser.ended() == HELD, loser.said()
        assert str(winner.process.pid) in loser.said()
        winner.wait_ready()
        true = Truth.of(exchange.tapes[0], 250, [start], until=exchange.now)
        for reader in readers:
            found = reader.bars(exchange.now + timedelta(minutes=30), 250, use_cache=False)
            assert found["rows"] == as_read(true)
        assert winner.ended(signal.SIGTERM) == 0, winner.said()


class Crowd:
    """Threads that let programs work until the end; what they found is judged afterwards."""

    def __init__(self, exchange):
        self.end = exchange.now + timedelta(minutes=30)
        self.reads = []
        self.planned = []
        self.codes = []
        self._errors = []
        self._stop = threading.Event()
        self._threads = []

    def run(self, work):
        def loop():
            try:
                while not self._stop.is_set():
                    work()
            except BaseException as error:
                self._errors.append(error)
                raise

        self._threads.append(threading.Thread(target=loop))
        self._threads[-1].start()

    def read(self, reader):
        found = []
        self.reads.append(found)
        self.run(lambda: found.append(reader.bars(self.end, 250, use_cache=False)["rows"]))

    def plan(self, planner):
        def work():
            count = len(planner.texts)
            planner.process.stdin.write(f"{self.end.isoformat()}\n")
            planner.process.stdin.flush()
            wait_for(
                lambda: len(planner.texts) > count or planner.process.poll() is not None,
                planner.said,
            )
            assert planner.process.poll() is None, planner.said()

        self.planned.append(planner)
        self.run(work)

    def call(self, program):
        """Run a command again and again."""

        def work():
            with program() as one:
                self.codes.append((one.ended(), one.said()))

        self.run(work)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []


def test_readers_population_follower_and_gc_beside_a_writer_that_is_killed(exchange, tmp_path):
    """L27."""
    pytest.importorskip("chdb")
    (tape,) = exchange.tapes
    cache, start = tmp_path / "cache", day_start_of(exchange.now)
    day = (start - timedelta(days=1)).date().isoformat()

    def rangebar(*words):
        return Program(["-m", "rangebar_polars", *words], exchange, cache, tmp_path)

    with ExitStack() as stack:
        command = stack.enter_context(sidecar(exchange, tmp_path))
        command.wait_ready()
        live = stack.enter_context(Follower(exchange, cache, tmp_path, "plain", start, THRESHOLDS))
        live.wait_state("live")
        readers = [
            stack.enter_context(Reader(exchange, cache, tmp_path, start)) for _ in range(READERS)
        ]
        words = ["-c", PLANNER, SYMBOL, start.isoformat()]
        planner = stack.enter_context(Program(words, exchange, cache, tmp_path))
        with Crowd(exchange) as crowd:
            for reader in readers:
                crowd.read(reader)
            crowd.plan(planner)
            crowd.call(lambda: rangebar("ticks", "gc"))
            crowd.call(lambda: rangebar("populate", SYMBOL, day, day, "-t", "250"))
            for _ in range(KILLS):
                exchange.play(timedelta(minutes=MINUTES), speed=repeated(20.0, 10.0))
                command.wait_applied(exchange)
                command.ended(signal.SIGKILL)
                live.wait_state("writer gone")
                command = stack.enter_context(sidecar(exchange, tmp_path))
                command.wait_ready()
                live.wait_state("live")
            exchange.play(timedelta(minutes=1))
            command.wait_applied(exchange)
            live.wait_all()
            wait_for(lambda: len(crowd.codes) >= 2 and all(crowd.reads), command.said)
        live.close()
        assert command.ended(signal.SIGTERM) == 0, command.said()
    rows = as_read(Truth.of(tape, 250, [start], until=exchange.now))
    for reads in crowd.reads:
        assert [read == rows[: len(read)] for read in reads] == [True] * len(reads)
        heights = [len(read) for read in reads]
        assert heights == sorted(heights)
        assert heights[0] > 5
    ids = tape.between(start, exchange.now + timedelta(microseconds=1))["agg_trade_id"].to_list()
    planned = [one["ids"] for one in planner.read()[1:]]
    assert [one == ids[: len(one)] for one in planned] == [True] * len(planned)
    assert planned
    assert all(planned)
    assert [code for code, _ in crowd.codes] == [0] * len(crowd.codes), crowd.codes
