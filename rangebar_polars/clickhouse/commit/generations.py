"""Rebuilds of a series: one is visible from the moment that its row says so, whole.

A rebuild is opened with the first day it replaces, grows unseen, and is published by one row, or
discarded by one. A discarded one is never visible, whatever else is written of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, OPEN, PUBLISHED, Generation
from rangebar_polars.clickhouse.connection.sql import among
from rangebar_polars.clickhouse.query.units import read_generations
from rangebar_polars.clickhouse.schema.tables import table
from rangebar_polars.exceptions import LeaseLostError

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["discard_generation", "open_generation", "publish_generation"]


def open_generation(
    cache: Cache, series: BarSeries, first_day: date, *, fencing: int
) -> Generation:
    """Begin a rebuild from a day on, under a number that was never used."""
    where = among(SeriesKey._fields, [series.key])
    used = [
        cache.scalar(f"SELECT max(generation) FROM {cache.table(name)} WHERE {where}")  # noqa: S608
        for name in ("generations", "units")
    ]
    generation = Generation(max(used) + 1, first_day, OPEN)
    _append(cache, series, generation, OPEN, fencing)
    failpoint(Step.GENERATION_OPENED)
    return generation


def publish_generation(
    cache: Cache, series: BarSeries, generation: Generation, *, fencing: int
) -> Generation:
    """Make a rebuild visible; readers see the old bars until the moment they see the new ones.

    Raises
    ------
    LeaseLostError
        Another writer has discarded it.
    """
    _append(cache, series, generation, PUBLISHED, fencing)
    failpoint(Step.GENERATION_PUBLISHED)
    state = _state_of(cache, series, generation)
    if state != PUBLISHED:
        raise LeaseLostError(f"rebuild `{generation.number}` of {series} is `{state}`")
    return Generation(generation.number, generation.first_day, PUBLISHED)


def discard_generation(
    cache: Cache, series: BarSeries, generation: Generation, *, fencing: int
) -> Generation:
    """Give up a rebuild that was never published."""
    _append(cache, series, generation, DISCARDED, fencing)
    failpoint(Step.GENERATION_DISCARDED)
    return Generation(generation.number, generation.first_day, DISCARDED)


def _append(
    cache: Cache, series: BarSeries, generation: Generation, state: str, fencing: int
) -> None:
    row = {
        **series.key._asdict(),
        "generation": generation.number,
        "first_day": generation.first_day,
        "state": state,
        "fencing": fencing,
    }
    cache.insert("generations", table("generations").frame([row]))


def _state_of(cache: Cache, series: BarSeries, generation: Generation) -> str | None:
    known = read_generations(cache, [series.spec]).get(series.key, ())
    return next((one.state for one in known if one.number == generation.number), None)
