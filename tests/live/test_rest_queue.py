"""Requests of live bars to REST: what is asked in which order, and what the answers become."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from exchange import faults
from exchange.box import Exchange
from exchange.tape import Tape
from live.requesting import Requesting
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import SourceError
from rangebar_polars.live.network.backfill import RestStoppedError
from rangebar_polars.live.protocol.trades import Trade
from rangebar_polars.live.protocol.values import is_sentinel, unusual
from rangebar_polars.sources import TRADES_SCHEMA

pytest.importorskip("httpcore2")

NOW = datetime(2026, 11, 2, 0, 10, tzinfo=UTC)
TODAY = date(2026, 11, 2)


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.around(NOW, timedelta(minutes=20), timedelta(minutes=5))


@pytest.fixture
def box(tape, tmp_path, monkeypatch):
    with Exchange(tape) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
        yield box


@pytest.fixture
def requesting(box):
    with Requesting() as running:
        yield running


def published(box, tape):
    """Return the trades that REST has by now."""
    return tape.ticks.select(TRADES_SCHEMA.names()).filter(tape.ticks["timestamp"] <= box.now)


def test_a_page_holds_the_trades_from_an_id_on(box, tape, requesting):
    begun = clock.monotonic()
    every = published(box, tape)
    first = every["agg_trade_id"][100]
    requesting.page(first)
    ((name, kind, request, trades, sent_at),) = requesting.wait_for(1)
    assert (name, kind, request.from_id) == (f"gap {first}", "page", first)
    assert trades.frame().equals(every.slice(100, 1000))
    assert begun <= sent_at <= clock.monotonic()
    (asked,) = box.asked("aggTrades")
    assert asked.query == {"symbol": "BTCUSDT", "fromId": str(first), "limit": "1000"}
    assert asked.headers["x-mbx-time-unit"] == "MICROSECOND"
    assert requesting.threads == {requesting._thread.ident}


def test_past_the_newest_trade_a_page_is_empty(box, tape, requesting):
    requesting.page(published(box, tape)["agg_trade_id"][-1] + 1)
    ((_, kind, _, trades, _),) = requesting.wait_for(1)
    assert (kind, len(trades)) == ("page", 0)


def test_the_newest_id_comes_with_the_time_of_the_exchange(box, tape, requesting):
    requesting.newest()
    assert requesting.wait_for(1) == [
        ("newest BTCUSDT", "newest", published(box, tape)["agg_trade_id"][-1], NOW)
    ]
    assert box.asked("aggTrades")[0].query == {"symbol": "BTCUSDT", "limit": "1"}


def test_without_a_time_of_the_exchange_its_newest_trade_tells_it(box, tape, requesting):
    box.rest.is_dated = False
    requesting.newest()
    ((_, _, _, when),) = requesting.wait_for(1)
    assert when == published(box, tape)["timestamp"][-1].replace(microsecond=0)


def test_the_first_trade_of_a_day_is_that_after_midnight(tape, requesting):
    times = tape.ticks["timestamp"]
    first = tape.ticks.filter(times >= datetime(2026, 11, 2, tzinfo=UTC))["agg_trade_id"][0]
    assert requesting.queue.first_id("BTCUSDT", TODAY) == first


def test_the_first_trade_of_a_day_without_one_is_the_next(box, tape, requesting):
    box.now = datetime(2026, 11, 1, 23, 59, tzinfo=UTC)
    assert (
        requesting.queue.first_id("BTCUSDT", TODAY) == published(box, tape)["agg_trade_id"][-1] + 1
    )


@pytest.mark.parametrize("change", [{"p": "-1"}, {"T": 5}, {"q": None}, {"f": 9, "l": 8}], ids=str)
def test_an_invalid_trade_at_midnight_does_not_keep_a_day_from_its_first(
    box, tape, requesting, change
):
    times = tape.ticks["timestamp"]
    first = tape.ticks.filter(times >= datetime(2026, 11, 2, tzinfo=UTC))["agg_trade_id"][0]

    def spoiled(rows):
        return [row | change if row["a"] == first else row for row in rows]

    box.fail("aggTrades", faults.changed_page(spoiled), times=None)
    assert requesting.queue.first_id("BTCUSDT", TODAY) == first + 1


def test_a_sentinel_at_midnight_is_the_first_of_its_day(box, tape, requesting):
    times = tape.ticks["timestamp"]
    first = tape.ticks.filter(times >= datetime(2026, 11, 2, tzinfo=UTC))["agg_trade_id"][0]
    nothing = {"p": "0.00", "q": "0.00", "f": -1, "l": -1}

    def emptied(rows):
        return [row | nothing if row["a"] == first else row for row in rows]

    box.fail("aggTrades", faults.changed_page(emptied), times=None)
    assert requesting.queue.first_id("BTCUSDT", TODAY) == first


def test_gaps_come_first_then_checks_then_first_trades_then_backfill(box, tape, requesting):
    first = published(box, tape)["agg_trade_id"][0]
    release = threading.Event()

    def held(_request, answer):
        release.wait(60)
        return answer

    box.fail(f"fromId={first}", held)
    requesting.page(first)
    while not box.requests:
        release.wait(0.001)
    requesting.page(first + 1, is_gap=False)
    requesting.page(first + 2, is_gap=False, symbol="ETHUSDT")
    search = threading.Thread(target=requesting.queue.first_id, args=("BTCUSDT", TODAY))
    search.start()
    while not requesting.queue._waiting[2]:
        release.wait(0.001)
    requesting.newest()
    requesting.page(first + 3)
    requesting.page(first + 4)
    release.set()
    search.join(60)
    requesting.wait_for(6)
    asked = [request.query for request in box.asked("aggTrades")]
    ids = [int(query["fromId"]) - first if "fromId" in query else query for query in asked]
    newest = {"symbol": "BTCUSDT", "limit": "1"}
    assert ids[:5] == [0, 3, 4, newest, newest]
    assert [number for number in ids if number in (1, 2)] == [1, 2]


INVALID = [
    {"p": "-1.0"},
    {"p": "0.0"},
    {"p": "1.123456789"},
    {"p": 1.5},
    {"p": None},
    {"p": "\u0661.5"},
    {"q": "-0.1"},
    {"q": "1e3"},
    {"f": 9, "l": 8},
    {"f": None},
    {"l": 2**64},
    {"T": 5},
    {"T": 2**63},
    {"T": "1793577600000000"},
    {"m": None},
    {"m": 1},
]


@pytest.mark.parametrize("change", INVALID, ids=str)
def test_a_row_with_an_invalid_value_arrives_as_an_invalid_trade(box, tape, requesting, change):
    every = published(box, tape)
    first = every["agg_trade_id"][0]
    box.fail("aggTrades", faults.changed_page(lambda rows: [rows[0] | change, *rows[1:]]))
    requesting.page(first)
    ((_, kind, _, trades, _),) = requesting.wait_for(1)
    assert kind == "page"
    assert unusual(trades) == [0]
    assert trades.row(0).id == first
    assert not is_sentinel(trades.row(0))
    assert trades.slice(1).frame().equals(every.slice(1, 999))


def test_a_missing_member_makes_its_trade_invalid(box, requesting):
    box.fail("aggTrades", faults.changed_page(lambda rows: [{"a": rows[0]["a"]}, *rows[1:]]))
    requesting.page(1)
    assert unusual(requesting.wait_for(1)[0][3]) == [0]


def test_an_answer_without_one_whole_trade_is_worthless(box, requesting):
    box.fail("aggTrades", faults.changed_page(lambda rows: [{"a": row["a"]} for row in rows]))
    requesting.page(1)
    assert requesting.wait_for(1) == [("gap 1", "failed", False, None)]
    assert "has no `T`" in requesting.queue.status().last_error


def test_a_sentinel_arrives_as_a_sentinel(box, requesting):
    nothing = {"p": "0.00000000", "q": "0.00000000", "f": -1, "l": -1}
    box.fail("aggTrades", faults.changed_page(lambda rows: [rows[0] | nothing, *rows[1:]]))
    requesting.page(1)
    assert is_sentinel(requesting.wait_for(1)[0][3].row(0))


@pytest.mark.parametrize("number", [None, -1, "7", 2**63, True, 1.0])
def test_a_row_without_an_id_makes_the_answer_worthless(box, requesting, number):
    box.fail("aggTrades", faults.changed_page(lambda rows: [*rows[1:], rows[0] | {"a": number}]))
    requesting.page(1)
    assert requesting.wait_for(1) == [("gap 1", "failed", False, None)]
    assert "without an id" in requesting.queue.status().last_error


def test_times_in_milliseconds_are_read_as_such(tape, box, monkeypatch):
    um = Tape.around(NOW, timedelta(minutes=1), timedelta(minutes=1), market="um")
    with Exchange(um) as other, Requesting("um", url=other.url) as running:
        running.page(um.ticks["agg_trade_id"][0])
        ((_, _, _, trades, _),) = running.wait_for(1)
        assert other.asked("/fapi/v1/aggTrades")
        assert trades.frame().equals(published(other, um).head(1000))
        assert (running.queue.weight, running.queue.limit) == (20, 1_800)


def test_a_repeated_page_and_a_holed_one_arrive_as_they_are(box, tape, requesting):
    every = published(box, tape)
    ids = every["agg_trade_id"]
    box.fail("aggTrades", faults.repeated_page())
    box.fail("aggTrades", faults.holed_page(3))
    requesting.page(ids[1000])
    requesting.page(ids[1000])
    first, second = requesting.wait_for(2)
    assert first[3].frame().equals(every.slice(0, 1000))
    assert len(second[3]) == min(1000, every.height - 1000) - 3


@pytest.mark.parametrize(
    ("fault", "is_refused"),
    [
        (faults.status(500), False),
        (faults.status(503, b"<html>"), False),
        (faults.status(403), True),
        (faults.status(451, b'{"code": 0, "msg": "restricted location"}'), True),
        (faults.status(400, b'{"code": -1121, "msg": "Invalid symbol."}'), True),
        (faults.status(400, b'{"code": -1003, "msg": "Too much."}'), False),
        (faults.malformed_json(), False),
        (faults.empty(), False),
        (faults.html(), False),
        (faults.drop(), False),
        (faults.truncated(), False),
        (faults.replaced(b"[1]"), False),
        (faults.replaced(b"[" * 100_000), False),
        (faults.replaced(b"{}"), False),
        (faults.too_many(0), True),
    ],
)
def test_a_fault_is_one_failure_and_closes_nothing(box, tape, requesting, fault, is_refused):
    first = published(box, tape)["agg_trade_id"][0]
    box.fail("aggTrades", fault)
    box.fail("aggTrades", fault)
    requesting.page(first)
    requesting.newest()
    requesting.page(first)
    outcomes = requesting.wait_for(3)
    failures = [outcome for outcome in outcomes if outcome[1] == "failed"]
    assert [failure[2:] for failure in failures] == [(is_refused, None)] * 2
    assert outcomes[-1][:2] == ("newest BTCUSDT", "newest")
    assert len(box.requests) == 3
    assert requesting.queue.status().last_error == ""


def test_the_newest_id_of_an_empty_page_is_a_failure(box, requesting):
    box.fail("aggTrades", faults.empty_page())
    requesting.newest()
    assert requesting.wait_for(1) == [("newest BTCUSDT", "failed", False, None)]
    assert "no newest trade" in requesting.queue.status().last_error


def test_the_first_trade_is_asked_for_until_there_is_an_answer(box, tape, requesting):
    clock.install(rate=20.0)
    try:
        first = requesting.queue.first_id("BTCUSDT", TODAY)
        box.fail("aggTrades", faults.status(500), times=3)
        box.fail("aggTrades", faults.malformed_json())
        assert requesting.queue.first_id("BTCUSDT", TODAY) == first
    finally:
        clock.install()


def test_the_first_trade_of_an_unknown_symbol_is_an_error(requesting):
    with pytest.raises(SourceError, match=r"Invalid symbol") as caught:
        requesting.queue.first_id("NOPE", TODAY)
    assert (caught.value.symbol, caught.value.day) == ("NOPE", TODAY)


def test_health_shows_weight_and_answers(box, requesting):
    box.fail("aggTrades", faults.status(500))
    requesting.page(1)
    requesting.wait_for(1)
    requesting.newest()
    requesting.wait_for(2)
    status = requesting.queue.status()
    assert (status.used_weight, status.limit, status.closed_for_s) == (8, 4_500, 0.0)
    assert status.statuses == {"500": 1, "200": 1}
    assert (status.waiting, status.last_error) == (0, "")
    # The exchange lives on another date, which is no warning here.
    skew_s = datetime.now(UTC).timestamp() - NOW.timestamp()
    assert requesting.queue.clock_skew_s == pytest.approx(skew_s, abs=120.0)


def test_a_closed_queue_answers_nothing_more(box, requesting):
    requesting.queue.close()
    requesting.join()
    requesting.page(1)
    requesting.newest()
    requesting.queue.close()
    with pytest.raises(RestStoppedError, match="were stopped"):
        requesting.queue.first_id("BTCUSDT", TODAY)
    assert (box.requests, requesting.outcomes) == ([], [])


def test_an_error_of_the_program_reaches_the_loop(box, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("rangebar_polars.live.network.backfill._trades_of", broken)
    with Requesting() as running:
        running.page(1)
        running.wait(lambda: running.errors)
        running.join()
        (error,) = running.errors
        running.errors.clear()
    assert type(error) is ZeroDivisionError


def test_trades_of_a_page_are_those_of_the_stream() -> None:
    from rangebar_polars.live.network.backfill import _trades_of

    body = b'[{"a":7,"p":"0.10","q":"2.50000000","f":9,"l":10,"T":1793577600000001,"m":false}]'
    expected = [Trade(1_793_577_600_000_001, 0.1, 2.5, 7, 9, 10, False)]
    assert list(_trades_of(body, "https://host")) == expected
