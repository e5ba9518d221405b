"""A naive model of sequencing: one dictionary entry per id, and no spans, columns or bisection.

It shares no code with `rangebar_polars.live`. It predicts the batches, what becomes of each offered
trade, and which ids are confirmed missing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
COMPARED = 4_096
BATCH = 10_000
PATIENCE_S, APART_S = 30.0, 5.0

STREAM, REST = "stream", "rest"


def is_valid(trade) -> bool:
    return (
        trade.price > 0
        and trade.quantity >= 0
        and 0 <= trade.first_id <= trade.last_id
        and trade.id >= 0
        and 2000 <= 1970 + trade.time_us / (365.2425 * DAY_US) < 2100
    )


def is_sentinel(trade) -> bool:
    return (trade.price, trade.first_id, trade.last_id) == (0, -1, -1)


@dataclass
class Open:
    """What is known of an id that has not arrived although a higher one is known."""

    opened_at: float
    is_stream: bool
    is_suspect: bool = False
    absent_at: float | None = None


@dataclass
class Outcome:
    duplicates: int = 0
    rejected: int = 0
    dropped: int = 0
    conflicts: Counter = field(default_factory=Counter)
    late: list = field(default_factory=list)


class Naive:
    """The state of one symbol, id by id."""

    def __init__(self, applied_id, capacity):
        self.applied_id = self.top = applied_id
        self.capacity = capacity
        self.highest_us = 0
        self.held = {}
        self.missing = {}  # above the applied id, with the reason
        self.written = {}  # missing and applied, until they come late
        self.applied = {}
        self.before_us = {}
        self.open = {}
        self.suspects = {}
        self.flying = None
        self.is_catching_up = True

    # Events

    def offer(self, trades, now, feed) -> Outcome:
        outcome = Outcome()
        for trade in trades:
            if not is_valid(trade):
                outcome.rejected += feed == STREAM
                self._offer_invalid(trade, now, feed, outcome)
        for trade in sorted((one for one in trades if is_valid(one)), key=lambda one: one.id):
            self._offer_valid(trade, now, feed, outcome)
        while len(self.held) > self.capacity:
            newest = max(self.held)
            del self.held[newest]
            self.open[newest] = Open(now, is_stream=False)
            outcome.dropped += 1
        self._note()
        return outcome

    def expect(self, newest_id, now):
        self._extend(newest_id + 1, now, is_stream=False)
        self.top = max(self.top, newest_id)
        self._note()

    def answer(self, from_id, ids, sent_at, now):
        """Judge an answer by the rule of missing ids; its trades have been offered."""
        seen = [number for number in ids if number >= from_id]
        for number, state in list(self.open.items()):
            if not (seen and from_id <= number < max(seen)) or number in seen:
                continue
            if state.absent_at is None:
                state.absent_at = now
                if not state.is_stream:
                    state.is_stream, state.opened_at = True, now
            elif sent_at >= state.absent_at + APART_S and sent_at >= state.opened_at + PATIENCE_S:
                del self.open[number]
                self.missing[number] = "absent"
        self._note()

    # Batches

    def take(self, now):
        """Return the missing ids and the trades of the next batch, with raised times."""
        while True:
            missing, number = [], self.applied_id + 1
            while number in self.missing:
                missing.append((number, self.missing[number]))
                number += 1
            if not self._set_aside(number, now):
                break
        trades, highest = [], self.highest_us
        while number in self.held and len(trades) < BATCH:
            trade = self.held[number]
            if trade.time_us < highest - SECOND_US:
                break
            highest = max(highest, trade.time_us)
            if trades and highest // DAY_US != trades[0].time_us // DAY_US:
                break
            trades.append(trade._replace(time_us=highest))
            number += 1
        self.flying = (missing, trades)
        return missing, trades

    def applied_batch(self):
        missing, trades = self.flying
        for number, reason in missing:
            del self.missing[number]
            if reason is not None:
                self.written[number] = reason
            self.applied_id = number
        for trade in trades:
            self.before_us[trade.id] = self.highest_us
            self.applied[trade.id] = trade
            del self.held[trade.id]
            self.applied_id, self.highest_us = trade.id, trade.time_us
        self.suspects = {n: agreed for n, agreed in self.suspects.items() if n > self.applied_id}
        self.flying = None

    def _set_aside(self, number, now) -> bool:
        """Take trades that are more than a second back out of the buffer."""
        found = False
        limit = self.highest_us - SECOND_US
        while number in self.held and self.held[number].time_us < limit:
            found = True
            del self.held[number]
            if self.suspects.get(number):
                self.suspects.pop(number)
                self.missing[number] = "invalid"
            else:
                self.suspects[number] = False
                self.open[number] = Open(now, is_stream=True, is_suspect=True)
            number += 1
        return found

    # Trades

    def _offer_invalid(self, trade, now, feed, outcome):
        number = trade.id
        if number <= self.applied_id or number in self.missing:
            return
        if number in self.held:
            outcome.conflicts[number] += 1
        elif is_sentinel(trade):
            self._arrive(number, now)
            self.suspects.pop(number, None)
            self.missing[number] = "sentinel"
        elif number in self.suspects and feed == REST:
            self._arrive(number, now)
            self.suspects.pop(number)
            self.missing[number] = "invalid"
        elif number not in self.suspects:
            self.suspects[number] = False
            self._extend(number, now, is_stream=not self.is_catching_up)
            self.top = max(self.top, number)
            self.open.setdefault(number, Open(now, is_stream=True)).is_suspect = True

    def _offer_valid(self, trade, now, feed, outcome):
        number = trade.id
        if number <= self.applied_id:
            if self.written.pop(number, None):
                outcome.late.append(trade)
                return
            outcome.duplicates += feed == STREAM
            if self._differs(trade):
                outcome.conflicts[number] += 1
        elif number in self.suspects and feed == STREAM:
            outcome.duplicates += 1
        elif self.missing.get(number, "") is None:
            outcome.duplicates += feed == STREAM
        elif number in self.missing and self._is_flying(number):
            outcome.late.append(trade)
            self.missing[number] = None  # late once, also after it is written
            missing, trades = self.flying
            self.flying = ([(n, r if n != number else None) for n, r in missing], trades)
        elif self.missing.get(number) == "invalid":
            outcome.duplicates += feed == STREAM
        elif number in self.held:
            outcome.duplicates += feed == STREAM
            outcome.conflicts[number] += self.held[number] != trade
        else:
            if number in self.suspects:
                self.suspects[number] = True
            self.missing.pop(number, None)
            self._arrive(number, now)
            self.held[number] = trade

    def _differs(self, trade) -> bool:
        applied = self.applied.get(trade.id)
        if applied is None or sum(number >= trade.id for number in self.applied) > COMPARED:
            return False
        behind = applied.time_us - trade.time_us
        is_raised = applied.time_us == self.before_us[trade.id]
        is_same_time = behind == 0 or (is_raised and 0 <= behind <= SECOND_US)
        return applied[1:] != trade[1:] or not is_same_time

    def _is_flying(self, number) -> bool:
        return self.flying is not None and any(number == one for one, _ in self.flying[0])

    def _arrive(self, number, now):
        self._extend(number, now, is_stream=not self.is_catching_up)
        self.top = max(self.top, number)
        self.open.pop(number, None)

    def _extend(self, stop, now, *, is_stream):
        for number in range(self.top + 1, stop):
            self.open[number] = Open(now, is_stream)

    def _note(self):
        if not self.open:
            self.is_catching_up = False
