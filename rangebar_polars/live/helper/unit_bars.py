"""Bars of units that end after an id, some units at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.bar_series.columns import value_columns
from rangebar_polars.clickhouse.query.bars import no_bars, read_bars

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["UnitBars", "units_after"]

_LAST_ID = "last_agg_trade_id"
_COLUMNS = tuple(column.bar_name for column in value_columns())


class UnitBars(NamedTuple):
    """Bars of consecutive units."""

    bars: pl.DataFrame
    #: The last day of the units.
    last_day: date
    #: The day of the next unit; None without one.
    next_day: date | None


def units_after(
    cache: Cache, chain: Chain, after_id: int, from_day: date | None, limit: int
) -> UnitBars:
    """Read the bars of the units of a chain that end after an id.

    A bar that the end of a segment ends is among them even if its last id is `after_id`.

    Parameters
    ----------
    cache
        The cache.
    chain
        A series with units.
    after_id
        The id.
    from_day
        The first day to read; None for the first one that may have such a bar.
    limit
        Units are read until they have so many bars.

    Raises
    ------
    DamagedBarsError
        Units were replaced meanwhile.
    """
    units = list(chain.units)
    first = _first_after(units, after_id) if from_day is None else _index_of(units, from_day)
    stop, rows = first, 0
    while stop < len(units) and (stop == first or rows < limit):
        rows += units[stop].rows
        stop += 1
    taken = units[first:stop]
    bars = no_bars(_COLUMNS)
    if any(unit.rows for unit in taken):
        ids = pl.col(_LAST_ID)
        is_orphan = ~pl.col("is_closed") & (ids == after_id)
        bars = read_bars(cache, taken, columns=_COLUMNS, include_orphans=True)
        bars = bars.filter((ids > after_id) | is_orphan)
    return UnitBars(bars, units[stop - 1].day, units[stop].day if stop < len(units) else None)


def _first_after(units: list[Unit], after_id: int) -> int:
    """Return the index of the first unit that may have a bar after an id."""
    reaching = (
        index
        for index, unit in enumerate(units)
        if unit.tick_last_id is not None and unit.tick_last_id >= after_id
    )
    return next(reaching, len(units))


def _index_of(units: list[Unit], day: date) -> int:
    return next((index for index, unit in enumerate(units) if unit.day >= day), len(units))
