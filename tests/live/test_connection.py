"""Connections to the simulated exchange, and the faults L01 to L06, L10, L14 and L19 on them."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

pytest.importorskip("websockets")
pytest.importorskip("msgspec")

from exchange import Exchange, Tape, stream_faults
from exchange.stream_faults import GARBAGE
from live.streaming import Streaming
from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address
from rangebar_polars.fetch.binance.stream import (
    Rejected,
    ServerShutdown,
    StreamDecoder,
    StreamTrade,
    stream_url,
)
from rangebar_polars.live.network.connection import (
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
    LostReason,
    StreamConnection,
)
from rangebar_polars.live.network.connector import Connector
from rangebar_polars.live.protocol.backoff import ConnectBudget
from rangebar_polars.live.protocol.replacement import AGE_S, ReplaceReason

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2025, 3, 4, 12, tzinfo=UTC)
SPAN = timedelta(minutes=10)
STEP = timedelta(seconds=20)


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.around(NOW, SPAN, SPAN, seed=1)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as opened:
        yield opened


@pytest.fixture
def plain_clock() -> Iterator[None]:
    yield
    clock.install()


def streaming(box: Exchange, *bases: str, market: str = "spot") -> Streaming:
    return Streaming(market, list(bases or [box.streams.url]))


def wait_open(box: Exchange, client: Streaming, connects: int = 1) -> None:
    """Wait until both sides know of so many connects, and one connection is open."""
    client.wait(lambda: len(client.connected) >= connects)
    box.streams.wait(lambda: len(box.streams.connections) >= connects and box.streams.open)


def ids(tape: Tape, start: datetime, end: datetime) -> list[int]:
    moments = pl.col("timestamp")
    return tape.ticks.filter(moments > start, moments <= end)["agg_trade_id"].to_list()


def got(client: Streaming) -> list[int]:
    return [trade.id for trade in client.trades]


# L01, L02: the end of a connection


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013])
def test_every_close_code_is_a_disconnect_like_any_other(
    box: Exchange, tape: Tape, code: int
) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        box.streams.fail("btcusdt", stream_faults.close(code, "why"), after=4)
        box.play(STEP)
        wait_open(box, client, 2)
        lost = client.lost[0]
        assert (lost.lost.reason, lost.lost.code, lost.is_last) == (LostReason.CLOSED, code, True)
        assert f"{box.streams.url}/stream` closed the connection ({code} why)" in lost.lost.text
        between = box.now
        box.play(STEP)
        wanted = ids(tape, NOW, between)[:5] + ids(tape, between, box.now)
        client.wait(lambda: len(got(client)) >= len(wanted))
        assert got(client) == wanted


@pytest.mark.parametrize(
    "fault",
    [
        stream_faults.reset(),
        stream_faults.end(),
        stream_faults.close(1006),
        stream_faults.cut("header"),
        stream_faults.cut("frame"),
        stream_faults.cut("frame", drop=False),
        stream_faults.cut("utf8"),
        stream_faults.cut("utf8", drop=False),
        stream_faults.cut(3, drop=False),
    ],
)
def test_a_connection_without_a_close_frame_is_dropped_and_opened_again(
    box: Exchange, tape: Tape, fault: Any
) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        box.play(STEP)
        before = ids(tape, NOW, box.now)
        client.wait(lambda: got(client) == before)
        box.streams.fail("btcusdt", fault)
        box.play(STEP)
        wait_open(box, client, 2)
        assert client.lost[0].lost.reason is LostReason.DROPPED
        cut = got(client)[len(before) :]
        assert cut in ([], ids(tape, NOW + STEP, box.now)[:1])
        between = box.now
        box.play(STEP)
        after = ids(tape, between, box.now)
        client.wait(lambda: len(got(client)) >= len(before + cut + after))
        assert got(client) == before + cut + after


class Ledger(ConnectBudget):
    """A budget that remembers its connects."""

    def __init__(self, most: int, span_s: float) -> None:
        super().__init__(most, span_s)
        self.times: list[float] = []

    def spend(self, now: float) -> None:
        super().spend(now)
        self.times.append(now)


def test_many_drops_keep_the_budget_of_connects(box: Exchange) -> None:
    client = streaming(box)
    client.budget = Ledger(most=20, span_s=1.0)
    box.streams.fail("/stream", stream_faults.no_answer(drop=True), times=50)
    with client:
        wait_open(box, client)
    times = client.budget.times
    assert len(times) == 51
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[20:], strict=False))
    assert len(client.failed) == 50
    assert {each.lost.reason for each in client.failed} <= {
        LostReason.PROTOCOL,
        LostReason.UNREACHABLE,
    }


def test_failures_wait_longer_and_longer(box: Exchange) -> None:
    client = streaming(box)
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    client.uniform = uniform
    box.streams.fail("/stream", stream_faults.refused(503), times=5)
    with client:
        wait_open(box, client)
    assert asked[:5] == [(0.0, 0.25 * 2**n) for n in range(5)]


# L03, L04, L05: pings, silence


@pytest.mark.parametrize("fault", [stream_faults.half_open(), None])
def test_a_peer_that_answers_nothing_is_dropped(
    box: Exchange, plain_clock: None, fault: Any
) -> None:
    assert PING_INTERVAL_S + PING_TIMEOUT_S <= 40
    if fault is None:
        box.streams.fail("/stream", stream_faults.no_pongs())
    clock.install(rate=15.0)
    with streaming(box) as client:
        wait_open(box, client)
        if fault is not None:
            box.streams.strike(fault)
        client.wait(lambda: client.lost)
        lost = client.lost[0].lost
        assert lost.reason is LostReason.UNANSWERED
        assert f"{box.streams.url}/stream` does not answer pings" in lost.text
        clock.install()
        wait_open(box, client, 2)


def test_silence_with_pongs_is_no_disconnect_and_the_next_base_is_for_the_caller() -> None:
    um = Tape.around(NOW, SPAN, SPAN, market="um", price_digits=1)
    with Exchange(um) as box:
        # Without `/market`, um is accepted and silent.
        with streaming(box, box.streams.url, f"{box.streams.url}/market", market="um") as client:
            wait_open(box, client)
            box.play(STEP)
            silent = client.connected[0].connection
            client.call(client.connector.drop, silent)
            wait_open(box, client, 2)
            assert client.lost[0].lost.reason is LostReason.SILENT
            assert got(client) == []
            between = box.now
            box.play(STEP)
            client.wait(lambda: len(got(client)) >= len(ids(um, between, box.now)))
            assert got(client) == ids(um, between, box.now)
            assert box.streams.connections[0].close_code == 1000
        paths = [each.path for each in box.streams.connections]
        assert paths == ["/stream", "/market/stream"]


def test_bases_are_tried_in_turn_after_each_failure() -> None:
    cm = Tape.around(NOW, SPAN, SPAN, symbol="BTCUSD_PERP", market="cm")
    with Exchange(cm) as box:
        box.streams.fail("/delivery/stream", stream_faults.refused(503), times=2)
        box.streams.fail("/delivery/market/stream", stream_faults.refused(451))
        bases = [f"{box.streams.url}/delivery", f"{box.streams.url}/delivery/market"]
        client = Streaming("cm", bases, ("BTCUSD_PERP",))
        with client:
            wait_open(box, client)
            box.play(STEP)
            client.wait(lambda: len(got(client)) >= len(ids(cm, NOW, box.now)))
        assert [each.path for each in box.streams.connections] == [
            "/delivery/stream",
            "/delivery/market/stream",
            "/delivery/stream",
            "/delivery/market/stream",
        ]
        assert [each.lost.code for each in client.failed] == [503, 451, 503]


def test_a_burst_of_pings_is_answered_by_few_pongs_that_echo(box: Exchange) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        mine = box.streams.open[0].received
        payload = b"x" * 125
        box.streams.strike(stream_faults.pings(1, payload))
        box.streams.wait(lambda: mine)
        assert (mine[0].kind, mine[0].data) == ("pong", payload)
        box.streams.strike(stream_faults.pings(50, payload))
        last = b"x" * 123 + (49).to_bytes(2, "big")
        box.streams.wait(lambda: mine[-1].data == last)
        assert len(mine) <= 6
        assert not client.lost


# L06, L10: what comes


def test_doubles_and_reordered_messages_come_as_they_are_sent(box: Exchange, tape: Tape) -> None:
    box.streams.fail("btcusdt", stream_faults.doubled())
    box.streams.fail("btcusdt", stream_faults.reordered(10), times=10)
    box.streams.fail("btcusdt", stream_faults.repeated(5))
    with streaming(box) as client:
        wait_open(box, client)
        box.play(STEP)
        wanted = ids(tape, NOW, box.now)
        client.wait(lambda: len(got(client)) >= len(wanted) + 6)
        assert len(got(client)) == len(wanted) + 6
        assert set(got(client)) == set(wanted)
        assert got(client)[:2] == [wanted[0]] * 2
        assert got(client)[2:12] != wanted[1:11] == sorted(got(client)[2:12])


@pytest.mark.parametrize("kind", [kind for kind in GARBAGE if kind != "huge"])
def test_garbage_is_counted_and_the_connection_stays(box: Exchange, tape: Tape, kind: str) -> None:
    box.streams.fail("btcusdt", stream_faults.garbage(kind), times=3)
    with streaming(box) as client:
        wait_open(box, client)
        box.play(STEP)
        wanted = ids(tape, NOW, box.now)
        client.wait(lambda: len(got(client)) >= len(wanted))
        assert got(client) == wanted
        read = client.connected[0].connection.decoder
        assert sum(read.others.values()) + sum(read.rejected.values()) == 3
        assert not client.lost


def test_a_message_of_two_mebibytes_ends_the_connection(box: Exchange) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        box.streams.strike(stream_faults.garbage("huge"))
        wait_open(box, client, 2)
        lost = client.lost[0].lost
        assert (lost.reason, lost.code) == (LostReason.PROTOCOL, 1009)


def test_malformed_and_truncated_trades_are_rejected(box: Exchange, tape: Tape) -> None:
    a = ids(tape, NOW, NOW + STEP)
    box.streams.fail(f"id={a[0]}", stream_faults.malformed())
    box.streams.fail(f"id={a[1]}", stream_faults.truncated())
    box.streams.fail(f"id={a[2]}", stream_faults.changed(p="1.123456789"))
    box.streams.fail("/stream", stream_faults.bare())
    with streaming(box) as client:
        wait_open(box, client)
        box.play(STEP)
        client.wait(lambda: len(got(client)) >= len(a) - 3)
        rejected = [event for _, event in client.events if isinstance(event, Rejected)]
        assert [each.id for each in rejected] == [None, None, a[2]]
        assert got(client) == a[3:]


def test_spot_in_milliseconds_tries_every_base_and_recovers(box: Exchange, tape: Tape) -> None:
    box.streams.fail("/stream", stream_faults.milliseconds(), times=2)
    client = streaming(box, box.streams.url, box.streams.url.replace("127.0.0.1", "localhost"))
    states: list[bool] = []
    client.on_event = lambda _: states.append(client.connector.has_wrong_unit)
    with client:
        for number in (1, 2):
            wait_open(box, client, number)
            box.play(STEP)
            client.wait(lambda number=number: len(client.lost) >= number)
            assert client.lost[-1].lost.reason is LostReason.TIME_UNIT
        assert got(client) == []
        assert (states[0], states[-1]) == (False, True)
        wait_open(box, client, 3)
        between = box.now
        box.play(STEP)
        client.wait(lambda: len(got(client)) >= len(ids(tape, between, box.now)))
        assert got(client) == ids(tape, between, box.now)
        assert states[-1] is False


# L14, L17: a full queue, a replacement


def test_closing_behind_a_full_queue_ends_and_loses_nothing_that_arrived() -> None:
    dense = Tape.around(NOW, timedelta(minutes=1), timedelta(minutes=1), per_minute=30_000)
    taken: list[int] = []

    def sink(_connection: StreamConnection, event: object) -> None:
        assert isinstance(event, StreamTrade)
        taken.append(event.id)

    async def main(box: Exchange) -> StreamConnection:
        url = stream_url(box.streams.url, "spot", ["BTCUSDT"])
        connection = StreamConnection(url, StreamDecoder("spot", ["BTCUSDT"]), sink)
        await connection.open()
        await asyncio.to_thread(box.streams.wait_open)
        # Nobody reads, so the queue fills up and the rest stays in the sockets.
        await asyncio.to_thread(box.play, timedelta(seconds=55))
        queue = connection._socket.recv_messages
        while not queue.paused:  # noqa: ASYNC110 - a condition of the library
            await asyncio.sleep(0.01)
        await connection.close()
        assert not connection.is_open
        return connection

    with Exchange(dense) as box:
        connection = asyncio.run(main(box))
    wanted = ids(dense, NOW, NOW + timedelta(seconds=55))
    assert connection.messages == len(taken) > 4_096
    assert taken == wanted[: len(taken)]


def test_a_shutdown_opens_a_second_connection_before_the_first_ends(
    box: Exchange, tape: Tape
) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        box.streams.strike(stream_faults.server_shutdown(close_after_s=600))
        wait_open(box, client, 2)
        box.streams.wait(lambda: len(box.streams.open) == 2)
        assert any(event == ServerShutdown() for _, event in client.events)
        first, second = (change.connection for change in client.connected)
        assert client.connected[1].replaces == (first,)
        assert client.connector.connections == [first, second]
        box.play(STEP)
        wanted = ids(tape, NOW, box.now)
        client.wait(lambda: len(got(client)) >= 2 * len(wanted))
        for each in (first, second):
            mine = [
                event.id for of, event in client.events if of is each and event != ServerShutdown()
            ]
            assert mine == wanted
        client.call(client.connector.retire, first)
        client.wait(lambda: client.lost)
        assert client.lost[0].connection is first
        assert (client.lost[0].lost.reason, client.lost[0].is_last) == (LostReason.STOPPED, False)
        box.streams.wait(lambda: box.streams.connections[0].is_ended)
        assert box.streams.connections[0].close_code == 1000
        box.play(STEP)
        client.wait(
            lambda: len(got(client)) >= 2 * len(wanted) + len(ids(tape, NOW + STEP, box.now))
        )
    assert len(box.streams.connections) == 2


def test_the_old_connection_stays_while_the_new_one_is_refused(box: Exchange, tape: Tape) -> None:
    with streaming(box) as client:
        wait_open(box, client)
        refusal = box.streams.fail("/stream", stream_faults.refused(503), times=None)
        first = client.connected[0].connection
        client.call(client.connector.replace, first, ReplaceReason.AGE)
        client.wait(lambda: len(client.failed) >= 3)
        box.play(STEP)
        client.wait(lambda: got(client) == ids(tape, NOW, box.now))
        refusal.cancel()
        client.wait(lambda: len(client.connected) == 2)
        assert client.connected[1].replaces == (first,)
        # The server ends the old one by itself; the new one goes on alone.
        box.streams.strike(stream_faults.close(1001), match=lambda each: each.number == 0)
        client.wait(lambda: client.lost)
        assert client.lost[0].is_last is False
        assert client.connector.connections == [client.connected[1].connection]


def test_a_connection_is_replaced_at_its_age(box: Exchange) -> None:
    client = streaming(box)
    # The jitter of the first age leaves half a second of 23 h.
    ages = iter([0.5 - AGE_S, 0.0])
    client.uniform = lambda low, _high: low if low == 0.0 else next(ages)
    with client:
        wait_open(box, client, 2)
        first = client.connected[0].connection
        assert client.connected[1].replaces == (first,)
        assert first.is_open


# L19: no connection


def failure(bases: list[str], budget: int = 3) -> Any:
    """The first failure of a connector, which goes on to try."""
    client = Streaming("spot", bases)
    with client:
        client.wait(lambda: len(client.failed) >= budget)
    assert {each.lost.reason for each in client.failed} == {client.failed[0].lost.reason}
    return client.failed[0]


def test_a_name_that_is_not_known(box: Exchange) -> None:
    failed = failure(["wss://no-such-host.invalid"])
    assert failed.lost.reason is LostReason.DNS
    assert "`wss://no-such-host.invalid/stream` cannot be reached (DNS" in failed.lost.text


def test_a_port_that_refuses(box: Exchange) -> None:
    box.streams.down()
    url = box.streams.url
    failed = failure([url])
    assert failed.lost.reason is LostReason.UNREACHABLE
    host = url.removeprefix("ws://")
    assert f"connection refused: nothing accepts connections at {host}" in failed.lost.text
    with Streaming("spot", [url]) as client:
        client.wait(lambda: client.failed)
        box.streams.up()
        wait_open(box, client)


@pytest.mark.parametrize("tls", [True, "expired"])
def test_a_certificate_that_is_not_trusted(
    tape: Tape, monkeypatch: pytest.MonkeyPatch, tls: Any
) -> None:
    with Exchange(tape, tls=tls) as box:
        if tls == "expired":
            monkeypatch.setenv("SSL_CERT_FILE", box.environment["SSL_CERT_FILE"])
        failed = failure([box.streams.url])
        assert failed.lost.reason is LostReason.TLS
        assert "is not trusted" in failed.lost.text
        assert box.streams.url.removeprefix("wss://") in failed.lost.text
        assert ("expired" in failed.lost.text) == (tls == "expired")
        assert "SSL_CERT_FILE" in failed.lost.hint


def test_a_certificate_of_an_own_authority_is_trusted_through_its_variable(
    tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Exchange(tape, tls=True) as box:
        monkeypatch.setenv("SSL_CERT_FILE", box.environment["SSL_CERT_FILE"])
        with Streaming("spot", [box.streams.url]) as client:
            wait_open(box, client)
            box.play(STEP)
            client.wait(lambda: got(client) == ids(tape, NOW, box.now))


def test_an_address_that_is_no_stream(box: Exchange) -> None:
    failed = failure([box.url.replace("http://", "ws://")])
    assert failed.lost.reason in (LostReason.REFUSED, LostReason.PROTOCOL)
    plain = failure([box.url.replace("http://", "wss://")])
    assert plain.lost.reason is LostReason.TLS
    assert plain.lost.hint == "ws or wss?"


def test_no_answer_to_the_handshake(box: Exchange, plain_clock: None) -> None:
    box.streams.fail("/stream", stream_faults.no_answer())
    clock.install(rate=10.0)
    with streaming(box) as client:
        client.wait(lambda: client.failed)
        clock.install()
        assert client.failed[0].lost.reason is LostReason.TIMEOUT
        assert "no answer within 10 s" in client.failed[0].lost.text
        wait_open(box, client, 1)


@pytest.mark.parametrize("status", [403, 418, 429, 451, 500, 503])
def test_a_refused_handshake_waits_for_retry_after(box: Exchange, status: int) -> None:
    box.streams.fail("/stream", stream_faults.refused(status, "no", retry_after=600))
    begun = clock.monotonic()
    with streaming(box) as client:
        client.wait(lambda: client.failed)
        failed = client.failed[0]
        assert (failed.lost.reason, failed.lost.code) == (LostReason.REFUSED, status)
        assert failed.lost.retry_after_s == 600
        assert failed.next_at >= begun + 600
        assert f"refuses the connection (status {status})" in failed.lost.text
        assert ("another base address" in failed.lost.hint) == (status in (403, 451))


def test_retry_after_may_be_a_date_by_the_clock_of_the_server(box: Exchange) -> None:
    until = NOW + timedelta(seconds=90)
    box.streams.fail("/stream", stream_faults.refused(429, retry_after=until))
    with streaming(box) as client:
        client.wait(lambda: client.failed)
        assert client.failed[0].lost.retry_after_s == 90


def test_a_proxy_carries_refuses_and_dies(
    box: Exchange, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = box.proxy()
    monkeypatch.setenv("ws_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with streaming(box) as client:
        wait_open(box, client)
        assert proxy.asked == [box.streams.url.removeprefix("ws://")]
        proxy.refuse(407)
        proxy.cut()
        client.wait(lambda: client.failed)
        assert client.lost[0].lost.reason is LostReason.DROPPED
        failed = client.failed[0].lost
        assert failed.reason is LostReason.PROXY
        assert "the proxy refuses the request" in failed.text
        assert "ws_proxy" in failed.hint
        proxy.refuse(None)
        wait_open(box, client, 2)
        box.play(STEP)
        client.wait(lambda: got(client))
        before = len(client.failed)
        proxy.close()
        client.wait(lambda: len(client.failed) > before)
        assert "ws_proxy" in client.failed[-1].lost.text
        assert "connection refused" in client.failed[-1].lost.text


@pytest.mark.parametrize(
    ("value", "word"), [("ftp://127.0.0.1:1", "cannot be used"), ("socks5://127.0.0.1:1", "socks")]
)
def test_a_proxy_that_cannot_be_used(
    box: Exchange, monkeypatch: pytest.MonkeyPatch, value: str, word: str
) -> None:
    monkeypatch.setenv("ws_proxy", value.replace("://", "://me:secret@"))
    failed = failure([box.streams.url]).lost
    assert word in failed.text
    assert "secret" not in failed.text + failed.hint


# The end


def test_stopping_closes_with_1000_and_leaves_no_thread(box: Exchange, tape: Tape) -> None:
    before = set(threading.enumerate())
    with streaming(box) as client:
        wait_open(box, client)
        box.play(STEP)
        box.streams.flush()
    assert got(client) == ids(tape, NOW, box.now)[: len(got(client))]
    assert client.lost[-1].lost.reason is LostReason.STOPPED
    box.streams.wait(lambda: box.streams.connections[0].is_ended)
    assert box.streams.connections[0].close_code == 1000
    left = {each.name for each in set(threading.enumerate()) - before}
    assert not {name for name in left if name not in ("streams", "exchange")}


def test_an_error_of_the_sink_is_raised_by_run(box: Exchange) -> None:
    client = streaming(box)

    def fail(_event: object) -> None:
        raise ZeroDivisionError("of the sink")

    client.on_event = fail
    client._thread.start()
    wait_open(box, client)
    box.play(STEP)
    with pytest.raises(ZeroDivisionError):
        client.wait(lambda: False)
    client._thread.join()


def test_a_connection_takes_1_to_200_symbols() -> None:
    for symbols in ([], [f"S{number}" for number in range(201)]):
        with pytest.raises(ValueError, match="1 to 200"):
            Connector("spot", symbols, sink=print, on_change=print, bases=["ws://x"])


def test_addresses_are_shown_without_their_query() -> None:
    url = stream_url("wss://host:9443/market", "um", ["BTCUSDT"])
    connection = StreamConnection(Address(url), StreamDecoder("um", ["BTCUSDT"]), print)
    assert connection.shown_url == "wss://host:9443/market/stream"
    assert repr(connection) == "<connection to wss://host:9443/market/stream>"
