"""Generations of a series: a rebuild becomes visible as a whole, by one row.

A generation is opened with the first day that it replaces, and grows invisibly. One row publishes
or discards it. A discarded generation is never visible, whatever is written to it later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, OPEN, PUBLISHED, Generation
from rangebar_polars.clickhouse.connection.sql import among
from rangebar_polars.clickhouse.query.units import read_generations
from rangebar_polars.clickhouse.schema.tables import table
from rangebar_polars.exceptions import LeaseLostError, with_hint

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["discard_generation", "open_generation", "publish_generation"]


def open_generation(
    cache: Cache, series: BarSeries, first_day: date, *, fencing: int
) -> Generation:
    """Open a generation that replaces a day and all later ones, under an unused number."""
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
    """Make a generation visible. Until that moment, readers see the old bars.

    Raises
    ------
    LeaseLostError
        Another writer has discarded the generation.
    """
    _append(cache, series, generation, PUBLISHED, fencing)
    failpoint(Step.GENERATION_PUBLISHED)
    state = _state_of(cache, series, generation)
    if state != PUBLISHED:
        raise LeaseLostError(
            with_hint(
                f"generation `{generation.number}` of {series} is `{state}`",
                "another writer discarded it; run it again",
            )
        )
    return Generation(generation.number, generation.first_day, PUBLISHED)


def discard_generation(
    cache: Cache, series: BarSeries, generation: Generation, *, fencing: int
) -> Generation:
    """Discard a generation that was never published."""
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
    generations = read_generations(cache, [series.spec]).get(series.key, ())
    return next((known.state for known in generations if known.number == generation.number), None)
