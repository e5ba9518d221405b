"""An upgrade adds groups to stored bars as a whole, wherever it is killed, and changes no bar."""

from __future__ import annotations

import shutil
import signal
import uuid

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.groups import TICKS, assert_same, frame, populate, version_1, words
from pipeline.tapes import SYMBOL, chains, day, kept, of_days, rows, store
from population.workers import Workers
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import PopulationError
from rangebar_polars.maintenance.update import update, upgrade
from rangebar_polars.storage.parquet import TickStorage

GROUPS = ["lookback", "intrabar"]
BOTH = "core intrabar@1 lookback@1(records=200) microstructure"

STEPS = [
    (Step.COLUMNS_ADDED, 1),
    (Step.COLUMNS_ADDED, 2),
    (Step.GENERATION_OPENED, 1),
    (Step.BARS_INSERTED, 1),
    (Step.UNITS_INSERTED, 1),
    (Step.CHECKPOINTS_WRITTEN, 1),
    (Step.GENERATION_PUBLISHED, 1),
    (Step.GENERATION_PUBLISHED, 2),
]


class Cut(BaseException):
    """Raised to interrupt a run."""


def cut_at(step):
    def observer(reached):
        if reached == step:
            raise Cut

    return on_failpoint(observer)


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open."""
    with open_cache(cache_dir=folder, write=True):
        store(folder, TICKS)
        yield folder


@pytest.fixture(scope="module")
def workers(in_memory):
    """Return processes that are forked, as an interpreter takes long to start."""
    pytest.importorskip("chdb")
    one = Workers(in_memory / uuid.uuid4().hex[:12])
    yield one
    one.stop()


@pytest.fixture(scope="module")
def stocked(in_memory):
    """Return a folder with bars without groups, over a reset."""
    pytest.importorskip("chdb")
    target = in_memory / uuid.uuid4().hex[:12]
    store(target, TICKS)
    populate(target, 1, 11, notify=False)
    return target


def test_an_upgrade_is_visible_as_a_whole_and_changes_no_bar(place):
    populate(place, 1, 8)
    old, bytes_before = kept(place), version_1(place)
    seen = []

    def look(step):
        if step.area == "cache" and step is not Step.LEASES_RELEASED:
            seen.append((step, set(words(place)), kept(place)))

    with on_failpoint(look):
        # The days that are requested do not matter: the whole series gets the groups.
        report = populate(place, 5, 6, features=GROUPS)
    assert report.upgraded == [day(n) for n in range(1, 9)]
    assert "upgraded: 2024-12-23" in str(report)
    assert report.frame()["upgraded"].to_list() == [8]
    shown = [step for step, *_ in seen].index(Step.GENERATION_PUBLISHED)
    assert all(found == {"core microstructure"} for _, found, _ in seen[:shown])
    assert all(found == {BOTH} for _, found, _ in seen[shown:])
    assert all(bars.equals(old) for *_, bars in seen)
    after = version_1(place)[1].filter(pl.int_range(pl.len()).over("unit_day") == 1)
    assert after["processor_state"].equals(bytes_before[1]["processor_state"])
    assert_same(place, frame(TICKS, last=8, features=GROUPS))
    stored = rows(place)
    assert populate(place, 5, 6, features=GROUPS).upgraded == []
    assert rows(place) == stored


def test_changed_ticks_discard_an_upgrade_unless_they_are_accepted(place):
    populate(place, 1, 8)
    old = kept(place)
    now = of_days(TICKS, 4, 4).with_columns(pl.col("price") * 1.02)
    storage = TickStorage(place)
    storage.delete_ticks(SYMBOL, day(4), day(4))
    storage.write_ticks(SYMBOL, now)
    with pytest.raises(PopulationError, match="refresh_stale=True") as caught:
        populate(place, 1, 8, features=GROUPS)
    assert day(4) in caught.value.report.stale
    assert_frame_equal(kept(place), old)
    assert set(words(place)) == {"core microstructure"}
    (chain,) = chains(place).values()
    assert [one.state for one in chain.generations] == ["discarded"]
    populate(place, 1, 8, features=GROUPS, refresh_stale=True)
    ticks = pl.concat([of_days(TICKS, 1, 3), now, of_days(TICKS, 5, 8)])
    assert_same(place, frame(ticks, features=GROUPS))


def test_a_population_without_groups_leaves_an_interrupted_upgrade(place):
    populate(place, 1, 5)
    with pytest.raises(Cut), cut_at(Step.CHECKPOINTS_WRITTEN):
        populate(place, 1, 5, features=GROUPS)
    populate(place, 1, 8)
    before = rows(place, "generations")["generations"]
    stored = rows(place)
    populate(place, 1, 8)
    # A merge may join rows of leases at any moment.
    assert rows(place) | {"leases": 0} == stored | {"leases": 0}
    # Resumed, and extended to the days that were added meanwhile.
    report = populate(place, 1, 8, features="lookback")
    assert (report.published, len(report.upgraded)) == (3, 8) or report.published == 8
    assert rows(place, "generations")["generations"] == before + 1
    assert set(words(place)) == {BOTH}
    assert_same(place, frame(TICKS, last=8, features=GROUPS))


@pytest.mark.parametrize(
    "options",
    [{"force_refresh": True}, {"features": "extended"}, {"features": GROUPS, "lookback": 9}],
)
def test_an_interrupted_upgrade_that_does_not_fit_is_discarded(place, options):
    populate(place, 1, 5)
    with pytest.raises(Cut), cut_at(Step.CHECKPOINTS_WRITTEN):
        populate(place, 1, 5, features=GROUPS)
    populate(place, 1, 5, **options)
    (chain,) = chains(place).values()
    assert [one.state for one in chain.generations] == ["discarded", "published"]
    features = options.get("features", "core")
    names = {one.partition("@")[0] for one in words(place)[0].split()}
    assert names - {"core", "microstructure"} == ({*features} if isinstance(features, list) else
                                                  {features} - {"core"})  # fmt: skip


def test_an_upgrade_whose_ticks_changed_meanwhile_starts_over(place):
    populate(place, 1, 5)
    with pytest.raises(Cut), cut_at(Step.CHECKPOINTS_WRITTEN):
        populate(place, 1, 5, features=GROUPS)
    storage = TickStorage(place)
    storage.delete_ticks(SYMBOL, day(2), day(2))
    storage.write_ticks(SYMBOL, of_days(TICKS, 2, 2).with_columns(pl.col("price") * 1.01))
    populate(place, 1, 5, features=GROUPS, refresh_stale=True)
    (chain,) = chains(place).values()
    assert [one.state for one in chain.generations] == ["discarded", "published"]


def test_days_of_another_package_have_no_groups_until_an_upgrade(place, monkeypatch):
    populate(place, 1, 3, features=GROUPS)
    # Such a package continues the series from its state, and knows no words but its own.
    with monkeypatch.context() as other:
        other.setattr("rangebar_polars.populate.plan.stored_features", lambda _: NOTHING)
        populate(place, 1, 5)
    assert words(place)[3:] == ["core microstructure"] * 2
    report = populate(place, 1, 6)
    assert "without lookback, intrabar: `rangebar cache upgrade` adds them" in str(report)
    assert words(place)[5] == "core microstructure"
    upgrade(cache_dir=place, verbose=False)
    assert words(place) == [BOTH] * 6
    update(cache_dir=place, verbose=False, end_date=day(12))
    assert words(place) == [BOTH] * 12
    assert_same(place, frame(TICKS, last=12, features=GROUPS))


def _nothing():
    from rangebar_polars.bar_series.features import NO_FEATURES

    return NO_FEATURES


NOTHING = _nothing()


@pytest.mark.parametrize(("step", "count"), STEPS, ids=str)
def test_a_killed_upgrade_is_completed_and_readers_see_the_same_bars(
    stocked, folder, workers, step, count
):
    target = folder / "killed"
    shutil.copytree(stocked, target, symlinks=True)
    old = kept(target)
    child = workers.start(
        "populate",
        die_at=(f"cache:{step.name}", count),
        symbol=SYMBOL,
        start_date=str(day(1)),
        end_date=str(day(11)),
        features=GROUPS,
        cache_dir=str(target),
    )
    assert child.ended() == signal.SIGKILL
    with open_cache(cache_dir=target, write=True):
        assert_frame_equal(kept(target), old)
        populate(target, 1, 12)
        assert_frame_equal(kept(target).head(old.height), old)
        populate(target, 1, 12, features=GROUPS)
        assert set(words(target)) == {BOTH}
        assert_same(target, frame(TICKS, last=12, features=GROUPS))
        stored = rows(target)
        populate(target, 1, 12, features=GROUPS)
        assert rows(target) == stored
