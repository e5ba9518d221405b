"""Ids that are not there, days without trades, and days that are not over."""

from __future__ import annotations

from collections import deque
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

import pytest
from rest_stand import (
    DAY_US,
    HOUR_US,
    START_US,
    check_each_id_is_in_one,
    frame_of,
    tape_of,
    trade,
)

from rangebar_polars.exceptions import (
    ConfirmedAbsentError,
    NotYetPublishedError,
    TransientSourceError,
)
from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.fetch.binance.rest_client import ClockSkewWarning
from rangebar_polars.sources import TRADES_SCHEMA

DAY = date(2024, 3, 5)


def test_ids_that_the_exchange_lacks_are_named_after_a_second_answer(stand, rest):
    stand.tape = [trade(n, START_US + n) for n in (10, 11, 14, 15, 21)]
    ticks, absent = rest.fetch_ids("BTCUSDT", 9, 20)
    assert ticks["agg_trade_id"].to_list() == [10, 11, 14, 15]
    assert absent == [(9, 9), (12, 13), (16, 20)]
    # A page that broke off there was the first answer.
    assert [stand.questions.count(n) for n in (9, 12, 16)] == [2, 1, 1]


def test_a_page_that_leaves_trades_out_once_loses_none(stand, rest):
    stand.tape = tape_of(30) + tape_of(1, 1030, START_US + DAY_US)
    holes = deque([(), (), range(1005, 1009), range(1020, 1021)])

    def mangle(page, query):
        hole = holes.popleft() if holes else ()
        return [row for row in page if row["a"] not in hole]

    stand.mangle = mangle
    assert rest.read_day("BTCUSDT", DAY).equals(frame_of(stand.tape[:30]))
    assert not holes


@pytest.mark.parametrize("width", [1, 2, 7, 1000, 5000])
@pytest.mark.parametrize("reach", [1, 1000])
def test_an_empty_answer_before_the_newest_trade_is_no_end(stand, rest, width, reach):
    stand.tape = tape_of(10) + tape_of(10, 1010 + width, START_US + HOUR_US)

    def mangle(page, query):
        """This exchange gives nothing where it finds no trade within reach of the id."""
        near = int(query.get("fromId", page[0]["a"])) + reach
        return page if page[0]["a"] < near else []

    stand.mangle = mangle
    ticks, absent = rest.fetch_ids("BTCUSDT", 1000, 1019 + width)
    assert ticks.equals(frame_of(stand.tape))
    assert absent == [(1010, 1009 + width)]
    assert len(stand.seen) < 60


def test_ids_above_the_newest_are_not_called_absent(stand, rest):
    stand.tape = tape_of(10)
    with pytest.raises(TransientSourceError, match="no id above `1009` yet"):
        rest.fetch_ids("BTCUSDT", 1000, 1010)


def test_ids_of_sentinels_stand_for_no_trade(stand, rest):
    stand.tape = tape_of(9) + tape_of(1, 1009, START_US + DAY_US)
    for row in (stand.tape[0], stand.tape[4], stand.tape[8]):
        row.update(p="0.00000000", q="0.00000000", f=-1, l=-1)
    found = rest.fetch_day("BTCUSDT", DAY)
    assert found.origin.sentinels == 3
    check_each_id_is_in_one(found.ticks, found.source_absent, 1000, 1008)
    assert found.ticks.height == 6


def test_ids_that_are_missing_where_the_day_begins_belong_to_it(stand, rest):
    stand.tape = [trade(10, START_US - 5), trade(14, START_US + 5), trade(15, START_US + DAY_US)]
    assert rest.fetch_day("BTCUSDT", DAY).source_absent == ((11, 13),)


# ---- days without trades


