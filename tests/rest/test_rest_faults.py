"""REST of the exchange in a box: each fault of the list, and what no archive gives."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from rest_stand import Clock, check_each_id_is_in_one

from exchange import Exchange, Limits, Tape, faults
from rangebar_polars.exceptions import ConfirmedAbsentError, SourceError, TransientSourceError
from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.fetch.binance.rest_client import UnknownSymbolError

SECOND = date(2024, 12, 31)
EMPTY = date(2025, 1, 2)
BY_ID = "fromId="


@pytest.fixture(scope="module")
def tape():
    return Tape.generate(days=5, per_day=2_400, seed=5, empty_days=[EMPTY])


@pytest.fixture
def box(tape):
    with Exchange(tape) as running:
        yield running


@pytest.fixture
def rest(box, clock):
    with BinanceRest(url=box.url, budget=clock.budget()) as source:
        yield source


def check_day(found, tape, day):
    """All trades of the day once, and each other id of the day among those that exist nowhere."""
    assert found.ticks.equals(tape.day(day))
    first, last = tape.id_span(day)
    low = tape.ticks["agg_trade_id"].filter(tape.ticks["agg_trade_id"] < first).max()
    check_each_id_is_in_one(
        found.ticks, found.source_absent, first if low is None else low + 1, last
    )
    assert set(found.source_absent) <= set(tape.source_absent)


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_every_day_of_every_market_is_the_tape(clock, market):
    tape = Tape.generate(market=market, per_day=2_100, quantity_digits=0 if market == "cm" else 5)
    with (
        Exchange(tape) as box,
        BinanceRest(market, url=box.url, budget=clock.budget()) as rest,
    ):
        days = list(rest.days(tape.symbol, "2024-01-01", "2025-12-31"))
        assert days == tape.days
        next_id = None
        for day in days:
            found = rest.fetch_day(tape.symbol, day, first_id=next_id)
            check_day(found, tape, day)
            next_id = found.ticks["agg_trade_id"].item(-1) + 1


def test_a_year_that_changes_the_unit_of_archives_changes_nothing(box, rest, tape):
    for day in (SECOND, SECOND + timedelta(days=1)):
        check_day(rest.fetch_day(tape.symbol, day), tape, day)


FAULTS = {
    "status 500": [faults.status(500)],
    "status 503": [faults.status(503)],
    "429": [faults.too_many(7)],
    "429 with a date": [faults.too_many(datetime.now(UTC) + timedelta(seconds=30))],
    "429 without a time": [faults.too_many(None)],
    "418": [faults.banned(60)],
    "drop": [faults.drop()],
    "drop in the body": [faults.drop(0.5)],
    "truncated": [faults.truncated()],
    "shortened": [faults.shortened()],
    "html": [faults.html()],
    "empty body": [faults.empty()],
    "malformed": [faults.malformed_json()],
    "trickle": [faults.trickle(20_000, 0.001)],
    "short page": [faults.short_page()],
    "short page of one": [faults.short_page(1)],
    "empty page": [faults.empty_page()],
    "holed page": [faults.holed_page()],
    "repeated page": [faults.repeated_page()],
    "overlapping page": [faults.overlapping_page()],
    "overlapping short page": [faults.overlapping_page(5), faults.short_page(9)],
    "shuffled page": [faults.shuffled_page()],
    "shuffled short page": [faults.short_page(100), faults.shuffled_page()],
}


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_no_trade_and_doubles_none(box, rest, tape, fault, after):
    rule = box.fail(BY_ID, *FAULTS[fault], after=after)
    check_day(rest.fetch_day(tape.symbol, SECOND), tape, SECOND)
    assert rule.met == 1


def test_pages_that_are_all_short_are_not_the_end(box, rest, tape):
    box.fail(BY_ID, faults.short_page(97), times=None)
    check_day(rest.fetch_day(tape.symbol, SECOND), tape, SECOND)


def test_a_silent_exchange_is_asked_again(box, clock, tape, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "1")
    # An answer that is no fault may be slow as well; it is asked for again.
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "100")
    rule = box.fail(BY_ID, faults.stall(), after=1)
    with BinanceRest(url=box.url, budget=clock.budget()) as rest:
        check_day(rest.fetch_day(tape.symbol, SECOND), tape, SECOND)
    assert rule.met == 1


def test_the_limits_of_the_exchange_are_never_met(clock, tape):
    # 100 requests in a minute that does not end: this budget's clock is not the exchange's.
    limits = Limits(weight=400, window_s=3600.0)
    with Exchange(tape, limits=limits) as box:
        with BinanceRest(url=box.url, budget=clock.budget()) as rest:
            rest.fetch_day(tape.symbol, SECOND)
        used = limits.used["/api/v3"]
        assert used == 4 * len(box.asked("/aggTrades"))
        assert not [request for request in box.requests if request.status != 200]
    assert used < 100


def test_a_limit_that_is_met_all_the_same_is_waited_for_without_a_ban(tape):
    limits = Limits(weight=8, window_s=80.0)

    class Waiting(Clock):
        """Who waits sees the exchange's next window."""

        def sleep(self, seconds):
            super().sleep(seconds)
            limits.used.clear()

    with Exchange(tape, limits=limits) as box:
        with BinanceRest(url=box.url, budget=Waiting().budget()) as rest:
            check_day(rest.fetch_day(tape.symbol, SECOND), tape, SECOND)
        statuses = [request.status for request in box.requests]
    assert 429 in statuses
    assert 418 not in statuses


