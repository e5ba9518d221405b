"""Any order of arrivals, losses, repeats and answers: each trade is applied once, in id order.

Virtual time only. Every step is compared with a naive model, and every history ends with a REST that
works, after which nothing may be left.
"""

from __future__ import annotations

import os
import random
from collections import Counter

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from live.naive import PATIENCE_S, REST, STREAM, Naive
from live.world import World
from rangebar_polars.live.protocol.sequencing import Feed, Page, Sequencing, Start
from rangebar_polars.live.protocol.spans import MissingReason
from rangebar_polars.live.protocol.trades import TradeColumns

FEEDS = {STREAM: Feed.STREAM, REST: Feed.REST}
REORDERING_S = 0.1
IDS = st.integers(1, 80)
SEEDS = st.integers(0, 2**16)
IS_LONG = os.environ.get("RANGEBAR_TEST_LONG") == "1"


class AnyArrivals(RuleBasedStateMachine):
    """One symbol, its stream and its REST."""

    @initialize(
        nowhere=st.sets(IDS, max_size=6),
        step_back=st.sets(IDS, max_size=3),
        invalid=st.sets(IDS, max_size=3),
        capacity=st.sampled_from([1_003, 1_040, 200_000]),
        page_rows=st.sampled_from([3, 1_000]),
    )
    def begin(self, nowhere, step_back, invalid, capacity, page_rows):
        self.world = World(nowhere, step_back, invalid)
        self.world.page_rows = page_rows
        self.capacity = capacity
        self.sequencing = Sequencing(Start(0), patience_s=PATIENCE_S, buffer_trades=capacity)
        self.naive = Naive(0, capacity)
        self.now = 100.0
        self.sent = 0  # the newest id that the stream has sent or lost
        self.request = None
        self.sent_at = 0.0
        self.closed_until = 0.0
        self.batch = None
        self.done = {}
        self.gone = set()
        self.ever_hidden = set()
        self.late = Counter()
        self.detected = Counter()

    # The stream

    @rule(count=st.integers(1, 20), seed=SEEDS, is_shuffled=st.booleans())
    def stream_sends(self, count, seed, is_shuffled):
        ids = self.next_ids(count)
        if is_shuffled:
            random.Random(seed).shuffle(ids)
        self.offer([self.world.trade(number) for number in ids], STREAM)

    @rule(count=st.integers(100, 1_100))
    def stream_bursts(self, count):
        assume(self.sent < 5_000)
        self.offer([self.world.trade(number) for number in self.next_ids(count)], STREAM)

    @rule(count=st.integers(1, 8))
    def stream_loses(self, count):
        self.next_ids(count)

    @rule(back=st.integers(0, 40), count=st.integers(1, 12))
    def stream_sends_old_trades(self, back, count):
        first = max(1, self.sent - back)
        ids = [n for n in range(first, min(first + count, self.sent + 1)) if self.world.exists(n)]
        self.offer([self.world.trade(number) for number in ids], STREAM)

    @rule(back=st.integers(0, 40), seed=SEEDS)
    def stream_sends_another_price(self, back, seed):
        number = max(1, self.sent - back)
        trade = self.world.trade(number)
        self.offer([trade._replace(price=100.0 + seed % 3)], STREAM)

    @rule(count=st.integers(1, 6), seed=SEEDS)
    def stream_sends_each_twice(self, count, seed):
        ids = self.next_ids(count) * 2
        random.Random(seed).shuffle(ids)
        self.offer([self.world.trade(number) for number in ids], STREAM)

    @rule(back=st.integers(-3, 10))
    def stream_sends_a_damaged_trade(self, back):
        number = max(1, self.sent - back)
        self.offer([self.world.trade(number)._replace(quantity=-1.0)], STREAM)

    @rule(back=st.integers(-3, 10))
    def stream_sends_a_sentinel(self, back):
        number = max(1, self.sent - back)
        assume(not self.world.exists(number))
        sentinel = self.world.trade(number)._replace(price=0.0, first_id=-1, last_id=-1)
        self.offer([sentinel], STREAM)

    # REST

    @rule(lag=st.integers(0, 12))
    def rest_catches_up(self, lag):
        self.world.rest_head = max(self.world.rest_head, self.sent - lag)

    @rule(ids=st.sets(IDS, max_size=4))
    def rest_hides(self, ids):
        self.world.hidden = ids
        self.ever_hidden |= ids

    @rule(ahead=st.integers(0, 5))
    def freshness_check_is_ahead(self, ahead):
        newest = self.world.rest_head + ahead
        assume(self.world.exists(newest))
        self.world.rest_head = newest
        self.sequencing.expect(newest, self.now)
        self.naive.expect(newest, self.now)

    @precondition(lambda self: self.request is None)
    @rule()
    def rest_is_asked(self):
        request = self.sequencing.next_request(self.now)
        assert self.sequencing.next_request(self.now) is None or request is None
        if request is not None:
            self.check_request(request)
            self.request, self.sent_at = request, self.now

    @precondition(lambda self: self.request is not None)
    @rule(
        wait_s=st.sampled_from([0.0, 0.05, 1.0, 7.0]),
        form=st.sampled_from(["whole", "short", "doubled", "shuffled", "old", "empty"]),
        seed=SEEDS,
    )
    def rest_answers(self, wait_s, form, seed):
        trades, chance = self.world.page(self.request.from_id), random.Random(seed)
        if form == "short":
            trades = trades[: chance.randint(0, 4)]
        elif form == "doubled":
            trades = [trade for trade in trades for _ in range(2)]
        elif form == "shuffled":
            chance.shuffle(trades)
        elif form == "old":
            trades = self.world.page(max(1, self.request.from_id - 5))[:5]
        elif form == "empty":
            trades = []
        self.now += wait_s
        self.answer(trades)

    @precondition(lambda self: self.request is None)
    @rule(requests=st.integers(1, 8))
    def rest_answers_all_that_is_due(self, requests):
        self.rest_catches_up(lag=0)
        for _ in range(requests):
            self.gaps_are_reported_and_healed_in_turn()
            self.time_passes_until_due()
            self.rest_is_asked()
            if self.request is not None:
                self.answer(self.world.page(self.request.from_id))

    @precondition(lambda self: self.gone or self.naive.missing)
    @rule(at=st.integers(0, 20))
    def stream_sends_a_missing_trade(self, at):
        ids = sorted(self.gone | self.naive.missing.keys())
        self.offer([self.world.trade(ids[at % len(ids)])], STREAM)

    @precondition(lambda self: self.request is not None)
    @rule(closed_s=st.sampled_from([None, 3.0, 120.0]))
    def rest_fails(self, closed_s):
        self.request = None
        self.closed_until = self.now + max(0.5, closed_s or 0.0)
        self.sequencing.failed(self.now, None if closed_s is None else self.now + closed_s)

    # Time and batches

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 2.0, 5.0, 12.0, 31.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def time_passes_until_due(self):
        due_at = self.sequencing.due_at()
        if due_at is not None:
            self.now = max(self.now, due_at)

    @precondition(lambda self: self.batch is None)
    @rule()
    def batch_begins(self):
        self.batch = self.sequencing.next_batch(self.now)
        missing, trades = self.naive.take(self.now)
        if self.batch is None:
            assert (missing, trades) == ([], [])
            self.naive.flying = None
            return
        batch = self.batch
        assert batch.follows_id == self.naive.applied_id
        assert self.missing_of(batch) == missing
        assert list(batch.trades) == trades
        assert batch.last_id == (trades[-1].id if trades else missing[-1][0])
        raised = sum(trade.time_us != self.naive.held[trade.id].time_us for trade in trades)
        assert batch.raised == raised

    @precondition(lambda self: self.batch is None)
    @rule()
    def batches_are_applied(self):
        self.finish_batches()

    @precondition(lambda self: self.batch is not None)
    @rule()
    def batch_is_applied(self):
        for number, _ in self.missing_of(self.batch):
            assert number not in self.done
            self.gone.add(number)
        for trade in self.batch.trades:
            assert trade.id not in self.done
            self.done[trade.id] = trade
        # Never across an id that is neither applied nor missing, and every id once.
        assert len(self.done) + len(self.gone) == self.batch.last_id
        self.sequencing.applied(self.batch)
        self.naive.applied_batch()
        self.batch = None

    @precondition(lambda self: self.batch is not None)
    @rule()
    def batch_cannot_be_written(self):
        self.sequencing.abandoned(self.batch)
        for number, reason in self.naive.flying[0]:
            if reason is None:  # it came late into a batch that never was
                self.naive.missing[number] = "absent"
        self.naive.flying = self.batch = None

    # Laws

    @invariant()
    def states_agree(self):
        sequencing, naive = self.sequencing, self.naive
        assert sequencing.applied_id == naive.applied_id
        assert sequencing.buffered == len(naive.held) <= self.capacity
        opened = {n for gap in sequencing.gaps for n in range(gap.first, gap.last + 1)}
        assert opened == set(naive.open)
        assert sequencing.gaps.top == naive.top

    @invariant()
    def gaps_are_in_order_and_apart(self):
        last = self.sequencing.applied_id
        for gap in self.sequencing.gaps:
            assert last < gap.first <= gap.last
            last = gap.last

    @invariant()
    def gaps_are_reported_and_healed_in_turn(self):
        for event in self.sequencing.gap_events(self.now):
            self.detected[event.first, event.last] += -1 if event.is_healed else 1
            opened = [self.naive.open.get(n) for n in range(event.first, event.last + 1)]
            if event.is_healed:
                continue
            assert any(one is not None for one in opened)
            assert all(one.opened_at + 5.0 <= self.now for one in opened if one and one.is_stream)

    def teardown(self):
        if hasattr(self, "sequencing"):
            self.settle()

    def settle(self):
        """Let REST show all that exists: then all of it is applied, and nothing else is missing."""
        self.world.hidden = set()
        self.world.page_rows = 1_000
        # A trade after all others proves that the missing ones do not exist.
        newest = max(self.sent, self.naive.top) + 1
        self.world.nowhere.discard(newest)
        self.world.step_back.discard(newest)
        self.world.invalid.discard(newest)
        self.world.rest_head = newest
        self.naive.expect(newest, self.now)
        self.sequencing.expect(newest, self.now)
        if self.request is not None:
            self.answer(self.world.page(self.request.from_id))
        for _ in range(400):
            self.finish_batches()
            if self.sequencing.applied_id == newest:
                break
            self.gaps_are_reported_and_healed_in_turn()
            self.rest_is_asked()
            if self.request is not None:
                self.answer(self.world.page(self.request.from_id))
            else:
                due_at = self.sequencing.due_at()
                assert due_at is not None, "ids are open, and nothing is due"
                self.now = max(self.now, due_at)
            self.states_agree()
        assert self.sequencing.applied_id == newest
        assert self.sequencing.buffered == len(self.sequencing.gaps) == 0
        self.gaps_are_reported_and_healed_in_turn()
        assert set(self.detected.values()) <= {0}
        for number in self.gone:
            is_real = self.world.exists(number)
            is_odd = number in self.world.step_back | self.world.invalid
            assert not is_real or is_odd or number in self.ever_hidden, number

    # Steps

    def next_ids(self, count):
        first, self.sent = self.sent + 1, self.sent + count
        return [number for number in range(first, self.sent + 1) if self.world.exists(number)]

    def offer(self, trades, feed):
        expected = self.naive.offer(trades, self.now, feed)
        self.compare(self.sequencing.offer(TradeColumns(trades), self.now, FEEDS[feed]), expected)

    def answer(self, trades):
        page = Page(self.request, TradeColumns(trades), self.sent_at)
        expected = self.naive.offer(trades, self.now, REST)
        self.naive.answer(
            self.request.from_id, [trade.id for trade in trades], self.sent_at, self.now
        )
        self.request = None
        self.compare(self.sequencing.page(page, self.now), expected)

    def compare(self, offered, expected):
        assert offered.duplicates == expected.duplicates
        assert offered.rejected == expected.rejected
        assert offered.dropped == expected.dropped
        # Two equal trades in one block are one conflict or two.
        assert {one.other.id for one in offered.conflicts} == set(+expected.conflicts)
        assert sorted(offered.late) == sorted(expected.late)
        for trade in offered.late:
            self.late[trade.id] += 1

    def check_request(self, request):
        """A request begins at an open id; reordering gets its time; a closed host gets none."""
        assert self.now >= self.closed_until
        state = self.naive.open[request.from_id]
        if state.is_stream and not state.is_suspect:
            assert self.now >= state.opened_at + REORDERING_S

    def finish_batches(self):
        while True:
            if self.batch is None:
                self.batch_begins()
            if self.batch is None:
                return
            self.batch_is_applied()

    @staticmethod
    def missing_of(batch):
        return [
            (number, str(span.reason))
            for span in batch.missing
            for number in range(span.first, span.last + 1)
        ]


assert {str(reason) for reason in MissingReason} == {"absent", "sentinel", "invalid"}

TestAnyArrivals = AnyArrivals.TestCase
TestAnyArrivals.settings = settings(max_examples=10_000 if IS_LONG else 60, stateful_step_count=50)
