"""Coverage: the chain of ids shows whether days are complete."""

from __future__ import annotations

import sys
from datetime import date, timedelta

import polars as pl
import pytest

from rangebar_polars.exceptions import CoverageError, TicksNotCachedError
from rangebar_polars.storage import coverage
from rangebar_polars.storage.coverage import CoverageWarning, Gap, IdSpans, chain
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.parquet import TickStorage
from storage.stock import SYMBOL, given_day, quotes, trades

DAYS = [date(2024, 1, 30) + timedelta(days=i) for i in range(4)]
FIRST, LAST = DAYS[0], DAYS[-1]
FOREX = {"source": "exness", "market": "spot"}


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


def stored(storage: TickStorage, *ranges: tuple[int, int] | None, **fields) -> None:
    """Return days with ids of these ranges, both ends included. None omits a day."""
    days = [
        given_day(day, trades(day, ids[1] - ids[0] + 1, ids[0]), **fields)
        for day, ids in zip(DAYS, ranges, strict=False)
        if ids is not None
    ]
    storage.put_days(SYMBOL, days)


def missing(storage: TickStorage, first=FIRST, last=LAST) -> list[int | None]:
    return storage.coverage(SYMBOL, first, last)["missing_before"].to_list()


def spans(storage: TickStorage, first=FIRST, last=LAST) -> list[tuple]:
    return [tuple(gap)[:3] for gap in storage.gaps(SYMBOL, first, last)]


def test_days_whose_ids_run_on_are_complete_across_months(storage):
    stored(storage, (1, 10), (11, 20), (21, 30), (31, 40))
    assert missing(storage) == [0, 0, 0, 0]
    assert storage.has_ticks(SYMBOL, FIRST, LAST)
    assert storage.get_ticks(SYMBOL, FIRST, LAST)["agg_trade_id"].to_list() == list(range(1, 41))


@pytest.mark.parametrize("on_gap", ["raise", "report"])
def test_ids_that_are_missing_between_two_days_are_a_gap(storage, on_gap):
    stored(storage, (1, 10), (11, 20), (24, 30), (31, 40))
    assert missing(storage) == [0, 0, 3, 0]
    assert spans(storage) == [(DAYS[2], 21, 23)]
    assert not storage.has_ticks(SYMBOL, FIRST, LAST)
    if on_gap == "raise":
        with pytest.raises(CoverageError, match="ids 21 to 23 are missing") as caught:
            storage.scan_ticks(SYMBOL, FIRST, LAST)
        assert caught.value.days == (DAYS[2],)
    else:
        with pytest.warns(CoverageWarning, match="ids 21 to 23 are missing"):
            assert storage.scan_ticks(SYMBOL, FIRST, LAST, on_gap="report").collect().height == 37


def test_an_id_that_is_missing_inside_a_day_is_a_gap(storage):
    rows = trades(FIRST, 20, 1).filter(~pl.col("agg_trade_id").is_in([5, 6, 9]))
    storage.write_ticks(SYMBOL, rows)
    assert spans(storage, FIRST, FIRST) == [(FIRST, 5, 6), (FIRST, 9, 9)]
    assert missing(storage, FIRST, FIRST) == [3]
    with pytest.raises(CoverageError, match="2024-01-30"):
        storage.get_ticks(SYMBOL, FIRST, FIRST)


def test_a_gap_beside_a_span_is_a_gap_of_it_where_the_day_there_is_stored(storage):
    stored(storage, (1, 10), (13, 20), (23, 30), (31, 40))
    assert spans(storage, DAYS[1], DAYS[1]) == [(DAYS[1], 11, 12), (DAYS[1], 21, 22)]
    assert not storage.has_ticks(SYMBOL, DAYS[1], DAYS[1])
    storage.delete_ticks(SYMBOL, DAYS[0], DAYS[0])
    storage.delete_ticks(SYMBOL, DAYS[2], DAYS[2])
    assert storage.has_ticks(SYMBOL, DAYS[1], DAYS[1])


def test_ids_that_the_source_lacks_are_recorded_and_passed(storage):
    stored(storage, (1, 10), (13, 20), (21, 30), (31, 40))
    storage.fill_gaps(SYMBOL, trades(FIRST, 1, 1)[:0], [Gap(DAYS[1], 11, 12)])
    assert missing(storage) == [0, 0, 0, 0]
    assert storage.has_ticks(SYMBOL, FIRST, LAST)
    row = storage.coverage(SYMBOL, FIRST, LAST).row(1, named=True)
    assert row["state"] == "final"
    assert row["reason"] == "2 ids do not exist at the source"


def test_a_part_of_a_gap_that_the_source_lacks_leaves_the_rest(storage):
    days = [given_day(DAYS[0], trades(DAYS[0], 10, 1), source_absent=((12, 13),))]
    days.append(given_day(DAYS[1], trades(DAYS[1], 5, 16)))
    storage.put_days(SYMBOL, days)
    assert spans(storage, DAYS[0], DAYS[1]) == [(DAYS[1], 11, 11), (DAYS[1], 14, 15)]


