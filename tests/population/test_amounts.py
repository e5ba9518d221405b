"""Many bars of one instant, the largest amounts, holes, and very large days."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from population.oracle import assert_kept, spec
from population.places import Place
from population.tape import (
    DAY_US,
    ONE_DAY,
    SYMBOL,
    at,
    bars,
    between,
    microseconds,
    store,
    tape,
    walk,
)
from rangebar_polars.exceptions import CoverageError, PopulationError
from rangebar_polars.readers.cached import count_bars, get_cached_bars
from rangebar_polars.storage.parquet import TickStorage

DAY = date(2024, 2, 5)


@pytest.mark.parametrize("gate", [True, False])
def test_every_bar_of_one_millisecond_is_stored(embedded, is_long, gate):
    """A burst between two ordinary days, with prices that leap at every trade."""
    count = 100_000 if is_long else 10_000
    random = np.random.default_rng(1)
    noon = microseconds(at(DAY)) + DAY_US // 2
    burst = np.sort(noon + random.integers(0, 1_000, count))
    around = [microseconds(at(DAY + n * ONE_DAY)) + 1 for n in (-1, 0, 1)]
    times = np.sort(np.concatenate([burst, np.array(around)]))
    ticks = walk(times, random, 0.002, len(times))
    store(embedded.folder, ticks)
    days = (DAY - ONE_DAY, DAY + ONE_DAY)
    with embedded.open():
        report = embedded.populate(*days, prevent_same_timestamp_close=gate)
        expected = bars(ticks, prevent_same_timestamp_close=gate)
        assert_kept(embedded, expected, spec(gate=gate))
        assert int(report) == expected.height
        # Without the gate, many bars close in the same microsecond.
        assert (expected["close_time"].n_unique() < expected.height) is not gate
        seen = get_cached_bars(
            SYMBOL, 250, *days, prevent_same_timestamp_close=gate, **embedded.arguments
        )
        assert_frame_equal(seen, expected.select(seen.columns))


@pytest.mark.filterwarnings("ignore::rangebar_polars.symbol_registry.StartDateClampedWarning")
def test_the_largest_amounts_are_stored_exactly(embedded):
    """Amounts of a coin with a very large supply: sums beyond 64 bits, prices of eight digits."""
    ticks = tape(DAY, DAY + 3 * ONE_DAY, 500)
    size = ticks.height
    random = np.random.default_rng(2)
    ticks = ticks.with_columns(
        price=(pl.col("price") / 40_000 * 0.00001234).round(8).clip(0.00000001),
        quantity=pl.Series(random.integers(1, 90_000_000_000, size).astype(float)),
    )
    store(embedded.folder, ticks)
    with embedded.open():
        embedded.populate(DAY, DAY + 3 * ONE_DAY, 1000)
        expected = bars(ticks, 1000)
        assert expected.height > 5
        assert expected["volume"].max() > 2**63 / 1e8
        assert_kept(embedded, expected, spec(1000))


@pytest.fixture(scope="module")
def year(new_folder):
    """Return five months of ticks, with stored bars for some of the months."""
    place = Place(new_folder())
    first, last = date(2024, 1, 1), date(2024, 5, 31)
    ticks = tape(first, last, 12)
    store(place.folder, ticks)
    with place.open():
        for begin, end in [(1, 31), (61, 91), (122, 130)]:
            days = [first + timedelta(days=n - 1) for n in (begin, end)]
            place.populate(*days, ouroboros="month")
        place.populate(first, first + timedelta(days=9), 400, ouroboros="none")
        place.populate(first + timedelta(days=19), last, 400, ouroboros="none")
    return place, ticks


def days_between(first, last):
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def test_all_holes_between_stored_days_are_listed(year):
    place, _ = year
    span = (SYMBOL, date(2024, 1, 5), date(2024, 5, 20))
    where = {"ouroboros": "month", "fetch_if_missing": False, **place.arguments}
    holes = (
        *days_between(date(2024, 2, 1), date(2024, 2, 29)),
        *days_between(date(2024, 4, 1), date(2024, 4, 30)),
        *days_between(date(2024, 5, 10), date(2024, 5, 20)),
    )
    for read in (rb.get_range_bars, rb.scan_range_bars):
        with pytest.raises(CoverageError, match="populate_cache_resumable") as caught:
            read(*span, 250, **where)
        assert caught.value.days == holes
        assert isinstance(caught.value, ValueError)


def test_a_missing_month_is_computed_between_two_stored_ones(year):
    place, ticks = year
    span = (date(2024, 1, 5), date(2024, 3, 20))
    seen = rb.get_range_bars(
        SYMBOL, *span, 250, ouroboros="month", fetch_if_missing=False, **place.arguments
    )
    assert [one["source"] for one in seen.attrs["rangebar"]] == ["cache", "ticks", "cache"]
    whole = bars(ticks, reset="month").filter("is_closed")
    bounds = (at(span[0]), at(span[1] + ONE_DAY))
    expected = whole.filter(pl.col("close_time").is_between(*bounds, closed="left"))
    assert seen["Close"].to_list() == expected["close"].to_list()


def test_a_later_series_does_not_fill_the_hole_of_an_earlier_one(year):
    """Within a segment, another computation gives other bars, even if its days would fit."""
    place, _ = year
    with pytest.raises(CoverageError) as caught:
        rb.get_range_bars(
            SYMBOL, date(2024, 1, 1), date(2024, 3, 31), 400, ouroboros="none",
            fetch_if_missing=False, **place.arguments,
        )  # fmt: skip
    assert caught.value.days == days_between(date(2024, 1, 11), date(2024, 3, 31))


def test_unavailable_days_stop_a_population_and_are_listed(embedded):
    ticks = tape(DAY, DAY + 9 * ONE_DAY)
    missing = [DAY + n * ONE_DAY for n in (4, 5)]
    store(embedded.folder, ticks.filter(~pl.col("timestamp").dt.date().is_in(missing)))
    with embedded.open():
        with pytest.raises(PopulationError, match=str(missing[0])) as caught:
            embedded.populate(DAY, DAY + 9 * ONE_DAY)
        assert caught.value.days[0] == missing[0]
        assert_kept(embedded, bars(between(ticks, DAY, missing[0] - ONE_DAY)))
        store(embedded.folder, ticks)
        embedded.populate(DAY, DAY + 9 * ONE_DAY)
        assert_kept(embedded, bars(ticks))
        assert count_bars(SYMBOL, 250, **embedded.arguments) == bars(ticks).height


# Memory

MEGABYTE = 1_000_000
LARGE_DAY, LARGEST_DAY = 3_000_000, 20_000_000


def large_day(count):
    """Return the ticks of one day, which make only a few bars."""
    random = np.random.default_rng(3)
    times = microseconds(at(DAY)) + np.arange(count) * DAY_US // count
    return walk(times, random, 0.00003, count)


def test_a_very_large_day_takes_no_more_memory_than_it_should(
    workers, embedded, new_folder, is_long
):
    """Compared with the engine and a small day."""
    small = Place(new_folder())
    count = LARGEST_DAY if is_long else LARGE_DAY
    TickStorage(small.folder).write_ticks(SYMBOL, large_day(1_000))
    TickStorage(embedded.folder).write_ticks(SYMBOL, large_day(count))
    sizes = {}
    for name, place in (("small", small), ("large", embedded)):
        call = {"symbol": SYMBOL, "start_date": str(DAY), "end_date": str(DAY)}
        bars_made, sizes[name] = workers.start("peak", **call, **place.arguments).result()
        assert bars_made > 0 or name == "small"
    assert sizes["large"] < 1_000 * MEGABYTE, sizes
    assert sizes["large"] - sizes["small"] < 350 * MEGABYTE, sizes
