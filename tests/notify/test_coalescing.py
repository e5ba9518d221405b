"""Which messages a service gets, as a function of events and times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangebar_polars.events import EVENT_NAMES, FAILURES, HookPayload
from rangebar_polars.notify.coalescing import (
    ENDS,
    INCIDENTS,
    Digest,
    First,
    MessagePlan,
    Repeats,
    Status,
)


def event(name: str = "download_failed", symbol: str = "BTCUSDT") -> HookPayload:
    return HookPayload(name, symbol, is_failure=name in FAILURES)


def drain(plan: MessagePlan, now: float) -> list:
    found = []
    while (message := plan.next_message(now)) is not None:
        found.append(message)
    return found


def counted(message: object) -> int:
    """Return the number of events that a message is about."""
    if isinstance(message, First):
        return 1
    others = message.others if isinstance(message, Digest) else 0
    return others + sum(line.count for line in message.lines)


def test_the_first_is_sent_at_once_and_repeats_every_300_s_as_one_line() -> None:
    plan = MessagePlan()
    seen = []
    for second in range(1000):
        plan.take(event(), second)
        seen += [(second, one) for one in drain(plan, second)]
    assert [second for second, _ in seen] == [0, 300, 600, 900]
    assert isinstance(seen[0][1], First)
    assert [counted(one) for _, one in seen[1:]] == [300, 300, 300]
    assert all(isinstance(one, Repeats) for _, one in seen[1:])
    plan.finish()
    assert [counted(one) for one in drain(plan, 1000)] == [99]
    assert plan.coalesced == 999


def test_after_300_quiet_seconds_an_event_is_a_first_one_again() -> None:
    plan = MessagePlan()
    for now in (0, 300, 601):
        plan.take(event(), now)
        (message,) = drain(plan, now)
        assert isinstance(message, First)
    plan.take(event(), 900)
    assert drain(plan, 900) == []
    assert plan.due_at == 901


def test_kinds_and_symbols_are_told_apart() -> None:
    plan = MessagePlan()
    for name in ("download_failed", "trade_invalid"):
        for symbol in ("A", "B"):
            for _ in range(3):
                plan.take(event(name, symbol), 0)
    assert [type(one) for one in drain(plan, 0)] == [First] * 4
    (message,) = drain(plan, 300)
    assert [(line.event, line.symbol, line.count) for line in message.lines] == [
        ("download_failed", "A", 2), ("download_failed", "B", 2),
        ("trade_invalid", "A", 2), ("trade_invalid", "B", 2),
    ]  # fmt: skip


def test_beyond_20_in_10_minutes_the_rest_is_one_digest() -> None:
    plan = MessagePlan()
    for number in range(50):
        plan.take(event(symbol=f"S{number}"), 0)
    assert len(drain(plan, 0)) == 20
    plan.take(event(symbol="S3"), 1)
    plan.take(event(symbol="S40"), 1)
    assert plan.due_at == 600
    assert drain(plan, 599.9) == []
    (digest,) = drain(plan, 600)
    assert isinstance(digest, Digest)
    assert counted(digest) == 32
    assert {line.symbol for line in digest.lines if line.has_first} == {
        f"S{number}" for number in range(20, 50)
    }
    assert [line.count for line in digest.lines if line.symbol == "S40"] == [2]
    assert plan.due_at is None


def test_at_the_end_the_rest_is_one_message_beyond_the_limit() -> None:
    plan = MessagePlan()
    for number in range(30):
        plan.take(event(symbol=f"S{number}"), 0)
        plan.take(event(symbol=f"S{number}"), 0)
    plan.finish()
    messages = drain(plan, 1)
    assert len(messages) == 21
    assert counted(messages[-1]) == 40
    assert plan.due_at is None


@pytest.mark.parametrize(("end", "begun"), [(end, one) for end in ENDS for one in ENDS[end]])
def test_an_incident_lasts_until_it_is_over(end: str, begun: str) -> None:
    plan = MessagePlan()
    plan.take(event(begun), 0)
    assert [type(one) for one in drain(plan, 0)] == [First]
    # Long afterwards, the same incident is a repeat.
    plan.take(event(begun), 5000)
    plan.take(event(end, "OTHER"), 5001, is_wanted=False)
    assert drain(plan, 5299) == []
    assert [counted(one) for one in drain(plan, 5300)] == [1]
    plan.take(event(begun), 5301)
    plan.take(event(end), 5302, is_wanted=False)
    # Its repeats are told of, and the next one is another incident.
    assert [counted(one) for one in drain(plan, 5302)] == [1]
    plan.take(event(begun), 5303)
    assert [type(one) for one in drain(plan, 5303)] == [First]


def test_names_of_incidents_are_events() -> None:
    assert {*ENDS, *INCIDENTS} <= set(EVENT_NAMES)


def test_a_status_waits_for_the_limit_and_only_the_newest_is_sent() -> None:
    plan = MessagePlan(limit=1)
    plan.take(event(), 0)
    plan.take_status("old")
    assert [type(one) for one in drain(plan, 0)] == [First]
    plan.take_status("new")
    assert plan.due_at == 600
    assert drain(plan, 600) == [Status("new")]
    plan.take_status("never")
    plan.finish()
    assert drain(plan, 601) == []
    assert plan.due_at is None


def test_kinds_beyond_the_limit_of_memory_are_only_counted() -> None:
    plan = MessagePlan(waiting=100)
    for number in range(5000):
        plan.take(event(symbol=f"S{number}"), number / 1000)
    assert len(plan._windows) <= 100
    plan.finish()
    messages = drain(plan, 5)
    assert sum(map(counted, messages)) == 5000
    assert messages[-1].others > 0
    assert all(len(one.lines) <= 100 for one in messages if not isinstance(one, First))


def test_messages_for_a_service_that_takes_none_are_bounded() -> None:
    plan = MessagePlan(limit=50, waiting=10)
    for number in range(100):
        plan.take(event("gap_detected"), number)
        plan.take(event("gap_healed"), number, is_wanted=False)
    assert len(plan._firsts) == 10
    messages = drain(plan, 100)
    assert sum(map(counted, messages)) == 100
    (digest,) = (one for one in messages if isinstance(one, Digest))
    assert [(line.count, line.seconds) for line in digest.lines] == [(90, 90)]


LIMIT, PERIOD, REPEAT, WAITING = 3, 60.0, 30.0, 4
NAMES = (
    "download_failed",
    "trade_late",
    "gap_detected",
    "gap_healed",
    "sidecar_failed",
    "sidecar_live",
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 1.0, 7.5, 30.0, 61.0]),
        st.sampled_from(NAMES),
        st.sampled_from("ABCDEF"),
        st.booleans(),
        # Whether the service takes messages at this moment.
        st.booleans(),
    ),
    max_size=60,
)


class Service:
    """A service that takes messages when they are due, and judges every one."""

    def __init__(self) -> None:
        self.plan = MessagePlan(LIMIT, PERIOD, REPEAT, WAITING)
        self.sent: list[tuple[float, object]] = []
        self.now = 0.0

    def take_until(self, now: float) -> None:
        """Take everything that becomes due until a time."""
        while (due_at := self.plan.due_at) is not None and due_at <= now:
            self.now = max(self.now, due_at)
            message = self.plan.next_message(self.now)
            assert message is not None
            self.sent.append((self.now, message))
        self.now = now
        assert self.plan.next_message(now) is None

    def count_within(self, end: float) -> int:
        return sum(end - PERIOD < at <= end for at, _ in self.sent)


@given(steps=STEPS, rest=st.sampled_from([0.0, 10.0, 1000.0]))
def test_every_event_is_in_one_message_and_no_period_has_more_than_its_limit(
    steps: list, rest: float
) -> None:
    service = Service()
    now, wanted = 0.0, 0
    for wait, name, symbol, is_wanted, is_ready in steps:
        now += wait
        if is_ready:
            service.take_until(now)
        service.plan.take(event(name, symbol), now, is_wanted=is_wanted)
        wanted += is_wanted
        assert len(service.plan._windows) <= WAITING
        assert len(service.plan._rest) <= WAITING
        assert len(service.plan._firsts) <= WAITING
    service.take_until(now + rest)
    assert all(service.count_within(at) <= LIMIT for at, _ in service.sent)
    service.plan.finish()
    service.take_until(now + rest)
    assert all(service.count_within(at) <= LIMIT + 1 for at, _ in service.sent)
    messages = [message for _, message in service.sent]
    assert sum(map(counted, messages)) == wanted
    assert service.plan.coalesced == wanted - sum(isinstance(one, First) for one in messages)
    assert service.plan.due_at is None


@given(steps=STEPS)
def test_a_service_that_is_ready_learns_of_each_event_in_time(steps: list) -> None:
    """Within the limit, a first event comes at once and a repeat after `REPEAT` at the latest."""
    service = Service()
    service.plan = MessagePlan(10**6, PERIOD, REPEAT, 10**6)
    now = 0.0
    last: dict[tuple[str, str], float] = {}
    open_incidents = set()
    for wait, name, symbol, _, _ in steps:
        now += wait
        service.take_until(now)
        before = len(service.sent)
        service.plan.take(event(name, symbol), now)
        service.take_until(now)
        firsts = [one.payload for _, one in service.sent[before:] if isinstance(one, First)]
        key = (name, symbol)
        is_first = key not in open_incidents and now - last.get(key, -math.inf) > REPEAT * 2
        assert not is_first or [(one.event, one.symbol) for one in firsts] == [key]
        last[key] = now
        open_incidents -= {(one, symbol) for one in ENDS.get(name, ())}
        if name in INCIDENTS:
            open_incidents.add(key)
    service.take_until(now + 10 * REPEAT)
    for _, message in service.sent:
        if not isinstance(message, First):
            assert isinstance(message, Repeats)
            assert all(0 <= line.seconds <= REPEAT for line in message.lines)
    assert service.plan.due_at is None
