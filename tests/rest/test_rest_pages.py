"""Every trade once, whatever the pages look like that bring it."""

from __future__ import annotations

import time
import tracemalloc
from collections import deque
from datetime import date
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_stand import (
    DAY_US,
    HOUR_US,
    START_US,
    Clock,
    check_each_id_is_in_one,
    frame_of,
    serving,
    tape_of,
    trade,
)

from rangebar_polars.fetch.binance.rest import BinanceRest
from rangebar_polars.sources import TRADES_SCHEMA

DAY = date(2024, 3, 5)


@pytest.mark.parametrize(
    ("market", "path", "unit_us"),
    [("spot", "/api/v3/", 1), ("um", "/fapi/v1/", 1000), ("cm", "/dapi/v1/", 1000)],
)
def test_a_day_is_the_tape_of_its_day_in_the_finest_unit_of_the_market(
    stand, clock, market, path, unit_us
):
    stand.tape = tape_of(50, 900, START_US - 5 * 250) + tape_of(20, 950, START_US + DAY_US)
    stand.page_rows = 7
    with BinanceRest(market, url=stand.url + "/", budget=clock.budget()) as rest:
        found = rest.fetch_day("btcusdt", DAY)
    assert found.ticks.equals(frame_of(stand.tape[5:50], unit_us))
    assert found.ticks.schema == TRADES_SCHEMA
    assert (found.day, found.is_tail, found.source_absent) == (DAY, True, ())
    assert (found.origin.kind, found.origin.unit) == ("rest", "us" if unit_us == 1 else "ms")
    assert {query["path"] for query in stand.seen} == {f"{path}aggTrades"}
    assert {query["symbol"] for query in stand.seen} == {"BTCUSDT"}


def test_many_trades_of_one_millisecond_at_the_edge_of_pages_all_arrive(stand, rest):
    stand.tape = [trade(n, START_US + 777) for n in range(100, 150)]
    stand.tape += [trade(n, START_US + DAY_US) for n in range(150, 200)]
    stand.page_rows = 3
    assert rest.read_day("BTCUSDT", "2024-03-05")["agg_trade_id"].to_list() == list(range(100, 150))


def test_trades_before_and_after_the_day_in_the_milliseconds_at_its_edges_stay_out(stand, rest):
    times = [START_US - 1, START_US, START_US + DAY_US - 1, START_US + DAY_US]
    stand.tape = [trade(5 + k, time_us) for k, time_us in enumerate(times)]
    assert rest.read_day("BTCUSDT", DAY)["agg_trade_id"].to_list() == [6, 7]


def test_pages_are_asked_for_by_id_alone(stand, rest):
    stand.tape = tape_of(3000) + tape_of(1, 4000, START_US + DAY_US)
    rest.read_day("BTCUSDT", DAY)
    with_time = [query for query in stand.seen if "startTime" in query]
    assert len(with_time) == 1
    assert with_time[0]["limit"] == "1"
    assert all(query["limit"] == "1000" for query in stand.seen if "fromId" in query)


