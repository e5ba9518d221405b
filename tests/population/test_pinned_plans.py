"""A read gives the bars of one computation, whatever replaces stored bars and ticks meanwhile."""

from __future__ import annotations

import itertools
import warnings
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from population.places import Place
from population.tape import ONE_DAY, at, store, tape
from rangebar_polars.clickhouse.gc import gc
from rangebar_polars.exceptions import SnapshotExpiredError
from rangebar_polars.maintenance.drop import SeriesFilter, remove
from rangebar_polars.readers import execute as reading
from rangebar_polars.readers import lazy as lazily
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage

#: A year, a month and weeks begin within it; the last days are not populated.
FIRST, KEPT, LAST = date(2023, 12, 28), date(2024, 1, 4), date(2024, 1, 8)
OLD = tape(FIRST, LAST, 14, step=0.0016, grid_us=7_200_000_000)
RESETS = ["none", "year", "week", "week", "day"]
#: Events that leave every row and file of a plan in place.
KEEPS = ["ticks", "refresh", "force", "extend"]
#: Events that replace bars by equal ones.
REPEATS = ["force same, gc", "drop, populate same"]
REMOVES = ["refresh, gc", "force, gc", "drop, populate", "drop"]

pytestmark = pytest.mark.filterwarnings("ignore::rangebar_polars.storage.coverage.CoverageWarning")


@pytest.fixture(scope="module")
def shared(new_folder):
    """Return one cache for all histories, each with its own symbol, as an engine starts slowly."""
    place = Place(new_folder())
    with pytest.MonkeyPatch.context() as patch, place.open():
        patch.setenv("RANGEBAR_SYMBOL_GATE", "off")
        patch.setattr(lazily, "_MOST_ROWS", 5)
        yield place


_numbers = itertools.count()


class History:
    """Bars of one symbol stored up to a day, and ticks beyond it."""

    def __init__(self, place, reset):
        self.place, self.reset = place, reset
        self.symbol = f"Y{next(_numbers)}USDT"
        self.ticks = OLD
        store(place.folder, OLD, self.symbol)
        self.populate()

    def populate(self, last=KEPT, **options):
        self.place.populate(
            FIRST, last, symbol=self.symbol, ouroboros=self.reset, **options
        )  # fmt: skip

    def scan(self):
        return rb.scan_range_bars(self.symbol, FIRST, LAST, features="microstructure", **self.given)

    @property
    def given(self):
        return {
            "ouroboros": self.reset,
            "include_orphaned_bars": True,
            "fetch_if_missing": False,
            **self.place.arguments,
        }

    def expected(self):
        """Return the bars of the current ticks."""
        reset = None if self.reset == "none" else self.reset
        made = self.ticks.rangebar.bars(
            250, features="microstructure", incomplete="keep", reset=reset
        )
        # The last day also ends its segment.
        ended = pl.col("ended_by").is_not_null() | pl.lit(self.reset == "day")
        return made.filter(ended).drop("bar_id")

    def event(self, kind, day):
        """Do what another process may do at any moment."""
        if "same" not in kind and kind not in {"extend", "drop"}:
            self._replace_ticks(day)
        if kind.startswith("refresh"):
            self.populate(refresh_stale=True)
        if kind.startswith("force"):
            self.populate(force_refresh=True)
        if kind == "extend":
            self.populate(KEPT + 2 * ONE_DAY)
        if kind.startswith("drop"):
            remove(SeriesFilter(self.symbol), **self.place.arguments)
        if kind.startswith("drop, populate"):
            self.populate()
        if kind.endswith("gc"):
            with self.place.open() as cache:
                gc(cache, min_age=timedelta(0))

    def _replace_ticks(self, day):
        """Change prices from a day on, as if the source had republished its files."""
        changed = pl.col("timestamp") >= at(day)
        price = pl.when(changed).then((pl.col("price") * 1.07).round(2)).otherwise("price")
        self.ticks = self.ticks.with_columns(price.alias("price"))
        storage = TickStorage(self.place.folder)
        storage.delete_ticks(self.symbol, day, LAST)
        storage.write_ticks(self.symbol, self.ticks.filter(changed))


class Before:
    """Runs an action before one of the calls of a function."""

    def __init__(self, module, name, patch, number, action):
        self.left, self.action = number, action
        self.function = getattr(module, name)
        patch.setattr(module, name, self)

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            self.action()
        return self.function(*arguments, **options)


def values(frame):
    return [name for name in frame.columns if name not in {"is_closed", "ended_by"}]


