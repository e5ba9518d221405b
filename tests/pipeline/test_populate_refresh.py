"""A rebuild becomes visible once it is complete; an interrupted one is resumed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.tapes import (
    SYMBOL,
    bars_of,
    chains,
    day,
    kept,
    of_days,
    rows,
    specs,
    store,
    tape,
    whole,
)
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.generations import open_generation
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import PopulationError
from rangebar_polars.populate.plan import Job, SeriesJob
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.populate.workers.work import compute_units
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage

TICKS = tape()
SERIES = specs()[0].series(day(1))


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open."""
    with open_cache(cache_dir=folder, write=True):
        yield folder


def populate(folder, first, last, **options):
    return populate_cache_resumable(
        SYMBOL, day(first), day(last), **{"cache_dir": folder, "verbose": False, **options}
    )


def change(folder, first, last, factor=1.02):
    """Change the prices of days; return all ticks."""
    now = of_days(TICKS, first, last).with_columns(pl.col("price") * factor)
    storage = TickStorage(folder)
    storage.delete_ticks(SYMBOL, day(first), day(last))
    storage.write_ticks(SYMBOL, now)
    return now


def generations(folder):
    (chain,) = chains(folder).values()
    return [unit.generation for unit in chain.units], chain


class Cut(BaseException):
    """Raised to interrupt a run."""


def cut_at(step, count=1):
    left = [count]

    def observer(reached):
        if reached == step:
            left[0] -= 1
            if not left[0]:
                raise Cut

    return on_failpoint(observer)


def test_a_refresh_rebuilds_every_day_up_to_the_visible_frontier(place):
    store(place, TICKS)
    populate(place, 1, 8)
    report = populate(place, 3, 5, force_refresh=True)
    assert generations(place)[0] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (report.published, report.series[0].planned) == (6, 3)
    assert_frame_equal(kept(place), whole(TICKS, last=8))


def test_after_a_refresh_days_are_added_as_before(place):
    store(place, TICKS)
    populate(place, 1, 5)
    report = populate(place, 4, 8, force_refresh=True)
    assert generations(place)[0] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert report.published == 5
    populate(place, 1, 9)
    assert_frame_equal(kept(place), whole(TICKS, last=9))


def test_a_refresh_from_the_anchor_replaces_all_old_bars(place):
    store(place, TICKS)
    populate(place, 1, 4, threshold_decimal_bps=[250, 500])
    now = change(place, 2, 3)
    populate(place, 1, 4, threshold_decimal_bps=[250, 500], force_refresh=True)
    ticks = pl.concat([of_days(TICKS, 1, 1), now, of_days(TICKS, 4, 4)])
    for threshold in (250, 500):
        assert_frame_equal(kept(place, threshold), whole(ticks, threshold))


def test_old_bars_are_visible_whole_until_the_new_ones_are(place):
    store(place, TICKS)
    populate(place, 1, 8)
    old = kept(place)
    now = change(place, 4, 5)
    seen = []

    def look(step):
        # The leases are released after everything else.
        if step is not Step.LEASES_RELEASED:
            seen.append((step, kept(place)))

    with on_failpoint(look):
        populate(place, 4, 8, force_refresh=True)
    new = whole(pl.concat([of_days(TICKS, 1, 3), now, of_days(TICKS, 6, 8)]))
    shown = [step for step, _ in seen].index(Step.GENERATION_PUBLISHED)
    assert shown > 3
    assert all(bars.equals(old) for _, bars in seen[:shown])
    assert all(bars.equals(new) for _, bars in seen[shown:])


@pytest.mark.parametrize("step", [Step.BARS_PROVED, Step.UNITS_PROVED, Step.CHECKPOINTS_WRITTEN])
def test_an_interrupted_refresh_is_resumed(place, step):
    store(place, tape(20))
    populate(place, 1, 20, ouroboros="none")
    old = kept(place, reset="none")
    now = change(place, 8, 9)
    # A group ends with its month: the first one holds the days up to the ninth.
    with pytest.raises(Cut), cut_at(step, count=2):
        populate(place, 8, 20, ouroboros="none", force_refresh=True)
    assert_frame_equal(kept(place, reset="none"), old)
    before = rows(place, "generations")["generations"]
    report = populate(place, 8, 20, ouroboros="none", force_refresh=True)
    assert rows(place, "generations")["generations"] == before + 1
    ticks = pl.concat([of_days(TICKS, 1, 7), now, of_days(tape(20), 10, 20)])
    assert_frame_equal(kept(place, reset="none"), whole(ticks, reset=None))
    assert report.published == 13


def test_another_population_discards_an_interrupted_refresh(place):
    store(place, TICKS)
    populate(place, 1, 8)
    with pytest.raises(Cut), cut_at(Step.UNITS_PROVED):
        populate(place, 3, 8, force_refresh=True)
    populate(place, 1, 8)
    found, chain = generations(place)
    assert [one.state for one in chain.generations] == ["discarded"]
    populate(place, 3, 8, force_refresh=True)
    assert generations(place)[0] == [0, 0, *[2] * 6]
    assert found == [0] * 8


