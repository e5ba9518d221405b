"""The streams of the exchange in a box, seen by a plain client."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from exchange import Exchange, Tape, stream_faults
from exchange.client import ask, page
from exchange.stream_faults import GARBAGE
from live.market import wait_for

pytest.importorskip("websockets")

from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
)
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

NOW = datetime(2025, 3, 4, 12, tzinfo=UTC)
SPAN = timedelta(minutes=10)
MINUTE = timedelta(minutes=1)
STREAM = "/stream?streams=btcusdt@aggTrade"


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.around(NOW, SPAN, SPAN, seed=1)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as opened:
        yield opened


def join(box: Exchange, target: str = STREAM, **options: Any) -> ClientConnection:
    options = {"compression": None, "max_size": None, "max_queue": None, "proxy": None} | options
    before = len(box.streams.connections)
    # `connect` is to be entered in some versions, and gives the connection itself in others.
    client = connect(box.streams.url + target, **options).__enter__()
    # Those of before may end meanwhile.
    box.streams.wait(lambda: any(each.number >= before for each in box.streams.open))
    return client


def trades(client: ClientConnection, count: int) -> list[dict]:
    return [json.loads(client.recv(timeout=60))["data"] for _ in range(count)]


def ids(tape: Tape, start: datetime, end: datetime) -> list[int]:
    moments = pl.col("timestamp")
    return tape.ticks.filter(moments > start, moments <= end)["agg_trade_id"].to_list()


def ending(client: ClientConnection) -> ConnectionClosed:
    """Read to the end of a connection."""
    try:
        while True:
            client.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed


# The tape around a time


def test_a_tape_around_a_time_reaches_from_before_to_after_it(tape: Tape) -> None:
    times = tape.ticks["timestamp"]
    assert timedelta(0) <= times[0] - (NOW - SPAN) < MINUTE
    assert timedelta(0) <= NOW + SPAN - times[-1] < MINUTE
    assert times.is_sorted()
    assert (times.diff() == timedelta(0)).mean() > 0.2
    assert tape.agg_ids.tolist() == list(range(tape.agg_ids[0], tape.agg_ids[0] + len(times)))
    assert tape.ticks.height == 20 * 120
    same = Tape.around(NOW, SPAN, SPAN, seed=1)
    assert same.ticks.equals(tape.ticks)
    future = Tape.around(NOW, SPAN, SPAN, market="um")
    assert (future.times_us % 1_000 == 0).all()


def test_an_exchange_of_it_begins_at_that_time_and_says_so(box: Exchange, tape: Tape) -> None:
    assert box.now == NOW
    got = ask(box, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1")
    assert parsedate_to_datetime(got.headers["Date"]) == NOW
    box.play(MINUTE)
    assert box.now == NOW + MINUTE
    got = ask(box, "/api/v3/time")
    assert parsedate_to_datetime(got.headers["Date"]) == NOW + MINUTE
    newest = page(box, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1")[0]["a"]
    assert newest == ids(tape, NOW, NOW + MINUTE)[-1]
    box.rest.behind = MINUTE
    before = page(box, "/api/v3/aggTrades?symbol=BTCUSDT&limit=1")[0]["a"]
    assert before == ids(tape, NOW - MINUTE, NOW)[-1]


def test_answers_of_other_exchanges_have_no_date() -> None:
    with Exchange(Tape.generate(days=1, per_day=500)) as box:
        assert "Date" not in ask(box, "/api/v3/ping").headers
    with Exchange(Tape.generate(days=1, per_day=500), dates=True) as box:
        assert "Date" in ask(box, "/api/v3/ping").headers


# What is sent


def test_each_trade_comes_once_as_rest_has_it(box: Exchange, tape: Tape) -> None:
    with join(box) as client:
        count = box.play(MINUTE)
        wanted = ids(tape, NOW, NOW + MINUTE)
        assert count == len(wanted) > 100
        got = trades(client, count)
        target = f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={wanted[0]}&limit=1000"
        rest = page(box, target)
        assert [{k: each[k] for k in "apqflTmM"} for each in got] == rest
        assert {each["e"] for each in got} == {"aggTrade"}
        assert all(each["E"] == each["T"] and each["s"] == "BTCUSDT" for each in got)
        # The next begins behind the last.
        assert box.play(MINUTE) == len(trades(client, len(ids(tape, NOW + MINUTE, box.now))))


def test_spot_has_microseconds_if_asked_for(box: Exchange, tape: Tape) -> None:
    with join(box) as plain, join(box, STREAM + "&timeUnit=MICROSECOND") as fine:
        count = box.play(MINUTE)
        millis, micros = trades(plain, count), trades(fine, count)
        assert [each["T"] for each in millis] == [each["T"] // 1_000 for each in micros]
        low = tape.rows_to(tape.times_us[0] - 1 + SPAN // timedelta(microseconds=1))
        assert micros[0]["T"] in tape.times_us[low - 5 :]


def test_markets_have_their_paths_and_others_are_silent_or_refused() -> None:
    um = Tape.around(NOW, SPAN, SPAN, market="um", price_digits=1, quantity_digits=3)
    cm = Tape.around(NOW, SPAN, SPAN, symbol="BTCUSD_PERP", market="cm", quantity_digits=0)
    with Exchange(um, cm) as box:
        assert box.streams.environment == {
            "RANGEBAR_BINANCE_STREAM_URL": box.streams.url,
            "RANGEBAR_BINANCE_UM_STREAM_URL": f"{box.streams.url}/market",
            "RANGEBAR_BINANCE_CM_STREAM_URL": f"{box.streams.url}/delivery",
        }
        perp = "streams=btcusd_perp@aggTrade"
        with (
            join(box, STREAM) as silent,
            join(box, f"/market{STREAM}") as futures,
            join(box, f"/delivery/stream?{perp}") as coins,
            join(box, f"/market{STREAM}/ethusdt@aggTrade") as several,
            join(box, "/market/stream?streams=BTCUSDT@aggTrade") as upper,
        ):
            box.play(MINUTE)
            number = len(ids(um, NOW, NOW + MINUTE))
            for client in (futures, several):
                assert [each["a"] for each in trades(client, number)] == ids(um, NOW, box.now)
            first = trades(coins, 1)[0]
            assert (first["s"], "nq" in first, "M" in first) == ("BTCUSD_PERP", True, False)
            for client in (silent, upper):
                client.ping().wait(60)
                with pytest.raises(TimeoutError):
                    client.recv(timeout=0)
        with pytest.raises(InvalidStatus) as caught:
            connect(f"{box.streams.url}/other/stream", proxy=None).__enter__()
        assert caught.value.response.status_code == 404


def test_a_rate_and_a_speed_hold_and_a_running_clock_moves(box: Exchange, tape: Tape) -> None:
    with join(box) as client:
        assert box.play(timedelta(seconds=5), rate=200) == len(ids(tape, NOW, box.now))
        assert box.now == NOW + timedelta(seconds=5)
        assert box.play(timedelta(seconds=5), speed=100) == len(ids(tape, NOW, box.now)) - len(
            ids(tape, NOW, NOW + timedelta(seconds=5))
        )
        with box.live(speed=600) as live:
            while live.count < 50:
                client.recv(timeout=60)
        stopped = box.now
        assert stopped > NOW + timedelta(seconds=10)
        with pytest.raises(ValueError, match="not both"):
            box.play(MINUTE, rate=1, speed=1)
        assert box.now == stopped


def test_tapes_are_played_in_the_order_of_their_times() -> None:
    one = Tape.around(NOW, SPAN, SPAN, seed=1)
    two = Tape.around(NOW, SPAN, SPAN, symbol="ETHUSDT", seed=2, first_id=5)
    with Exchange(one, two) as box, join(box, f"{STREAM}/ethusdt@aggTrade") as client:
        got = trades(client, box.play(MINUTE))
    times = [each["T"] for each in got]
    assert times == sorted(times)
    for tape in (one, two):
        mine = [each["a"] for each in got if each["s"] == tape.symbol]
        assert mine == ids(tape, NOW, NOW + MINUTE)


def test_ids_can_be_sent_at_any_time(box: Exchange, tape: Tape) -> None:
    first = int(tape.agg_ids[10])
    with join(box) as client:
        box.streams.send_ids("BTCUSDT", first, first + 2)
        assert [each["a"] for each in trades(client, 3)] == [first, first + 1, first + 2]
    assert box.now == NOW


# How a connection begins


@pytest.mark.parametrize("status", [403, 418, 429, 451, 500, 503])
def test_a_refused_handshake_has_its_status_and_retry_after(box: Exchange, status: int) -> None:
    box.streams.fail("/stream", stream_faults.refused(status, "no", retry_after=7))
    with pytest.raises(InvalidStatus) as caught:
        join(box)
    answer = caught.value.response
    assert (answer.status_code, answer.headers["Retry-After"], answer.body) == (status, "7", b"no")
    join(box).close()


def test_a_handshake_may_get_no_answer_or_a_wrong_one(box: Exchange) -> None:
    box.streams.fail("/stream", stream_faults.no_answer(drop=True))
    with pytest.raises((InvalidMessage, OSError, EOFError)):
        join(box)
    box.streams.fail("/stream", stream_faults.html())
    with pytest.raises(InvalidStatus):
        join(box)
    box.streams.fail("/stream", stream_faults.accepted_wrongly())
    with pytest.raises(Exception, match="Sec-WebSocket-Accept"):
        join(box)
    silent = box.streams.fail("/stream", stream_faults.no_answer())
    ends: list[Exception] = []

    def wait_for_an_answer() -> None:
        try:
            connect(box.streams.url + STREAM, open_timeout=600, proxy=None).__enter__()
        except (InvalidMessage, OSError, EOFError) as error:
            ends.append(error)

    client = threading.Thread(target=wait_for_an_answer)
    client.start()
    wait_for(lambda: silent.times == 0)
    # The next connection is answered, that one is not.
    join(box).close()
    assert client.is_alive()
    box.streams.down()
    client.join()
    assert len(ends) == 1


def test_streams_go_down_and_come_up_at_the_same_address(box: Exchange) -> None:
    client = join(box)
    url = box.streams.url
    box.streams.down()
    ending(client)
    with pytest.raises(ConnectionRefusedError):
        connect(url + STREAM, proxy=None).__enter__()
    box.streams.up()
    assert box.streams.url == url
    join(box).close()
    assert box.streams.most_connects() == 2


# How it ends


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013])
def test_a_close_code_comes_behind_the_message(box: Exchange, tape: Tape, code: int) -> None:
    client = join(box)
    box.streams.fail("btcusdt", stream_faults.close(code, "why"), after=2)
    box.play(MINUTE)
    assert [each["a"] for each in trades(client, 3)] == ids(tape, NOW, box.now)[:3]
    closed = ending(client).rcvd
    assert (closed.code, closed.reason) == (code, "why")
    box.streams.wait(lambda: box.streams.connections[0].is_ended)
    assert box.streams.connections[0].close_code == code


@pytest.mark.parametrize("fault", [stream_faults.close(1006), stream_faults.end()])
def test_an_end_has_no_close_frame(box: Exchange, fault: Any) -> None:
    client = join(box)
    box.streams.strike(fault)
    assert ending(client).rcvd is None


def test_a_reset_is_an_error_of_the_socket(box: Exchange) -> None:
    client = join(box)
    box.streams.strike(stream_faults.reset())
    error = ending(client)
    assert error.rcvd is None
    assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize(("at", "size"), [("header", 1), ("frame", None), ("utf8", None), (3, 3)])
def test_a_message_is_cut(box: Exchange, at: str | int, size: int | None) -> None:
    raw = socket.create_connection(("127.0.0.1", int(box.streams.url.rpartition(":")[2])))
    head = f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    raw.sendall(head.encode())
    box.streams.wait_open()
    box.streams.fail("btcusdt", stream_faults.cut(at, drop=False))
    box.play(MINUTE)
    got = b""
    while part := raw.recv(65_536):
        got += part
    raw.close()
    frame = got.partition(b"\r\n\r\n")[2]
    assert frame[:1] == b"\x81"
    length = int.from_bytes(frame[2:4], "big") + 4 if frame[1:2] == b"\x7e" else None
    if size is not None:
        assert len(frame) == size
    elif at == "utf8":
        assert frame.endswith("€".encode()[:2])
    else:
        assert length is not None
        assert 4 < len(frame) < length


def test_a_half_open_connection_neither_reads_nor_ends(box: Exchange) -> None:
    client = join(box, ping_interval=None)
    box.streams.strike(stream_faults.half_open())
    box.streams.wait(lambda: box.streams.connections[0].is_frozen)
    box.play(MINUTE)
    pong = client.ping()
    with pytest.raises(TimeoutError):
        client.recv(timeout=0.01)
    assert not pong.is_set()
    assert not box.streams.connections[0].is_ended
    box.streams.connections[0].stop()
    ending(client)


# Pings, silence, delay


def test_pings_are_answered_or_not_and_sent_in_a_burst(box: Exchange) -> None:
    with join(box) as client:
        assert client.ping().wait(60)
        box.streams.strike(stream_faults.pings(50, b"x" * 125))
        kinds = ("pong",)
        mine = box.streams.connections[0].received
        box.streams.wait(lambda: sum(each.kind in kinds for each in mine) == 50)
        pongs = [each.data for each in mine if each.kind == "pong"]
        assert pongs == [b"x" * 123 + number.to_bytes(2, "big") for number in range(50)]
    box.streams.fail("/stream", stream_faults.no_pongs())
    with join(box) as client:
        pong = client.ping()
        box.streams.wait(lambda: box.streams.open[-1].received)
        box.streams.strike(stream_faults.then("behind the ping"))
        assert client.recv(timeout=60) == "behind the ping"
        assert not pong.is_set()


def test_data_stop_for_one_symbol_or_all_while_pings_are_answered() -> None:
    one = Tape.around(NOW, SPAN, SPAN, seed=1)
    two = Tape.around(NOW, SPAN, SPAN, symbol="ETHUSDT", seed=2)
    with Exchange(one, two) as box, join(box, f"{STREAM}/ethusdt@aggTrade") as client:
        box.streams.fail("btcusdt", stream_faults.muted("BTCUSDT"))
        box.play(MINUTE)
        got = trades(client, len(ids(two, NOW, box.now)))
        assert {each["s"] for each in got} == {"ETHUSDT"}
        box.streams.fail("ethusdt", stream_faults.muted())
        box.play(MINUTE)
        assert client.ping().wait(60)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)


def test_a_connection_may_be_behind_in_the_time_of_the_exchange(box: Exchange, tape: Tape) -> None:
    box.streams.fail("/stream", stream_faults.behind(60))
    with join(box) as late:
        box.play(MINUTE)
        assert late.ping().wait(60)
        with pytest.raises(TimeoutError):
            late.recv(timeout=0)
        box.play(MINUTE)
        wanted = ids(tape, NOW, NOW + MINUTE)
        assert [each["a"] for each in trades(late, len(wanted))] == wanted


def test_a_shutdown_is_told_and_the_close_follows_later(box: Exchange) -> None:
    client = join(box, STREAM + "&timeUnit=MICROSECOND")
    box.streams.strike(stream_faults.server_shutdown(close_after_s=600))
    told = json.loads(client.recv(timeout=60))
    assert told == {"e": "serverShutdown", "E": box.clock.now_us}
    box.streams.strike(stream_faults.server_shutdown(as_stream=True))
    assert json.loads(client.recv(timeout=60))["stream"] == "!serverShutdown"
    box.play(timedelta(seconds=599))
    trades(client, 100)
    assert client.ping().wait(60)
    box.play(timedelta(seconds=1))
    assert ending(client).rcvd.code == 1001


# Messages


def test_messages_are_lost_doubled_repeated_and_reordered(box: Exchange, tape: Tape) -> None:
    a = ids(tape, NOW, NOW + MINUTE)
    streams = box.streams
    streams.fail(re.compile(f"id=({a[1]}|{a[2]})$"), stream_faults.lost(), times=2)
    streams.fail(f"id={a[3]}", stream_faults.doubled())
    streams.fail(f"id={a[5]}", stream_faults.repeated(2))
    block = range(a[6], a[9] + 1)
    streams.fail(
        lambda sent: sent.message.agg_trade_id in block, stream_faults.reordered(4), times=4
    )
    with join(box) as client:
        count = box.play(MINUTE)
        got = [each["a"] for each in trades(client, count - 2 + 1 + 2)]
    assert got[:7] == [a[0], a[3], a[3], a[4], a[3], a[4], a[5]]
    assert sorted(got[7:11]) == a[6:10]
    assert got[7:11] != a[6:10]
    assert got[11:] == a[10:]


def test_members_change(box: Exchange, tape: Tape) -> None:
    streams = box.streams
    a = ids(tape, NOW, NOW + MINUTE)
    streams.fail(f"id={a[0]}", stream_faults.changed(p="1.123456789", q=None))
    streams.fail(f"id={a[1]}", stream_faults.without("m"))
    streams.fail(f"id={a[2]}", stream_faults.moved(-999))
    streams.fail(f"id={a[3]}", stream_faults.conflicting())
    streams.fail(f"id={a[4]}", stream_faults.sentinel())
    with join(box) as plain, join(box, STREAM + "&timeUnit=MICROSECOND") as fine:
        for rule in streams.script._rules:
            rule.times = 2
        box.play(MINUTE)
        got, micros = trades(plain, 6), trades(fine, 6)
    truth = tape.ids(a[0], a[4]).to_dicts()
    assert (got[0]["p"], got[0]["q"]) == ("1.123456789", None)
    assert "m" not in got[1]
    stamp = truth[2]["timestamp"]
    assert micros[2]["T"] == int(stamp.timestamp() * 1e6) - 999_000
    assert got[2]["T"] == micros[2]["T"] // 1_000
    assert (got[3]["a"], got[4]["a"], got[4]["p"]) == (a[3], a[3], "1.00000000")
    assert float(got[3]["p"]) == truth[3]["price"]
    assert (float(got[5]["p"]), got[5]["f"], got[5]["l"]) == (0.0, -1, -1)


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_comes_before_the_message(box: Exchange, tape: Tape, kind: str) -> None:
    box.streams.fail("btcusdt", stream_faults.garbage(kind))
    with join(box) as client:
        box.play(MINUTE)
        payload, is_binary = GARBAGE[kind]
        got = client.recv(timeout=60) if is_binary else client.recv(timeout=60, decode=False)
        assert got == payload
        assert trades(client, 1)[0]["a"] == ids(tape, NOW, box.now)[0]


def test_a_message_is_malformed_truncated_or_bare(box: Exchange, tape: Tape) -> None:
    box.streams.fail("btcusdt", stream_faults.malformed())
    box.streams.fail("btcusdt", stream_faults.truncated(0.3))
    with join(box) as client:
        box.play(MINUTE)
        for _ in range(2):
            with pytest.raises(json.JSONDecodeError):
                json.loads(client.recv(timeout=60))
    box.streams.fail("/stream", stream_faults.bare())
    with join(box) as client:
        box.play(MINUTE)
        first = json.loads(client.recv(timeout=60))
        assert first["a"] == ids(tape, NOW + MINUTE, box.now)[0]


def test_rules_match_a_text_a_function_and_one_kind_alone(box: Exchange, tape: Tape) -> None:
    a = ids(tape, NOW, NOW + MINUTE)
    odd = box.streams.fail(
        lambda sent: sent.message.agg_trade_id % 2 == 1, stream_faults.lost(), times=None
    )
    with join(box) as client:
        box.play(MINUTE)
        even = [number for number in a if number % 2 == 0]
        assert [each["a"] for each in trades(client, len(even))] == even
        assert odd.met == len(a) - len(even)
    with pytest.raises(ValueError, match="unpack"):
        box.streams.fail("x", stream_faults.lost(), stream_faults.silent())


# A crowd, TLS, a proxy


def test_a_client_that_does_not_read_delays_nobody(tape: Tape) -> None:
    dense = Tape.around(NOW, MINUTE, MINUTE, per_minute=40_000)
    with Exchange(dense) as box:
        idle = join(box, max_queue=1, ping_interval=None)
        with join(box) as client:
            count = box.play(MINUTE)
            assert count > 30_000
            assert len(trades(client, count)) == count
        box.streams.connections[0].stop()
        ending(idle)


def test_frames_of_a_client_are_logged(box: Exchange) -> None:
    with join(box) as client:
        client.send("hello")
        mine = box.streams.connections[0]
        box.streams.wait(lambda: mine.received)
        assert (mine.received[0].kind, mine.received[0].data) == ("text", b"hello")
    box.streams.wait(lambda: mine.is_ended)
    assert mine.close_code == 1000


def trusting(box: Exchange) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=box.environment["SSL_CERT_FILE"])


def test_tls_is_trusted_with_its_authority_alone(tape: Tape) -> None:
    with Exchange(tape, tls=True) as box:
        assert box.url.startswith("https://")
        assert box.streams.url.startswith("wss://")
        with join(box, ssl=trusting(box)) as client:
            count = box.play(MINUTE)
            assert len(trades(client, count)) == count
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|issuer"):
            join(box)
        cut = join(box, ssl=trusting(box))
        box.streams.strike(stream_faults.cut("frame"))
        ending(cut)
    expired = pytest.raises(ssl.SSLCertVerificationError, match="expired")
    with Exchange(tape, tls="expired") as box, expired:
        join(box, ssl=trusting(box))


def test_a_proxy_carries_refuses_and_dies(box: Exchange) -> None:
    proxy = box.proxy()
    with join(box, proxy=proxy.url) as client:
        count = box.play(MINUTE)
        assert len(trades(client, count)) == count
        assert proxy.asked == [box.streams.url.removeprefix("ws://")]
        proxy.refuse(403)
        with pytest.raises(InvalidProxyStatus):
            join(box, proxy=proxy.url)
        proxy.refuse(None)
        proxy.cut()
        ending(client)
    client = join(box, proxy=proxy.url)
    proxy.close()
    ending(client)
    with pytest.raises(OSError, match="refused"):
        connect(box.streams.url + STREAM, proxy=proxy.url).__enter__()


def test_the_box_ends_with_all_its_threads(tape: Tape) -> None:
    with Exchange(tape) as box:
        client, live = join(box), box.live(speed=60)
        frozen = join(box, ping_interval=None)
        box.streams.strike(stream_faults.half_open(), match=lambda each: each.number == 1)
        box.proxy()
    ending(client)
    ending(frozen)
    live.stop()
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"streams", "exchange", "exchange-live", "proxy"}
    with pytest.raises(RuntimeError, match="inside its `with`"):
        box.streams.up()
