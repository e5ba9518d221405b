"""An exchange that refuses, fails, or is silent; and how much it may be asked."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

import pytest
from rest_stand import (
    DAY_US,
    START_US,
    TRIES,
    Clock,
    tape_of,
    trade,
)

from exchange.wire import NOTHING, Answer
from rangebar_polars.exceptions import (
    ConfirmedAbsentError,
    CorruptSourceError,
    SettingError,
    SourceError,
    TransientSourceError,
)
from rangebar_polars.fetch.binance.rate_limit import budget_of
from rangebar_polars.fetch.binance.rest import BinanceRest

DAY = date(2024, 3, 5)


def json_error(code, words):
    return json.dumps({"code": code, "msg": words}).encode()


@pytest.mark.parametrize(
    "reply",
    [
        Answer(500, b""),
        Answer(503, b"<html>Service Unavailable</html>"),
        Answer(200, b'[{"a": 1000, "p"'),
        Answer(200, b"<html>hello</html>"),
        Answer(200, b""),
        Answer(200, b"[1, 2]"),
        Answer(200, b'[{"a": 1000}]'),
        Answer(200, json.dumps([trade(1000, START_US) | {"m": None}]).encode()),
        Answer(200, json.dumps([trade(1000, START_US) | {"T": 2**64}]).encode()),
        Answer(200, json.dumps([trade(1000, START_US) | {"p": 1.5}]).encode()),
        Answer(200, b"[]", length=5000, cut=2),
        Answer(400, json_error(-1001, "Internal error; unable to process your request.")),
        Answer(cut=NOTHING),
        Answer(cut=NOTHING, reset=True),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[-20:]!r}",
)
def test_a_fault_is_tried_again_and_named_if_it_stays(stand, rest, reply):
    stand.tape = [*tape_of(5), trade(1005, START_US + DAY_US)]
    stand.replies.extend([reply] * (TRIES - 1))
    assert rest.read_day("BTCUSDT", DAY).height == 5
    stand.seen.clear()
    stand.replies.extend([reply] * TRIES)
    with pytest.raises((TransientSourceError, CorruptSourceError)) as caught:
        rest.read_day("btcusdt", DAY)
    assert len(stand.seen) == TRIES
    assert (caught.value.symbol, caught.value.day) == ("BTCUSDT", DAY)
    assert caught.value.url.startswith(stand.url)
    is_corrupt = reply.status == 200 and reply.cut is None
    assert isinstance(caught.value, CorruptSourceError) == is_corrupt


def test_a_silent_exchange_is_given_up(stand, clock, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "0.5")
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "2")
    stand.replies.extend([Answer(wait_s=600.0)] * 2)
    with (
        BinanceRest(url=stand.url, budget=clock.budget()) as rest,
        pytest.raises(TransientSourceError, match="timeout"),
    ):
        rest.newest_id("BTCUSDT")
    while len(stand.seen) < 2:  # a slow thread may read a request after it was given up
        time.sleep(0.001)
    assert len(stand.seen) == 2


def test_an_address_where_nobody_listens_is_a_transient_error(clock):
    with (
        BinanceRest(url="http://127.0.0.1:9", budget=clock.budget()) as rest,
        pytest.raises(TransientSourceError, match="connection refused"),
    ):
        rest.newest_id("BTCUSDT")


def test_an_unknown_symbol_is_named_and_not_asked_for_again(stand, rest):
    stand.replies.append(Answer(400, json_error(-1121, "Invalid symbol.")))
    with pytest.raises(SourceError, match=r"`NOPE` \(-1121: Invalid symbol\.\)") as caught:
        rest.read_day("nope", DAY)
    assert not isinstance(caught.value, (TransientSourceError, ConfirmedAbsentError))
    assert caught.value.symbol == "NOPE"
    assert len(stand.seen) == 1


def test_a_place_that_is_not_served_hears_of_other_addresses(stand, rest):
    stand.replies.append(
        Answer(451, json_error(0, "Service unavailable from a restricted location"))
    )
    with pytest.raises(SourceError, match="RANGEBAR_BINANCE_REST_URL"):
        rest.newest_id("BTCUSDT")
    assert len(stand.seen) == 1


def test_an_address_of_another_kind_is_refused_at_once():
    with pytest.raises(SettingError, match="file:///tmp"):
        BinanceRest(url="file:///tmp")


@pytest.mark.parametrize("status", [429, 418])
def test_the_exchange_is_left_alone_for_as_long_as_it_asks(stand, clock, rest, status):
    stand.tape = tape_of(5)
    stand.replies.append(
        Answer(status, json_error(-1003, "Too many requests."), {"Retry-After": "37"})
    )
    assert rest.newest_id("BTCUSDT") == 1004
    assert 37 <= clock.seconds < 38
    assert len(stand.seen) == 2


def test_a_retry_after_may_be_a_date(stand, clock):
    stand.tape = tape_of(5)
    there = datetime(2024, 3, 5, 12, 0, 0, tzinfo=UTC)
    stand.headers["Date"] = format_datetime(there, usegmt=True)
    later = format_datetime(there + timedelta(seconds=25), usegmt=True)
    stand.replies.append(Answer(429, b"", {"Retry-After": later}))
    with BinanceRest(url=stand.url, budget=clock.budget(), now=there.timestamp) as rest:
        assert rest.newest_id("BTCUSDT") == 1004
    assert 24 <= clock.seconds <= 26


@pytest.mark.parametrize(
    ("status", "headers"),
    [(418, {"Retry-After": "7200"}), (418, {}), (429, {"Retry-After": "3600"})],
)
@pytest.mark.parametrize("tries", ["1", "3"])
def test_a_ban_is_not_waited_out_and_nothing_is_asked_during_it(
    stand, clock, monkeypatch, status, headers, tries
):
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", tries)
    there = datetime(2024, 3, 5, 12, 0, 0, tzinfo=UTC)
    stand.headers["Date"] = format_datetime(there, usegmt=True)
    stand.tape = tape_of(5)
    stand.replies.append(Answer(status, json_error(-1003, "Way too many requests."), headers))
    seconds = int(headers.get("Retry-After", 120))
    budget = clock.budget()
    with BinanceRest(url=stand.url, budget=budget, now=there.timestamp) as rest:
        for _ in range(3):
            with pytest.raises(TransientSourceError) as caught:
                rest.newest_id("BTCUSDT")
            until = there + timedelta(seconds=seconds)
            shown = [f"{until + timedelta(seconds=k):%Y-%m-%d %H:%M:%S}" for k in (-1, 0, 1)]
            assert any(one in str(caught.value) for one in shown)
        assert len(stand.seen) == 1
        assert clock.seconds == 0
        clock.sleep(seconds)
        assert rest.newest_id("BTCUSDT") == 1004


# ---- the budget


def largest_minute(spent: list[tuple[float, int]]) -> int:
    """Return the largest weight spent in less than a minute."""
    return max(sum(w for at, w in spent if start <= at < start + 59.999) for start, _ in spent)


@pytest.mark.parametrize(("weight", "per_minute"), [(4, 3000), (20, 1200), (4, 100), (20, 30)])
def test_no_minute_sees_more_weight_than_is_set(weight, per_minute):
    clock = Clock()
    budget = clock.budget()
    spent = []
    for _ in range(3 * per_minute // weight + 3):
        budget.spend(weight, per_minute=per_minute)
        spent.append((clock(), weight))
    assert largest_minute(spent) <= per_minute + weight
    assert clock() > 60


def test_threads_share_one_budget():
    clock = Clock()
    budget = clock.budget()
    spent = []

    def work(_):
        for _ in range(50):
            budget.spend(4, per_minute=600)
            spent.append((clock(), 4))

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, range(4)))
    assert len(spent) == 200
    # 600 a minute, of which a tenth at once and nine tenths evenly.
    assert clock() >= (200 * 4 - 60) / 9 - 0.1


def test_sources_of_one_host_share_its_budget(stand):
    first, second = BinanceRest(url=stand.url), BinanceRest("um", url=stand.url)
    assert first._client._budget is second._client._budget is budget_of(stand.url)
    first.close()
    second.close()


def test_weight_that_others_have_used_is_waited_for(stand, clock):
    stand.tape = tape_of(5)
    there = datetime(2024, 3, 5, 12, 0, 20, tzinfo=UTC)
    stand.headers["Date"] = format_datetime(there, usegmt=True)
    with BinanceRest(url=stand.url, budget=clock.budget(), now=there.timestamp) as rest:
        stand.headers["X-MBX-USED-WEIGHT-1M"] = "100"
        rest.newest_id("BTCUSDT")
        rest.newest_id("BTCUSDT")
        assert clock.seconds == 0
        stand.headers["X-MBX-USED-WEIGHT-1M"] = "3000"
        rest.newest_id("BTCUSDT")
        assert clock.seconds == 0
        stand.headers["X-MBX-USED-WEIGHT-1M"] = "8"
        rest.newest_id("BTCUSDT")
    assert clock.seconds == pytest.approx(40, abs=1)