def same(found, expected):
    assert_frame_equal(found.select(values(found)), expected.select(values(found)))


DAYS = st.integers(0, (LAST - FIRST).days).map(lambda n: FIRST + n * ONE_DAY)
FEW = settings(
    max_examples=max(3, settings().max_examples // 16), phases=[Phase.explicit, Phase.generate]
)


@FEW
@given(
    st.sampled_from(RESETS),
    st.sampled_from(KEEPS + REPEATS + REMOVES + REMOVES),
    DAYS,
    # Before the plan is collected, or before the n-th read of stored bars.
    st.sampled_from([0, 0, 1, 2, 3, 4]),
    st.sampled_from(["in-memory", "streaming"]),
)
def test_a_plan_gives_its_own_snapshot_or_raises_that_it_has_expired(
    shared, reset, kind, day, number, engine
):
    one = History(shared, reset)
    plan, expected = one.scan(), one.expected()
    with pytest.MonkeyPatch.context() as patch:
        if number:
            Before(lazily, "open_if_wanted", patch, number, lambda: one.event(kind, day))
        else:
            one.event(kind, day)
        try:
            found = plan.collect(engine=engine)
        except (SnapshotExpiredError, pl.exceptions.ComputeError) as error:
            assert kind in REMOVES
            assert "not in the cache any more" in str(error)  # noqa: PT017
            return
    same(found, expected)


@pytest.mark.parametrize(("number", "engine"), [(0, "in-memory"), (2, "streaming")])
@pytest.mark.parametrize("kind", REMOVES)
def test_a_plan_whose_bars_are_gone_raises_and_can_be_made_again(shared, kind, number, engine):
    one = History(shared, "none")
    plan = one.scan()
    with pytest.MonkeyPatch.context() as patch:
        if number:
            Before(lazily, "open_if_wanted", patch, number, lambda: one.event(kind, FIRST))
        else:
            one.event(kind, FIRST)
        with pytest.raises(
            (SnapshotExpiredError, pl.exceptions.ComputeError), match="call scan_range_bars"
        ):
            plan.collect(engine=engine)
    same(one.scan().collect(engine=engine), one.expected())


@FEW
@given(
    st.sampled_from(RESETS),
    st.sampled_from(KEEPS + REPEATS + REMOVES),
    DAYS,
    # Before or after the ticks that continue stored bars are read.
    st.sampled_from(["with_ticks", "stale_warnings"]),
    st.booleans(),
)
def test_a_read_gives_the_bars_from_before_or_from_after(shared, reset, kind, day, step, is_lazy):
    one = History(shared, reset)
    before = one.expected()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        Before(reading, step, patch, 1, lambda: one.event(kind, day))
        if is_lazy:
            found = one.scan().collect()
        else:
            chart = rb.get_range_bars(
                one.symbol, FIRST, LAST, include_microstructure=True, **one.given
            )
            found = pl.DataFrame({"close": chart["Close"].to_numpy()})
    after = one.expected()
    if kind == "ticks" and day <= KEPT:
        # The stored bars were not rebuilt, which is a warning.
        assert any("other ticks" in str(one.message) for one in caught)
        return
    names = values(found)
    assert found.select(names).equals(before.select(names)) or found.select(names).equals(
        after.select(names)
    )


@pytest.mark.parametrize(
    ("kind", "step"), [("refresh, gc", "with_ticks"), ("drop, populate", "stale_warnings")]
)
def test_the_newest_bars_are_those_from_before_or_from_after(shared, kind, step):
    one = History(shared, "year")
    before = one.expected()
    with pytest.MonkeyPatch.context() as patch:
        Before(reading, step, patch, 1, lambda: one.event(kind, FIRST))
        chart = rb.get_n_range_bars(
            one.symbol, 20, end_date=LAST, ouroboros="year", fetch_if_missing=False,
            **one.place.arguments,
        )  # fmt: skip
    closes = [
        frame.filter("is_closed")["close"].tail(20).to_list() for frame in (before, one.expected())
    ]
    assert chart["Close"].to_list() in closes


def test_a_read_that_is_overtaken_every_time_gives_up(shared, monkeypatch):
    one = History(shared, "none")
    real = reading.with_ticks

    def overtaken(*arguments):
        one.event("refresh", FIRST)
        return real(*arguments)

    monkeypatch.setattr(reading, "with_ticks", overtaken)
    with pytest.raises(SnapshotExpiredError, match="replaced while they were read"):
        rb.get_range_bars(one.symbol, FIRST, LAST, **one.given)
