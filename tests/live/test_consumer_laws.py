"""Any order of bars, raises, kills, revisions and overflows: every bar, in order, at least once.

Virtual time only, without threads and files. The oracle is the list of bars of a made-up symbol.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from live.bar_world import STORAGE_ERROR, BarWorld, frames_of
from rangebar_polars.live.consumers.delivery import (
    Compute,
    Delivery,
    DeliveryOptions,
    Finished,
    Offer,
    Save,
    Wait,
)
from rangebar_polars.live.consumers.replay import Replay
from repetitions import repeated

REPLAY_ROWS = 6

#: What may happen, as often as it is named.
EVENTS = (
    *("trades",) * 6,
    *("late trades",) * 3,
    *("works",) * 8,
    *("raises",) * 2,
    *("time",) * 3,
    *("cursors",) * 2,
    *("kill", "power", "revision", "revision of the other", "live", "source"),
)
SETUPS = st.fixed_dictionaries(
    {
        "reset": st.sampled_from(["day", "day", "none"]),
        "spacing": st.sampled_from([(1, 2), (3, 7), (2, 60)]),
        "most": st.sampled_from([1, 5, 12, 10_000]),
        "orphans": st.booleans(),
        "skips": st.booleans(),
        "is_live": st.sampled_from([True, True, True, False]),
    }
)


class History:
    """One consumer of one symbol with two thresholds."""

    def __init__(self, reset, spacing, most, orphans, skips, is_live):
        self.world = BarWorld(12, spacing, reset)
        self.world.applied_id = 10
        self.orphans, self.most, self.skips = orphans, most, skips
        self.now = 1_000.0
        self.stored = None
        self.boot = "first"
        self.is_live = False
        self.live_id = None
        #: First deliveries and all deliveries, by threshold.
        self.first = {threshold: [] for threshold in self.world.thresholds}
        self.skipped = {threshold: set() for threshold in self.world.thresholds}
        self.expected = {threshold: [] for threshold in self.world.thresholds}
        self.must_mark = dict.fromkeys(self.world.thresholds, False)
        self.delivered_at = {}
        self.raised = 0
        self.began()
        if is_live:
            self.the_symbol_is_live()

    def happens(self, event, number):
        match event:
            case "trades" | "late trades":
                self.trades_are_applied(number, is_late=event == "late trades")
            case "works" | "raises":
                self.works(number // 2 + 1, event)
            case "time":
                self.now += (0.3, 1.0, 2.0, 8.0, 400.0)[number % 5]
            case "cursors":
                self.cursors_are_stored()
            case "kill" | "power":
                self.is_killed(loses_power=event == "power")
            case "revision" | "revision of the other":
                self.a_series_is_revised(int(event != "revision"))
            case "live":
                self.the_symbol_is_live()
            case "source":
                self.world.errors = [STORAGE_ERROR]
        state = self.delivery.symbols["BTCUSDT"]
        assert state.queued <= self.most
        assert state.has_replayed <= REPLAY_ROWS

    def began(self):
        options = DeliveryOptions("x", "callback", self.most, skips=self.skips, boot=self.boot)
        self.frames = frames_of(self.world, include_orphans=self.orphans)
        self.delivery = Delivery(options, self.frames)
        self.replays = {}
        self.offered = None
        self.has_saved = False
        self.raised = 0
        self.late = []
        self.begin_id = self.world.applied_id
        self.replay_limit = self.begin_id
        self.may_replay_until_live = (
            self.stored is not None and not self.stored.is_closed and self.stored.boot != self.boot
        )
        new = self.delivery.begin(
            "BTCUSDT", self.world.starts(), [], self.world.applied_id, self.stored, self.now
        )
        assert new == []

    # What the engine does

    def trades_are_applied(self, count, is_late):
        if self.world.applied_id + count > self.world.last_id:
            return
        before = self.world.applied_id
        # The source of replays has trades as soon as they are written, the queue a moment later.
        self.late.append((self.world.apply(count), self.world.applied_id))
        self.expect(before)
        if not is_late:
            self.catch_up()

    def catch_up(self):
        for bars, applied_id in self.late:
            if bars:
                self.delivery.queue("BTCUSDT", bars, applied_id, self.now)
        self.late.clear()
        if self.delivery.is_lagging:
            self.replay_limit = self.world.applied_id

    def the_symbol_is_live(self):
        self.catch_up()
        self.delivery.live("BTCUSDT", self.world.applied_id, self.now)
        if self.live_id is None:
            self.live_id = self.world.applied_id
        self.may_replay_until_live = False
        self.is_live = True
        self.replay_limit = self.world.applied_id

    def a_series_is_revised(self, number):
        self.catch_up()
        threshold = self.world.thresholds[number]
        self.world.revisions[threshold] += 1
        series = self.world.newest(threshold)
        number = self.world.revisions[threshold]
        self.delivery.revised("BTCUSDT", series, number, self.world.applied_id)
        if self.live_id is None or not self.is_begun:
            return
        cursor = self.delivery.cursor("BTCUSDT").cursor
        self.forget_after(cursor.mark(series.spec), threshold)

    # What the consumer does

    def works(self, steps, outcome):
        for _ in range(steps):
            if not self.step(outcome):
                return

    def cursors_are_stored(self):
        for one in self.delivery.unsaved():
            self.save(one)

    def is_killed(self, loses_power):
        self.boot += "+" if loses_power else ""
        self.is_live = False
        if self.stored is None:
            # It has delivered nothing: the next one begins where it is live.
            assert not any(self.first.values())
            self.live_id = None
            self.expected = {threshold: [] for threshold in self.world.thresholds}
            self.must_mark = dict.fromkeys(self.world.thresholds, False)
        else:
            self.forget_unsaved()
        self.began()

    def forget_unsaved(self):
        """Where a series was revised, its bars after the cursor may be others than those delivered."""
        for threshold in self.world.thresholds:
            mark = self.stored.mark(self.world.series(threshold, 0).spec)
            if mark.revision < self.world.revisions[threshold]:
                self.forget_after(mark, threshold)

    def forget_after(self, mark, threshold):
        place = mark.position
        day = (place.series.anchor - self.world.series(threshold, 0).anchor).days
        end = (day, place.last_id, place.has_ended)
        done = [b for b in self.first[threshold] if (b[0], b[1], not b[2]) <= end]
        self.first[threshold], self.expected[threshold] = done, done[:]
        self.expect_again(threshold)
        self.must_mark[threshold] = True

    # The oracle

    @property
    def is_begun(self):
        return not self.delivery.symbols["BTCUSDT"].is_waiting

    def expect(self, before):
        if self.live_id is None:
            return
        for threshold in self.world.thresholds:
            self.expected[threshold] += self.wanted(threshold, before)

    def expect_again(self, threshold):
        done = self.first[threshold]
        place = (done[-1][0], done[-1][1], not done[-1][2]) if done else (-1, self.live_id, False)
        self.expected[threshold] += [
            bar
            for bar in self.wanted(threshold, self.live_id)
            if (bar[0] if self.world.reset == "day" else 0, bar[1], not bar[2]) > place
        ]

    def wanted(self, threshold, after_id):
        found = self.world.expected(threshold, after_id)
        if self.world.reset == "none":
            found = [(0, *bar[1:]) for bar in found]
        return [bar for bar in found if self.orphans or bar[2]]

    def save(self, one):
        for mark in one.cursor.marks:
            threshold = mark.position.series.spec.threshold
            done = self.first[threshold]
            last = done[-1][1] if done else self.live_id
            assert mark.position.last_id <= last, "the cursor is ahead of the delivery"
        self.stored = one.cursor
        self.delivery.saved(one.symbol, one.version, self.now)
        self.has_saved = True

    def step(self, outcome):
        step = self.delivery.next(self.now)
        match step:
            case Wait(until):
                assert until is None or until > self.now
                return False
            case Finished():
                return False
            case Save(symbol):
                self.save(self.delivery.cursor(symbol))
            case Compute():
                self.compute(step)
            case Offer(offered):
                self.offer(offered, outcome)
        return True

    def compute(self, step):
        epoch, replay = self.replays.pop(step.symbol, (None, None))
        state = self.delivery.symbols[step.symbol]
        try:
            if epoch != step.epoch:
                replay = Replay(
                    self.world,
                    self.frames,
                    step.symbol,
                    state.positions,
                    state.newest.__getitem__,
                    REPLAY_ROWS,
                )
            found = replay.next()
        except OSError as error:
            self.delivery.not_computed(step.symbol, str(error), self.now)
            return
        assert found.rows.height <= REPLAY_ROWS
        if not self.delivery.computed(step.symbol, found, step.epoch):
            self.replays[step.symbol] = step.epoch, replay

    def offer(self, offered, outcome):
        assert self.has_saved, "a bar is delivered before the cursor was written"
        assert offered.frame.schema == self.frames.schema
        assert offered.frame.height == offered.rows.height > 0
        if outcome == "raises":
            self.raised += 1
            failed = self.delivery.raised("it raised", self.now)
            assert (failed is not None) == (
                self.raised % 4 == 0 if self.skips else self.raised == 4
            )
            if failed is not None and failed.is_skipped:
                self.raised = 0
                self.take(offered)
            return
        self.raised = 0
        self.take(offered)
        self.delivery.returned(self.now)

    def take(self, offered):
        frame = offered.frame
        order = []
        columns = ("threshold", "anchor", "last_agg_trade_id", "open", "is_replay", "is_revised")
        closed = offered.rows.get_column("is_closed")
        for row, is_closed in zip(frame.select(columns).iter_rows(), closed, strict=True):
            threshold, anchor, last_id, value, is_replay, is_revised = row
            order.append((last_id, not is_closed, self.world.thresholds.index(threshold)))
            day = (anchor - self.world.series(threshold, 0).anchor).days
            self.take_bar(threshold, (day, last_id, is_closed, value), is_replay, is_revised)
        assert order == sorted(order)

    def take_bar(self, threshold, bar, is_replay, is_revised):
        done, expected = self.first[threshold], self.expected[threshold]
        if bar[1] <= self.begin_id:
            assert is_replay
        elif is_replay:
            assert self.may_replay_until_live or bar[1] <= self.replay_limit
        if bar in done:
            mark = self.stored.mark(self.world.series(threshold, 0).spec)
            assert is_replay, "a bar comes again without a mark"
            assert bar[1] >= mark.position.last_id
            return
        assert len(done) < len(expected), f"a bar that is not expected: {bar}"
        assert bar == expected[len(done)], "bars are skipped, or out of order"
        done.append(bar)
        assert is_revised == self.must_mark[threshold]
        self.must_mark[threshold] = False

    def ends(self):
        """Everything works from now on, and then nothing is left."""
        self.world.errors = []
        self.catch_up()
        if not self.is_live:
            self.the_symbol_is_live()
        for _ in range(10_000):
            if not self.step("works"):
                self.now += 400.0
                if isinstance(self.delivery.next(self.now), Wait):
                    break
        assert self.first == self.expected
        status = self.delivery.status(self.now)
        assert (status.state, status.pending) == ("ok", 0)


@settings(max_examples=repeated(400, 10_000), deadline=None)
@given(
    SETUPS,
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 25)), min_size=25, max_size=60),
)
def test_any_history_delivers_every_bar_in_order_at_least_once(setup, events):
    history = History(**setup)
    for event, number in events:
        history.happens(event, number)
    history.ends()
