"""Published days of series, and which of them are visible.

A unit counts only if the unit it was built on is the visible one of the day before, so that what
is visible of a series is a chain from its anchor without a hole, made by one computation.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.bar_series.identity import BarRules, BarSeries, BarSpec, BarSpecKey, SeriesKey
from rangebar_polars.bar_series.units import (
    DISCARDED,
    OPEN,
    PUBLISHED,
    Chain,
    Generation,
    Unit,
    visible,
)
from rangebar_polars.clickhouse.connection.sql import (
    among,
    enclosing,
    literal,
    number_batches,
    split_among,
)
from rangebar_polars.clickhouse.schema.tables import table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = [
    "details_of",
    "read_chains",
    "read_generations",
    "specs_like",
    "states_of",
    "where_units",
]


#: So many days or series are listed in a query; of more, only the first and the last are named.
_MOST_STARTS, _MOST_SERIES = 1_000, 16


_RULES = tuple(field.name for field in fields(BarRules))


# Columns of a unit in the order of its fields; the series comes before them.
_COLUMNS = ("unit_day", *(field.name for field in fields(Unit)[2:]))


def read_chains(
    cache: Cache,
    specs: Iterable[BarSpec] | None = None,
    *,
    segment_starts: Collection[date] | None = None,
    as_if_published: Collection[tuple[BarSeries, int]] = (),
) -> dict[BarSeries, Chain]:
    """What is visible of every series of some families, or of all.

    Parameters
    ----------
    families
        None for all that the cache keeps.
    segment_starts
        Only the segments that start on these days; if they are many, others between them too.
    as_if_published
        Open rebuilds, by series and number, that are taken as published, as their writer has to.

    Returns
    -------
    dict
        By series, oldest anchor first; a series without a visible unit is among them, and where
        families are given, one of which only a rebuild is.
    """
    listed = None if specs is None else list(specs)
    # In this order: a rebuild that is seen as published has all its units by then.
    generations = read_generations(cache, listed)
    units = _read_units(cache, listed, segment_starts)
    found = {
        series: Chain(
            series,
            visible(
                series.first_day,
                units.get(series, ()),
                _published(series, known, as_if_published),
            ),
            known,
        )
        for series in {*units, *_series_of(generations, listed, segment_starts)}
        for known in [generations.get(series.key, ())]
    }
    return dict(sorted(found.items(), key=lambda item: item[0].key))


def _series_of(
    generations: Mapping[SeriesKey, Sequence[Generation]],
    specs: list[BarSpec] | None,
    segment_starts: Collection[date] | None,
) -> Iterator[BarSeries]:
    """Series of the families of which a rebuild is visible, with units or without."""
    by_key: dict[tuple[Any, ...], BarSpec] = {spec.key: spec for spec in specs or ()}
    for key, known in generations.items():
        spec = by_key.get(key[: len(BarSpecKey._fields)])
        is_asked_for = segment_starts is None or key.segment_start in segment_starts
        if spec is not None and is_asked_for and any(one.state == PUBLISHED for one in known):
            yield BarSeries(spec, key.segment_start, key.anchor_us)


def _published(
    series: BarSeries, known: Sequence[Generation], as_if: Collection[tuple[BarSeries, int]]
) -> list[tuple[int, date]]:
    return [
        (one.number, one.first_day)
        for one in known
        if one.state == PUBLISHED or (one.state == OPEN and (series, one.number) in as_if)
    ]


def _of_segments(starts: Collection[date]) -> str:
    """Condition for the segments that start on some days, or, where they are many, about then."""
    if len(starts) <= _MOST_STARTS:
        return among(["segment_start"], [(start,) for start in starts])
    return f"segment_start BETWEEN {literal(min(starts))} AND {literal(max(starts))}"


def _read_units(
    cache: Cache, specs: list[BarSpec] | None, segment_starts: Collection[date] | None
) -> dict[BarSeries, list[Unit]]:
    conditions = ["1"]
    if specs is not None:
        conditions = split_among(BarSpecKey._fields, [spec.key for spec in specs])
    of_segments = "1" if segment_starts is None else _of_segments(segment_starts)
    # Of one family everything is known but the segment and the anchor.
    key = _OF_SPEC if specs and len(specs) == 1 else (*SeriesKey._fields, *_RULES)
    frames = [
        cache.query(
            f"SELECT {', '.join((*key, *_COLUMNS))} "  # noqa: S608
            f"FROM {cache.table('units')} WHERE {condition} AND {of_segments}"
        )
        for condition in conditions
    ]
    # Groups of a frame take longer than a loop over so few rows.
    found: dict[tuple[Any, ...], tuple[BarSeries, list[Unit]]] = {}
    for row in (row for frame in frames for row in frame.rows()):
        values = row[: len(key)]
        if values not in found:
            of_one = BarSeries(specs[0], *values) if key is _OF_SPEC and specs else None
            found[values] = (of_one or _series(values), [])
        series, units = found[values]
        units.append(Unit(series, *[*row[len(key) : -1], _groups(row[-1])]))
    return dict(found.values())


_OF_SPEC = ("segment_start", "anchor_us")


def _series(values: tuple[Any, ...]) -> BarSeries:
    key = SeriesKey(*values[: len(SeriesKey._fields)])
    spec = BarSpec(*key[:5], BarRules(*values[len(SeriesKey._fields) :]))
    return BarSeries(spec, key.segment_start, key.anchor_us)


@lru_cache
def _groups(text: str) -> frozenset[str]:
    return frozenset(text.split())


def specs_like(cache: Cache, spec: BarSpec) -> list[BarSpec]:
    """Families of which anything is kept, and that differ from this one in configuration alone."""
    place = BarSpecKey._fields[:-1]
    rows = cache.query(
        f"SELECT DISTINCT {', '.join(_RULES)} FROM {cache.table('units')} "  # noqa: S608
        f"WHERE {among(place, [spec.key[: len(place)]])}"
    )
    found = (replace(spec, rules=BarRules(*row)) for row in rows.iter_rows())
    return [other for other in found if other != spec]


def states_of(cache: Cache, units: Sequence[Unit]) -> dict[Unit, bytes]:
    """Processor state after each unit, as it was published with it."""
    states: dict[int, bytes] = {}
    for where in where_units(units):
        rows = cache.query(
            f"SELECT attempt, any(processor_state) FROM {cache.table('units')} "  # noqa: S608
            f"WHERE {where} GROUP BY attempt",
            binary=True,
        )
        states.update(rows.iter_rows())
    return {unit: states[unit.attempt] for unit in units}


def details_of(cache: Cache, units: Sequence[Unit]) -> pl.DataFrame:
    """Rest of what is known of units, in the order of their days: the columns of the table."""
    columns = [name for name in table("units").types if name != "processor_state"]
    select = f"SELECT {', '.join(columns)} FROM {cache.table('units')}"  # noqa: S608
    frames = [cache.query(f"{select} WHERE {where}") for where in where_units(units) or ["0"]]
    return pl.concat(frames).sort("unit_day")


def where_units(units: Sequence[Unit]) -> list[str]:
    """Conditions for the rows of these units, each for some of them; none holds for a row twice.

    The attempts decide, the rest chooses what is read.
    """
    return [_where(piece) for piece in number_batches(units)]


def _where(units: Sequence[Unit]) -> str:
    days = [unit.day for unit in units]
    keys = list({unit.series.key: None for unit in units})
    of_series = (among if len(keys) <= _MOST_SERIES else enclosing)(SeriesKey._fields, keys)
    attempts = ", ".join(str(unit.attempt) for unit in units)
    return (
        f"indexHint({of_series} "
        f"AND unit_day BETWEEN {literal(min(days))} AND {literal(max(days))}) "
        f"AND attempt IN ({attempts})"
    )


def read_generations(
    cache: Cache, specs: Iterable[BarSpec] | None = None
) -> dict[SeriesKey, tuple[Generation, ...]]:
    """Every rebuild of the series of some families, or of all, by series and in order."""
    wanted = None if specs is None else {one.key for one in specs}
    # There are few: a condition on the whole key would take longer than reading them.
    conditions = ["1"]
    if wanted is not None:
        conditions = split_among(["symbol"], [(key.symbol,) for key in wanted])
    select = (
        f"SELECT {', '.join(SeriesKey._fields)}, generation, first_day, state "  # noqa: S608
        f"FROM {cache.table('generations')}"
    )
    frames = [cache.query(f"{select} WHERE {condition}") for condition in conditions]
    states: dict[tuple[SeriesKey, int, date], set[str]] = {}
    for *key, number, first_day, state in (row for frame in frames for row in frame.iter_rows()):
        series = SeriesKey(*key)
        if wanted is None or series[: len(BarSpecKey._fields)] in wanted:
            states.setdefault((series, number, first_day), set()).add(state)
    found: dict[SeriesKey, tuple[Generation, ...]] = {}
    for (series, number, first_day), known in sorted(states.items(), key=lambda item: item[0]):
        state = next(one for one in (DISCARDED, PUBLISHED, OPEN) if one in known)
        found[series] = (*found.get(series, ()), Generation(number, first_day, state))
    return found
