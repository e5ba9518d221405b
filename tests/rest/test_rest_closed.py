"""The file that closes a host for all processes of a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rest_stand import DAY_US, START_US, Clock, tape_of, trade

from exchange.wire import Answer
from rangebar_polars._files.locks import FileLock
from rangebar_polars._utils.address import Address
from rangebar_polars.exceptions import TransientSourceError
from rangebar_polars.fetch.binance.rate_limit import WeightBudget
from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.fetch.failures.closed_host import LONGEST_CLOSED_S, ClosedHost
from rangebar_polars.fetch.source import request_context

HERE = Path(__file__).resolve().parent
THERE = datetime(2024, 3, 5, 12, tzinfo=UTC)


class Wall:
    """The wall clock of a machine, and what two processes on it know."""

    def __init__(self, folder):
        self.now = THERE.timestamp()
        self.folder = folder
        self.monotonic = Clock()

    def process(self, url="https://api.binance.com"):
        return ClosedHost(self.folder, Address(url), lambda: self.now), self.monotonic.budget()

    def closed_for(self, process):
        host, budget = process
        host.apply(budget)
        return budget.closed_for()

    def pass_by(self, seconds):
        self.now += seconds
        self.monotonic.seconds += seconds


@pytest.fixture
def wall(tmp_path):
    return Wall(tmp_path)


def test_another_process_waits_until_the_host_is_open(wall):
    wall.process()[0].close(20.0)
    other = wall.process()
    wall.pass_by(5.0)
    assert wall.closed_for(other) == 15.0
    wall.pass_by(14.5)
    assert wall.closed_for(other) == 0.5
    wall.pass_by(0.5)
    assert wall.closed_for(other) == wall.closed_for(wall.process()) == 0.0


def test_the_file_says_when_and_for_how_long(wall):
    host = wall.process()[0]
    host.close(20.0)
    assert host.path == wall.folder / "live" / "rest" / "api.binance.com.json"
    assert json.loads(host.path.read_text()) == {
        "closed_until": (THERE + timedelta(seconds=20)).isoformat(),
        "retry_after_s": 20.0,
    }
    assert sorted(path.name for path in host.path.parent.iterdir()) == [
        ".api.binance.com.json.lock",
        "api.binance.com.json",
    ]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://fapi.binance.com/x", "fapi.binance.com.json"),
        ("http://User:Word@127.0.0.1:9000", "127.0.0.1_9000.json"),
        ("http://[::1]:9000", "__1_9000.json"),
        ("https://API.Binance.com", "api.binance.com.json"),
        ("https://a/../../b", "a.json"),
    ],
)
def test_a_host_has_its_own_file_whose_name_has_no_secret(wall, url, name):
    assert wall.process(url)[0].path.name == name


def test_other_hosts_stay_open(wall):
    wall.process()[0].close(20.0)
    assert wall.closed_for(wall.process("https://fapi.binance.com")) == 0.0


@pytest.mark.parametrize("jump_s", [-3_600.0, -10.0, 30.0, 86_400.0])
def test_after_a_jump_of_the_clock_the_file_is_not_believed_or_only_as_far_as_it_asks(wall, jump_s):
    before = wall.process()
    wall.process()[0].close(20.0)
    assert wall.closed_for(before) == 20.0
    wall.now += jump_s
    assert wall.closed_for(wall.process()) == 0.0
    # Who has read it before counts in monotonic time.
    assert wall.closed_for(before) == 20.0
    wall.monotonic.seconds += 20.0
    assert wall.closed_for(before) == 0.0


def test_a_clock_that_is_set_back_a_little_changes_nothing(wall):
    wall.process()[0].close(20.0)
    wall.now -= 0.5
    assert wall.closed_for(wall.process()) == 20.0


def test_after_a_jump_back_and_its_repair_the_file_holds_again(wall):
    wall.process()[0].close(120.0)
    other = wall.process()
    wall.now -= 3_600.0
    assert wall.closed_for(other) == 0.0
    wall.now += 3_600.0
    wall.pass_by(20.0)
    assert wall.closed_for(other) == 100.0


def test_the_longer_time_stays_and_a_later_one_replaces_it(wall):
    first, second = wall.process(), wall.process()
    first[0].close(120.0)
    second[0].close(10.0)
    assert wall.closed_for(wall.process()) == 120.0
    assert wall.closed_for(second) == 120.0
    wall.pass_by(115.0)
    second[0].close(10.0)
    assert wall.closed_for(first) == 10.0


def test_a_time_that_a_clock_ahead_has_written_does_not_keep_a_new_one_out(wall):
    wall.now += 86_400.0
    wall.process()[0].close(20.0)
    wall.now -= 86_400.0
    wall.process()[0].close(10.0)
    assert wall.closed_for(wall.process()) == 10.0


def test_threads_that_close_at_once_leave_the_longest_time(wall):
    times = [float(n) for n in range(1, 25)]
    threads = [
        threading.Thread(target=wall.process()[0].close, args=(seconds,)) for seconds in times
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wall.closed_for(wall.process()) == 24.0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"closed_until": 5, "retry_after_s": 20}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00"}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": "x"}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": NaN}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": Infinity}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": -1}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": 1e9}',
        b'{"closed_until": "2024-03-05T12:00:20+00:00", "retry_after_s": ' + b"9" * 999 + b"}",
        b'{"closed_until": "0001-01-01T00:00:00+14:00", "retry_after_s": 20}',
        b'{"closed_until": "9999-12-31T23:59:59-14:00", "retry_after_s": 20}',
    ],
    ids=lambda text: repr(text[:70]),
)
def test_a_file_that_cannot_be_read_closes_nothing_and_is_replaced(wall, text):
    host, budget = wall.process()
    host.path.parent.mkdir(parents=True)
    host.path.write_bytes(text)
    host.apply(budget)
    assert budget.closed_for() == 0.0
    host.close(20.0)
    assert wall.closed_for(wall.process()) == 20.0


def test_a_folder_that_cannot_be_written_is_logged(tmp_path, caplog):
    (tmp_path / "live").write_text("a file")
    wall = Wall(tmp_path)
    wall.process()[0].close(20.0)
    assert wall.closed_for(wall.process()) == 0.0
    (record,) = caplog.records
    assert str(tmp_path) in record.getMessage()


def test_a_lock_that_another_process_keeps_delays_the_file_only(wall):
    host = wall.process()[0]
    lock = FileLock(host.path.with_name(f".{host.path.name}.lock"))
    assert lock.try_acquire()
    try:
        host.close(20.0)
    finally:
        lock.release()
    assert wall.closed_for(wall.process()) == 20.0


# ---- clients


def refusal(status, retry_after):
    return Answer(status, b'{"code": -1003, "msg": "Too many."}', {"Retry-After": retry_after})


@pytest.mark.parametrize("status", [429, 418])
def test_a_client_of_another_process_honours_the_file(stand, clock, status):
    stand.tape = tape_of(5)
    stand.replies.append(refusal(status, "37"))
    now = THERE.timestamp
    with BinanceRest(url=stand.url, budget=clock.budget(), now=now) as rest:
        assert rest.newest_id("BTCUSDT") == 1004
    other = Clock()
    with BinanceRest(url=stand.url, budget=other.budget(), now=now) as rest:
        assert rest.newest_id("BTCUSDT") == 1004
    assert 37 <= other.seconds < 38


def test_a_long_ban_is_an_error_in_every_process(stand, clock):
    stand.replies.append(refusal(418, "7200"))
    for _ in range(2):
        with (
            BinanceRest(url=stand.url, budget=Clock().budget(), now=THERE.timestamp) as rest,
            pytest.raises(TransientSourceError, match="accepts no requests before"),
        ):
            rest.newest_id("BTCUSDT")
    assert len(stand.seen) == 1


def test_a_longer_time_than_the_exchange_ever_asks_for_is_not_believed(stand):
    stand.replies.append(refusal(418, "999999999"))
    budget = WeightBudget(clock=lambda: 0.0)
    with (
        BinanceRest(url=stand.url, budget=budget, now=THERE.timestamp) as rest,
        pytest.raises(TransientSourceError),
    ):
        rest.newest_id("BTCUSDT")
    assert budget.closed_for() == LONGEST_CLOSED_S


@pytest.mark.parametrize("status", [403, 451, 500, 503, 400])
def test_no_other_status_closes_the_host(stand, tmp_path, clock, status):
    stand.replies.extend([Answer(status, b"", {"Retry-After": "600"})] * 4)
    budget = clock.budget()
    with (
        BinanceRest(url=stand.url, budget=budget) as rest,
        pytest.raises(Exception, match="status"),
    ):
        rest.newest_id("BTCUSDT")
    assert budget.closed_for() == 0.0
    assert not list(tmp_path.rglob("*.json"))


def test_the_file_is_in_the_folder_of_the_context(stand, clock, tmp_path):
    stand.replies.append(refusal(418, "7200"))
    with request_context(cache_dir=tmp_path / "other"):
        rest = BinanceRest(url=stand.url, budget=clock.budget())
    with rest, pytest.raises(TransientSourceError):
        rest.newest_id("BTCUSDT")
    (path,) = tmp_path.rglob("*.json")
    port = stand.url.rpartition(":")[2]
    assert path == tmp_path / "other" / "live" / "rest" / f"127.0.0.1_{port}.json"


# ---- processes

FETCH = """
import sys
from rest_stand import Clock
from rangebar_polars.fetch.binance.rate_limit import WeightBudget
import rangebar_polars as rb