def test_a_day_is_empty_where_no_id_lies_between_the_trades_around_it(stand, rest):
    stand.tape = [trade(10, START_US - 5), trade(11, START_US + DAY_US)]
    found = rest.fetch_day("BTCUSDT", DAY)
    assert (found.ticks.height, found.is_tail, found.source_absent) == (0, False, ())
    assert found.ticks.schema == TRADES_SCHEMA
    assert "`10` of 2024-03-04" in found.reason
    assert "`11` of 2024-03-06" in found.reason
    with pytest.raises(ConfirmedAbsentError) as caught:
        rest.read_day("btcusdt", DAY)
    assert (caught.value.symbol, caught.value.day) == ("BTCUSDT", DAY)


def test_missing_ids_around_an_empty_day_are_named(stand, rest):
    stand.tape = [trade(10, START_US - 5), trade(14, START_US + DAY_US)]
    assert rest.fetch_day("BTCUSDT", DAY).source_absent == ((11, 13),)


def test_a_day_before_the_first_trade_is_empty(stand, rest):
    stand.tape = tape_of(3, 0, START_US + DAY_US)
    assert "the first trade is `0` of 2024-03-06" in rest.fetch_day("BTCUSDT", DAY).reason


def test_a_day_after_the_last_trade_is_empty_once_it_is_over(stand, rest):
    stand.tape = tape_of(3, 7, START_US - HOUR_US)
    found = rest.fetch_day("BTCUSDT", DAY)
    assert "the newest trade is `9` of 2024-03-04" in found.reason
    assert not found.is_tail


def test_a_running_day_gives_what_there_is(stand, rest):
    midnight = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    start_us = int(midnight.timestamp()) * 1_000_000
    stand.tape = tape_of(5, 100, start_us)
    found = rest.fetch_day("BTCUSDT", midnight)
    assert found.ticks.equals(frame_of(stand.tape))
    assert found.is_tail
    stand.tape = tape_of(5, 100, start_us - HOUR_US)
    with pytest.raises(NotYetPublishedError, match=r"no trade of .* yet"):
        rest.read_day("BTCUSDT", midnight)
    assert rest.fetch_day("BTCUSDT", midnight).is_tail


def test_whether_a_day_is_over_is_said_by_the_clock_of_the_exchange(stand, clock):
    stand.tape = tape_of(3, 7, START_US - HOUR_US)
    here = datetime(2024, 3, 5, 23, 0, tzinfo=UTC)
    with BinanceRest(url=stand.url, budget=clock.budget(), now=here.timestamp) as rest:
        stand.headers["Date"] = format_datetime(here - timedelta(seconds=59), usegmt=True)
        assert rest.fetch_day("BTCUSDT", DAY).is_tail
        assert abs(rest.clock_skew_s - 59) <= 1
        stand.headers["Date"] = format_datetime(here + timedelta(hours=3), usegmt=True)
        with pytest.warns(ClockSkewWarning, match="10800 s behind|10801 s behind"):
            assert not rest.fetch_day("BTCUSDT", DAY).is_tail


def test_the_days_of_a_span_are_those_from_the_first_trade_to_the_newest(stand, rest):
    stand.tape = [
        trade(3, START_US),
        trade(4, START_US + DAY_US),
        trade(5, START_US + 3 * DAY_US),
    ]
    days = rest.days("BTCUSDT", "2024-01-01", "2024-12-31")
    assert stand.seen == []
    assert list(days) == [DAY + timedelta(days=k) for k in range(4)]
    assert rest.newest_id("BTCUSDT") == 5
    assert rest.newest_day("BTCUSDT") == DAY + timedelta(days=3)


def test_a_missing_id_at_midnight_is_passed_over_where_times_cannot_be_searched(stand, rest):
    before = tape_of(40, first=960, start_us=START_US - 10_000)
    stand.tape = [*before, *tape_of(40, first=1001), trade(1041, START_US + DAY_US)]
    stand.mangle = lambda rows, query: [] if "startTime" in query else rows
    assert rest.read_day("BTCUSDT", DAY)["agg_trade_id"].to_list() == list(range(1001, 1041))
