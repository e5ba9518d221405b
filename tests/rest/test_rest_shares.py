"""How much of a minute each caller may use, as a function of what was sent and reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangebar_polars.config import settings
from rangebar_polars.fetch.binance.rate_limit import MinuteWeight, WeightBudget, limit_of
from rangebar_polars.fetch.binance.rest_client import HOSTS, RestClient
from rangebar_polars.fetch.source import Caller, request_context

SPOT, FUTURES = (4, 1.0), (20, 0.4)
steps = st.lists(
    st.tuples(st.floats(0.0, 90.0), st.sampled_from(Caller), st.integers(0, 200)), max_size=60
)


@pytest.mark.parametrize(
    ("per_minute", "share", "limits"),
    [
        (3_000, 1.0, (4_500, 3_000, 1_500)),
        (3_000, 0.4, (1_800, 1_200, 600)),
        (100, 1.0, (150, 100, 50)),
        # Never above the exchange's limit, unless the setting is.
        (5_000, 1.0, (6_000, 5_000, 2_500)),
        (5_000, 0.4, (2_400, 2_000, 1_000)),
        (9_000, 1.0, (9_000, 9_000, 4_500)),
        (1, 0.4, (1, 1, 1)),
    ],
)
def test_shares_of_the_setting(per_minute, share, limits):
    callers = (Caller.LIVE, Caller.OTHER, Caller.HELPER)
    assert tuple(limit_of(caller, per_minute, share) for caller in callers) == limits


@pytest.mark.parametrize("caller", Caller)
def test_a_client_has_the_limit_of_the_context_it_was_made_in(caller):
    with request_context(caller=caller):
        clients = [RestClient(market) for market in HOSTS]
    setting = settings().rest_weight_per_minute
    assert [client.limit for client in clients] == [
        limit_of(caller, setting, host.share) for host in HOSTS.values()
    ]
    assert RestClient("spot").limit == setting


def heaviest_minute(spent):
    """Return the largest weight of 60 s."""
    return max(
        (sum(w for at, w in spent if start <= at < start + 60.0) for start, _ in spent), default=0
    )


@given(steps, st.sampled_from([SPOT, FUTURES]), st.integers(40, 400))
def test_no_caller_brings_a_minute_above_its_limit(steps, host, per_minute):
    weight, share = host
    minute, now, spent = MinuteWeight(), 0.0, []
    for step_s, caller, _ in steps:
        now += step_s
        limit = limit_of(caller, per_minute, share)
        wait_s = minute.wait_s(weight, limit, now)
        before = [w for at, w in spent if at > now - 60.0]
        fits = sum(before) + weight <= limit or not before
        assert (wait_s == 0) == fits
        if wait_s == 0:
            minute.spend(weight, now)
            spent.append((now, weight))
            window = [w for at, w in spent if at > now - 60.0]
            assert sum(window) <= max(limit, weight)
    assert heaviest_minute(spent) <= max(limit_of(Caller.LIVE, per_minute, share), weight)


@given(steps, st.integers(1, 400), st.floats(1.0, 60.0), st.integers(0, 400))
def test_a_wait_is_as_long_as_needed_and_not_longer(steps, limit, left_s, reported):
    minute, now = MinuteWeight(), 0.0
    for step_s, _, weight in steps:
        now += step_s
        minute.spend(weight, now)
    minute.report(reported, sent_at=now, now=now, seconds_left=left_s)
    wait_s = minute.wait_s(4, limit, now)
    assert 0 <= wait_s <= 60 + 1e-9
    after = now + wait_s + 1e-6
    if wait_s > 1e-3:
        # Looking does not change what is counted, so the earlier moment comes first.
        assert minute.wait_s(4, limit, now + wait_s - 1e-4) > 0
    assert minute.wait_s(4, limit, after) == 0
    assert minute.used(after) + min(4, limit) <= limit


@given(st.integers(0, 6_000), st.integers(0, 300), st.integers(0, 300), st.integers(0, 60))
def test_the_larger_count_decides_and_that_of_the_host_grows_with_what_it_cannot_know(
    reported, before, after, left_s
):
    minute = MinuteWeight()
    minute.spend(before, now=1.0)
    minute.spend(after, now=3.0)
    minute.report(reported, sent_at=2.0, now=4.0, seconds_left=left_s)
    by_host = reported + after if left_s > 0 else 0
    assert minute.used(now=4.0) == max(before + after, by_host)
    assert minute.used(now=4.0 + left_s) == max(before + after if 4.0 + left_s < 61 else after, 0)


def test_an_older_answer_that_arrives_late_does_not_lower_the_count():
    minute = MinuteWeight()
    minute.report(500, sent_at=2.0, now=3.0, seconds_left=30.0)
    minute.report(100, sent_at=1.0, now=4.0, seconds_left=29.0)
    assert minute.used(now=4.0) == 500
    minute.report(8, sent_at=33.0, now=33.5, seconds_left=59.0)
    assert minute.used(now=34.0) == 8


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("used", [2_990, 3_000, 4_400])
def test_a_population_that_has_used_its_share_leaves_room_for_live_bars(used):
    time = Time()
    budget = WeightBudget(clock=time)
    budget.correct(used, per_minute=3_000, sent_at=0.0, seconds_left=46.0)
    time.now = 1.0
    population = limit_of(Caller.OTHER, 3_000, 1.0)
    helper, live = limit_of(Caller.HELPER, 3_000, 1.0), limit_of(Caller.LIVE, 3_000, 1.0)
    assert budget.take(20, per_minute=population, is_even=True) == 45.0
    assert budget.take(20, per_minute=helper, is_even=True) == 45.0
    assert budget.take(20, per_minute=live) == 0.0
    assert budget.closed_for() == 0.0
    assert budget.used() == used + 20


def test_what_live_bars_use_counts_for_others():
    time = Time()
    budget = WeightBudget(clock=time)
    for _ in range(150):
        assert budget.take(20, per_minute=4_500) == 0.0
    assert budget.take(20, per_minute=3_000, is_even=True) == 60.0
    time.now = 60.0
    assert budget.take(20, per_minute=3_000, is_even=True) == 0.0


class Host:
    """A host that counts by its own minutes, and says so in whole seconds."""

    def __init__(self, offset_s):
        self.offset_s = offset_s
        self.minute, self.count = None, 0

    def _turn(self, now):
        minute = int((now + self.offset_s) // 60)
        if minute != self.minute:
            self.minute, self.count = minute, 0

    def take(self, weight, now):
        self._turn(now)
        self.count += weight
        return self.count

    def seconds_left(self, now):
        self._turn(now)
        return 60 - int((now + self.offset_s) % 60)


@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 40)), max_size=80),
    st.floats(0.0, 60.0),
    st.sampled_from([Caller.LIVE, Caller.OTHER]),
)
def test_the_host_never_counts_more_than_the_limit_and_what_others_send_between(
    steps, offset_s, caller
):
    """Other programs send in each step; the caller knows of it by the answer to its last request."""
    weight, limit = 20, limit_of(caller, 200, 1.0)
    host, minute, now, since = Host(offset_s), MinuteWeight(), 0.0, 0
    for step_s, others in steps:
        now += step_s
        host.take(others, now)
        since += others
        if minute.wait_s(weight, limit, now) > 0:
            continue
        minute.spend(weight, now)
        used = host.take(weight, now)
        assert used <= max(limit, weight) + since
        minute.report(used, now, now, host.seconds_left(now))
        since = 0