def test_a_day_without_trades_is_proved_by_its_neighbours(box, rest, tape):
    found = rest.fetch_day(tape.symbol, EMPTY)
    before, after = tape.id_span(SECOND + timedelta(days=1))[1], tape.id_span("2025-01-03")[0]
    assert f"`{before}`" in found.reason
    assert f"`{after}`" in found.reason
    assert not found.is_tail
    with pytest.raises(ConfirmedAbsentError):
        rest.read_day(tape.symbol, EMPTY)


def test_no_answer_about_an_empty_day_is_no_proof(box, rest, tape):
    box.fail("/aggTrades", faults.status(503), times=None, after=2)
    with pytest.raises(TransientSourceError):
        rest.fetch_day(tape.symbol, EMPTY)


# Archives that are missing: REST has the day, and says which ids it lacks too


def test_rest_has_a_day_whose_archive_is_not_out_yet(box, rest, tape):
    box.now = datetime(2025, 1, 1, 5, 0, tzinfo=UTC)
    with pytest.raises(KeyError):
        box.content(box.path(SECOND))
    check_day(rest.fetch_day(tape.symbol, SECOND), tape, SECOND)
    running = rest.fetch_day(tape.symbol, "2025-01-01")
    assert running.ticks.equals(tape.between("2025-01-01", box.now + timedelta(microseconds=1)))
    assert running.is_tail


def test_ids_that_an_archive_lacks_are_had_and_those_that_exist_nowhere_named(box, rest, tape):
    assert tape.archive_lacks
    assert tape.source_absent
    for first, last in tape.archive_lacks:
        ticks, absent = rest.fetch_ids(tape.symbol, first, last)
        assert ticks.equals(tape.ids(first, last))
        assert absent == []
    for first, last in tape.source_absent:
        ticks, absent = rest.fetch_ids(tape.symbol, first - 2, last + 2)
        assert ticks.equals(
            pl.concat([tape.ids(first - 2, first - 1), tape.ids(last + 1, last + 2)])
        )
        assert absent == [(first, last)]
        ticks, absent = rest.fetch_ids(tape.symbol, first, last)
        assert ticks.is_empty()
        assert absent == [(first, last)]


def test_a_symbol_of_another_market_is_unknown_and_named(box, clock, tape):
    with (
        BinanceRest("um", url=box.url, budget=clock.budget()) as rest,
        pytest.raises(SourceError, match=f"`{tape.symbol}`.*-1121") as caught,
    ):
        rest.fetch_day(tape.symbol, SECOND)
    assert type(caught.value) is UnknownSymbolError
    assert caught.value.day == SECOND
    assert len(box.requests) == 1