def test_ticks_that_fill_a_gap_are_put_into_final_days(storage):
    whole = trades(FIRST, 20, 1)
    hole = pl.col("agg_trade_id").is_in([5, 6, 9])
    storage.put_days(SYMBOL, [given_day(FIRST, whole.filter(~hole))])
    report = storage.fill_gaps(SYMBOL, whole.filter(hole))
    assert report.rows_added == 3
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).equals(whole)
    assert storage.coverage(SYMBOL, FIRST, FIRST)["state"].to_list() == ["final"]
    assert storage.fill_gaps(SYMBOL, whole.filter(hole)).rows_added == 0


def test_a_gap_of_a_day_that_is_not_stored_cannot_be_filled(storage):
    with pytest.raises(TicksNotCachedError):
        storage.fill_gaps(SYMBOL, trades(FIRST))


def test_a_day_that_is_not_stored_is_missing_whatever_the_ids_say(storage):
    stored(storage, (1, 10), None, (11, 20), (21, 30))
    coverage = storage.coverage(SYMBOL, FIRST, LAST)
    assert coverage["state"].to_list() == ["final", "missing", "final", "final"]
    assert coverage["missing_before"].to_list() == [0, None, 0, 0]
    assert not storage.has_ticks(SYMBOL, FIRST, LAST)
    with pytest.raises(TicksNotCachedError) as caught:
        storage.get_ticks(SYMBOL, FIRST, LAST)
    assert caught.value.days == (DAYS[1],)
    assert isinstance(caught.value, FileNotFoundError)


def test_ids_missing_over_a_missing_day_are_counted_after_it(storage):
    stored(storage, (1, 10), None, (15, 20))
    assert missing(storage, FIRST, DAYS[2]) == [0, None, 4]


def test_a_day_that_is_empty_for_certain_is_complete(storage):
    stored(storage, (1, 10), None, (11, 20), (21, 30))
    storage.put_days(
        SYMBOL, [given_day(DAYS[1], trades(FIRST)[:0], reason="ids 10 and 11 prove it")]
    )
    coverage = storage.coverage(SYMBOL, FIRST, LAST)
    assert coverage.row(1) == (
        DAYS[1],
        "absent_confirmed",
        0,
        None,
        None,
        0,
        "ids 10 and 11 prove it",
    )
    assert storage.has_ticks(SYMBOL, FIRST, LAST)
    assert storage.get_ticks(SYMBOL, DAYS[1], DAYS[1]).is_empty()
    assert storage.get_ticks(SYMBOL, FIRST, LAST).height == 30


def test_the_chain_goes_on_over_an_empty_day(storage):
    stored(storage, (1, 10), None, (15, 20))
    storage.put_days(SYMBOL, [given_day(DAYS[1], trades(FIRST)[:0], reason="nothing")])
    assert spans(storage, FIRST, DAYS[2]) == [(DAYS[2], 11, 14)]
    assert spans(storage, DAYS[2], DAYS[2]) == [(DAYS[2], 11, 14)]


def test_a_tail_is_complete_as_far_as_its_ids_run_on(storage):
    stored(storage, (1, 10), (11, 20), is_tail=True)
    assert storage.coverage(SYMBOL, FIRST, DAYS[1])["state"].to_list() == ["tail", "tail"]
    assert storage.has_ticks(SYMBOL, FIRST, DAYS[1])
    # A tail that is put over it adds to it.
    storage.put_days(SYMBOL, [given_day(DAYS[1], trades(DAYS[1], 10, 11)[2:], is_tail=True)])
    assert spans(storage, FIRST, DAYS[1]) == []
    assert storage.get_ticks(SYMBOL, FIRST, DAYS[1])["agg_trade_id"].to_list() == list(range(1, 21))


def test_a_tail_that_begins_late_has_a_gap(storage):
    stored(storage, (1, 10), (13, 20), is_tail=True)
    assert spans(storage, FIRST, DAYS[1]) == [(DAYS[1], 11, 12)]


def test_a_tail_gives_way_to_the_archive_and_not_the_other_way(storage):
    stored(storage, (1, 10), is_tail=True)
    stored(storage, (1, 12))
    assert storage.coverage(SYMBOL, FIRST, FIRST)["state"].to_list() == ["final"]
    stored(storage, (1, 10), is_tail=True)
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).height == 12


def test_a_known_gap_of_the_registry_is_no_fault(storage):
    """Register phantom trades on two days."""
    day = date(2018, 1, 14)
    rows = trades(day, 20, 1).filter(pl.col("agg_trade_id") != 7)
    storage.write_ticks(SYMBOL, rows)
    assert storage.has_ticks(SYMBOL, day, day)
    assert storage.coverage(SYMBOL, day, day)["reason"][0] == "phantom trades"


