"""Stored bars that are replaced between the plan of a read and its query: it plans again."""

from __future__ import annotations

from datetime import date

import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.generations import open_generation, publish_generation
from rangebar_polars.clickhouse.query import bars as query
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.readers import execute
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars
from rangebar_polars.readers.cached import count_bars, get_cached_bars, get_n_bars
from readers.shared import SYMBOL, january, keep

LAST = date(2023, 1, 10)
SPAN = (SYMBOL, january(1), january(11))

READS = {
    "get_range_bars": (execute, "read_bars", lambda dbps, where: get_range_bars(
        *SPAN, dbps, fetch_if_missing=False, **where)),
    "get_n_range_bars": (execute, "newest_bars", lambda dbps, where: get_n_range_bars(
        SYMBOL, 5, dbps, end_date=LAST, fetch_if_missing=False, **where)),
    "get_cached_bars": (execute, "read_bars", lambda dbps, where: get_cached_bars(
        SYMBOL, dbps, january(1), january(11), **where)),
    "get_n_bars": (execute, "newest_bars", lambda dbps, where: get_n_bars(
        SYMBOL, 5, dbps, before=january(11), **where)),
    "count_bars": (query, "count_bars", lambda dbps, where: count_bars(
        SYMBOL, dbps, before=january(10, 12), **where)),
}  # fmt: skip


def rebuild(cache, folder, spec):
    """Publish the bars again, and remove the rows that were published before."""
    series = spec.series(january(1))
    generation = open_generation(cache, series, series.first_day, fencing=0)
    keep(cache, folder, spec, january(1), LAST, generation=generation.number)
    publish_generation(cache, series, generation, fencing=0)
    remove_bars(cache, spec, f"generation <> {generation.number}")


def remove_bars(cache, spec, condition):
    cache.command(
        f"ALTER TABLE {cache.table('bars')} DELETE WHERE threshold = {spec.threshold} AND attempt "
        f"IN (SELECT attempt FROM {cache.table('units')} WHERE threshold = {spec.threshold} AND "
        f"{condition}) SETTINGS mutations_sync = 2"
    )


def before_each(module, name, patch, action):
    """Run an action before each call of a query; the list of the calls."""
    function, calls = getattr(module, name), []

    def called(*arguments, **options):
        calls.append(arguments)
        action(len(calls))
        return function(*arguments, **options)

    patch.setattr(module, name, called)
    return calls


def same(found, expected):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, pl.DataFrame):
        assert_frame_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize(("name", "threshold"), list(zip(READS, range(530, 535), strict=True)))
def test_it_reads_what_has_replaced_the_units(shared, shared_cache, monkeypatch, name, threshold):
    module, function, read = READS[name]
    spec = BarSpec.of(SYMBOL, threshold)
    keep(shared_cache, shared.folder, spec, january(1), LAST)
    where = {"cache_dir": shared.folder}
    expected = read(threshold, where)

    def replace_once(call):
        if call == 1:
            rebuild(shared_cache, shared.folder, spec)

    calls = before_each(module, function, monkeypatch, replace_once)
    same(read(threshold, where), expected)
    assert len(calls) == 2


def test_bars_that_stay_damaged_are_an_error_after_three_plans(shared, shared_cache, monkeypatch):
    spec = BarSpec.of(SYMBOL, 536)
    keep(shared_cache, shared.folder, spec, january(1), LAST)
    remove_bars(shared_cache, spec, f"unit_day = '{LAST}'")
    calls = before_each(execute, "read_bars", monkeypatch, lambda _: None)
    with pytest.raises(CoverageError, match="damaged") as caught:
        get_cached_bars(SYMBOL, 536, january(1), january(11), cache_dir=shared.folder)
    assert caught.value.days == (LAST,)
    assert len(calls) == query.READ_TRIES
