"""A population stores the bars of one pass, day by day, and resumes at its frontier."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.tapes import (
    SYMBOL,
    bars_of,
    chains,
    day,
    facts,
    kept,
    of_days,
    rows,
    specs,
    store,
    tape,
    whole,
)
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.leases import _beat, hold_leases
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import details_of
from rangebar_polars.events import clear_hooks, flush_hooks, register_for_all
from rangebar_polars.exceptions import (
    CoverageError,
    LeaseError,
    LeaseLostError,
    PopulationError,
    ThresholdError,
)
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.ingest.newest_day import ClampWarning
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.storage.parquet import TickStorage

TICKS = tape()


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open, without a source of ticks."""
    with open_cache(cache_dir=folder, write=True):
        yield folder


def populate(folder, first, last, **options):
    return populate_cache_resumable(
        SYMBOL, day(first), day(last), **{"cache_dir": folder, "verbose": False, **options}
    )


@pytest.mark.parametrize("reset", ["year", "month", "week", "day", "none"])
def test_published_bars_are_those_of_one_pass_over_the_ticks(place, reset):
    store(place, tape(15))
    report = populate(place, 1, 14, ouroboros=reset)
    # The forming bar at the end is stored if a reset ends it there.
    expected = whole(tape(15), reset=None if reset == "none" else reset, last=14)
    assert_frame_equal(kept(place, reset=reset), expected)
    assert int(report) == expected.filter("is_closed").height > 100
    assert report.is_complete


def test_bars_that_a_reset_ended_are_stored_and_not_counted(place):
    store(place, TICKS)
    report = populate(place, 7, 12)
    (ended,) = [unit for c in chains(place).values() for unit in c.units if unit.orphan_rows]
    assert (ended.day, ended.orphan_rows) == (date(2024, 12, 31), 1)
    assert report.series[0].orphans == 1
    assert int(report) == kept(place).filter("is_closed").height == kept(place).height - 1


def test_a_second_run_writes_nothing(place):
    store(place, TICKS)
    first = populate(place, 1, 12, threshold_decimal_bps=[250, 500])
    before = rows(place)
    again = populate(place, 1, 12, threshold_decimal_bps=[250, 500])
    assert rows(place) == before
    assert (int(first) > 0, int(again), again.published) == (True, 0, 0)
    assert [one.kept for one in again.series] == [one.planned for one in again.series]


def test_a_later_end_continues_from_the_state(place):
    store(place, TICKS)
    for last in (3, 4, 9, 14):
        populate(place, 1, last)
    (old, new) = chains(place).values()
    assert (old.frontier, new.frontier) == (date(2025, 1, 1), day(15))
    assert_frame_equal(kept(place), whole(TICKS))


def test_each_threshold_continues_from_its_own_frontier(place):
    store(place, TICKS)
    populate(place, 1, 3, threshold_decimal_bps=250)
    populate(place, 1, 6, threshold_decimal_bps=500)
    report = populate(place, 1, 8, threshold_decimal_bps=[250, 500, 1000])
    assert [one.published for one in report.series] == [5, 2, 8]
    assert [one.is_new for one in report.series] == [False, False, True]
    for threshold in (250, 500, 1000):
        expected = whole(of_days(TICKS, 1, 8), threshold)
        assert_frame_equal(kept(place, threshold), expected)


def test_a_gate_that_is_off_is_another_series(place):
    store(place, TICKS)
    populate(place, 1, 3)
    populate(place, 1, 3, prevent_same_timestamp_close=False)
    expected = whole(of_days(TICKS, 1, 3), prevent_same_timestamp_close=False)
    assert_frame_equal(kept(place, gate=False), expected)
    assert_frame_equal(kept(place), whole(of_days(TICKS, 1, 3)))


def test_an_earlier_start_is_another_series_and_a_later_one_is_not(place):
    store(place, TICKS)
    late = populate(place, 5, 7)
    both = populate(place, 1, 8)
    again = populate(place, 3, 8)
    assert [one.is_new for one in (*late.series, *both.series, *again.series)] == [
        True,
        True,
        False,
    ]
    found = chains(place)
    assert {anchor for _, anchor in found} == {day(1), day(5)}
    assert_frame_equal(bars_of(place, found[250, day(1)]), whole(of_days(TICKS, 1, 8)))
    assert_frame_equal(bars_of(place, found[250, day(5)]), whole(of_days(TICKS, 5, 7)))
    assert int(again) == 0