clock = Clock()
WeightBudget.__init__.__kwdefaults__.update(clock=clock, sleep=clock.sleep)
report = rb.fetch_ticks("BTCUSDT", "2024-03-05", "2024-03-05", cache_dir=sys.argv[1])
print(report.rows, clock.seconds)
"""


def test_a_fetch_in_another_process_waits_until_the_host_is_open(stand, tmp_path, monkeypatch):
    """The host closes in this process; the other one is told its store by `cache_dir`."""
    stand.tape = [*tape_of(2000), trade(3000, START_US + DAY_US)]
    store, archive = tmp_path / "store", tmp_path / "archive"
    archive.mkdir()
    with request_context(cache_dir=store):
        rest = BinanceRest(url=stand.url, budget=Clock().budget())
    stand.replies.append(refusal(418, "80"))
    begun = datetime.now(UTC)
    with rest:
        assert rest.newest_id("BTCUSDT") == 3000
    monkeypatch.setenv("RANGEBAR_BINANCE_REST_URL", stand.url)
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", archive.as_uri())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
    run = subprocess.run(
        [sys.executable, "-c", FETCH, str(store)], capture_output=True, text=True, check=False
    )
    taken_s = (datetime.now(UTC) - begun).total_seconds()
    assert run.returncode == 0, run.stderr
    rows, waited_s = run.stdout.split()
    assert int(rows) == 2000
    assert 80 - taken_s <= float(waited_s) <= 80