def test_a_refresh_from_another_day_discards_an_interrupted_one(place):
    store(place, TICKS)
    populate(place, 1, 8)
    with pytest.raises(Cut), cut_at(Step.UNITS_PROVED):
        populate(place, 3, 8, force_refresh=True)
    populate(place, 4, 8, force_refresh=True)
    found, chain = generations(place)
    assert [one.state for one in chain.generations] == ["discarded", "published"]
    assert found == [0, 0, 0, *[2] * 5]


def test_a_refresh_whose_ticks_changed_meanwhile_starts_over(place):
    store(place, TICKS)
    populate(place, 1, 8)
    with pytest.raises(Cut), cut_at(Step.UNITS_PROVED):
        populate(place, 3, 8, force_refresh=True)
    now = change(place, 4, 4)
    populate(place, 3, 8, force_refresh=True)
    _, chain = generations(place)
    assert [one.state for one in chain.generations] == ["discarded", "published"]
    ticks = pl.concat([of_days(TICKS, 1, 3), now, of_days(TICKS, 5, 8)])
    assert_frame_equal(kept(place), whole(ticks))


def test_a_complete_refresh_that_was_not_published_is_published(place):
    store(place, TICKS)
    populate(place, 1, 8)
    change(place, 4, 4)
    with pytest.raises(Cut), cut_at(Step.CHECKPOINTS_WRITTEN):
        populate(place, 3, 8, force_refresh=True)
    before = rows(place, "units")
    populate(place, 3, 8, force_refresh=True)
    assert rows(place, "units") == before
    assert generations(place)[0] == [0, 0, *[1] * 6]


def test_a_refresh_that_meets_a_hole_is_not_published(place):
    storage = store(place, TICKS)
    populate(place, 1, 8)
    old = kept(place)
    change(place, 4, 4)
    storage.delete_ticks(SYMBOL, day(6), day(6))
    with pytest.raises(PopulationError, match=str(day(6))) as caught:
        populate(place, 3, 8, force_refresh=True)
    assert caught.value.days == (day(4), day(6))
    assert_frame_equal(kept(place), old)
    store(place, of_days(TICKS, 6, 6))
    populate(place, 3, 8, force_refresh=True)
    assert generations(place)[0] == [0, 0, *[1] * 6]


def test_each_segment_is_rebuilt_by_itself(place):
    store(place, TICKS)
    populate(place, 1, 14)
    populate(place, 8, 14, force_refresh=True)
    found = {anchor: chain for (_, anchor), chain in chains(place).items()}
    old, new = found[day(1)], found[date(2025, 1, 1)]
    assert [unit.generation for unit in old.units] == [*[0] * 7, 1, 1]
    assert [unit.generation for unit in new.units] == [1] * 5
    assert_frame_equal(kept(place), whole(TICKS))


# States of another version


def published_with(folder, last, state):
    """Publish days of a series with a state that this version cannot read."""
    with hold_leases([SERIES.lease_key], cache_dir=folder) as leases:
        fencing = leases.fencing[SERIES.lease_key]
        series_job = SeriesJob(SERIES, day(1), 0, None, 0, fencing)
        job = Job(
            SYMBOL, Venue(), "year", SERIES.segment_start, day(1), day(last), (series_job,),
            str(folder), None, leases.holder,
        )  # fmt: skip
        with open_cache(cache_dir=folder) as cache:
            for drafts in compute_units(job):
                publish(cache, [replace(draft, state=state) for draft in drafts])


def test_an_unreadable_state_is_recomputed(place):
    store(place, TICKS)
    published_with(place, 4, b"of another version")
    report = populate(place, 1, 8)
    assert report.published == 4
    assert_frame_equal(kept(place), whole(TICKS, last=8))


def test_bars_that_differ_from_recomputed_ones_are_stale(place):
    store(place, TICKS)
    published_with(place, 4, b"of another version")
    now = change(place, 3, 3)
    with pytest.raises(PopulationError, match="refresh_stale=True") as caught:
        populate(place, 1, 8)
    assert caught.value.days == (day(3),)
    assert caught.value.report.published == 0
    report = populate(place, 1, 8, refresh_stale=True)
    ticks = pl.concat([of_days(TICKS, 1, 2), now, of_days(TICKS, 4, 8)])
    assert_frame_equal(kept(place), whole(ticks))
    assert report.published == 6


def test_a_state_that_cannot_be_recomputed_is_a_hole(place):
    storage = store(place, TICKS)
    published_with(place, 4, b"of another version")
    storage.delete_ticks(SYMBOL, day(2), day(2))
    with pytest.raises(PopulationError, match=f"of another version.*{day(2)}"):
        populate(place, 1, 8)
    assert generations(place)[0] == [0] * 4


def test_an_open_rebuild_of_another_population_is_discarded(place):
    store(place, TICKS)
    populate(place, 1, 4)
    with open_cache(cache_dir=place) as cache:
        open_generation(cache, SERIES, day(2), fencing=1)
    populate(place, 1, 4)
    before = rows(place)
    populate(place, 1, 4)
    assert rows(place) == before
    assert [one.state for one in generations(place)[1].generations] == ["discarded"]


def test_bars_of_a_series_are_read_from_one_generation(place):
    store(place, TICKS)
    populate(place, 1, 6)
    change(place, 2, 2)
    populate(place, 2, 6, force_refresh=True)
    (chain,) = chains(place).values()
    numbers = bars_of(place, chain)["first_agg_trade_id"]
    assert numbers.is_sorted()
    assert numbers.n_unique() == numbers.len()
