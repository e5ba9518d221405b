"""The status of a sidecar, and the four paths of its HTTP interface, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import select
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, replace
from datetime import date, timedelta

import pytest

import rangebar_polars as rb
from live.boards import AT, LIVE, PROCESS, live_status, read_all, serving, until
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import RangeBarWarning, SettingError
from rangebar_polars.live.health import server as server_module
from rangebar_polars.live.health.board import LoopHeartbeat, StatusBoard
from rangebar_polars.live.health.process import ProcessFacts
from rangebar_polars.live.health.server import HealthServer, open_health_server
from rangebar_polars.live.health.status import (
    ConnectionStatus,
    ConsumerState,
    ConsumerStatus,
    HelperStatus,
    LiveStatus,
    NotifyStatus,
    ProcessState,
    RestStatus,
    SeriesStatus,
    SymbolStatus,
    is_live,
    overall_state,
    readiness,
)
from rangebar_polars.live.protocol.states import Facts, Failure, Reason, State, StateTracker

SERIES = SeriesStatus(
    threshold=250, reset="year", segment="2026", anchor=AT, bars=12, last_close=AT
)
WHOLE = LiveStatus(
    process=replace(PROCESS, clock_skew_s=-0.0123456, rss_bytes=10, disk_free_bytes=20),
    symbols=[
        replace(
            LIVE,
            state=State.DEGRADED,
            reason=Reason.GAP,
            since=AT,
            applied_id=41,
            head_id=43,
            lag_s=0.1 + 0.2,
            last_trade_age_s=math.inf,
            gaps_open=1,
            finalized_through=date(2026, 10, 31),
            series=[SERIES],
        )
    ],
    connections=[ConnectionStatus(url="wss://user:pass@host:9443/stream", age_s=1.5)],
    consumers=[ConsumerStatus(name="default", kind="ndjson", last_error="no http://a:b@c/")],
    rest=RestStatus(used_weight=8, limit=4500, closed_for_s=2.0),
    helper=HelperStatus(state="idle", last_run_at=AT),
    notify=NotifyStatus(sent=1, coalesced=2),
)


@pytest.fixture
def rate():
    """Let a test speed up the clock of the package."""
    yield lambda number: clock.install(rate=number)
    clock.install()


# The status


def test_the_status_has_the_keys_of_the_contract_in_their_order() -> None:
    found = WHOLE.to_dict()
    process = "status version pid host started_at now clock_skew_s loop_lag_s rss_bytes"
    parts = "disk_free_bytes symbols connections consumers rest helper notify"
    assert list(found) == f"{process} {parts}".split()
    symbol = "symbol source market state reason since detail applied_id applied_at head_id"
    symbol += " head_checked_at freshness_interval_s backfill_left_ids backfill_left_s lag_s"
    symbol += " last_trade_age_s gaps_open buffered_trades journal_bytes unsynced_s"
    assert list(found["symbols"][0]) == f"{symbol} finalized_through series".split()
    series = "threshold reset segment anchor bars last_close forming_since"
    assert list(found["symbols"][0]["series"][0]) == series.split()
    assert list(found["connections"][0]) == ["url", "age_s", "last_message_age_s"]
    consumer = "name kind state pending cursor_lag_s delivered failures last_error"
    assert list(found["consumers"][0]) == consumer.split()
    assert found["rest"] == {"used_weight": 8, "limit": 4500, "closed_for_s": 2.0}
    assert found["helper"]["last_run_at"] == "2026-11-01T12:30:00.000000Z"
    assert found["notify"] == {"sent": 1, "coalesced": 2, "failed": 0}


def test_the_status_is_json_without_secrets_and_without_numbers_that_json_has_not() -> None:
    found = json.loads(WHOLE.to_json())
    assert found == WHOLE.to_dict()
    symbol = found["symbols"][0]
    assert (symbol["state"], symbol["reason"]) == ("degraded", "gap")
    assert (symbol["lag_s"], symbol["last_trade_age_s"]) == (0.3, None)
    assert symbol["finalized_through"] == "2026-10-31"
    assert found["clock_skew_s"] == -0.012
    assert found["connections"][0]["url"] == "wss://host:9443/stream"
    assert found["consumers"][0]["last_error"] == "no http://c/"
    assert "ready_until" not in symbol


def test_nothing_in_a_status_changes() -> None:
    for part in (WHOLE, PROCESS, LIVE, SERIES, WHOLE.rest):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, "other")


@pytest.mark.parametrize(
    ("states", "overall"),
    [
        ([], "starting"),
        ([(State.HISTORY, -math.inf)], "starting"),
        ([(State.LIVE, math.inf), (State.BACKFILL, -math.inf)], "starting"),
        ([(State.LIVE, math.inf)], "live"),
        ([(State.LIVE, math.inf), (State.BACKFILL, 7.0)], "degraded"),
        ([(State.LIVE, math.inf), (State.DEGRADED, 7.0)], "degraded"),
        ([(State.LIVE, math.inf), (State.FAILED, 7.0)], "degraded"),
        ([(State.FAILED, 7.0), (State.FAILED, -math.inf)], "failed"),
    ],
)
def test_the_state_of_the_process_follows_from_those_of_its_symbols(states, overall) -> None:
    symbols = [replace(LIVE, state=state, ready_until=until) for state, until in states]
    assert overall_state(symbols).value == overall
    assert overall_state(symbols, is_stopping=True) is ProcessState.STOPPING


def test_the_process_is_measured(tmp_path) -> None:
    facts = ProcessFacts(tmp_path / "not" / "made" / "yet")
    first = facts.status(ProcessState.STARTING)
    ballast = bytearray(b"x" * 50_000_000)
    second = facts.status(ProcessState.LIVE, clock_skew_s=1.5, loop_lag_s=0.25)
    assert second.rss_bytes - first.rss_bytes > len(ballast) / 2
    assert second.disk_free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert (second.pid, second.host) == (os.getpid(), socket.gethostname())
    assert (second.version, second.started_at) == (rb.__version__, first.started_at)
    assert (second.clock_skew_s, second.loop_lag_s) == (1.5, 0.25)
    assert ProcessFacts("/proc/no").status(ProcessState.LIVE).now >= second.now


# Readiness


def reasons(status: LiveStatus, now: float, blocked_s: float = 0.0) -> list[str]:
    return [found.reason for found in readiness(status, now, blocked_s)]


def test_readiness_follows_the_states_of_a_symbol() -> None:
    tracker = StateTracker(watchdog_s=300.0, now=0.0)

    def at(now: float, facts: Facts) -> list[str]:
        tracker.update(facts.status, now)
        state, reason = tracker.status
        symbol = replace(LIVE, state=state, reason=reason, ready_until=tracker.ready_until)
        found = reasons(live_status(symbol), now)
        assert tracker.is_ready(now) == (not found)
        return found

    live, gap = Facts(), Facts(reasons=frozenset({Reason.GAP}))
    assert at(0.0, Facts(has_history=False)) == ["history"]
    assert at(1.0, Facts(is_behind=True)) == ["backfill"]
    assert at(2.0, gap) == ["gap"]
    assert at(3.0, live) == []
    assert at(10.0, gap) == []
    assert at(12.0, Facts(reasons=frozenset({Reason.SILENT}))) == []
    assert at(15.0, gap) == []
    assert at(15.1, gap) == ["gap"]
    assert at(16.0, live) == []
    # A revision counts as live, however long.
    revising = Facts(reasons=frozenset({Reason.REVISING}))
    assert at(17.0, revising) == []
    assert at(900.0, revising) == []
    assert at(901.0, Facts(failure=Failure.COVERAGE)) == []
    assert at(907.0, Facts(failure=Failure.COVERAGE)) == ["coverage"]
    assert at(908.0, Facts(is_stopped=True)) == ["stopped"]


def test_readiness_names_each_symbol_and_consumer_with_its_reason() -> None:
    symbols = [
        LIVE,
        SymbolStatus(symbol="ETHUSDT", state=State.BACKFILL),
        replace(LIVE, symbol="SOLUSDT", unsynced_s=10.5),
        replace(LIVE, symbol="XRPUSDT", unsynced_s=10.0),
        SymbolStatus(
            symbol="ADAUSDT", state=State.FAILED, reason=Failure.GIVEN_DAY, detail="delete_ticks"
        ),
    ]
    consumers = [
        ConsumerStatus(name="now", kind="ndjson", state=ConsumerState.FAILING, last_failing_at=99),
        ConsumerStatus(name="before", kind="ndjson", last_failing_at=40.0, last_error="x"),
        ConsumerStatus(name="long ago", kind="ndjson", last_failing_at=39.9),
        ConsumerStatus(name="never", kind="callback"),
    ]
    found = readiness(live_status(*symbols, consumers=consumers), now=100.0)
    assert [one.to_dict() for one in found] == [
        {"reason": "backfill", "symbol": "ETHUSDT"},
        {"reason": "unsynced", "symbol": "SOLUSDT", "detail": "a record is not synced for 10 s"},
        {"reason": "given_day", "symbol": "ADAUSDT", "detail": "delete_ticks"},
        {"reason": "failing", "consumer": "now"},
        {"reason": "failing", "consumer": "before", "detail": "x"},
    ]


def test_a_sidecar_that_starts_stops_or_is_blocked_is_not_ready() -> None:
    assert reasons(LiveStatus(process=PROCESS), 0.0) == ["starting"]
    stopping = replace(PROCESS, status=ProcessState.STOPPING)
    assert reasons(LiveStatus(process=stopping, symbols=[LIVE]), 0.0) == ["stopping"]
    assert reasons(live_status(), 0.0, blocked_s=30.0) == []
    assert reasons(live_status(), 0.0, blocked_s=30.1) == ["loop_blocked"]
    assert (is_live(30.0), is_live(30.1)) == (True, False)


def test_the_lag_of_the_loop_is_that_of_the_last_touch_or_of_the_next_one() -> None:
    heartbeat = LoopHeartbeat(now=0.0)
    heartbeat.touch(1.0)
    assert heartbeat.lag_s(1.5) == 0.0
    assert heartbeat.lag_s(4.0) == 2.0
    heartbeat.touch(4.5)
    assert heartbeat.lag_s(4.5) == 2.5
    heartbeat.touch(5.5)
    assert (heartbeat.lag_s(5.5), heartbeat.blocked_s(6.0)) == (0.0, 0.5)


# The four paths


def test_the_four_paths_of_a_live_sidecar() -> None:
    with serving(replace(WHOLE, symbols=(LIVE,))) as served:
        assert served.get("/live").json == {"status": "live"}
        assert served.get("/ready").json == {"status": "ready", "reasons": []}
        health = served.get("/health")
        assert health.status == 200
        assert health.json["symbols"][0]["symbol"] == "BTCUSDT"
        metrics = served.get("/metrics")
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4"
        assert b'rangebar_live_build_info{version="0.1.0"} 1.0\n' in metrics.body
        for path in ("/live", "/ready", "/health", "/metrics"):
            assert served.get(path).status == 200
            assert served.get(f"{path}?verbose=1").status == 200


def test_a_symbol_that_is_not_live_is_named_by_ready_and_health() -> None:
    symbol = replace(LIVE, state=State.DEGRADED, reason=Reason.REST_REFUSED, ready_until=0.0)
    with serving(live_status(symbol)) as served:
        assert served.get("/live").status == 200
        ready = served.get("/ready")
        assert ready.status == 503
        assert ready.json["status"] == "not_ready"
        assert ready.json["reasons"] == [{"reason": "rest_refused", "symbol": "BTCUSDT"}]
        health = served.get("/health")
        assert (health.status, health.json["symbols"][0]["reason"]) == (503, "rest_refused")
        assert served.get("/metrics").status == 200
        served.put(symbols=(LIVE,))
        assert [served.get(path).status for path in ("/ready", "/health")] == [200, 200]


def test_head_has_the_headers_of_get_and_no_body() -> None:
    with serving() as served:
        for path in ("/live", "/ready", "/health", "/metrics", "/nothing"):
            got, head = served.get(path), served.get(path, "HEAD")
            assert (head.status, head.body) == (got.status, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
            assert int(head.headers["content-length"]) > 0
        raw = served.raw(b"HEAD /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.endswith(b"\r\n\r\n")


def test_other_paths_and_methods_are_refused() -> None:
    with serving() as served:
        for path in ("/", "/nothing", "/live/", "/../live", "//health/x", "/LIVE"):
            refused = served.get(path)
            assert refused.status == 404
            assert refused.json["paths"] == ["/live", "/ready", "/health", "/metrics"]
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "error", "GET2"):
            refused = served.get("/live", method, b"x" * 50_000)
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
        assert served.get("/live").status == 200


def test_the_body_of_a_refused_request_is_read_so_that_nothing_is_reset(monkeypatch) -> None:
    monkeypatch.setattr(server_module, "PART_S", 3_600.0)
    with serving() as served, served.connect() as connection:
        connection.sendall(b"POST /live HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 405 ")
        for _ in range(10):
            connection.sendall(b"x" * 100)
            # Time for a reset to arrive; without one, it proves nothing and costs nothing.
            threading.Event().wait(0.005)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /live HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /live HTTP/1.1\n\n", b"200"),
        (b"GET http://host/live HTTP/1.1\r\n\r\n", b"200"),
        (b"GET http://[/live HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /live HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", b"100"),
        (b"GET /live HTTP/3.0\r\n\r\n", b"505"),
        (b"GET /live HTTP/x\r\n\r\n", b"400"),
        (b"GET /a b HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /live HTTP/1.1\r\n" + b"x: y\r\n" * 100 + b"\r\n", b"200"),
        (b"GET /live HTTP/1.1\n" + b"x: y\n" * 100 + b"\n", b"200"),
        (b"GET /live HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n", b"431"),
        (b"GET /live HTTP/1.1\n" + b"x: y\n" * 101 + b"\n", b"431"),
        (b"GET /live HTTP/1.1\r\n" + b"x: y\r\n" * 1_300 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET /live HTTP/1.1\r\nx: " + b"y" * 100_000, b"431"),
    ],
)
def test_requests_that_are_not_valid_are_refused(request_, status, monkeypatch) -> None:
    # clickhouse-connect does so when it is imported.
    monkeypatch.setattr("http.client._MAXHEADERS", 10_000)
    with serving() as served:
        answer = served.raw(request_)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:100]
        # The request does not come back in the answer.
        assert b"nonsense" not in answer.partition(b"\r\n\r\n")[2]
        assert served.get("/live").status == 200


def test_nothing_is_printed_and_no_thread_is_left(capfd) -> None:
    with serving() as served:
        with served.connect() as connection:
            connection.sendall(b"GET /live HT")
        with served.connect():
            pass
        served.raw(b"\xff\xfe\r\n\r\n")
        served.get("/live")
    assert capfd.readouterr() == ("", "")


def test_a_failing_status_is_answered_and_logged(caplog) -> None:
    class Broken(StatusBoard):
        def status(self):
            raise ZeroDivisionError("bug")

    with serving() as served, caplog.at_level(logging.ERROR, "rangebar_polars.live"):
        served.board.__class__ = Broken
        assert served.get("/health").status == 500
        assert served.get("/live").status == 200
        until(lambda: caplog.records)
    assert "ZeroDivisionError: bug" in caplog.text


# The event loop


def test_it_answers_while_the_event_loop_is_blocked(rate) -> None:
    rate(100.0)
    released = threading.Event()
    with serving() as served:

        async def turn() -> None:
            while not released.is_set():
                served.board.put(live_status())
                await clock.async_sleep(1.0)

        async def main() -> None:
            turning = asyncio.ensure_future(turn())
            while not shall_block.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0.001)
            release.wait()  # the loop stands here
            await turning

        shall_block, release = threading.Event(), threading.Event()
        thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
        thread.start()
        try:
            until(lambda: served.get("/ready").status == 200)
            shall_block.set()
            dead = until(lambda: (got := served.get("/live")).status == 503 and got)
            assert dead.json["status"] == "loop_blocked"
            assert dead.json["blocked_s"] >= 30
            assert served.get("/ready").json["reasons"][0]["reason"] == "loop_blocked"
            assert served.get("/health").json["loop_lag_s"] > 29
            assert b"rangebar_live_loop_lag_seconds" in served.get("/metrics").body
            release.set()
            until(lambda: served.get("/live").status == 200)
        finally:
            for event in (shall_block, release, released):
                event.set()
            thread.join()


# Many and slow clients


def test_200_parallel_requests_are_all_answered() -> None:
    with serving() as served, ThreadPoolExecutor(200) as pool:
        paths = ["/live", "/ready", "/health", "/metrics"] * 50
        together = threading.Barrier(200)

        def get(path: str) -> int:
            together.wait()
            return served.get(path).status

        assert list(pool.map(get, paths)) == [200] * 200


def test_slow_clients_do_not_keep_others_out(monkeypatch) -> None:
    # No limit of time ends them: they have to make room.
    monkeypatch.setattr(server_module, "PART_S", 3_600.0)
    with serving() as served:
        slow = [served.connect() for _ in range(3 * server_module.MOST_CONNECTIONS)]
        for connection in slow:
            connection.sendall(b"GET /live HTTP/1.1\r\n")
        for _ in range(3):
            assert served.get("/ready").status == 200
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("rangebar-health-answer") <= server_module.MOST_CONNECTIONS
        for connection in slow:
            connection.close()


def test_a_request_in_too_many_parts_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(server_module, "MOST_PARTS", 3)
    monkeypatch.setattr(server_module, "PART_S", 3_600.0)
    with serving() as served, served.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b"GET /live HTTP/1.1\r\nx: " + b"y" * 8_000
        # The server may take several bytes as one part, so bytes are sent until it answers.
        for byte in request:
            if select.select([connection], [], [], 0.002)[0]:
                break
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_sends_nothing_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr(server_module, "PART_S", 0.05)
    with serving() as served:
        with served.connect() as connection:
            assert read_all(connection) == b""
        with served.connect() as connection:
            connection.sendall(b"GET /live")
            assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_S", 0.05)
    many = [replace(LIVE, symbol=f"COIN{i}USDT", detail="x" * 500) for i in range(9_000)]
    with serving(live_status(*many)) as served, served.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        answering = "rangebar-health-answer"
        until(lambda: answering in [thread.name for thread in threading.enumerate()])
        until(lambda: answering not in [thread.name for thread in threading.enumerate()])
        assert served.get("/live").status == 200


def test_closing_ends_open_connections() -> None:
    with serving() as served:
        connections = [served.connect() for _ in range(5)]
        until(lambda: threading.active_count() >= 6)
        served.server.close()
        for connection in connections:
            # One that was not accepted yet is reset.
            with connection, suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        served.server.close()
        with pytest.raises(ConnectionRefusedError):
            served.connect()


# The address


@pytest.fixture
def taken():
    """Yield a port that another program uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_an_error_if_the_user_has_set_it(taken) -> None:
    board = StatusBoard(live_status())
    with pytest.raises(SettingError) as caught:
        open_health_server("127.0.0.1", taken, board, is_required=True)
    assert f"`127.0.0.1` port {taken}: another program uses the port" in str(caught.value)
    assert "RANGEBAR_HEALTH_PORT" in str(caught.value)


