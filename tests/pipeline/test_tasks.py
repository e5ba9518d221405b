"""Populations that an update or an upgrade needs."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

pytest.importorskip("chdb")

from rangebar_polars._utils.span import day_start
from rangebar_polars.bar_series.identity import BAR_SEMANTICS, BarRules, BarSpec
from rangebar_polars.bar_series.units import Chain, Unit
from rangebar_polars.maintenance.tasks import update_tasks, upgrade_tasks

OLD = BarRules(bar_semantics=BAR_SEMANTICS - 1)
SPEC = BarSpec.of("BTCUSDT", 250)


def chain(first, frontier, spec=SPEC):
    """Return the chain of a series that begins on one day and reaches another."""
    series = spec.series(date.fromisoformat(first))
    count = (date.fromisoformat(frontier) - series.first_day).days
    groups = frozenset({"core", "microstructure"})
    units = [
        Unit(
            series, series.first_day + timedelta(days=n), 0, n + 1, n, 1, None, None, "", 0, 0, 0,
            None, None, groups,
        )
        for n in range(count)
    ]  # fmt: skip
    return Chain(series, tuple(units))


def spec(threshold=250, **options):
    return BarSpec.of("BTCUSDT", threshold, **options)


def begun(tasks):
    return [(one.thresholds, str(one.start.date())) for one in tasks]


def test_the_newest_segment_is_extended_from_its_frontier_and_older_ones_are_left_alone():
    kept = [chain("2023-01-01", "2023-06-01"), chain("2024-01-01", "2024-03-05")]
    assert begun(update_tasks(kept)) == [((250,), "2024-03-05")]


def test_a_complete_segment_is_followed_by_the_next_one():
    assert begun(update_tasks([chain("2023-01-01", "2024-01-01")])) == [((250,), "2024-01-01")]


@pytest.mark.parametrize(
    ("kept", "start"),
    [
        ([("2024-02-01", "2024-03-05"), ("2024-01-01", "2024-03-05")], "2024-03-05"),
        ([("2024-02-01", "2024-04-05"), ("2024-01-01", "2024-03-05")], "2024-04-05"),
    ],
    ids=["equal", "further"],
)
def test_the_series_with_the_furthest_frontier_is_extended(kept, start):
    assert begun(update_tasks([chain(*one) for one in kept])) == [((250,), start)]


def test_the_population_of_a_task_continues_exactly_the_intended_series():
    from rangebar_polars.bar_series.segments import segment_of
    from rangebar_polars.bar_series.selection import to_continue

    kept = [
        chain("2024-02-01", "2024-04-05"),
        chain("2024-01-01", "2024-03-05"),
        chain("2024-03-01", "2024-04-05"),
    ]
    (task,) = update_tasks(kept)
    day = task.start.date()
    chosen = to_continue(kept, segment_of(day, "year"), day)
    assert chosen.series == SPEC.series(date(2024, 2, 1))


def test_thresholds_with_one_frontier_share_a_pass():
    kept = [chain("2024-01-01", "2024-03-05", spec(threshold)) for threshold in (500, 250)] + [
        chain("2024-01-01", "2024-02-05", spec(1000))
    ]
    assert begun(update_tasks(kept)) == [
        ((1000,), "2024-02-05"),
        ((250, 500), "2024-03-05"),
    ]


def test_reset_mode_gate_and_market_separate_tasks():
    others = [
        spec(reset="month"),
        spec(rules=BarRules(prevent_same_timestamp_close=False)),
        spec(market="um"),
    ]
    kept = [chain("2024-01-01", "2024-01-05", one) for one in (SPEC, *others)]
    assert len(update_tasks(kept)) == 4


def test_series_that_this_version_does_not_populate_are_not_updated():
    kept = [
        chain("2024-01-01", "2024-01-05", spec(rules=one))
        for one in (OLD, BarRules(max_gap_us=3_600_000_000))
    ]
    assert update_tasks(kept) == []


def test_a_series_of_another_rule_is_rebuilt_over_its_own_days():
    old = chain("2024-01-03", "2024-01-09", spec(rules=OLD))
    (task,), skipped = upgrade_tasks([old, chain("2024-01-01", "2024-01-05")])
    assert task.start == day_start(date(2024, 1, 3))
    assert task.last_day == date(2024, 1, 8)
    assert skipped == []


def test_a_rebuilt_series_is_not_rebuilt_again():
    old = chain("2024-01-03", "2024-01-09", spec(rules=OLD))
    assert upgrade_tasks([old, chain("2024-01-01", "2024-01-09")]) == ([], [])


def test_a_series_that_cannot_be_rebuilt_is_named_with_the_reason():
    newer = chain(
        "2024-01-01", "2024-01-05", spec(rules=BarRules(bar_semantics=BAR_SEMANTICS + 1))
    )  # fmt: skip
    gap = chain(
        "2024-01-01", "2024-01-05",
        spec(rules=BarRules(bar_semantics=BAR_SEMANTICS - 1, max_gap_us=1)),
    )  # fmt: skip
    tasks, skipped = upgrade_tasks([newer, gap])
    assert tasks == []
    assert {series for series, _ in skipped} == {newer.series, gap.series}
