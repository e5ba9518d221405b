"""What is sent to one service, and when: repeats as one line, floods as one digest.

A `MessagePlan` is a function of the events and times that it is given. It reads no clock and sends
nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rangebar_polars.events._payload import HookPayload

__all__ = ["Digest", "First", "Line", "Message", "MessagePlan", "Repeats", "Status"]

#: Messages to a service within `PERIOD_S`, and that time.
LIMIT = 20
PERIOD_S = 600.0
#: Repeats of an event within this time make one line.
REPEAT_S = 300.0
#: Kinds of events that a plan tells apart, and messages that may wait for a slow service.
WAITING = 1000
#: How often a full plan looks for room.
ROOM_S = 1.0

# The event that ends an incident, and the events whose incident it ends.
ENDS = {
    "gap_healed": ("gap_detected",),
    "sidecar_live": ("sidecar_degraded", "sidecar_stalled", "sidecar_failed"),
}
INCIDENTS = frozenset(event for ended in ENDS.values() for event in ended)
AT_ONCE = float("-inf")


class Key(NamedTuple):
    """What is coalesced: events of one kind about one symbol."""

    event: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line about several events of one kind and symbol."""

    event: str
    symbol: str
    count: int
    #: Since the first of them.
    seconds: float
    is_failure: bool
    #: Whether an event is among them that would have been a message of its own.
    has_first: bool


class First(NamedTuple):
    """A message about one event, the first of its kind and symbol."""

    payload: HookPayload


class Repeats(NamedTuple):
    """A message about repeated events, with a line for each kind and symbol."""

    lines: tuple[Line, ...]


class Digest(NamedTuple):
    """A message about all events since the limit was reached."""

    lines: tuple[Line, ...]
    #: Further events, of which only the number is known.
    others: int


class Status(NamedTuple):
    """A message about the state of things, which no event has caused."""

    text: str


Message = First | Repeats | Digest | Status


@dataclass(slots=True)
class _Tally:
    """Events that no message has been about."""

    is_failure: bool
    count: int = 0
    since: float = 0.0
    has_first: bool = False

    def add(self, other: _Tally) -> None:
        self.since = min(self.since, other.since) if self.count else other.since
        self.count += other.count
        self.has_first |= other.has_first

    def line(self, key: Key, now: float) -> Line:
        return Line(*key, self.count, now - self.since, self.is_failure, self.has_first)


@dataclass(slots=True)
class _Window:
    """The repeats of an event since the last message about it."""

    ends_at: float
    repeats: _Tally


