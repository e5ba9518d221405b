"""Publication: only proved rows become visible, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from series_data import FIRST, SERIES, SPEC, bars_on, days, drafts, expected

from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.publish import publish, write_checkpoints
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains, states_of
from rangebar_polars.exceptions import CacheWriteError, LeaseLostError


def chain_of(cache, series=SERIES):
    return read_chains(cache, [series.spec])[series]


def bars_in(cache, **options):
    return read_bars(cache, chain_of(cache).units, include_orphans=True, **options)


def test_published_bars_are_read_unchanged(cache):
    units = publish(cache, drafts(3))
    assert chain_of(cache).units == tuple(units)
    assert bars_in(cache).equals(expected(days(3)))
    states = states_of(cache, units)
    assert [states[unit] for unit in units] == [day.isoformat().encode() for day in days(3)]


def test_a_group_of_several_series_is_published_as_one(cache):
    other = BarSpec.of("BTCUSDT", 500).series(FIRST)
    gate_off = replace(SPEC.rules, prevent_same_timestamp_close=False)
    third = replace(SPEC, rules=gate_off).series(FIRST)
    publish(cache, [*drafts(2), *drafts(3, series=other), *drafts(1, series=third)])
    found = read_chains(cache)
    assert {s: len(c.units) for s, c in found.items()} == {SERIES: 2, other: 3, third: 1}
    assert cache.scalar(f"SELECT uniqExact(attempt) FROM {cache.table('units')}") == 6


def test_a_group_continues_the_previous_one(cache):
    last = publish(cache, drafts(2))[-1]
    publish(cache, drafts(2, first=days(3)[2], built_on=last.attempt))
    assert chain_of(cache).frontier == days(5)[4]


def test_a_day_without_bars_is_a_unit(cache):
    middle = drafts(3)
    middle[1] = replace(middle[1], bars=bars_on(days(2)[1], count=0))
    units = publish(cache, middle)
    assert [unit.rows for unit in units] == [12, 0, 12]
    assert (units[1].first_close_us, units[1].last_close_us) == (None, None)
    assert bars_in(cache).equals(expected([days(3)[0], days(3)[2]]))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: [drafts(1)[0], drafts(1)[0]],
        lambda: [replace(drafts(1)[0], built_on=None)],
        lambda: [replace(one, built_on=7) for one in drafts(2)],
        lambda: drafts(1, built_on=7),
        lambda: drafts(1, first=days(2)[1]),
        lambda: drafts(1, first=FIRST - timedelta(days=1)),
        lambda: drafts(1, first=date(2025, 1, 1), built_on=7),
        lambda: [replace(drafts(1)[0], bars=bars_on(days(2)[1]))],
    ],
)
def test_drafts_that_are_not_consecutive_are_refused(cache, wrong):
    with pytest.raises(ValueError, match=r"unit|not a day"):
        publish(cache, wrong())
    assert cache.scalar(f"SELECT count() FROM {cache.table('bars')}") == 0


def spoil(cache, statement, times):
    """Change the newest attempts after their insert, `times` times."""
    left = [times]

    def observe(step):
        if step is Step.BARS_INSERTED and left[0]:
            left[0] -= 1
            cache.command(statement.format(bars=cache.table("bars"), number=left[0]))

    return on_failpoint(observe)


CHANGES = {
    "rows sent twice": "INSERT INTO {bars} SELECT * REPLACE (now64(3) + {number} AS written_at) FROM {bars}",
    "a row lost": "DELETE FROM {bars} WHERE bar_seq = 3",
    "another value": "ALTER TABLE {bars} UPDATE ofi = ofi / 3 WHERE bar_seq = 5 SETTINGS mutations_sync = 2",
    "a null": "ALTER TABLE {bars} UPDATE vwap = NULL WHERE bar_seq = 5 SETTINGS mutations_sync = 2",
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_attempt_that_was_stored_wrongly_is_replaced(cache, change):
    with spoil(cache, CHANGES[change], times=1):
        publish(cache, drafts(1))
    assert cache.scalar(f"SELECT uniqExact(attempt) FROM {cache.table('bars')}") == 2
    assert bars_in(cache).equals(expected(days(1)))


def test_three_failed_attempts_are_an_error_and_nothing_is_visible(cache):
    with (
        spoil(cache, CHANGES["a row lost"], times=99),
        pytest.raises(CacheWriteError, match="did not store the bars"),
    ):
        publish(cache, drafts(1))
    assert read_chains(cache) == {}
    assert cache.scalar(f"SELECT count() FROM {cache.table('units')}") == 0


# --- two writers ---------------------------------------------------------------------------------


def test_of_two_writers_the_higher_fencing_number_wins_and_the_other_gets_an_error(cache):
    publish(cache, drafts(2, fencing=2))
    with pytest.raises(LeaseLostError, match="another writer"):
        publish(cache, drafts(2, fencing=1, scale=3.0))
    assert bars_in(cache).equals(expected(days(2)))


def test_a_writer_that_was_taken_over_publishes_nothing_more(cache):
    old = publish(cache, drafts(1, fencing=1))[-1]
    publish(cache, drafts(2, fencing=2, scale=3.0))
    with pytest.raises(LeaseLostError):
        publish(cache, drafts(1, first=days(2)[1], built_on=old.attempt, fencing=1))
    assert bars_in(cache).equals(expected(days(2), scale=3.0))


def test_of_two_writers_with_one_number_exactly_one_succeeds(cache):
    publish(cache, drafts(1))
    lost = 0
    for _ in range(4):
        before = chain_of(cache).units
        try:
            publish(cache, drafts(1))
        except LeaseLostError:
            lost += 1
            assert chain_of(cache).units == before
        smallest = cache.scalar(f"SELECT min(attempt) FROM {cache.table('units')}")
        assert chain_of(cache).units[0].attempt == smallest
    assert chain_of(cache).units[0].rows == 12


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_is_a_copy_of_the_newest_unit(cache):
    units = publish(cache, drafts(3))
    for unit in units[1:]:
        write_checkpoints(cache, [unit])
    table = cache.table("population_checkpoints")
    columns = "unit_day, attempt, processor_state"
    rows = cache.query(f"SELECT {columns} FROM {table} FINAL", binary=True).rows()
    assert rows == [(units[2].day, units[2].attempt, days(3)[2].isoformat().encode())]
    write_checkpoints(cache, [])