KINDS = ["whole", "short", "repeat", "overlap", "shuffle", "double", "empty", "older", "tail"]
PAGES = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9)), max_size=40)
ID_STEPS = st.sampled_from([1, 1, 1, 1, 2, 5, 30])
TAPES = st.lists(st.tuples(ID_STEPS, st.integers(0, 400_000)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def strange():
    with serving() as running, BinanceRest(url=running.url, budget=Clock().budget()) as rest:
        yield running, rest


class Strange:
    """Pages that are wrong in a way, one after the other; the same question is then answered well."""

    def __init__(self, tape: list[dict], pages: list[tuple[str, int]]) -> None:
        self.tape = tape
        self.left = deque(pages)
        self.before: list[dict] = []
        self.asked: set[str] = set()

    def __call__(self, page: list[dict], query: dict) -> list[dict]:
        if "fromId" not in query or query["fromId"] in self.asked or not self.left:
            return page
        self.asked.add(query["fromId"])
        kind, number = self.left.popleft()
        first = int(query["fromId"])
        older = [row for row in self.tape if row["a"] < first]
        page = {
            "short": page[:number],
            "repeat": self.before or page,
            "overlap": older[-number:] + page,
            "shuffle": Random(number).sample(page, len(page)),
            "double": page + page[:number],
            "empty": [],
            "older": older or page,
            "tail": page[number:],
        }.get(kind, page)
        self.before = page
        return page


@given(steps=TAPES, pages=PAGES, page_rows=st.integers(1, 9))
def test_whatever_the_pages_look_like_the_trades_are_those_of_the_tape(
    strange, steps, pages, page_rows
):
    stand, rest = strange
    rows, number, time_us = [], 50, START_US - 2_000_000
    for id_step, time_step in steps:
        number, time_us = number + id_step, time_us + time_step
        rows.append(trade(number, time_us))
    stand.tape = [trade(40, START_US - HOUR_US), *rows, trade(number + 3, START_US + DAY_US)]
    stand.page_rows = page_rows
    stand.mangle = Strange(stand.tape, pages)
    day = [row for row in rows if row["T"] >= START_US]
    found = rest.fetch_day("BTCUSDT", DAY)
    assert found.ticks.equals(frame_of(day))
    low = max(row["a"] for row in stand.tape if row["T"] < START_US) + 1
    high = day[-1]["a"] if day else number + 2
    check_each_id_is_in_one(found.ticks, found.source_absent, low, high)
    stand.mangle = Strange(stand.tape, pages)
    ticks, absent = rest.fetch_ids("BTCUSDT", 45, number)
    assert ticks.equals(frame_of(rows))
    check_each_id_is_in_one(ticks, absent, 45, number)


def test_what_was_mended_is_counted(stand, rest):
    stand.tape = tape_of(6) + tape_of(1, 1006, START_US + DAY_US)
    stand.mangle = lambda page, query: [page[1], page[0], page[0], *page[2:]] if page[2:] else page
    origin = rest.fetch_day("BTCUSDT", DAY).origin
    assert (origin.moved, origin.doubled, origin.raised, origin.sentinels) == (2, 1, 0, 0)


def test_progress_is_told_of_every_trade_once(stand, rest):
    stand.tape = tape_of(25) + tape_of(1, 1025, START_US + DAY_US)
    stand.page_rows = 10
    told = []
    rest.fetch_day("BTCUSDT", DAY, progress=told.append)
    assert sum(told) == 25
    assert len(told) == 3


def test_a_chain_of_days_is_walked_without_looking_for_its_days(stand, rest):
    stand.tape = tape_of(10, 500, START_US - 5 * 250) + tape_of(10, 510, START_US + DAY_US)
    found = rest.fetch_day("BTCUSDT", DAY, first_id=505)
    assert found.ticks["agg_trade_id"].to_list() == [505, 506, 507, 508, 509]
    assert not any("startTime" in query for query in stand.seen)


@pytest.mark.parametrize("wrong", [502, 507, 515, 10_000])
def test_a_wrong_first_id_is_noticed(stand, rest, wrong):
    stand.tape = tape_of(10, 500, START_US - 5 * 250) + tape_of(10, 510, START_US + DAY_US)
    found = rest.fetch_day("BTCUSDT", DAY, first_id=wrong)
    assert found.ticks["agg_trade_id"].to_list() == [505, 506, 507, 508, 509]


@pytest.mark.parametrize("answer", ["nothing", "too early", "too late"])
def test_a_day_is_found_by_its_ids_where_times_are_answered_wrongly(stand, rest, answer):
    stand.tape = tape_of(5000, 500, START_US - 2500 * 250) + tape_of(3, 5500, START_US + DAY_US)
    shown = {"nothing": [], "too early": [stand.tape[7]], "too late": [stand.tape[-1]]}[answer]
    stand.mangle = lambda page, query: shown if "startTime" in query else page
    assert rest.read_day("BTCUSDT", DAY).equals(frame_of(stand.tape[2500:5000]))


def test_the_time_zone_of_the_machine_changes_nothing(stand, rest, monkeypatch):
    stand.tape = tape_of(10, 500, START_US - 5 * 250) + tape_of(10, 510, START_US + DAY_US)
    try:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        assert rest.read_day("BTCUSDT", DAY).equals(frame_of(stand.tape[5:10]))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_python_objects_of_a_page_do_not_outlive_it(stand, rest):
    tape = tape_of(30_000)
    stand.tape = tape[-1:]
    stand.page = lambda query: tape[int(query.get("fromId", 30_999)) - 1000 :][:1000]
    rest.fetch_ids("BTCUSDT", 1000, 1999)
    tracemalloc.start()
    try:
        ticks, _ = rest.fetch_ids("BTCUSDT", 1000, 30_999)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ticks.height == 30_000
    assert peak < 5 << 20  # all rows as dicts are 20 MB
