"""The trades of one symbol in the order of their ids, each once.

Trades are offered as they arrive, from the stream and from REST. A batch is taken, written to the
journal, pushed to the builders, and then confirmed with `applied`. Until then nothing is lost: a
batch that could not be written is `abandoned` and comes again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.protocol.buffer import (
    Conflict,
    RecentTrades,
    known_ids,
    without_repeats,
)
from rangebar_polars.live.protocol.gaps import PAGE_IDS, GapKind, Gaps
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason, MissingSpans
from rangebar_polars.live.protocol.trades import TradeColumns, runs_of
from rangebar_polars.live.protocol.values import is_sentinel, raised_times, unusual

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.live.protocol.gaps import GapEvent, Request
    from rangebar_polars.live.protocol.trades import Trade

__all__ = ["Batch", "Feed", "Offered", "Page", "Sequencing", "Start"]

#: Trades of a batch, trades in the buffer, gaps, and confirmed spans that wait, at most.
BATCH_TRADES, BUFFER_TRADES, MOST_GAPS, MOST_SPANS = 10_000, 200_000, 10_000, 10_000
#: Invalid ids in a row after which a symbol fails.
MOST_INVALID = 100
#: A trade of the stream that claims an id further ahead than this is rejected.
FURTHEST_AHEAD = 50_000_000
_DAY_US = 86_400_000_000


class Feed(Enum):
    """Where trades come from."""

    STREAM = "stream"
    REST = "rest"


class Start(NamedTuple):
    """Where sequencing begins: after the trades that are stored."""

    #: Up to this id, every id is applied or confirmed missing.
    applied_id: int
    #: Highest time of an applied trade, in microseconds since 1970.
    highest_us: int = 0
    #: Ids of the journals that are confirmed missing and have not come late.
    missing: Sequence[MissingIds] = ()


class Page(NamedTuple):
    """An answer of REST: trades from the requested id on, in any order, invalid rows included."""

    request: Request
    trades: TradeColumns
    #: When the request was sent.
    sent_at: float


@dataclass(slots=True)
class Offered:
    """What became of offered trades."""

    #: Trades that were new.
    accepted: int = 0
    #: Trades of the stream whose id had arrived already.
    duplicates: int = 0
    #: Trades of the stream that are not valid, or whose id is too far ahead.
    rejected: int = 0
    #: Trades that found the buffer full. They are requested again.
    dropped: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    #: Trades whose id was confirmed missing before. They belong into a late record.
    late: TradeColumns = field(default_factory=TradeColumns)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The next ids, in order: first confirmed missing ones, then trades of one UTC day."""

    #: The id applied before it.
    follows_id: int
    last_id: int
    #: To be written and synced before the trades are pushed.
    missing: tuple[MissingIds, ...]
    #: With raised times.
    trades: TradeColumns
    #: How many times were raised.
    raised: int

    @property
    def day(self) -> date | None:
        """UTC day of the trades; None without trades."""
        if not len(self.trades):
            return None
        return datetime.fromtimestamp(self.trades.times_us[0] // 1_000_000, UTC).date()


class Sequencing:
    """Ids, buffer and gaps of one symbol.

    Parameters
    ----------
    start
        What is applied already.
    patience_s
        Lowest age of a gap whose ids are confirmed missing.
    buffer_trades
        Trades that may wait. When there are more, the newest are dropped and requested again.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.sequencing import Feed, Sequencing, Start
    >>> from rangebar_polars.live.protocol.trades import Trade, TradeColumns
    >>> sequencing = Sequencing(Start(applied_id=6))
    >>> trades = [Trade(1_700_000_000_000_000, 0.5, 2.0, id, id, id, True) for id in (8, 7)]
    >>> sequencing.offer(TradeColumns(trades), now=0.0, feed=Feed.STREAM).accepted
    2
    >>> batch = sequencing.next_batch(now=0.0)
    >>> batch.trades, batch.day
    (<2 trades, ids 7 to 8>, datetime.date(2023, 11, 14))
    >>> sequencing.applied(batch)
    >>> sequencing.applied_id
    8
    """

    def __init__(
        self, start: Start, *, patience_s: float = 30.0, buffer_trades: int = BUFFER_TRADES
    ) -> None:
        self.applied_id = start.applied_id
        self.highest_us = start.highest_us
        #: Highest id that the stream has delivered, and highest one in an answer of REST.
        self.stream_id = self.rest_id = start.applied_id
        self.gaps = Gaps(start.applied_id, patience_s)
        self.gaps.kind_of_holes = GapKind.BACKFILL
        #: Invalid ids in a row, up to the applied id; `MOST_INVALID` of them were in a row once.
        self.invalid_run, self.has_failed = 0, False
        self._buffer_trades = buffer_trades
        self._held = TradeColumns()
        self._recent = RecentTrades()
        # Above and up to the applied id.
        self._missing = MissingSpans(most=1 << 62)
        self._written = MissingSpans(start.missing)
        # Ids of trades that are not valid, and whether REST has returned them after that.
        self._suspects: dict[int, bool] = {}
        # Ids of the batch that is being applied which are missing in it and have come meanwhile.
        self._late: set[int] = set()
        self._batch: Batch | None = None
        self._request: Request | None = None

    # State

    @property
    def buffered(self) -> int:
        """The number of trades in the buffer."""
        return len(self._held)

    @property
    def has_waiting(self) -> bool:
        """Whether trades or missing ids wait above the applied id. Their turn may not have come."""
        return bool(self._held.ids) or any(True for _ in self._missing)

    @property
    def reached_id(self) -> int:
        """The highest id that is applied or that the stream has delivered."""
        return max(self.applied_id, self.stream_id)

    @property
    def is_catching_up(self) -> bool:
        """Whether the symbol has not met the stream since the start."""
        return self.gaps.kind_of_holes is GapKind.BACKFILL

    @property
    def _has_room(self) -> bool:
        return self.buffered + PAGE_IDS <= self._buffer_trades and len(self.gaps) <= MOST_GAPS // 2

    # Trades

    def offer(self, trades: TradeColumns, now: float, feed: Feed) -> Offered:
        """Take trades that have arrived, in any order."""
        offered = Offered()
        strange = unusual(trades)
        if strange:
            for at in strange:
                self._judge_invalid(trades.row(at), now, feed, offered)
            known = set(strange)
            trades = trades.take([at for at in range(len(trades)) if at not in known])
        if not _is_increasing(trades.ids):
            trades, repeated, conflicts = without_repeats(trades.in_order())
            self._note_repeats(len(repeated), conflicts, feed, offered)
        past = bisect_right(trades.ids, self.applied_id)
        if past:
            self._judge_past(trades.slice(0, past), feed, offered)
            trades = trades.slice(past)
        trades = self._screened(trades, feed, offered)
        if feed is Feed.STREAM and len(trades):
            self.stream_id = max(self.stream_id, trades.ids[-1])
        trades, repeated, conflicts = known_ids(self._held, trades)
        self._note_repeats(len(repeated), conflicts, feed, offered)
        self._insert(trades, now, offered)
        self._note_progress()
        return offered

    def page(self, page: Page, now: float) -> Offered:
        """Take an answer to the last request."""
        self._request = None
        offered = self.offer(page.trades, now, Feed.REST)
        ids = sorted({number for number in page.trades.ids if number >= page.request.from_id})
        if ids:
            self.rest_id = max(self.rest_id, ids[-1])
        for first, last in self.gaps.answered(page.request, ids, page.sent_at, now):
            self._missing.add(MissingIds(first, last, MissingReason.ABSENT))
        self._note_progress()
        return offered

    def failed(self, now: float, closed_until: float | None = None) -> None:
        """Note that the last request got no answer; the next one waits for `closed_until`."""
        self._request = None
        self.gaps.failed(now, closed_until)

    def expect(self, newest_id: int, now: float) -> None:
        """Backfill up to REST's newest id, as far as the stream has not delivered it."""
        self.rest_id = max(self.rest_id, newest_id)
        self.gaps.expect(newest_id, now)
        self._note_progress()

    def next_request(self, now: float) -> Request | None:
        """Return the page to request now, one at a time; `page` or `failed` is its answer."""
        if self._request is None:
            self._request = self.gaps.request(now, has_room=self._has_room)
            return self._request
        return None

    def due_at(self) -> float | None:
        """Return when `next_request` or `gap_events` has something next, without new events."""
        request_at = None if self._request else self.gaps.due_at(has_room=self._has_room)
        times = [time for time in (request_at, self.gaps.report_at()) if time is not None]
        return min(times, default=None)

    def gap_events(self, now: float) -> list[GapEvent]:
        """Return the gaps that are detected or healed since the last call."""
        return self.gaps.events(now)

    # Batches

    def next_batch(self, now: float) -> Batch | None:
        """Return the ids to apply next; None if the next id has not arrived.

        Raises
        ------
        ValueError
            The last batch was neither `applied` nor `abandoned`.
        """
        if self._batch is not None:
            raise ValueError("a batch is being applied")
        while True:
            missing, next_id = self._missing_from(self.applied_id + 1)
            count = self._consecutive(next_id)
            raised, changed = raised_times(self._held.times_us[:count].tolist(), self.highest_us)
            if raised or not count:
                break
            self._judge_step_back(count, now)
        if raised:
            day_end = (raised[0] // _DAY_US + 1) * _DAY_US
            if raised[-1] >= day_end:
                raised = raised[: bisect_left(raised, day_end)]
            trades = self._held.slice(0, len(raised))
            before = trades.times_us.tolist()
            changed = sum(map(lt, before, raised)) if changed else 0
            for at, time_us in enumerate(raised) if changed else ():
                trades.times_us[at] = time_us
        elif missing:
            trades, changed = TradeColumns(), 0
        else:
            return None
        last_id = next_id - 1 + len(trades)
        self._batch = Batch(self.applied_id, last_id, tuple(missing), trades, changed)
        return self._batch

    def applied(self, batch: Batch) -> None:
        """Note that a batch is in the journal and in every builder.

        Raises
        ------
        ValueError
            It is not the batch that was taken last.
        """
        if batch is not self._batch:
            raise ValueError(f"{batch} was not taken last")
        self._batch = None
        self._held.delete(0, len(batch.trades))
        self._recent.extend(batch.trades)
        self.applied_id = batch.last_id
        for span in self._missing.take_upto(batch.last_id):
            self._written.add(span)
        for number in self._late:
            self._written.remove(number)
        self._late.clear()
        for span in batch.missing:
            is_invalid = span.reason is MissingReason.INVALID
            self.invalid_run += span.ids if is_invalid else 0
        self.has_failed = self.has_failed or self.invalid_run >= MOST_INVALID
        if len(batch.trades):
            self.highest_us = batch.trades.times_us[-1]
            self.invalid_run = 0
        if self._suspects:
            self._suspects = {
                number: is_confirmed
                for number, is_confirmed in self._suspects.items()
                if number > batch.last_id
            }

    def abandoned(self, batch: Batch) -> None:
        """Note that a batch could not be written. It comes again."""
        if batch is self._batch:
            self._batch = None
            self._late.clear()

    def _missing_from(self, next_id: int) -> tuple[list[MissingIds], int]:
        """Return the confirmed spans that begin with an id, and the id after them."""
        found = []
        for span in self._missing:
            if span.first != next_id:
                break
            found.append(span)
            next_id = span.last + 1
        return found, next_id

    def _consecutive(self, next_id: int) -> int:
        """Return how many trades with consecutive ids begin the buffer, if `next_id` is the first."""
        ids = self._held.ids
        if not ids or ids[0] != next_id:
            return 0
        low, high = 1, min(len(ids), BATCH_TRADES)
        while low < high:
            middle = (low + high + 1) // 2
            is_run = ids[middle - 1] == next_id + middle - 1
            low, high = (middle, high) if is_run else (low, middle - 1)
        return low

    # Trades that are not new or not valid

    def _judge_invalid(self, trade: Trade, now: float, feed: Feed, offered: Offered) -> None:
        """Request the id of an invalid trade, or confirm it missing if REST returns one as well."""
        is_stream = feed is Feed.STREAM
        offered.rejected += is_stream
        number = trade.id
        if number <= self.applied_id or number in self._missing or self._is_too_far(number, feed):
            return
        at = self._held.position(number)
        if at is not None:
            offered.conflicts.append(Conflict(self._held.row(at), trade))
        elif is_sentinel(trade) and len(self._missing) < MOST_SPANS:
            self._confirm(number, MissingReason.SENTINEL, now)
        elif number in self._suspects and not is_stream:
            self._confirm(number, MissingReason.INVALID, now)
        elif number not in self._suspects and len(self._suspects) < MOST_SPANS:
            self._suspects[number] = False
            self.gaps.suspected(number, now)

    def _judge_step_back(self, count: int, now: float) -> None:
        """Take trades whose time runs back by more than a second out of the buffer.

        They are the first of `count` trades with consecutive ids. REST is asked for each; if it has
        returned one already, that id is confirmed missing.
        """
        times = self._held.times_us[: min(count, PAGE_IDS)].tolist()
        back = next(
            (at for at, time in enumerate(times) if raised_times([time], self.highest_us)[0]),
            len(times),
        )
        ids = self._held.ids[:back].tolist()
        self._held.delete(0, back)
        for number in ids:
            if self._suspects.get(number):
                self._confirm(number, MissingReason.INVALID, now)
            else:
                self._suspects[number] = False
                self.gaps.suspected(number, now)

    def _confirm(self, number: int, reason: MissingReason, now: float) -> None:
        self.gaps.arrived(number, number, now)
        self._missing.add(MissingIds(number, number, reason))
        self._suspects.pop(number, None)

    def _judge_past(self, trades: TradeColumns, feed: Feed, offered: Offered) -> None:
        """Compare trades up to the applied id with the applied ones."""
        late = []
        for at, trade in enumerate(trades):
            if self._written.remove(trade.id):
                late.append(at)
                continue
            conflict = self._recent.conflict(trade)
            self._note_repeats(1, [conflict] if conflict else [], feed, offered)
        offered.late.extend(trades.take(late))

    def _screened(self, trades: TradeColumns, feed: Feed, offered: Offered) -> TradeColumns:
        """Take out trades above the applied id that need not wait: late ones, and those too far."""
        kept = len(trades)
        while kept and self._is_too_far(trades.ids[kept - 1], feed):
            kept -= 1
        offered.rejected += len(trades) - kept
        trades = trades.slice(0, kept) if kept < len(trades) else trades
        if not self._suspects and not len(self._missing):
            return trades
        taken: set[int] = set()
        late = []
        for at, number in enumerate(trades.ids):
            if number in self._suspects:
                if feed is Feed.REST:
                    self._suspects[number] = True
                else:
                    taken.add(at)  # only REST can tell
            elif (reason := self._missing.reason(number)) is None:
                continue
            elif self._batch is not None and number <= self._batch.last_id:
                taken.add(at)
                late += [at] * (number not in self._late)
                self._late.add(number)
            elif reason is MissingReason.INVALID:
                taken.add(at)  # stream and REST agree already
            else:
                # It is not recorded as missing yet, so nothing has to come late.
                self._missing.remove(number)
        offered.late.extend(trades.take(late))
        self._note_repeats(len(taken) - len(late), [], feed, offered)
        return trades.take([at for at in range(len(trades)) if at not in taken])

    def _is_too_far(self, number: int, feed: Feed) -> bool:
        limit = max(self.applied_id, self.rest_id) + FURTHEST_AHEAD
        return feed is Feed.STREAM and number > limit

    @staticmethod
    def _note_repeats(
        count: int, conflicts: Sequence[Conflict], feed: Feed, offered: Offered
    ) -> None:
        offered.duplicates += count if feed is Feed.STREAM else 0
        offered.conflicts.extend(conflicts)

    # Buffer

    def _insert(self, trades: TradeColumns, now: float, offered: Offered) -> None:
        """Put new trades into the buffer, and drop the newest ones if it is full."""
        offered.accepted = len(trades)
        self._held.insert(trades)
        for first, last in runs_of(trades.ids):
            self.gaps.arrived(first, last, now)
        ids = self._held.ids
        if len(self.gaps) > MOST_GAPS:
            first = list(self.gaps)[MOST_GAPS // 2].first
            kept = bisect_left(ids, first)
            offered.dropped += len(ids) - kept
            keep = [(span.first, span.last) for span in self._missing if span.first > first]
            self.gaps.collapse_from(first, now, keep)
            self._held.delete(kept)
        if len(ids) > self._buffer_trades:
            offered.dropped += len(ids) - self._buffer_trades
            for first, last in reversed(list(runs_of(ids[self._buffer_trades :]))):
                self.gaps.dropped(first, last, now)
            self._held.delete(self._buffer_trades)

    def _note_progress(self) -> None:
        if self.is_catching_up and not len(self.gaps):
            self.gaps.kind_of_holes = GapKind.STREAM


def _is_increasing(ids: Sequence[int]) -> bool:
    return all(map(lt, ids, islice(ids, 1, None)))