def test_a_start_within_a_stored_series_continues_it(place):
    store(place, TICKS)
    populate(place, 1, 8)
    report = populate(place, 5, 7)
    assert (int(report), {anchor for _, anchor in chains(place)}) == (0, {day(1)})


def test_a_start_beyond_a_stored_series_leaves_it_alone(place):
    store(place, TICKS)
    populate(place, 1, 3)
    populate(place, 6, 8)
    found = chains(place)
    assert {anchor: chain.frontier for (_, anchor), chain in found.items()} == {
        day(1): day(4),
        day(6): day(9),
    }


def test_days_without_a_trade_are_units_and_others_stop_the_segment(place):
    ticks = TICKS.filter(~pl.col("timestamp").dt.date().is_in([day(3), day(4)]))
    ids = pl.int_range(pl.len(), dtype=pl.Int64)
    ticks = ticks.with_columns(agg_trade_id=1_000 + ids)
    store(place, ticks, absent=(3, 4))
    report = populate(place, 1, 9)
    assert report.absent == [day(3), day(4)]
    assert_frame_equal(kept(place), whole(of_days(ticks, 1, 10), last=9))
    (chain,) = chains(place).values()
    with open_cache(cache_dir=place) as cache:
        states = details_of(cache, chain.units)["day_state"].to_list()
    assert states[2:4] == ["absent_confirmed"] * 2
    assert [unit.rows for unit in chain.units[2:4]] == [0, 0]


def test_a_hole_stops_its_segment_and_no_other(place):
    missing = TICKS.filter(pl.col("timestamp").dt.date() != day(4))
    store(place, missing)
    with pytest.raises(PopulationError, match=str(day(4))) as caught:
        populate(place, 1, 14)
    report = caught.value.report
    assert isinstance(caught.value, CoverageError)
    assert caught.value.days == (day(4),) == tuple(report.holes)
    found = chains(place)
    assert found[250, day(1)].frontier == day(4)
    assert found[250, date(2025, 1, 1)].frontier == day(15)
    assert [one.published for one in report.series] == [3, 5]
    assert_frame_equal(bars_of(place, found[250, day(1)]), whole(of_days(TICKS, 1, 3)))


def test_a_population_continues_after_a_filled_hole(place):
    store(place, TICKS.filter(pl.col("timestamp").dt.date() != day(4)))
    with pytest.raises(PopulationError):
        populate(place, 1, 14)
    store(place, of_days(TICKS, 4, 4))
    assert [one.published for one in populate(place, 1, 14).series] == [6, 0]
    assert_frame_equal(kept(place), whole(TICKS))


def test_ids_that_are_missing_are_a_hole(place):
    store(place, TICKS.filter(~pl.col("agg_trade_id").is_between(1_400, 1_402)))
    with pytest.raises(PopulationError, match="1400 to 1402") as caught:
        populate(place, 1, 6)
    assert caught.value.days == (day(4),)


def test_ids_that_are_missing_after_the_stored_days_are_a_hole(place):
    storage = store(place, TICKS)
    populate(place, 1, 5)
    storage.delete_ticks(SYMBOL, day(1), day(6))
    storage.write_ticks(SYMBOL, of_days(TICKS, 6, 6)[3:])
    with pytest.raises(PopulationError, match="ids 1600 to 1602 are missing") as caught:
        populate(place, 1, 8)
    assert caught.value.days == (day(6),)
    assert chains(place)[250, day(1)].frontier == day(6)
    storage.delete_ticks(SYMBOL, day(6), day(6))
    storage.write_ticks(SYMBOL, of_days(TICKS, 6, 6))
    populate(place, 1, 8)
    assert_frame_equal(kept(place), whole(TICKS, last=8))


