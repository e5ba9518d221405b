"""Ticks of many days, stores that hold them, and the bars that populations make of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

import rangebar_polars as rb
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from pathlib import Path

SYMBOL = "BTCUSDT"
FIRST = date(2024, 12, 23)
TICKS_A_DAY = 120
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day(offset: int) -> date:
    """Return the n-th day of the tape, counted from 1; the 9th is the last of the year."""
    return FIRST + timedelta(days=offset - 1)


def _start_us(of: date) -> int:
    return int((datetime(of.year, of.month, of.day, tzinfo=UTC) - _EPOCH).total_seconds() * 1e6)


@cache
def tape(days: int = 14) -> pl.DataFrame:
    """Make consecutive days with every n-th price of the sample, so that there are enough bars."""
    sample = rb.sample_ticks().gather_every(20).head(days * TICKS_A_DAY)
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    # The first tick of a day is at midnight, the last one just before the next.
    within = row % TICKS_A_DAY * ((_DAY_US - 1) // (TICKS_A_DAY - 1))
    return sample.with_columns(
        timestamp=(_start_us(FIRST) + row // TICKS_A_DAY * _DAY_US + within).cast(
            pl.Datetime("us", "UTC")
        ),
        agg_trade_id=1_000 + row,
        first_trade_id=5_000 + 2 * row,
        last_trade_id=5_001 + 2 * row,
    ).cast(dict(TRADES_SCHEMA))


def of_days(ticks: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """Return the ticks from one day of the tape to another, both included."""
    return ticks.filter(pl.col("timestamp").dt.date().is_between(day(first), day(last)))


def store(folder: Path, ticks: pl.DataFrame, *, absent: tuple[int, ...] = ()) -> TickStorage:
    """Store ticks in a folder, and mark days of the tape as confirmed absent."""
    storage = TickStorage(folder)
    storage.write_ticks(SYMBOL, ticks)
    empty = TRADES_SCHEMA.to_frame()
    gone = [DayTicks(day(n), empty, Origin("archive"), reason="no trade") for n in absent]
    if gone:
        storage.put_days(SYMBOL, gone)
    return storage


def whole(
    ticks: pl.DataFrame,
    threshold: int = 250,
    *,
    reset: str | None = "year",
    last: int = 100,
    **options,
) -> pl.DataFrame:
    """Compute the bars that have ended up to a day, in one pass."""
    bars = ticks.rangebar.bars(
        threshold, reset=reset, features="microstructure", incomplete="keep", **options
    )
    ended = pl.col("ended_by").is_not_null() & (pl.col("close_time").dt.date() <= day(last))
    return bars.filter(ended).drop("bar_id")


def specs(*thresholds: int, reset: str = "year", gate: bool = True) -> list[BarSpec]:
    rules = BarRules(prevent_same_timestamp_close=gate)
    wanted = thresholds or (250,)
    return [BarSpec.of(SYMBOL, t, reset=reset, rules=rules) for t in wanted]


def chains(folder: Path, *thresholds: int, **options):
    """Return the visible chains of some thresholds, by threshold and anchor."""
    with open_cache(cache_dir=folder) as cache:
        found = read_chains(cache, specs(*thresholds, **options))
    return {
        (series.spec.threshold, series.anchor.date()): chain
        for series, chain in found.items()
        if chain.units
    }


def bars_of(folder: Path, chain) -> pl.DataFrame:
    with open_cache(cache_dir=folder) as cache:
        return read_bars(cache, chain.units, include_orphans=True)


def kept(folder: Path, threshold: int = 250, **options) -> pl.DataFrame:
    """Return all bars of the chains of a threshold, which must not overlap."""
    found = chains(folder, threshold, **options)
    return pl.concat([bars_of(folder, chain) for chain in found.values()]).sort(
        "close_time", "last_agg_trade_id"
    )


def rows(folder: Path, *tables: str) -> dict[str, int]:
    """Count the rows of the tables, visible or not."""
    wanted = tables or ("bars", "units", "generations", "leases", "population_checkpoints")
    with open_cache(cache_dir=folder) as cache:
        return {
            name: cache.scalar(f"SELECT toInt64(count()) FROM {cache.table(name)}")
            for name in wanted
        }


def facts(folder: Path, *thresholds: int, **options) -> list[tuple[object, ...]]:
    """Return the facts of the units that interruptions must not change: all but attempts."""
    return [
        (
            unit.series,
            unit.day,
            unit.tick_first_id,
            unit.tick_last_id,
            unit.tick_hash,
            unit.rows,
            unit.orphan_rows,
            unit.row_hash_sum,
        )
        for chain in chains(folder, *thresholds, **options).values()
        for unit in chain.units
    ]
