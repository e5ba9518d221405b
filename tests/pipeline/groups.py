"""Calls and checks for stored optional feature groups."""

from __future__ import annotations

import polars as pl
from polars.testing import assert_frame_equal

from pipeline.tapes import SYMBOL, chains, day, specs, tape
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.populate.populate import populate_cache_resumable

TICKS = tape()
ALL = ["lookback", "intrabar", "extended"]


def populate(folder, first, last, **options):
    return populate_cache_resumable(
        SYMBOL, day(first), day(last), **{"cache_dir": folder, "verbose": False, **options}
    )


def frame(ticks, threshold=250, *, reset="year", last=100, features="all", **options):
    """Return the ended bars of the frame door up to a day, orphans included."""
    bars = ticks.rangebar.bars(
        threshold, reset=reset, features=features, incomplete="keep", **options
    )
    ended = pl.col("ended_by").is_not_null() & (pl.col("close_time").dt.date() <= day(last))
    return bars.filter(ended).drop("bar_id")


def stored(folder, names, threshold=250, **options):
    """Return the stored bars of all series of a threshold, with some columns."""
    with open_cache(cache_dir=folder) as cache:
        found = read_chains(cache, specs(threshold, **options)).values()
        frames = [read_bars(cache, one.units, columns=names, include_orphans=True) for one in found]
    return pl.concat(frames).sort("close_time", "last_agg_trade_id")


def assert_same(folder, expected, threshold=250, **options):
    """Check that the stored bars are those of the frame door, to the last bit."""
    found = stored(folder, expected.columns, threshold, **options)
    bits = pl.col(pl.Float64).reinterpret(dtype=pl.UInt64)
    assert_frame_equal(found.with_columns(bits), expected.with_columns(bits))


def words(folder, threshold=250, **options):
    """Return the words of all visible units in order."""
    found = chains(folder, threshold, **options).values()
    return [" ".join(sorted(unit.feature_groups)) for chain in found for unit in chain.units]


def version_1(folder):
    """Return what a package without optional groups reads: bars, hashes and states."""
    bars = "close_time_us, row_hash, ofi, volume, unit_day, bar_seq"
    units = "unit_day, segment_start, rows, row_hash_sum, processor_state, tick_hash, bar_last_id"
    with open_cache(cache_dir=folder) as cache:
        return (
            cache.query(
                f"SELECT {bars} FROM {cache.table('bars')} ORDER BY close_time_us, bar_seq"
            ),
            cache.query(
                f"SELECT {units} FROM {cache.table('units')} ORDER BY unit_day", binary=True
            ),
        )