def test_otherwise_the_interface_is_off_with_a_warning(taken) -> None:
    board = StatusBoard(live_status())
    with pytest.warns(RangeBarWarning, match="no health interface: .* another program uses"):
        assert open_health_server("127.0.0.1", taken, board, is_required=False) is None
    assert open_health_server("127.0.0.1", 0, board, is_required=True) is None


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 300, "bad..name"])
def test_a_host_that_cannot_be_used_is_an_error(host) -> None:
    with pytest.raises(SettingError, match="cannot listen at"):
        open_health_server(host, 8081, StatusBoard(live_status()), is_required=True)


def test_it_listens_at_an_address_of_ipv6() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("no IPv6 on this machine")
    board = StatusBoard(live_status())
    server = open_health_server("::1", port, board, is_required=True)
    assert isinstance(server, HealthServer)
    try:
        assert server.address == f"[::1]:{port}"
        with socket.create_connection(("::1", port), timeout=30) as connection:
            connection.sendall(b"GET /live HTTP/1.1\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    finally:
        server.close()


def test_the_date_of_an_answer_is_that_of_the_clock() -> None:
    clock.install(offset_s=timedelta(days=400).total_seconds())
    try:
        with serving() as served:
            year = clock.utc_now().year
            assert f" {year} " in served.get("/live").headers["date"]
    finally:
        clock.install()
