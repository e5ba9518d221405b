"""Freshness, lag, replacement, back-off, pace, states and day close at chosen times."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars.live.protocol as package
from rangebar_polars.live.protocol.backoff import Backoff, Bases, ConnectBudget
from rangebar_polars.live.protocol.day_close import DayClose
from rangebar_polars.live.protocol.exchange_time import ExchangeTime
from rangebar_polars.live.protocol.freshness import Freshness, FreshnessCheck, StaleLimit
from rangebar_polars.live.protocol.lag import Lag
from rangebar_polars.live.protocol.pacing import BatchPace
from rangebar_polars.live.protocol.replacement import Decision, Replacement, end_of_life
from rangebar_polars.live.protocol.states import (
    Facts,
    Failure,
    Reason,
    State,
    StateTracker,
    Status,
)


def highest(_, high):
    return high


def middle(low, high):
    return (low + high) / 2


# The rules know no clock, file or socket


def test_the_rules_import_nothing_that_reads_or_waits():
    allowed = {
        *("__future__", "array", "bisect", "collections", "dataclasses", "datetime", "enum"),
        *("itertools", "math", "operator", "polars", "random", "statistics", "typing"),
    }
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                is_own = name.startswith(
                    ("rangebar_polars.live.protocol.", "rangebar_polars.sources")
                )
                assert is_own or name.split(".")[0] in allowed, (path.name, name)


# Freshness


def test_a_check_that_is_due_every_minute_differs_by_a_fifth():
    assert Freshness(60.0, now=0.0, uniform=highest).due_at == 72.0
    assert Freshness(60.0, now=0.0, uniform=lambda low, _: low).due_at == 48.0


def test_equal_ids_prove_a_quiet_market():
    freshness = Freshness(60.0, now=0.0, uniform=middle)
    for minute in range(1, 100):
        assert freshness.due_at == minute * 60.0
        assert freshness.answered(7, 7, minute * 60.0) is FreshnessCheck.EQUAL
    assert not freshness.is_silent


def test_a_stream_that_reaches_the_first_answer_within_ten_seconds_is_not_silent():
    freshness = Freshness(60.0, now=0.0, uniform=middle)
    assert freshness.answered(12, 9, 60.0) is FreshnessCheck.AHEAD
    assert freshness.due_at == 70.0
    assert freshness.answered(20, 12, 70.0) is FreshnessCheck.FOLLOWING
    assert freshness.due_at == 130.0


def test_silence_ends_with_a_trade_of_the_stream_or_with_equal_ids():
    for end in ("trade", "equal"):
        freshness = Freshness(60.0, now=0.0, uniform=middle)
        freshness.answered(12, 9, 60.0)
        assert freshness.answered(12, 11, 70.0) is FreshnessCheck.SILENT
        assert freshness.is_silent
        if end == "trade":
            freshness.delivered()
        else:
            assert freshness.answered(12, 12, 130.0) is FreshnessCheck.EQUAL
        assert not freshness.is_silent


def test_a_check_without_an_answer_comes_again_and_forgets_nothing():
    freshness = Freshness(60.0, now=0.0, uniform=middle)
    freshness.answered(12, 9, 60.0)
    freshness.failed(70.0)
    assert freshness.due_at == 80.0
    assert freshness.answered(15, 9, 80.0) is FreshnessCheck.SILENT


def test_a_stale_symbol_is_checked_at_once_but_the_second_look_keeps_its_time():
    freshness = Freshness(60.0, now=0.0, uniform=middle)
    freshness.stale(30.0)
    assert freshness.due_at == 30.0
    freshness.answered(12, 9, 30.0)
    freshness.stale(31.0)
    assert freshness.due_at == 40.0


@pytest.mark.parametrize(
    ("steps_s", "limit_s"),
    [([], 900.0), ([0.0, 0.0, 0.1], 30.0), ([3.0, 4.0, 9.0], 80.0), ([600.0], 900.0)],
)
def test_the_automatic_limit_follows_the_median_interval(steps_s, limit_s):
    limit, time_us = StaleLimit(None, now=5.0), 0
    limit.applied([0], now=5.0)
    for step_s in steps_s:
        time_us += int(step_s * 1e6)
        limit.applied([time_us], now=7.0)
    assert limit.limit_s == limit_s
    assert limit.due_at == (7.0 if steps_s else 5.0) + limit_s


def test_a_limit_that_is_set_is_taken():
    limit = StaleLimit(12.0, now=5.0)
    limit.applied([0, 1], now=6.0)
    assert limit.due_at == 18.0
    limit.checked(18.0)
    assert limit.due_at == 30.0


# Lag


def lagging(*samples):
    lag, now = Lag(limit_s=10.0), 0.0
    for now, lag_s, is_empty in samples:
        lag.measured(lag_s, now, is_queue_empty=is_empty)
    return lag.is_behind(now)


@given(st.lists(st.tuples(st.floats(0, 4), st.sampled_from([9.0, 10.5, 60.0]), st.booleans())))
def test_the_server_is_behind_if_every_message_of_ten_seconds_was_late(steps):
    now, samples = 0.0, []
    for step_s, lag_s, is_empty in steps:
        now += step_s
        samples.append((now, lag_s, is_empty))
    starts = []
    for at, lag_s, is_empty in samples:
        starts = [*starts, at] if lag_s > 10.0 and is_empty else []
    assert lagging(*samples) == bool(starts and starts[-1] - starts[0] >= 10.0)


def test_a_pause_without_messages_does_not_count_as_lag():
    assert not lagging((0.0, 60.0, True), (30.0, 60.0, True))


def test_a_lag_that_a_freshness_check_disproves_is_ignored_for_ten_minutes():
    lag = Lag(limit_s=10.0)
    for second in range(11):
        lag.measured(3_600.0, float(second), is_queue_empty=True)
    lag.disproved(10.0)
    for second in range(11, 640):
        lag.measured(3_600.0, float(second), is_queue_empty=True)
        assert lag.is_behind(float(second)) == (second >= 620)


# Replacement


def test_the_old_connection_closes_when_the_new_one_joins_for_every_symbol_with_trades():
    both = Replacement(opened_at=0.0)
    both.old_delivered("A")
    both.old_delivered("B")
    both.new_delivered("A", first_id=11, applied_id=10)
    assert both.decide(1.0) is Decision.KEEP_BOTH
    both.new_delivered("B", first_id=7, applied_id=5)
    assert both.decide(2.0) is Decision.KEEP_BOTH
    both.new_delivered("B", first_id=8, applied_id=7)
    assert both.decide(3.0) is Decision.CLOSE_OLD


@pytest.mark.parametrize(
    ("sign", "decision"),
    [
        (lambda both: None, Decision.DROP_NEW),
        (lambda both: both.old_delivered("A"), Decision.DROP_NEW),
        (lambda both: both.new_delivered("A", first_id=99, applied_id=10), Decision.CLOSE_OLD),
        (lambda both: both.found_equal(), Decision.CLOSE_OLD),
    ],
)
def test_after_a_minute_any_sign_of_life_decides(sign, decision):
    both = Replacement(opened_at=100.0)
    sign(both)
    assert both.decide(159.9) is Decision.KEEP_BOTH
    assert both.decide(160.0) is decision


def test_a_connection_lives_23_hours_give_or_take_ten_minutes():
    assert (end_of_life(0.0, lambda low, _: low), end_of_life(0.0, highest)) == (82_200, 83_400)


# Back-off and budget


def test_waits_double_up_to_a_minute_and_are_drawn_from_zero():
    ranges = []
    backoff = Backoff(lambda low, high: ranges.append((low, high)) or high)
    for _ in range(11):
        backoff.failed(0.0)
    assert ranges == [(0.0, min(60.0, 0.25 * 2**n)) for n in range(11)]


def test_only_applied_trades_a_minute_after_the_connect_reset_the_waits():
    backoff = Backoff(highest)
    for _ in range(5):
        backoff.failed(0.0)
    backoff.connected(100.0)
    backoff.applied(159.9)
    assert backoff.failed(160.0) == 168.0
    backoff.connected(200.0)
    backoff.applied(260.0)
    assert backoff.failed(261.0) == 261.25
    backoff.applied(999.0)  # it is not connected
    assert backoff.failed(999.0) == 999.5


def test_the_server_may_ask_for_a_longer_wait():
    assert Backoff(highest).failed(10.0, retry_after_s=120.0) == 130.0


@given(st.lists(st.floats(0, 40), max_size=300))
def test_no_five_minutes_have_more_than_sixty_connects(steps):
    budget, now, connects = ConnectBudget(), 0.0, []
    for step_s in steps:
        now += step_s / 10
        at = budget.free_at(now)
        now = max(now, at)
        budget.spend(now)
        connects.append(now)
    for last in connects:
        assert sum(last - 300.0 < one <= last for one in connects) <= 60


def test_a_connect_beyond_the_budget_is_refused():
    budget = ConnectBudget(most=2, span_s=10.0)
    budget.spend(0.0)
    budget.spend(1.0)
    with pytest.raises(ValueError, match=r"before 10\.0"):
        budget.spend(9.9)
    budget.spend(10.0)


def test_one_base_is_its_own_successor_and_none_is_an_error():
    assert Bases(["wss://one"]).next() == "wss://one"
    with pytest.raises(ValueError, match="at least one"):
        Bases([])


@pytest.mark.parametrize(("took_s", "wait_s"), [(0.0, 0.005), (0.003, 0.012), (0.4, 0.05)])
def test_the_pace_of_batches_follows_their_duration(took_s, wait_s):
    pace = BatchPace()
    pace.done(0.0, took_s)
    assert pace.due_at == pytest.approx(wait_s)


# States


def test_the_first_reason_of_the_contract_is_shown():
    order = [
        *("disk_full", "cache_unavailable", "rest_refused", "rest_unreachable", "disconnected"),
        *("silent", "lagging", "gap", "time_unit", "revising"),
    ]
    for at, name in enumerate(order):
        reasons = frozenset(map(Reason, order[at:]))
        status = Facts(reasons=reasons, is_rest_needed=True, has_history=False).status
        assert status == (State.DEGRADED, name)


def test_rest_that_is_not_needed_is_no_reason():
    reasons = frozenset({Reason.REST_REFUSED, Reason.REST_UNREACHABLE})
    assert Facts(reasons=reasons).status == Status(State.LIVE)
    assert Facts(reasons=reasons, is_behind=True).status == Status(State.BACKFILL)
    assert Facts(reasons=reasons, has_history=False).status == Status(State.HISTORY)


def test_a_failure_hides_reasons_and_a_stop_hides_both():
    facts = Facts(reasons=frozenset({Reason.GAP}), failure=Failure.COVERAGE)
    assert str(facts.status) == "failed(coverage)"
    assert str(Facts(failure=Failure.COVERAGE, is_stopped=True).status) == "stopped"


def kinds(changes):
    return [change.kind.value for change in changes]


def test_changes_are_reported_once_and_a_stall_once_an_absence():
    tracker, gap = StateTracker(300.0, now=0.0), Status(State.DEGRADED, Reason.GAP)
    assert tracker.update(Status(State.HISTORY), 1.0) == []
    assert kinds(tracker.update(Status(State.BACKFILL), 2.0)) == []
    assert tracker.due_at == 300.0
    assert kinds(tracker.update(Status(State.BACKFILL), 300.0)) == ["sidecar_stalled"]
    assert kinds(tracker.update(Status(State.BACKFILL), 900.0)) == []
    (change,) = tracker.update(Status(State.LIVE), 901.0)
    assert (change.kind, change.away_s) == ("sidecar_live", 901.0)
    assert tracker.update(Status(State.LIVE), 950.0) == []
    assert kinds(tracker.update(gap, 1_000.0)) == ["sidecar_degraded"]
    assert tracker.since == 1_000.0
    assert kinds(tracker.update(gap, 1_299.9)) == []
    assert kinds(tracker.update(gap, 1_300.0)) == ["sidecar_stalled"]


def test_a_failed_symbol_is_started_again_after_ten_minutes():
    tracker = StateTracker(300.0, now=0.0)
    assert tracker.retry_at is None
    assert kinds(tracker.update(Status(State.FAILED, Failure.COVERAGE), 7.0)) == ["sidecar_failed"]
    assert tracker.retry_at == 607.0


def test_a_revision_counts_as_ready_and_other_absences_after_five_seconds_do_not():
    tracker, revising = StateTracker(300.0, now=0.0), Status(State.DEGRADED, Reason.REVISING)
    assert not tracker.is_ready(0.0)
    tracker.update(Status(State.LIVE), 1.0)
    tracker.update(revising, 2.0)
    assert tracker.is_ready(60.0)
    tracker.update(Status(State.DEGRADED, Reason.SILENT), 60.0)
    assert tracker.is_ready(65.0)
    assert not tracker.is_ready(65.1)
    tracker.update(Status(State.DEGRADED, Reason.GAP), 66.0)
    assert not tracker.is_ready(66.0)


def test_a_stopped_symbol_does_not_stall():
    tracker = StateTracker(300.0, now=0.0)
    tracker.update(Status(State.STOPPED), 1.0)
    assert tracker.due_at is None


# Days


def test_the_first_trade_of_a_later_day_closes_all_days_before_it():
    days = DayClose(date(2026, 11, 1))
    assert days.applied(date(2026, 11, 4)) == [date(2026, 11, day) for day in (1, 2, 3)]
    assert days.applied(date(2026, 11, 4)) == []
    assert days.open_day == date(2026, 11, 4)


@pytest.mark.parametrize(
    ("time", "has_gap", "closed"),
    [
        ("2026-11-02T00:09:59", False, []),
        ("2026-11-02T00:10:00", False, [1]),
        ("2026-11-02T00:10:00", True, []),
        ("2026-11-03T00:05:00", False, [1]),
        ("2026-11-03T00:10:00", False, [1, 2]),
        ("2026-10-31T12:00:00", False, []),
    ],
)
def test_a_quiet_market_closes_a_day_ten_minutes_after_midnight(time, has_gap, closed):
    days = DayClose(date(2026, 11, 1))
    now = datetime.fromisoformat(time).replace(tzinfo=UTC)
    assert [day.day for day in days.found_equal(now, has_gap=has_gap)] == closed
    # Each day is closed once.
    assert days.found_equal(now, has_gap=has_gap) == []


def test_the_later_of_the_last_trade_and_the_last_answer_decides_which_day_it_is():
    time = ExchangeTime()
    assert (time.at(5.0), time.today(None)) == (None, None)
    second = 1_793_577_600  # 2026-11-02 00:00 UTC
    assert time.today((second - 1) * 1_000_000) == date(2026, 11, 1)
    time.answered(datetime.fromtimestamp(second, UTC), now=100.0)
    assert time.today((second - 1) * 1_000_000) == date(2026, 11, 2)
    assert time.at(101.5) == datetime.fromtimestamp(second, UTC) + timedelta(seconds=1.5)
