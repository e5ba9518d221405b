"""Sequencing of one symbol, step by step, at times that the test chooses."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest

from live.world import World
from rangebar_polars.live.protocol import sequencing as module
from rangebar_polars.live.protocol.sequencing import Feed, Page, Sequencing, Start
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.live.protocol.trades import TradeColumns

WORLD = World()
STREAM, REST = Feed.STREAM, Feed.REST


def trades(*ids):
    return TradeColumns(WORLD.trade(number) for number in ids)


def live(applied_id=10, **options) -> Sequencing:
    """Return a symbol that has caught up."""
    sequencing = Sequencing(Start(applied_id), **options)
    sequencing.expect(applied_id, 0.0)
    assert not sequencing.is_catching_up
    return sequencing


def apply(sequencing, now=0.0):
    """Apply all that can be applied, and return the batches."""
    batches = []
    while (batch := sequencing.next_batch(now)) is not None:
        sequencing.applied(batch)
        batches.append(batch)
    return batches


def answer(sequencing, now, rows, sent_at=None):
    request = sequencing.next_request(now if sent_at is None else sent_at)
    page = Page(request, rows, now if sent_at is None else sent_at)
    return request, sequencing.page(page, now)


def test_a_gap_holds_back_what_is_above_it():
    sequencing = live()
    sequencing.offer(trades(11, 12, 14), 0.0, STREAM)
    (batch,) = apply(sequencing)
    assert batch.trades.ids.tolist() == [11, 12]
    assert (sequencing.applied_id, sequencing.buffered, sequencing.stream_id) == (12, 1, 14)


def test_reordering_within_100_ms_asks_for_nothing():
    sequencing = live()
    sequencing.offer(trades(13), 0.0, STREAM)
    assert sequencing.next_request(0.0999) is None
    sequencing.offer(trades(12, 11), 0.0999, STREAM)
    assert sequencing.next_request(5.0) is None
    assert apply(sequencing)[0].trades.ids.tolist() == [11, 12, 13]


def test_a_gap_is_requested_after_100_ms_from_its_first_id():
    sequencing = live()
    sequencing.offer(trades(14), 1.0, STREAM)
    assert sequencing.due_at() == 1.1
    request, _ = answer(sequencing, 1.1, trades(11, 12, 13, 14))
    assert request.from_id == 11
    assert apply(sequencing)[0].last_id == 14


def test_ids_are_missing_after_two_answers_five_seconds_apart_and_the_patience():
    sequencing = live()
    sequencing.offer(trades(14), 0.0, STREAM)
    asked = []
    while sequencing.applied_id < 14:
        now = sequencing.due_at()
        sequencing.gap_events(now)
        request = sequencing.next_request(now)
        if request is not None:
            asked.append(now)
            sequencing.page(Page(request, trades(14, 15), now), now)
        batches = apply(sequencing, now)
    assert asked == [0.1, 5.1, 30.0]
    assert batches[0].missing == (MissingIds(11, 13, MissingReason.ABSENT),)
    assert batches[0].trades.ids.tolist() == [14, 15]


def test_an_answer_that_was_sent_too_early_confirms_nothing():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    answer(sequencing, 40.0, trades(12))
    # Sent 4.9 s after the first answer, and received much later.
    sequencing.gaps._gaps[0].ask_at = 44.9
    answer(sequencing, 60.0, trades(12), sent_at=44.9)
    assert apply(sequencing) == []
    answer(sequencing, 60.0, trades(12))
    assert apply(sequencing)[0].missing == (MissingIds(11, 11, MissingReason.ABSENT),)


def test_ids_above_the_newest_of_rest_are_asked_for_ever_more_slowly():
    sequencing = live()
    sequencing.offer(trades(14), 0.0, STREAM)
    times = []
    for _ in range(9):
        sequencing.gap_events(60.0)
        times.append(sequencing.due_at())
        answer(sequencing, times[-1], trades())
    waits = [after - before for before, after in pairwise(times)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])
    assert apply(sequencing) == []


def test_a_lost_id_that_rest_shows_later_is_applied():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    answer(sequencing, 0.1, trades(12))
    answer(sequencing, 29.9, trades(12))
    answer(sequencing, 30.0, trades(11, 12))
    (batch,) = apply(sequencing)
    assert (batch.missing, batch.trades.ids.tolist()) == ((), [11, 12])


def test_no_answer_leaves_the_gap_open_and_waits_for_the_host():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    assert sequencing.next_request(0.1) is not None
    sequencing.failed(0.2, closed_until=120.2)
    assert sequencing.next_request(120.1) is None
    assert sequencing.due_at() in (5.0, 120.2)
    assert answer(sequencing, 120.2, trades(11))[0].from_id == 11


def test_a_late_trade_is_not_applied_and_comes_late_once():
    sequencing = Sequencing(Start(10, missing=[MissingIds(5, 6, MissingReason.ABSENT)]))
    offered = sequencing.offer(trades(5, 6, 5), 0.0, STREAM)
    assert (offered.late.ids.tolist(), offered.duplicates) == ([5, 6], 1)
    assert sequencing.offer(trades(5, 6), 1.0, STREAM).duplicates == 2
    assert apply(sequencing) == []


def test_a_trade_that_comes_while_its_missing_record_is_written_is_late():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    answer(sequencing, 24.0, trades(12))
    answer(sequencing, 30.0, trades(12))
    batch = sequencing.next_batch(30.0)
    assert sequencing.offer(trades(11), 30.0, STREAM).late.ids.tolist() == [11]
    sequencing.applied(batch)
    assert sequencing.offer(trades(11), 31.0, STREAM).duplicates == 1


def test_a_trade_that_comes_before_its_missing_record_is_written_is_applied():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    answer(sequencing, 24.0, trades(12))
    answer(sequencing, 30.0, trades(12))
    sequencing.offer(trades(11), 30.0, STREAM)
    (batch,) = apply(sequencing)
    assert (batch.missing, batch.trades.ids.tolist()) == ((), [11, 12])


def test_ids_that_are_confirmed_while_those_below_are_written_follow_in_the_next_batch():
    sequencing = live()
    blank = {"price": 0.0, "quantity": 0.0, "first_id": -1, "last_id": -1}
    sequencing.offer(TradeColumns([WORLD.trade(11)._replace(**blank)]), 0.0, STREAM)
    batch = sequencing.next_batch(0.0)
    sequencing.offer(TradeColumns([WORLD.trade(12)._replace(**blank)]), 0.0, STREAM)
    sequencing.applied(batch)
    sequencing.offer(trades(13), 0.0, STREAM)
    (batch,) = apply(sequencing)
    assert batch.missing == (MissingIds(12, 12, MissingReason.SENTINEL),)
    assert batch.last_id == 13


def test_a_sentinel_makes_its_id_missing_at_once():
    sequencing = live()
    sentinel = WORLD.trade(11)._replace(price=0.0, quantity=0.0, first_id=-1, last_id=-1)
    sequencing.offer(TradeColumns([sentinel, WORLD.trade(12)]), 0.0, STREAM)
    (batch,) = apply(sequencing)
    assert batch.missing == (MissingIds(11, 11, MissingReason.SENTINEL),)
    assert batch.trades.ids.tolist() == [12]


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": 0.0},
        {"price": float("nan")},
        {"price": float("inf")},
        {"quantity": -1.0},
        {"first_id": 99},
        {"time_us": 1_793_577_600_000},
    ],
)
def test_an_invalid_trade_is_missing_once_rest_returns_it_too(wrong):
    sequencing = live()
    bad = TradeColumns([WORLD.trade(11)._replace(**wrong), WORLD.trade(12)])
    assert sequencing.offer(bad, 0.0, STREAM).rejected == 1
    assert apply(sequencing) == []
    answer(sequencing, 0.0, bad)
    (batch,) = apply(sequencing)
    assert batch.missing == (MissingIds(11, 11, MissingReason.INVALID),)
    assert batch.trades.ids.tolist() == [12]


def test_an_invalid_trade_of_the_stream_is_replaced_by_the_valid_one_of_rest():
    sequencing = live()
    sequencing.offer(TradeColumns([WORLD.trade(11)._replace(price=-1.0)]), 0.0, STREAM)
    answer(sequencing, 0.0, trades(11))
    assert list(apply(sequencing)[0].trades) == [WORLD.trade(11)]


@pytest.mark.parametrize(("back_us", "is_applied"), [(1_000_000, True), (1_000_001, False)])
def test_a_time_up_to_a_second_back_is_raised_and_one_further_back_is_invalid(back_us, is_applied):
    sequencing = live()
    first = WORLD.trade(11)
    second = WORLD.trade(12)._replace(time_us=first.time_us - back_us)
    rows = TradeColumns([first, second, WORLD.trade(13)])
    sequencing.offer(rows, 0.0, STREAM)
    batches = apply(sequencing)
    if is_applied:
        assert (batches[0].trades.times_us[1], batches[0].raised) == (first.time_us, 1)
        # The raised trade again is the same trade; the same with another time is not.
        assert sequencing.offer(TradeColumns([second]), 1.0, STREAM).conflicts == []
        other = second._replace(time_us=first.time_us - back_us - 1)
        assert len(sequencing.offer(TradeColumns([other]), 1.0, STREAM).conflicts) == 1
        return
    assert sequencing.applied_id == 11
    request, _ = answer(sequencing, 0.0, rows)
    assert request.from_id == 12
    (batch,) = apply(sequencing)
    assert batch.missing == (MissingIds(12, 12, MissingReason.INVALID),)


@pytest.mark.parametrize("count", [99, 100])
def test_a_hundred_invalid_ids_in_a_row_are_a_failure(count):
    sequencing = live()
    sequencing.offer(trades(11), 0.0, STREAM)
    apply(sequencing)
    rows = TradeColumns(
        WORLD.trade(number)._replace(time_us=WORLD.trade(11).time_us - 2_000_000)
        for number in range(12, 12 + count)
    )
    rows.extend(trades(12 + count))
    sequencing.offer(rows, 0.0, STREAM)
    assert apply(sequencing) == []
    answer(sequencing, 0.0, rows)
    apply(sequencing)
    assert sequencing.applied_id == 12 + count
    assert sequencing.has_failed == (count == 100)
    assert sequencing.invalid_run == 0


def test_another_price_for_an_applied_or_waiting_id_is_a_conflict_and_the_first_stays():
    sequencing = live()
    sequencing.offer(trades(11, 13), 0.0, STREAM)
    apply(sequencing)
    others = TradeColumns(WORLD.trade(number)._replace(price=77.0) for number in (11, 13))
    offered = sequencing.offer(others, 0.0, STREAM)
    assert [one.other.price for one in offered.conflicts] == [77.0, 77.0]
    assert [one.first for one in offered.conflicts] == list(trades(11, 13))
    sequencing.offer(trades(12), 0.0, STREAM)
    assert list(apply(sequencing)[0].trades) == list(trades(12, 13))


def test_repeats_are_compared_with_the_last_4096_applied_trades():
    sequencing = live(applied_id=0)
    sequencing.offer(trades(*range(1, 5_001)), 0.0, STREAM)
    apply(sequencing)
    for number, conflicts in [(904, 0), (905, 1), (5_000, 1)]:
        other = WORLD.trade(number)._replace(price=77.0)
        assert len(sequencing.offer(TradeColumns([other]), 0.0, STREAM).conflicts) == conflicts


def test_a_batch_ends_at_10_000_trades_and_at_midnight():
    sequencing = live(applied_id=0)
    sequencing.offer(trades(*range(1, 10_302)), 0.0, STREAM)
    batches = apply(sequencing)
    # Trade 300 is that of midnight; trades whose number is a multiple of 7 are raised.
    assert [batch.last_id for batch in batches] == [299, 10_299, 10_301]
    assert [batch.day for batch in batches] == [date(2026, 11, 1)] + [date(2026, 11, 2)] * 2


def test_a_batch_that_cannot_be_written_comes_again():
    sequencing = live()
    sequencing.offer(trades(11, 12), 0.0, STREAM)
    batch = sequencing.next_batch(0.0)
    with pytest.raises(ValueError, match="being applied"):
        sequencing.next_batch(0.0)
    sequencing.abandoned(batch)
    assert sequencing.applied_id == 10
    again = sequencing.next_batch(0.0)
    with pytest.raises(ValueError, match="not taken last"):
        sequencing.applied(batch)
    assert list(again.trades) == list(batch.trades)


def test_a_full_buffer_drops_the_newest_and_requests_them_again():
    sequencing = live(buffer_trades=2_000)
    sequencing.offer(trades(*range(12, 3_012)), 0.0, STREAM)
    assert sequencing.buffered == 2_000
    assert sequencing.gaps.is_behind
    # Without room, only the lowest gap is requested.
    request, _ = answer(sequencing, 0.1, trades(*range(11, 1_011)))
    assert request.from_id == 11
    apply(sequencing)
    assert (sequencing.applied_id, sequencing.buffered) == (2_010, 0)
    while sequencing.applied_id < 3_011:
        request = sequencing.next_request(0.2)
        assert request.from_id == sequencing.applied_id + 1
        page = trades(*range(request.from_id, min(request.from_id + 1_000, 3_012)))
        sequencing.page(Page(request, page, 0.2), 0.2)
        apply(sequencing)
    assert not sequencing.gaps.is_behind


def test_every_second_id_lost_for_long_keeps_the_gaps_bounded():
    sequencing = live()
    most = 0
    for first in range(12, 60_000, 2_000):
        sequencing.offer(trades(*range(first, first + 2_000, 2)), 0.0, STREAM)
        most = max(most, len(sequencing.gaps))
    assert most <= module.MOST_GAPS
    assert sequencing.gaps.top == 60_010
    open_ids = sequencing.gaps.ids
    assert open_ids + sequencing.buffered == 60_000


def test_an_id_far_above_all_others_is_rejected():
    sequencing = live()
    far = WORLD.trade(11)._replace(id=2**62)
    assert sequencing.offer(TradeColumns([far]), 0.0, STREAM).rejected == 1
    assert len(sequencing.gaps) == 0
    sequencing.offer(trades(11), 0.0, STREAM)
    assert apply(sequencing)[0].last_id == 11


def test_catching_up_is_a_backfill_without_delay_or_report():
    sequencing = Sequencing(Start(10))
    sequencing.expect(3_000, 0.0)
    sequencing.offer(trades(3_500), 0.0, STREAM)
    assert sequencing.is_catching_up
    assert sequencing.gap_events(60.0) == []
    now = 60.0
    while (request := sequencing.next_request(now)) is not None:
        rows = trades(*range(request.from_id, min(request.from_id + 1_000, 3_501)))
        sequencing.page(Page(request, rows, now), now)
        apply(sequencing)
    assert sequencing.applied_id == 3_500
    assert not sequencing.is_catching_up


def test_a_gap_is_detected_after_five_seconds_and_healed_when_its_last_id_comes():
    sequencing = live()
    sequencing.offer(trades(14), 0.0, STREAM)
    assert sequencing.gap_events(4.9) == []
    assert sequencing.gap_events(5.0) == [(False, 11, 13)]
    assert sequencing.gaps.is_reported
    sequencing.offer(trades(12), 6.0, STREAM)
    sequencing.offer(trades(11), 6.0, STREAM)
    assert sequencing.gap_events(6.0) == []
    sequencing.offer(trades(13), 6.0, STREAM)
    assert sequencing.gap_events(6.0) == [(True, 11, 13)]
    assert not sequencing.gaps.is_reported


def test_one_page_serves_all_gaps_that_it_spans():
    sequencing = live()
    sequencing.offer(trades(*range(12, 200, 2)), 0.0, STREAM)
    request, _ = answer(sequencing, 0.1, trades(*range(11, 200)))
    assert request.from_id == 11
    assert sequencing.next_request(60.0) is None
    assert apply(sequencing)[0].last_id == 199


def test_a_page_for_a_lower_gap_does_not_shorten_the_time_for_reordering():
    sequencing = live()
    sequencing.offer(trades(12), 0.0, STREAM)
    sequencing.offer(trades(15), 0.08, STREAM)
    answer(sequencing, 0.1, trades(11, 12, 13))
    assert sequencing.due_at() == pytest.approx(0.18)
    assert sequencing.next_request(0.17) is None
    assert sequencing.next_request(0.19).from_id == 14


def test_a_frame_and_columns_hold_the_same_trades():
    columns = trades(11, 12, 13)
    assert list(TradeColumns.of_frame(columns.frame())) == list(columns)
