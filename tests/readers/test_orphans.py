"""The bar that a reset ends belongs to the reads whose end reaches the reset."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.readers.bars import get_range_bars, scan_range_bars
from rangebar_polars.readers.cached import count_bars, get_cached_bars
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import THRESHOLD, bars, january, keep, ticks_between

SYMBOL = "ETHUSDT"
#: Two weeks from a Sunday on; the last tick of the first one is long before its end.
LAST_TICK, RESET = january(7, 14), january(8)
TICKS = pl.concat(
    [ticks_between(january(1), LAST_TICK), ticks_between(RESET, january(15))]
).with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("agg_trade_id"))
ENDS = {
    "before the last tick": january(7, 9),
    "after the last tick": january(7, 18),
    "just before the reset": RESET - timedelta(microseconds=1),
    "at the reset": RESET,
    "after the reset": january(8, 6),
}


@pytest.fixture(scope="module")
def folder(shared_cache, shared):
    TickStorage(shared.folder).write_ticks(SYMBOL, TICKS)
    spec = BarSpec.of(SYMBOL, THRESHOLD, reset="week")
    for first, last in [(1, 7), (8, 14)]:
        keep(shared_cache, shared.folder, spec, january(first), january(last).date())
    return shared.folder


def expected(end, *, incomplete=False):
    weeks = [
        bars(TICKS.filter(pl.col("timestamp").is_between(first, min(end, last), closed="left")))
        for first, last in [(january(1), RESET), (RESET, january(15))]
    ]
    if end >= RESET:
        weeks[0] = weeks[0].with_columns(pl.col("ended_by").fill_null("reset"))
    made = pl.concat(weeks)
    return made if incomplete else made.filter(pl.col("ended_by").is_not_null())


def kinds(frame):
    return frame.select("close_time", "is_closed", "ended_by").rows()


@pytest.mark.parametrize("anchor", [None, "segment"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_stored_and_computed_bars_have_the_same_orphans(folder, end, anchor):
    wanted = kinds(expected(end))
    options = {"ouroboros": "week", "anchor": anchor, "cache_dir": folder}
    options["include_orphaned_bars"] = True
    span = (SYMBOL, january(1), end, THRESHOLD)
    for use_cache in (True, False):
        given = {**options, "use_cache": use_cache, "fetch_if_missing": False}
        assert kinds(scan_range_bars(*span, **given).collect()) == wanted
        chart = get_range_bars(*span, **given)
        assert chart["is_orphan"].sum() == sum(one[1:] == (False, "reset") for one in wanted)
        assert len(chart) == len(wanted)
    assert kinds(get_cached_bars(SYMBOL, THRESHOLD, january(1), end, **options)) == wanted
    assert kinds(get_cached_bars(SYMBOL, THRESHOLD, None, end, **options)) == wanted


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_before_the_reset_it_is_the_bar_that_is_forming(folder, end, use_cache):
    frame = scan_range_bars(
        SYMBOL, january(1), end, THRESHOLD, ouroboros="week", include_orphaned_bars=True,
        include_incomplete=True, use_cache=use_cache, fetch_if_missing=False, cache_dir=folder,
    ).collect()  # fmt: skip
    assert kinds(frame) == kinds(expected(end, incomplete=True))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_orphans_are_never_counted(folder, end):
    counted = count_bars(SYMBOL, THRESHOLD, before=end, ouroboros="week", cache_dir=folder)
    assert counted == expected(end).filter("is_closed").height