def test_a_threshold_with_stored_days_passes_the_hole_of_another(place):
    storage = store(place, TICKS)
    populate(place, 1, 3, threshold_decimal_bps=250)
    populate(place, 1, 6, threshold_decimal_bps=500)
    storage.delete_ticks(SYMBOL, day(5), day(5))
    with pytest.raises(PopulationError) as caught:
        populate(place, 1, 8, threshold_decimal_bps=[250, 500])
    assert [one.published for one in caught.value.report.series] == [1, 2]
    assert [one.hole and one.hole.day for one in caught.value.report.series] == [day(5), None]


def test_an_end_that_no_source_has_is_clamped_to_the_stored_days(place):
    store(place, TICKS)
    with pytest.warns(ClampWarning):
        report = populate(place, 10, 40)
    assert (report.clamped_from, report.clamped_to) == (day(40), day(14))
    assert report.series[-1].planned == 5
    with pytest.warns(ClampWarning):
        again = populate_cache_resumable(SYMBOL, day(10), cache_dir=place, verbose=False)
    assert (int(report) > 0, int(again), again.clamped_to) == (True, 0, None)


def test_workers_give_what_this_process_gives(place, in_memory):
    store(place, TICKS)
    with ThreadPoolExecutor(2) as executor:
        report = populate(
            place, 1, 14, threshold_decimal_bps=[250, 500], ouroboros="week", executor=executor
        )
    assert [one.published for one in report.series] == [6, 6, 7, 7, 1, 1]
    for threshold in (250, 500):
        assert_frame_equal(
            kept(place, threshold, reset="week"), whole(TICKS, threshold, reset="week")
        )


def changed(n):
    """Return the ticks of a day with other prices."""
    return of_days(TICKS, n, n).with_columns(pl.col("price") * 1.01)


def rewrite(folder, n):
    storage = store(folder, of_days(TICKS, 1, 1))
    storage.delete_ticks(SYMBOL, day(n), day(n))
    storage.write_ticks(SYMBOL, changed(n))


def test_changed_ticks_are_an_error_after_the_new_days_are_added(place):
    store(place, TICKS)
    populate(place, 1, 5)
    rewrite(place, 3)
    with pytest.raises(PopulationError, match="refresh_stale=True") as caught:
        populate(place, 1, 8)
    assert caught.value.days == (day(3),) == tuple(caught.value.report.stale)
    assert caught.value.report.published == 3
    before = rows(place)
    with pytest.raises(PopulationError):
        populate(place, 1, 8)
    assert rows(place) == before


def test_bars_are_rebuilt_from_the_first_day_with_changed_ticks(place):
    store(place, TICKS)
    populate(place, 1, 8)
    rewrite(place, 3)
    report = populate(place, 1, 9, refresh_stale=True)
    now = pl.concat([of_days(TICKS, 1, 2), changed(3), of_days(TICKS, 4, 10)])
    assert_frame_equal(kept(place), whole(now, last=9))
    assert report.published == 7
    (chain,) = chains(place).values()
    assert [unit.generation for unit in chain.units] == [0, 0, 1, 1, 1, 1, 1, 1, 1]
    before = rows(place)
    assert int(populate(place, 1, 9, refresh_stale=True)) == 0
    assert rows(place) == before


def test_ticks_that_were_removed_make_nothing_stale(place):
    storage = store(place, TICKS)
    populate(place, 1, 8)
    storage.delete_ticks(SYMBOL, day(1), day(5))
    assert populate(place, 1, 8).is_complete
    assert populate(place, 1, 9).published == 1
    assert_frame_equal(kept(place), whole(TICKS, last=9))


def test_another_run_on_the_same_series_is_refused(place):
    store(place, TICKS)
    key = specs(500)[0].series(date(2025, 1, 1)).lease_key
    with hold_leases([key], cache_dir=place), pytest.raises(LeaseError):
        populate(place, 1, 14, threshold_decimal_bps=[250, 500])
    assert chains(place, 250, 500) == {}