class MessagePlan:
    """Decides which messages go to one service. Times are monotonic seconds.

    The first event of a kind and symbol is a message at once. Its repeats are counted, and every
    `repeat_s` seconds with repeats end with one line. The event is a first one again after `repeat_s`
    without it. Events of an incident are repeats until the incident ends. Beyond `limit` messages in
    `period_s` seconds, events are counted, and sent as one digest when the limit allows a message.

    Examples
    --------
    >>> from rangebar_polars.events import HookPayload
    >>> from rangebar_polars.notify.coalescing import MessagePlan
    >>> plan = MessagePlan()
    >>> for second in range(200):
    ...     _ = plan.take(HookPayload("download_failed", "BTCUSDT"), second)
    >>> plan.next_message(199).payload.event
    'download_failed'
    >>> plan.next_message(199) is None, plan.due_at
    (True, 300.0)
    >>> plan.next_message(300).lines[0].count
    199
    """

    def __init__(
        self,
        limit: int = LIMIT,
        period_s: float = PERIOD_S,
        repeat_s: float = REPEAT_S,
        waiting: int = WAITING,
    ) -> None:
        self._period_s = period_s
        self._repeat_s = repeat_s
        self._most_waiting = waiting
        self._windows: dict[Key, _Window] = {}
        #: Before this time, no window makes room for another one.
        self._full_until = AT_ONCE
        self._firsts: deque[tuple[HookPayload, float]] = deque()
        #: Repeats of incidents that have ended.
        self._ended: dict[Key, _Tally] = {}
        #: Everything that the limit has stopped.
        self._rest: dict[Key, _Tally] = {}
        self._others = 0
        self._sent_at: deque[float] = deque(maxlen=limit)
        self._status: Status | None = None
        self._is_last = False
        #: Events that are no message of their own.
        self.coalesced = 0

    @property
    def due_at(self) -> float | None:
        """The time from which `next_message` returns a message; None if there is nothing to send."""
        if self._firsts or self._ended or self._rest or self._others:
            due_at = AT_ONCE
        elif self._status is not None:
            return self._free_at
        else:
            counting = [item.ends_at for item in self._windows.values() if item.repeats.count]
            if not counting:
                return None
            due_at = AT_ONCE if self._is_last else min(counting)
        # The last message of all is not limited.
        return due_at if self._is_last else max(due_at, self._free_at)

    def take(self, payload: HookPayload, now: float, *, is_wanted: bool = True) -> bool:
        """Take an event, and return whether `due_at` may have changed.

        An event that is not wanted can only end incidents.
        """
        ended = [
            self._end(Key(event, str(payload.symbol))) for event in ENDS.get(payload.event, ())
        ]
        if not is_wanted:
            return any(ended)
        key = _key(payload)
        window = self._windows.get(key)
        if window is not None and not _is_over(key, window, now):
            self.coalesced += 1
            window.repeats.add(_Tally(payload.is_failure, count=1, since=now))
            if now >= window.ends_at and window.repeats.count == 1:
                window.ends_at = now + self._repeat_s
            return any(ended) or window.repeats.count == 1
        if window is not None or self._has_room(now):
            self._windows[key] = _Window(now + self._repeat_s, _Tally(payload.is_failure))
        if now >= self._free_at and len(self._firsts) < self._most_waiting and key in self._windows:
            self._firsts.append((payload, now))
        else:
            self._set_aside_first(payload, now)
        return True

    def take_status(self, text: str) -> None:
        """Take a status, in place of an earlier one that the limit has stopped."""
        self._status = None if self._is_last else Status(text)

    def next_message(self, now: float) -> Message | None:
        """Return the next message to send, which counts as sent now; None if nothing is due."""
        message: Message | None = None
        if now < self._free_at:
            self._set_aside(now)
            if self._is_last:
                message = self._digest(now)
        elif self._rest or self._others:
            if self._is_last:
                self._set_aside(now)
            message = self._digest(now)
        elif self._firsts:
            message = First(self._firsts.popleft()[0])
        else:
            repeats = self._take_repeats(now, is_all=self._is_last)
            message = Repeats(_lines(repeats, now)) if repeats else self._status
            self._status = self._status if repeats else None
        if message is not None:
            self._sent_at.append(now)
        return message

    def finish(self) -> None:
        """Make everything due, because the program ends.

        The last message can be one more than the limit.
        """
        self._is_last = True
        self._status = None

    @property
    def _free_at(self) -> float:
        """The time from which the limit allows a message."""
        is_full = len(self._sent_at) == self._sent_at.maxlen
        return self._sent_at[0] + self._period_s if is_full else AT_ONCE

    def _end(self, key: Key) -> bool:
        """End an incident, so that the next event is a first one; return whether it had repeats."""
        window = self._windows.pop(key, None)
        if window is None or not window.repeats.count:
            return False
        self._add(self._ended, key, window.repeats)
        return True

    def _has_room(self, now: float) -> bool:
        """Return whether another kind of events can be told apart, after removing old ones."""
        if len(self._windows) >= self._most_waiting and now >= self._full_until:
            kept = {
                key: item for key, item in self._windows.items() if not _is_over(key, item, now)
            }
            self._windows = kept
            # Windows of open incidents stay after their end.
            next_end = min((item.ends_at for item in kept.values()), default=now)
            self._full_until = max(next_end, now + ROOM_S)
        return len(self._windows) < self._most_waiting

    def _set_aside(self, now: float) -> None:
        """Count everything that is due towards the digest."""
        while self._firsts:
            self._set_aside_first(*self._firsts.popleft())
        for key, tally in self._take_repeats(now, is_all=False).items():
            self._add(self._rest, key, tally)

    def _set_aside_first(self, payload: HookPayload, at: float) -> None:
        self.coalesced += 1
        tally = _Tally(payload.is_failure, count=1, since=at, has_first=True)
        self._add(self._rest, _key(payload), tally)

    def _add(self, tallies: dict[Key, _Tally], key: Key, tally: _Tally) -> None:
        """Add events to those of a kind; beyond `waiting` kinds, only their number counts."""
        if key in tallies:
            tallies[key].add(tally)
        elif len(tallies) < self._most_waiting:
            tallies[key] = tally
        else:
            self._others += tally.count

    def _digest(self, now: float) -> Digest | None:
        """Return a message about all events that are counted, also those that are not due."""
        for key, tally in self._take_repeats(now, is_all=True).items():
            self._add(self._rest, key, tally)
        rest, self._rest = self._rest, {}
        others, self._others = self._others, 0
        return Digest(_lines(rest, now), others) if rest or others else None

    def _take_repeats(self, now: float, *, is_all: bool) -> dict[Key, _Tally]:
        """Remove and return the repeats that are due, or all."""
        found, self._ended = self._ended, {}
        for key, window in self._windows.items():
            repeats = window.repeats
            if repeats.count and (is_all or window.ends_at <= now):
                # An incident that has ended can have a new window.
                self._add(found, key, repeats)
                window.repeats = _Tally(repeats.is_failure)
                window.ends_at = now + self._repeat_s
        return found


def _key(payload: HookPayload) -> Key:
    return Key(payload.event, str(payload.symbol))


def _is_over(key: Key, window: _Window, now: float) -> bool:
    """Return whether the next event is a first one."""
    return now >= window.ends_at and not window.repeats.count and key.event not in INCIDENTS


def _lines(tallies: dict[Key, _Tally], now: float) -> tuple[Line, ...]:
    """Return the lines of a message, failures first, then the most frequent events."""
    order = sorted(tallies.items(), key=lambda item: (not item[1].is_failure, -item[1].count))
    return tuple(tally.line(key, now) for key, tally in order)
