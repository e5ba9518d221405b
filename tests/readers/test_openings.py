"""A read starts the embedded engine once, whatever it is made of, and so do many reads in a row."""

from __future__ import annotations

from datetime import date

import pytest

from rangebar_polars.clickhouse.open import _POOL, engine_use
from rangebar_polars.readers.bars import get_range_bars, scan_range_bars
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars
from readers.shared import SYMBOL, january

SPAN = (january(20), january(64))
DAYS = (date(2024, 1, 20), date(2024, 2, 10))


@pytest.fixture
def openings(shared):
    """How often the engine was started since the test began, with no folder open."""
    _POOL._close_idle()
    before = engine_use().openings
    return lambda: engine_use().openings - before


@pytest.mark.parametrize("reset", ["month", "week"])
def test_a_plan_of_many_segments_opens_the_cache_once(shared, openings, reset):
    plan = scan_range_bars(
        SYMBOL, *SPAN, ouroboros=reset, fetch_if_missing=False, cache_dir=shared.folder
    )
    assert plan.collect().height > 0
    assert plan.collect(engine="streaming").height > 0
    assert openings() == 1


def test_different_reads_share_one_opening(shared, openings):
    where = {"ouroboros": "month", "cache_dir": shared.folder}
    count_bars(SYMBOL, 250, **where)
    get_n_bars(SYMBOL, 3, 250, **where)
    get_cached_bars(SYMBOL, 250, **where)
    coverage(SYMBOL, 250, *DAYS, **where)
    get_range_bars(SYMBOL, *SPAN, 250, fetch_if_missing=False, **where)
    assert openings() == 1
