"""Rebuilds of a series: one is visible from the moment that its row says so, whole.

A rebuild is opened with the first day it replaces, grows unseen, and is published by one row, or
discarded by one. A discarded one is never visible, whatever else is written of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.ddl import table
from rangebar_polars.clickhouse.series import FamilyKey, SeriesKey
from rangebar_polars.clickhouse.sql import among, among_in_pieces
from rangebar_polars.clickhouse.steps import Step, reach
from rangebar_polars.exceptions import LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.series import Family, Series

__all__ = [
    "Generation",
    "discard_generation",
    "open_generation",
    "publish_generation",
    "read_generations",
]

OPEN, PUBLISHED, DISCARDED = "open", "published", "discarded"


@dataclass(frozen=True, slots=True)
class Generation:
    """A rebuild of a series from a day on."""

    number: int
    first_day: date
    #: "open", "published" or "discarded".
    state: str


def read_generations(
    cache: Cache, families: Iterable[Family] | None = None
) -> dict[SeriesKey, tuple[Generation, ...]]:
    """Every rebuild of the series of some families, or of all, by series and in order."""
    wanted = None if families is None else {one.key for one in families}
    # There are few: a condition on the whole key would take longer than reading them.
    conditions = ["1"]
    if wanted is not None:
        conditions = among_in_pieces(["symbol"], [(key.symbol,) for key in wanted])
    select = (
        f"SELECT {', '.join(SeriesKey._fields)}, generation, first_day, state "  # noqa: S608
        f"FROM {cache.table('generations')}"
    )
    frames = [cache.query(f"{select} WHERE {condition}") for condition in conditions]
    states: dict[tuple[SeriesKey, int, date], set[str]] = {}
    for *key, number, first_day, state in (row for frame in frames for row in frame.iter_rows()):
        series = SeriesKey(*key)
        if wanted is None or series[: len(FamilyKey._fields)] in wanted:
            states.setdefault((series, number, first_day), set()).add(state)
    found: dict[SeriesKey, tuple[Generation, ...]] = {}
    for (series, number, first_day), known in sorted(states.items(), key=lambda item: item[0]):
        state = next(one for one in (DISCARDED, PUBLISHED, OPEN) if one in known)
        found[series] = (*found.get(series, ()), Generation(number, first_day, state))
    return found


def open_generation(cache: Cache, series: Series, first_day: date, *, fencing: int) -> Generation:
    """Begin a rebuild from a day on, under a number that was never used."""
    where = among(SeriesKey._fields, [series.key])
    used = [
        cache.scalar(f"SELECT max(generation) FROM {cache.table(name)} WHERE {where}")  # noqa: S608
        for name in ("generations", "units")
    ]
    generation = Generation(max(used) + 1, first_day, OPEN)
    _append(cache, series, generation, OPEN, fencing)
    reach(Step.GENERATION_OPENED)
    return generation


def publish_generation(
    cache: Cache, series: Series, generation: Generation, *, fencing: int
) -> Generation:
    """Make a rebuild visible; readers see the old bars until the moment they see the new ones.

    Raises
    ------
    LeaseLostError
        Another writer has discarded it.
    """
    _append(cache, series, generation, PUBLISHED, fencing)
    reach(Step.GENERATION_PUBLISHED)
    state = _state_of(cache, series, generation)
    if state != PUBLISHED:
        raise LeaseLostError(f"rebuild `{generation.number}` of {series} is `{state}`")
    return Generation(generation.number, generation.first_day, PUBLISHED)


def discard_generation(
    cache: Cache, series: Series, generation: Generation, *, fencing: int
) -> Generation:
    """Give up a rebuild that was never published."""
    _append(cache, series, generation, DISCARDED, fencing)
    reach(Step.GENERATION_DISCARDED)
    return Generation(generation.number, generation.first_day, DISCARDED)


def _append(cache: Cache, series: Series, generation: Generation, state: str, fencing: int) -> None:
    row = {
        **series.key._asdict(),
        "generation": generation.number,
        "first_day": generation.first_day,
        "state": state,
        "fencing": fencing,
    }
    cache.insert("generations", table("generations").frame([row]))


def _state_of(cache: Cache, series: Series, generation: Generation) -> str | None:
    known = read_generations(cache, [series.family]).get(series.key, ())
    return next((one.state for one in known if one.number == generation.number), None)
