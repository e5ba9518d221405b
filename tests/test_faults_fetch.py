"""Faults of sources and subscribers, from the exchange to the ticks of a scan, and what is left of them."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape, faults, spoil
from exchange.wire import Answer
from pipeline.oracle import SPAN, SYMBOL, files_of, judge, point_at, states, truth
from rangebar_polars import events
from rangebar_polars.exceptions import (
    CorruptSourceError,
    TickDataError,
    TransientSourceError,
)
from rangebar_polars.fetch.binance.archive import UnverifiedFileWarning
from rangebar_polars.fetch.binance.rest_client import ClockSkewWarning
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = date(2025, 1, 1)  # the third of the four

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
def events_seen() -> Iterator[list[events.HookPayload]]:
    seen: list[events.HookPayload] = []
    events.register_for_all(seen.append)
    yield seen
    events.clear_hooks()


def fails_at_the_day(box: Exchange, kind: type[Exception], words: str = ".") -> None:
    """The fetch says so, names the day, keeps those before, and marks the day as nothing."""
    with pytest.raises(kind, match=words) as caught:
        rb.scan_ticks(*SPAN)
    said = "\n".join([str(caught.value), *caught.value.__notes__])
    assert f"{DAY}" in said
    assert "2 days of the span are in the store" in said
    assert list(states().values()) == ["final", "final", "missing", "missing"]
    assert not list(TickStorage().root.rglob("*.tmp"))


# Archives that are not what they should be


DAMAGES = {
    "cut short, with a length that agrees": faults.shortened(0.6),
    "another checksum in the zip": faults.bad_crc(),
    "another file in it": faults.wrong_member(),
    "two files in it": faults.two_members(),
    "a page for people": faults.html(),
    "not a byte": faults.empty(),
    "a bit turned": faults.flip(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_archive_is_corrupt_and_its_day_not_marked(
    name: str, exchange: Exchange, exchange_tape: Tape, events_seen: list[events.HookPayload]
) -> None:
    path = exchange.path(DAY)
    sound = exchange.content(path)
    # Its checksum is right for the damaged bytes, so that only the zip itself can tell.
    exchange.put(path, DAMAGES[name](None, Answer(body=sound)).body)
    fails_at_the_day(exchange, CorruptSourceError)
    assert len(exchange.asked(path)) == 2
    assert events.flush_hooks(600)
    assert [one.details["day"] for one in events_seen if one.event == "download_failed"] == [DAY]
    exchange.put(path, sound)
    assert len(rb.fetch_ticks(*SPAN).fetched) == 2
    judge(exchange, exchange_tape)


CHECKSUMS = {
    "wrong": faults.wrong_checksum(),
    "malformed": faults.malformed_checksum(),
    "of another file": faults.checksum_of_other_file(),
    "missing": faults.status(404),
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_day_without_proof_is_taken_only_where_the_policy_says_so(
    name: str, exchange: Exchange, exchange_tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.fail(exchange.path(DAY) + ".CHECKSUM", CHECKSUMS[name], times=None)
    fails_at_the_day(exchange, CorruptSourceError, "RANGEBAR_CHECKSUM=warn")
    monkeypatch.setenv("RANGEBAR_CHECKSUM", "warn")
    with pytest.warns(UnverifiedFileWarning, match=f"{DAY}"):
        rb.fetch_ticks(*SPAN)
    judge(exchange, exchange_tape)


@pytest.mark.parametrize("late", ["checksum", "zip"])
def test_a_cache_that_lags_behind_a_new_edition_is_passed_by(
    late: str, exchange: Exchange, exchange_tape: Tape
) -> None:
    exchange.republish(exchange.path(DAY), spoil.doubled(), lag=late)
    assert_frame_equal(rb.scan_ticks(*SPAN).collect(), truth(exchange_tape))
    judge(exchange, exchange_tape)


# Rows that are not as they should be

FORMS = {
    "doubled rows": spoil.doubled(),
    "shuffled rows": spoil.shuffled(),
    "sentinels": spoil.sentinels(),
    "line ends of two signs": spoil.crlf,
    "a byte order mark": spoil.byte_order_mark,
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_that_can_be_mended_are_the_ticks_of_the_day(
    name: str, exchange: Exchange, exchange_tape: Tape
) -> None:
    for day in exchange_tape.days:
        exchange.republish(exchange.path(day), FORMS[name])
    assert_frame_equal(rb.scan_ticks(*SPAN).collect(), truth(exchange_tape))
    judge(exchange, exchange_tape)


def test_headers_make_no_difference(
    exchange_tape: Tape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Exchange(exchange_tape, header=True) as box:
        point_at(box, monkeypatch, tmp_path)
        rb.fetch_ticks(*SPAN)
        judge(box, exchange_tape)


BAD_ROWS = {
    "a price of nothing": spoil.field(7, 1, "0"),
    "a negative quantity": spoil.field(7, 2, "-1.5"),
    "no number": spoil.field(7, 1, "abc"),
    "an id of two trades": spoil.conflicting(row=7),
    "a time of another day": spoil.moved_to_other_day(unit_per_s=1_000_000),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named_and_its_day_not_marked(name: str, exchange: Exchange) -> None:
    exchange.republish(exchange.path(DAY), BAD_ROWS[name])
    fails_at_the_day(exchange, TickDataError, "line")


# Days without an archive


def test_days_without_an_archive_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in range(14, 0, -1)]
    quiet = days[5]
    tape = Tape.generate(
        start=f"{days[0]}", days=len(days), per_day=400, empty_days=[f"{quiet}"], absent=1
    )
    span = (SYMBOL, days[0], days[-1])
    late = [days[-1], days[-4]]  # one that may still come, one that should have
    with Exchange(tape) as box:
        point_at(box, monkeypatch, tmp_path)
        for day in (days[1], quiet, *late):
            box.put(box.path(day), None)
        for day in days:  # on the first of a month, the file of the last month has all days
            box.put(box.path(day, monthly=True), None)
        report = rb.fetch_ticks(*span)
        assert report.absent == [quiet]
        assert report.tail == sorted(late)
        assert days[1] in report.fetched
        asked = len(box.requests)
        again = rb.fetch_ticks(*span)
        assert (again.rows, again.tail, len(again.kept)) == (0, sorted(late), 11)
        # Of each tail only whether its archive is there, and whether there is more of it.
        assert len(box.requests) - asked <= 10
        found = states(SYMBOL, f"{days[0]}", f"{days[-1]}")
        assert {day for day, state in found.items() if state == "tail"} == set(late)
        assert found[quiet] == "absent_confirmed"
        assert found[days[1]] == "final"
        assert_frame_equal(rb.scan_ticks(*span).collect(), truth(tape))


def test_all_days_without_an_archive_come_from_rest(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    for day in exchange_tape.days:
        exchange.put(exchange.path(day), None)
    assert len(rb.fetch_ticks(*SPAN).fetched) == 4
    judge(exchange, exchange_tape)


def test_a_file_of_the_month_stands_in_for_those_of_days(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    for day in exchange_tape.days[:2]:
        exchange.put(exchange.path(day), None)
    exchange.now = "2025-02-10"
    rb.fetch_ticks(*SPAN)
    months = [one for one in exchange.asked("monthly") if one.path.endswith(".zip")]
    assert len(months) == 1
    judge(exchange, exchange_tape)


HEADER = b"agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"


def test_an_archive_of_no_row_is_no_proof_of_a_day_without_ticks(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    exchange.republish(exchange.path(DAY), lambda _: HEADER)
    rb.fetch_ticks(*SPAN)
    judge(exchange, exchange_tape)


def test_a_refusal_is_no_day_without_ticks(exchange: Exchange, exchange_tape: Tape) -> None:
    rule = exchange.fail(exchange.path(DAY), faults.status(403), times=None)
    fails_at_the_day(exchange, TransientSourceError)
    rule.cancel()
    rb.fetch_ticks(*SPAN)
    judge(exchange, exchange_tape)


def test_a_clock_that_is_weeks_ahead_makes_no_running_day_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = datetime.now(UTC) - timedelta(days=20)
    tape = Tape.generate(start=f"{there - timedelta(days=1):%Y-%m-%d}", days=2, per_day=2_000)
    date_there = f"{there:%a, %d %b %Y %H:%M:%S GMT}"
    with Exchange(tape, now=there) as box:
        point_at(box, monkeypatch, tmp_path)
        box.fail("/api/", lambda _, answer: answer.with_headers(Date=date_there), times=None)
        with pytest.warns(ClockSkewWarning, match="ahead"):
            report = rb.fetch_ticks(SYMBOL, there.date(), there.date())
    assert (report.tail, report.fetched) == ([there.date()], [])


# An archive that is published anew


def test_a_new_edition_of_an_archive_is_taken_on_demand(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    old = rb.scan_ticks(*SPAN)
    exchange.republish(exchange.path(DAY), spoil.field(7, 2, "1.25"))
    asked = len(exchange.requests)
    assert rb.fetch_ticks(*SPAN).fetched == []
    assert len(exchange.requests) == asked
    report = rb.fetch_ticks(*SPAN, refresh=True)
    assert (len(report.fetched), report.replaced) == (4, [DAY])
    before, after = old.collect(), rb.scan_ticks(*SPAN).collect()
    assert_frame_equal(before, truth(exchange_tape))
    other = before.filter(before["quantity"] != after["quantity"])
    assert other["timestamp"].dt.date().to_list() == [DAY]
    assert after.drop("quantity").equals(before.drop("quantity"))


def test_what_is_the_same_is_not_written_again(exchange: Exchange, exchange_tape: Tape) -> None:
    rb.fetch_ticks(*SPAN)
    files = files_of(TickStorage())
    assert rb.fetch_ticks(*SPAN, refresh=True).replaced == []
    days = [path for path in files_of(TickStorage()) if path.suffix == ".parquet"]
    assert days == [path for path in files if path.suffix == ".parquet"]
    judge(exchange, exchange_tape)


def test_ticks_of_the_user_are_not_fetched_anew(exchange: Exchange, exchange_tape: Tape) -> None:
    TickStorage().write_ticks(SYMBOL, exchange_tape.day(DAY).with_columns(quantity=2.0))
    report = rb.fetch_ticks(*SPAN, refresh=True)
    assert report.kept == [DAY]
    found = rb.scan_ticks(SYMBOL, DAY, DAY).collect()
    assert found["quantity"].unique().to_list() == [2.0]


def test_ids_of_another_kind_are_not_taken_for_a_gap(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    own = exchange_tape.day("2024-12-31")
    ids = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    TickStorage().write_ticks(SYMBOL, own.with_columns(agg_trade_id=ids))
    rb.fetch_ticks(SYMBOL, "2025-01-01", SPAN[2])
    assert len(exchange.asked("fromId")) < 20


# REST


PAGES = {
    "429 with a time": faults.too_many(retry_after=0.01),
    "a server's fault": faults.status(500),
    "a short page": faults.short_page(7),
    "an empty page": faults.empty_page(),
    "a page with a hole": faults.holed_page(),
    "a page out of order": faults.shuffled_page(),
    "a page that begins earlier": faults.overlapping_page(),
    "a page cut off": faults.malformed_json(),
    "a connection that ends": faults.drop(),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_fault_of_rest_costs_no_tick_of_a_day_without_archive(
    name: str, exchange: Exchange, exchange_tape: Tape
) -> None:
    exchange.put(exchange.path(DAY), None)
    rule = exchange.fail("fromId=", PAGES[name], times=1, after=2)
    rb.fetch_ticks(*SPAN)
    assert rule.met == 1
    judge(exchange, exchange_tape)


def test_a_ban_ends_the_fetch_at_once_and_marks_nothing(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    exchange.put(exchange.path(DAY), None)
    exchange.fail("/aggTrades?", faults.banned(retry_after=3600), times=None)
    begin = time.monotonic()
    fails_at_the_day(exchange, TransientSourceError, "accepts no requests before")
    # The ban lasts an hour.
    assert time.monotonic() - begin < 600
    assert len(exchange.asked("/aggTrades?")) == 1
