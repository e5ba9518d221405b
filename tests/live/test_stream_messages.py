"""Messages of a stream: what is read, and what is counted."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("msgspec")

from exchange import Tape
from exchange.stream_faults import GARBAGE
from exchange.stream_messages import messages
from rangebar_polars.fetch.binance.rest_page import page_of
from rangebar_polars.fetch.binance.stream import (
    STREAMS,
    Other,
    Rejected,
    Rejection,
    Sentinel,
    ServerShutdown,
    StreamDecoder,
    StreamTrade,
    groups_of,
    stream_bases,
    stream_url,
)

NOW = datetime(2025, 3, 4, 12, tzinfo=UTC)
SPAN = timedelta(minutes=10)
TRADE = {
    "e": "aggTrade",
    "E": 1_741_089_600_000_001,
    "s": "BTCUSDT",
    "a": 7,
    "p": "94000.01000000",
    "q": "0.00100000",
    "f": 9,
    "l": 11,
    "T": 1_741_089_600_000_000,
    "m": False,
    "M": True,
}


def decoder(market: str = "spot") -> StreamDecoder:
    return StreamDecoder(market, ["BTCUSDT"])


def wrapped(**members: object) -> bytes:
    data = {k: v for k, v in (TRADE | members).items() if v is not ...}
    return json.dumps({"stream": "btcusdt@aggTrade", "data": data}).encode()


@pytest.mark.parametrize("market", STREAMS)
@pytest.mark.parametrize("bare", [False, True])
def test_all_values_are_those_of_the_tape(market: str, bare: bool) -> None:
    tape = Tape.around(NOW, SPAN, SPAN, market=market, seed=4)
    micros = market == "spot"
    read = decoder(market)
    sent = [each.payload(micros=micros, bare=bare) for each in messages(tape, tape.ticks)]
    got = [read.decode(payload) for payload in sent]
    truth = tape.ticks.with_columns(tape.ticks["timestamp"].to_physical()).rows()
    assert [trade[:7] for trade in got] == truth
    assert {trade.symbol for trade in got} == {"BTCUSDT"}
    assert all(trade.event_us == trade.time_us for trade in got)
    assert not read.others
    assert not read.rejected


def test_decimals_are_rounded_as_in_pages_of_rest() -> None:
    rng = random.Random(1)
    read = decoder()
    for _ in range(300):
        places = rng.randint(0, 8)
        texts = [
            f"{rng.randint(1, 10 ** rng.randint(1, 15))}"
            + (f".{rng.randint(0, 10**places - 1):0{places}}" if places else "")
            for _ in "pq"
        ]
        row = {**TRADE, "p": texts[0], "q": texts[1]}
        trade = read.decode(json.dumps(row).encode())
        page = page_of(json.dumps([row]).encode(), "https://x")
        assert (trade.price, trade.quantity) == page.select("price", "quantity").row(0)
        assert (trade.price, trade.quantity) == tuple(map(float, texts))


def test_the_form_of_messages_may_change() -> None:
    read = decoder()
    bare = json.dumps(TRADE).encode()
    for payload in (wrapped(), bare, bare, wrapped(), wrapped(), bare):
        assert read.decode(payload).id == 7


@pytest.mark.parametrize("name", "sapqflTm")
@pytest.mark.parametrize("value", [..., None, [], {}, 1.5, "seven"])
def test_a_required_member_that_is_missing_or_of_another_type(name: str, value: object) -> None:
    read = decoder()
    got = read.decode(wrapped(**{name: value}))
    if name == "s" and value == "seven":
        assert (got.why, got.symbol, got.id) == (Rejection.UNKNOWN_SYMBOL, "seven", 7)
    elif name in "pq" and value == "seven":
        assert (got.why, got.symbol, got.id) == (Rejection.INVALID, "BTCUSDT", 7)
    else:
        assert isinstance(got, Rejected)
        assert got.why is Rejection.UNREADABLE
        assert got.id == (None if name == "a" else 7)
    assert sum(read.rejected.values()) == 1
    assert isinstance(read.decode(wrapped()), StreamTrade)


@pytest.mark.parametrize(
    "members",
    [
        {"p": "1.123456789"},
        {"q": "1.000000000"},
        {"p": "0"},
        {"p": "0.00000000"},
        {"p": "-1"},
        {"q": "-1.5"},
        {"p": "1e5"},
        {"p": "nan"},
        {"q": "inf"},
        {"p": " 1"},
        {"p": "1_000"},
        {"p": "\u0661"},
        {"p": ""},
        {"p": "9" * 21},
        {"p": "9" * 5_000},
        {"f": 12},
        {"f": -1, "l": -1},
        {"a": -1},
        {"T": 0},
        {"T": -5},
        {"T": 946_684_799_999},
        {"T": 4_102_444_800_000_000},
        {"T": 2**63 - 1},
    ],
)
def test_a_value_that_is_not_valid_names_the_id(members: dict) -> None:
    got = decoder().decode(wrapped(**members))
    assert isinstance(got, Rejected)
    assert got.why is Rejection.INVALID
    assert (got.symbol, got.id) == ("BTCUSDT", members.get("a", 7))
    assert got.text


def test_numbers_that_no_column_holds_are_unreadable() -> None:
    for number in (2**63, -(2**63) - 1, 10**400):
        for name in "aflT":
            got = decoder().decode(wrapped(**{name: number}))
            assert got.why is Rejection.UNREADABLE


def test_a_sentinel_says_that_its_id_has_no_trade() -> None:
    got = decoder().decode(wrapped(p="0.00000000", q="0", f=-1, l=-1))
    assert got == Sentinel("BTCUSDT", 7)


def test_spot_needs_microseconds_and_futures_take_both() -> None:
    millis = wrapped(T=1_741_089_600_000)
    got = decoder().decode(millis)
    assert (got.why, got.id) == (Rejection.TIME_UNIT, 7)
    for payload in (millis, wrapped()):
        assert decoder("um").decode(payload).time_us == 1_741_089_600_000_000


def test_the_event_time_may_be_missing_or_anything() -> None:
    for value, wanted in (
        (..., None),
        (None, None),
        ("x", None),
        (True, None),
        (5, None),
        (1_741_089_600_000, 1_741_089_600_000_000),
        (TRADE["E"], TRADE["E"]),
    ):
        got = decoder().decode(wrapped(E=value))
        assert got.event_us == wanted
    assert decoder().decode(wrapped(e=...)).id == 7


def test_other_events_are_counted_by_type_and_their_number_is_bounded() -> None:
    read = decoder()
    for kind in ("trade", "kline", "trade"):
        assert read.decode(json.dumps({"e": kind, "s": "BTCUSDT"}).encode()) == Other(kind)
    assert read.decode(b'{"result":null,"id":1}') == Other("without a type")
    assert read.decode(b'{"error":{"code":2,"msg":"x"},"id":1}') == Other("without a type")
    assert dict(read.others) == {"trade": 2, "kline": 1, "without a type": 2}
    for number in range(1_000):
        read.decode(wrapped(e=f"e{number}"))
    assert len(read.others) <= 51
    assert sum(read.others.values()) == 1_005


@pytest.mark.parametrize(
    "payload",
    [
        b'{"e":"serverShutdown","E":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        b'{"stream":"!serverShutdown","data":{}}',
        b'{"data":{"e":"serverShutdown"}}',
    ],
)
def test_a_shutdown_is_read_in_every_form(payload: bytes) -> None:
    assert decoder().decode(payload) == ServerShutdown()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_counted_and_the_next_message_is_read(kind: str) -> None:
    read = decoder()
    got = read.decode(GARBAGE[kind][0])
    assert isinstance(got, Rejected | Other)
    assert sum(read.others.values()) + sum(read.rejected.values()) == 1
    assert read.decode(wrapped()).id == 7


def test_every_cut_and_every_changed_byte_is_read_or_counted() -> None:
    payload = wrapped()
    rng = random.Random(2)
    read = decoder()
    for size in range(len(payload)):
        assert isinstance(read.decode(payload[:size]), Rejected)
    for place in range(len(payload)):
        spoiled = bytearray(payload)
        spoiled[place] = rng.randrange(256)
        assert isinstance(
            read.decode(bytes(spoiled)), StreamTrade | Rejected | Other | ServerShutdown
        )


# Addresses


def test_addresses_name_the_streams_of_each_market() -> None:
    spot = stream_url(stream_bases("spot")[0], "spot", ["BTCUSDT"]).full
    assert spot == (
        "wss://data-stream.binance.vision/stream?streams=btcusdt@aggTrade&timeUnit=MICROSECOND"
    )
    assert stream_bases("um") == ("wss://fstream.binance.com/market",)
    coin = stream_url(stream_bases("cm")[1], "cm", ["BTCUSD_PERP"]).full
    assert coin == "wss://dstream.binance.com/market/stream?streams=btcusd_perp@aggTrade"


def test_settings_replace_the_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_BINANCE_CM_STREAM_URL", "ws://127.0.0.1:9/delivery, ws://two")
    assert stream_bases("cm") == ("ws://127.0.0.1:9/delivery", "ws://two")
    assert stream_bases("spot") == STREAMS["spot"].bases
    assert stream_bases("cm", binance_cm_stream_url="ws://three") == ("ws://three",)


def test_symbols_are_grouped_by_connection() -> None:
    assert [len(group) for group in groups_of(map(str, range(401)))] == [200, 200, 1]
    assert list(groups_of([])) == []
