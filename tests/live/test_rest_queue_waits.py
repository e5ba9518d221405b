"""What a queue of REST requests waits for, and that `close` ends every wait at once.

The clock of the package stands almost still while something is waited for: no timeout of its own
can end a wait, unless a test lets time pass.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from exchange import faults
from exchange.box import Exchange
from exchange.tape import Tape
from live.requesting import Requesting
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import TransientSourceError
from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.live.network.backfill import RestStoppedError

pytest.importorskip("httpcore2")

NOW = datetime(2026, 11, 2, 0, 10, tzinfo=UTC)
TODAY = date(2026, 11, 2)
STILL = 1e-4


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.around(NOW, timedelta(minutes=2), timedelta(minutes=1))


@pytest.fixture
def box(tape, tmp_path, monkeypatch):
    with Exchange(tape) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
        yield box


@pytest.fixture
def still():
    clock.install(rate=STILL)
    yield
    clock.install()


def pass_by(seconds):
    """Set both clocks forward. What waits already is not woken."""
    now = clock._rates
    clock._rates = replace(now, wall=now.wall + seconds, monotonic=now.monotonic + seconds)


def pause_until(condition):
    wait = threading.Event().wait
    while not condition():
        wait(0.001)


# ---- closed hosts


@pytest.mark.parametrize("status", [418, 429])
def test_nothing_is_sent_until_the_host_is_open_again(box, still, status):
    box.fail("aggTrades", faults.too_many(20, status))
    with Requesting() as running:
        begun = clock.monotonic()
        running.page(1)
        ((_, kind, is_refused, until),) = running.wait_for(1)
        assert (kind, is_refused) == ("failed", True)
        assert begun + 20 <= until <= clock.monotonic() + 20
        # Whoever asks meanwhile hears at once that the host is closed, and nothing is sent.
        running.newest()
        running.page(1, is_gap=False)
        running.wait_for(3)
        pass_by(until - clock.monotonic() - 0.5)
        running.page(1)
        refused = running.wait_for(4)[1:]
        assert [outcome[1:3] for outcome in refused] == [("failed", True)] * 3
        assert all(abs(outcome[3] - until) < 0.001 for outcome in refused)
        assert len(box.requests) == 1
        assert 0 < running.queue.status().closed_for_s <= 0.5
        pass_by(0.5)
        running.newest()
        assert running.wait_for(5)[-1][1] == "newest"
        assert len(box.requests) == 2
        assert running.queue.status().closed_for_s == 0.0


def test_all_callers_of_this_process_leave_a_closed_host_alone(box, still, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    box.fail("aggTrades", faults.banned(600))
    with Requesting() as running:
        running.page(1)
        running.wait_for(1)
        with (
            BinanceRest() as rest,
            pytest.raises(TransientSourceError, match="accepts no requests"),
        ):
            rest.newest_id("BTCUSDT")
    assert len(box.requests) == 1


CLOSE = """
from rangebar_polars.fetch.binance.rest import BinanceRest
BinanceRest().newest_id("BTCUSDT")
"""


def test_a_host_that_another_process_closes_is_closed_here(box, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    box.fail("aggTrades", faults.banned(3_000), after=1)
    with Requesting() as running:
        running.newest()
        running.wait_for(1)
        run = subprocess.run(
            [sys.executable, "-c", CLOSE], capture_output=True, text=True, check=False
        )
        assert "accepts no requests" in run.stderr
        running.page(1)
        running.newest()
        refused = running.wait_for(3)[1:]
        assert [outcome[1:3] for outcome in refused] == [("failed", True)] * 2
        assert 0 < refused[0][3] - clock.monotonic() <= 3_000
        assert len(box.requests) == 2


# ---- weight


def test_backfill_leaves_weight_to_gaps_and_checks(box, still):
    """Others have used 4 100 of the 4 500 of live bars: too much for backfill alone."""
    box.rest.limits.used["/api/v3"] = 4_096
    with Requesting() as running:
        running.newest()
        running.wait_for(1)
        running.page(1, is_gap=False)
        pause_until(lambda: running.queue._waiting[3])
        running.page(2)
        running.newest()
        assert [outcome[0] for outcome in running.wait_for(3)] == [
            "newest BTCUSDT",
            "gap 2",
            "newest BTCUSDT",
        ]


def test_a_wait_for_weight_ends_with_the_minute_of_the_exchange(box, still):
    box.rest.limits.used["/api/v3"] = 5_000
    with Requesting() as running:
        begun = clock.monotonic()
        running.newest()
        running.wait_for(1)
        box.rest.limits.used["/api/v3"] = 0
        running.page(1, is_gap=False)
        pause_until(lambda: running.queue._waiting[3])
        # It is ten past midnight there, so the minute has just begun.
        pass_by(60.0)
        # Something else to do wakes the thread, which would look again after some seconds.
        running.page(2)
        answers = running.wait_for(3)[1:]
        assert {answer[0] for answer in answers} == {"backfill 1", "gap 2"}
        assert all(answer[4] >= begun + 60.0 for answer in answers)


# ---- stop


@pytest.mark.usefixtures("still")
class TestStop:
    """Each test makes the queue wait for something that takes longer than the test, and closes it."""

    def test_while_idle(self, box):
        with Requesting() as running:
            running.queue.close()
            running.join()

    def test_while_it_waits_for_weight(self, box):
        box.rest.limits.used["/api/v3"] = 5_900
        with Requesting() as running:
            running.newest()
            running.wait_for(1)
            running.page(1)
            running.queue.close()
            running.join()
        assert len(running.outcomes) == 1

    @pytest.mark.parametrize(
        "fault",
        [faults.stall(), faults.stall(after=0.5), faults.trickled_head(1, 600.0)],
        ids=["headers", "body", "first byte"],
    )
    def test_while_an_answer_stalls(self, box, fault):
        box.fail("aggTrades", fault)
        with Requesting() as running:
            running.page(1)
            pause_until(lambda: running.queue._cancellation._handles and box.requests)
            running.queue.close()
            running.join()
        assert running.outcomes == []

    def test_while_a_connection_is_opened(self, box):
        with closing(socket.socket()) as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(server.getsockname())
            try:
                with Requesting(url=f"http://127.0.0.1:{server.getsockname()[1]}") as running:
                    running.page(1)
                    pause_until(lambda: running.queue._cancellation._handles)
                    running.queue.close()
                    running.join()
            finally:
                for filler in fillers:
                    filler.close()
        assert running.outcomes == []

    def test_while_tls_begins(self, box):
        with closing(socket.socket()) as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            with Requesting(url=f"https://127.0.0.1:{server.getsockname()[1]}") as running:
                running.page(1)
                with closing(server.accept()[0]) as connection:
                    assert connection.recv(1)
                    running.queue.close()
                    running.join()
        assert running.outcomes == []

    def test_while_an_encrypted_answer_stalls(self, tape, box, monkeypatch):
        with Exchange(tape, tls=True) as other:
            monkeypatch.setenv("SSL_CERT_FILE", other.environment["SSL_CERT_FILE"])
            other.fail("aggTrades", faults.stall(after=0.5))
            with Requesting(url=other.url) as running:
                running.newest()
                pause_until(lambda: running.queue._cancellation._handles and other.requests)
                running.queue.close()
                running.join()
        assert running.outcomes == []

    @pytest.mark.parametrize("fault", [faults.stall(), faults.status(500), faults.banned(900)])
    def test_while_a_thread_waits_for_the_first_trade_of_a_day(self, box, fault):
        """The wait is for an answer, for the next try, or for the host to open."""
        box.fail("aggTrades", fault, times=None)
        raised = []

        def search():
            try:
                running.queue.first_id("BTCUSDT", TODAY)
            except RestStoppedError as error:
                raised.append(error)

        with Requesting() as running:
            thread = threading.Thread(target=search)
            thread.start()
            pause_until(lambda: box.requests)
            running.queue.close()
            thread.join(120.0)
            running.join()
        assert len(raised) == 1

    def test_while_answers_are_on_their_way_to_the_loop(self, box):
        with Requesting() as running:
            release, entered = threading.Event(), threading.Event()

            def block():
                entered.set()
                release.wait(60)

            running._loop.call_soon_threadsafe(block)
            entered.wait(60)
            running.newest()
            pause_until(lambda: running.queue.status().statuses)
            running.queue.close()
            running.join()
            release.set()
        assert running.outcomes == []


def test_no_thread_and_no_socket_is_left(box):
    def sockets():
        found = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found += str(path.readlink()).startswith("socket:")
        return found

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not list open files")
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        with Requesting() as running:
            running.newest()
            running.page(1)
            running.wait_for(2)
        assert {thread.name for thread in threading.enumerate()} - before <= {"exchange"}
    pause_until(lambda: sum(thread.name == "exchange" for thread in threading.enumerate()) <= 1)
    counted = sockets()
    with Requesting() as running:
        running.newest()
        running.wait_for(1)
    pause_until(lambda: sum(thread.name == "exchange" for thread in threading.enumerate()) <= 1)
    assert sockets() == counted


def test_an_answer_that_stalls_is_given_up(box):
    box.fail("aggTrades", faults.stall())
    clock.install(rate=60.0)
    try:
        with Requesting() as running:
            running.page(1)
            assert running.wait_for(1) == [("gap 1", "failed", False, None)]
            assert "timeout" in running.queue.status().last_error
    finally:
        clock.install()


def test_a_server_that_nobody_runs_is_a_failure(box):
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    with Requesting(url=address) as running:
        running.newest()
        assert running.wait_for(1) == [("newest BTCUSDT", "failed", False, None)]
        assert "connection refused" in running.queue.status().last_error