def test_coverage_has_the_same_columns_for_nothing(storage):
    coverage = storage.coverage(SYMBOL, FIRST, LAST)
    assert coverage.schema == {
        "day": pl.Date,
        "state": pl.String,
        "rows": pl.Int64,
        "first_id": pl.Int64,
        "last_id": pl.Int64,
        "missing_before": pl.Int64,
        "reason": pl.String,
    }
    assert coverage["state"].to_list() == ["missing"] * 4


def put_quotes(storage: TickStorage, day: date, first_row: int, sha256: str, **fields) -> None:
    item = given_day(day, quotes(day, 20, first_row), sha256=sha256, **fields)
    storage.put_days("EURUSD", [item], **FOREX)


def quote_gaps(storage: TickStorage, first: date, last: date) -> int:
    return len(storage.gaps("EURUSD", first, last, **FOREX))


def test_quotes_run_on_in_the_rows_of_one_file(storage):
    days = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2)]
    for day, row, sha256 in zip(days, [500, 520, 0, 20], ["a", "a", "b", "b"], strict=True):
        put_quotes(storage, day, row, sha256)
    assert storage.has_ticks("EURUSD", days[0], days[-1], **FOREX)
    assert storage.get_ticks("EURUSD", days[0], days[-1], **FOREX).height == 80
    put_quotes(storage, days[1], 521, "a")
    assert quote_gaps(storage, days[0], days[-1]) == 1


def test_quotes_of_two_editions_of_a_month_do_not_run_on(storage):
    days = [date(2024, 1, 30), date(2024, 1, 31)]
    for day, row, sha256 in zip(days, [500, 520], ["a", "b"], strict=True):
        put_quotes(storage, day, row, sha256)
    assert not storage.has_ticks("EURUSD", days[0], days[-1], **FOREX)
    with pytest.raises(CoverageError, match="another edition"):
        storage.get_ticks("EURUSD", days[0], days[-1], **FOREX)


def test_a_month_of_quotes_begins_with_its_first_row(storage):
    put_quotes(storage, date(2024, 1, 31), 500, "a")
    put_quotes(storage, date(2024, 2, 1), 7, "b")
    assert quote_gaps(storage, date(2024, 1, 31), date(2024, 2, 1)) == 1


def test_a_running_month_is_replaced_as_a_whole(storage):
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    put_quotes(storage, days[0], 0, "a", is_tail=True)
    for day, row in zip(days, [0, 20], strict=True):
        put_quotes(storage, day, row, "b", is_tail=True)
    assert storage.has_ticks("EURUSD", days[0], days[1], **FOREX)
    states = storage.coverage("EURUSD", days[0], days[1], **FOREX)["state"]
    assert states.to_list() == ["tail", "tail"]


def steps_of(work) -> int:
    """Count the executed lines of the coverage module, which do not depend on a clock."""
    steps = 0

    def trace(frame, event, _argument):
        nonlocal steps
        if frame.f_code.co_filename != coverage.__file__:
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


def days_with_absent_ids(count: int, absent: int = 10) -> dict[date, DayEntry]:
    """Return days of ids, every second of which is known not to exist."""
    entries = {}
    for number in range(count):
        first = 2 * absent * number + 1
        missing = tuple((first + 2 * i + 1,) * 2 for i in range(absent))
        entries[DAYS[0] + timedelta(days=number)] = DayEntry(
            state="final",
            rows=absent,
            first_id=first,
            last_id=first + 2 * absent - 2,
            id_gaps=missing[:-1],
            source_absent=missing,
        )
    return entries


def test_ten_times_the_days_with_absent_ids_take_about_ten_times_the_steps():
    few, many = days_with_absent_ids(40), days_with_absent_ids(400)
    for entries in (few, many):
        assert all(not one.gaps for one in chain(list(entries), entries, is_quotes=False))
    steps = [
        steps_of(lambda entries=entries: chain(list(entries), entries, is_quotes=False))
        for entries in (few, many)
    ]
    assert steps[1] < 12 * steps[0]


def test_days_that_are_not_stored_take_no_more_steps_the_further_back_the_last_one_is():
    span = [DAYS[0] + timedelta(days=number) for number in range(1_000)]
    entries = days_with_absent_ids(1) | {span[-1]: DayEntry("final", rows=1, first_id=2, last_id=2)}
    few = {day: entry for day, entry in entries.items() if day in span[-10:]}
    assert steps_of(lambda: chain(span, entries, is_quotes=False)) < 120 * steps_of(
        lambda: chain(span[-10:], few, is_quotes=False)
    )


def test_spans_that_overlap_or_lie_in_one_another_are_one_set():
    spans = [(40, 50), (1, 9), (3, 4), (9, 12), (20, 20), (21, 22), (44, 45)]
    members = {number for first, last in spans for number in range(first, last + 1)}
    id_spans = IdSpans(spans)
    for low in range(60):
        for high in range(low, 60):
            left = id_spans.missing_from((low, high))
            ids = [number for first, last in left for number in range(first, last + 1)]
            assert ids == [number for number in range(low, high + 1) if number not in members]
    assert IdSpans().missing_from((3, 3)) == [(3, 3)]