def test_a_series_that_another_has_taken_over_is_published_no_further(place):
    store(place, TICKS)
    key = specs()[0].series(date(2025, 1, 1)).lease_key

    def take_over(step):
        if step is Step.CHECKPOINTS_WRITTEN:
            with open_cache(cache_dir=place) as cache:
                _beat(cache, [key], {key: 99}, 1)

    with on_failpoint(take_over), pytest.raises(LeaseLostError):
        populate(place, 1, 14)
    assert [anchor for _, anchor in chains(place)] == [day(1)]
    assert populate(place, 1, 14).published == 5


def test_several_symbols_are_each_populated_and_reported(place):
    store(place, TICKS)
    TickStorage(place).write_ticks("ETHUSDT", TICKS)
    report = populate_cache_resumable(
        ["btcusdt", "ETHUSDT"], day(1), day(3), cache_dir=place, verbose=False
    )
    assert [one.symbol for one in report.series] == ["BTCUSDT", "ETHUSDT"]
    assert report.series[0].bars == report.series[1].bars > 0


def test_the_report_is_a_number_a_text_and_a_table(place):
    store(place, TICKS)
    report = populate(place, 1, 14, threshold_decimal_bps=[250, 500])
    assert int(report) == sum(one.bars for one in report.series)
    assert report.frame()["bars"].sum() == int(report)
    assert "BTCUSDT at 250 dbps, year 2024, new from 2024-12-23: 9 of 9 days" in str(report)
    assert report._repr_html_().startswith("<table>")
    assert report.clamped_to is None


def test_events_report_published_days_and_the_outcome(place):
    seen = []
    register_for_all(seen.append)
    try:
        store(place, of_days(TICKS, 1, 2))
        populate(place, 1, 2)
        store(place, of_days(TICKS, 4, 4))
        with pytest.raises(PopulationError):
            populate(place, 1, 4)
        populate(place, 1, 2, notify=False)
        assert flush_hooks(600)
    finally:
        clear_hooks()
    names = [one.event for one in seen if one.event.startswith(("checkpoint", "population"))]
    assert names == ["checkpoint_saved", "population_complete", "population_failed"]
    assert seen[-1].symbol == SYMBOL


def test_invalid_arguments_are_refused(place):
    with pytest.raises(ValueError, match="whole UTC days"):
        populate_cache_resumable(
            SYMBOL, datetime(2024, 12, 23, 5, tzinfo=UTC), day(3), cache_dir=place
        )
    with pytest.raises(ThresholdError):
        populate(place, 1, 3, threshold_decimal_bps=[250, 10])
    with pytest.raises(ValueError, match="fortnight"):
        populate(place, 1, 3, ouroboros="fortnight")
    with pytest.raises(ValueError, match="features"):
        populate(place, 1, 3, features="magic")
    with pytest.raises(ValueError, match="is not after"):
        populate(place, 3, 1)


def test_the_alias_of_the_reset_is_accepted(place):
    store(place, TICKS)
    populate(place, 1, 3, ouroboros_mode="month")
    assert facts(place, reset="month")


SPAN = {"symbol": SYMBOL, "start_date": "2024-12-30", "end_date": "2025-01-02", "verbose": False}


def test_missing_ticks_are_fetched_once(folder, exchange, exchange_tape):
    with open_cache(cache_dir=folder, write=True):
        populate_cache_resumable(**SPAN, cache_dir=folder)
        ticks = pl.concat([exchange_tape.day(one) for one in exchange_tape.days])
        assert_frame_equal(kept(folder), whole(ticks))
        asked = len(exchange.requests)
        populate_cache_resumable(**SPAN, cache_dir=folder, threshold_decimal_bps=[250, 500])
        assert len(exchange.requests) == asked


def test_a_file_that_was_damaged_is_fetched_again_in_the_same_run(folder, exchange, exchange_tape):
    fetch_ticks(SYMBOL, SPAN["start_date"], SPAN["end_date"], cache_dir=folder)
    for path in TickStorage(folder).root.rglob("*2024-12-31*.parquet"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    with open_cache(cache_dir=folder, write=True):
        report = populate_cache_resumable(**SPAN, cache_dir=folder)
        ticks = pl.concat([exchange_tape.day(one) for one in exchange_tape.days])
        assert_frame_equal(kept(folder), whole(ticks))
    assert report.is_complete
