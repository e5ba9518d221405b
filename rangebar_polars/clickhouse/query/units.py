"""Published days of series, and the chains of visible days.

A unit is visible only if it was built on the visible unit of the day before. The visible units of a
series are therefore a chain from its anchor without a hole, made by one computation.
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
from rangebar_polars.clickhouse.schema.migrate import has_group_columns
from rangebar_polars.clickhouse.schema.tables import table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = [
    "details_of",
    "feature_sums_of",
    "generation_features",
    "read_chains",
    "read_families",
    "read_generations",
    "replay_day",
    "replays_of",
    "specs_like",
    "states_of",
    "where_units",
]


#: Most days and series that a query lists; beyond that it names the first and the last.
_MOST_STARTS, _MOST_SERIES = 1_000, 16


#: Days whose ticks are counted together.
_DAYS_OF_REPLAY = 32


_RULES = tuple(field.name for field in fields(BarRules))


# Columns of a unit in the order of its fields, without the series.
_COLUMNS = ("unit_day", *(field.name for field in fields(Unit)[2:]))


def read_chains(
    cache: Cache,
    specs: Iterable[BarSpec] | None = None,
    *,
    segment_starts: Collection[date] | None = None,
    as_if_published: Collection[tuple[BarSeries, int]] = (),
) -> dict[BarSeries, Chain]:
    """Return the visible chain of every series of some specs, or of all.

    Parameters
    ----------
    specs
        None for all stored specs.
    segment_starts
        Only the segments that start on these days. If there are many days, segments between them
        may be included.
    as_if_published
        Open rebuilds, by series and number, to treat as published, as their writer has to.

    Returns
    -------
    dict
        By series, oldest anchor first. Series without a visible unit are included and, with
        `specs`, series that have only a rebuild.
    """
    listed = None if specs is None else list(specs)
    # In this order, a rebuild that is seen as published already has all its units.
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
    """Yield the series of the specs that have a published rebuild, with units or without."""
    by_key: dict[tuple[Any, ...], BarSpec] = {spec.key: spec for spec in specs or ()}
    for key, known in generations.items():
        spec = by_key.get(key[: len(BarSpecKey._fields)])
        is_requested = segment_starts is None or key.segment_start in segment_starts
        is_published = any(generation.state == PUBLISHED for generation in known)
        if spec is not None and is_requested and is_published:
            yield BarSeries(spec, key.segment_start, key.anchor_us)


def _published(
    series: BarSeries, known: Sequence[Generation], as_if: Collection[tuple[BarSeries, int]]
) -> list[tuple[int, date]]:
    """Return the number and first day of each visible rebuild of a series."""
    return [
        (rebuild.number, rebuild.first_day)
        for rebuild in known
        if rebuild.state == PUBLISHED
        or (rebuild.state == OPEN and (series, rebuild.number) in as_if)
    ]


def _of_segments(starts: Collection[date]) -> str:
    """Return the condition for segments that start on some days; a range if there are many."""
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
    # Within one spec, only the segment and the anchor differ.
    key = _OF_SPEC if specs and len(specs) == 1 else (*SeriesKey._fields, *_RULES)
    frames = [
        cache.query(
            f"SELECT {', '.join((*key, *_COLUMNS))} "  # noqa: S608
            f"FROM {cache.table('units')} WHERE {condition} AND {of_segments}"
        )
        for condition in conditions
    ]
    # For so few rows, a loop is faster than a group-by.
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
    """Return the stored specs that differ from this one only in their rules."""
    columns = BarSpecKey._fields[:-1]
    rows = cache.query(
        f"SELECT DISTINCT {', '.join(_RULES)} FROM {cache.table('units')} "  # noqa: S608
        f"WHERE {among(columns, [spec.key[: len(columns)]])}"
    )
    found = (replace(spec, rules=BarRules(*row)) for row in rows.iter_rows())
    return [other for other in found if other != spec]


def states_of(cache: Cache, units: Sequence[Unit]) -> dict[Unit, bytes]:
    """Read the processor state after each unit."""
    states: dict[int, bytes] = {}
    for where in where_units(units):
        rows = cache.query(
            f"SELECT attempt, any(processor_state) FROM {cache.table('units')} "  # noqa: S608
            f"WHERE {where} GROUP BY attempt",
            binary=True,
        )
        states.update(rows.iter_rows())
    return {unit: states[unit.attempt] for unit in units}


def feature_sums_of(cache: Cache, units: Sequence[Unit]) -> dict[int, int]:
    """Read by attempt the published sum of the hashes of the optional groups of units.

    The units have such groups.
    """
    return dict(_column_of(cache, units, "feature_hash_sum"))


def replays_of(cache: Cache, units: Sequence[Unit]) -> dict[Unit, int]:
    """Read the number of ticks to push again after each unit, all of which have optional groups."""
    found = dict(_column_of(cache, units, "toInt64(toUInt64OrZero(replay))"))
    return {unit: found[unit.attempt] for unit in units}


def replay_day(cache: Cache, units: Sequence[Unit], count: int) -> date:
    """Return the first day of the newest ticks of consecutive units, or that of the first unit."""
    left, end = count, len(units)
    day: date
    while end:
        start = max(0, end - _DAYS_OF_REPLAY)
        days = details_of(cache, units[start:end]).select("unit_day", "tick_rows")
        for day, rows in days.reverse().iter_rows():
            left -= rows
            if left <= 0:
                return day
        end = start
    return units[0].day


def _column_of(cache: Cache, units: Sequence[Unit], value: str) -> Iterator[tuple[int, int]]:
    """Read a value of each unit, with its attempt."""
    for where in where_units(units):
        rows = cache.query(
            f"SELECT attempt, any({value}) FROM {cache.table('units')} "  # noqa: S608
            f"WHERE {where} GROUP BY attempt"
        )
        yield from rows.iter_rows()


def generation_features(cache: Cache, chain: Chain) -> dict[int, set[frozenset[str]]]:
    """Read the words of the units of the open rebuilds of a series, by the rebuild's number."""
    numbers = [generation.number for generation in chain.open_generations]
    if not numbers:
        return {}
    rows = cache.query(
        f"SELECT DISTINCT generation, feature_groups FROM {cache.table('units')} "  # noqa: S608
        f"WHERE {among(SeriesKey._fields, [chain.series.key])} "
        f"AND {among(['generation'], [(number,) for number in numbers])}"
    )
    found: dict[int, set[frozenset[str]]] = {}
    for number, text in rows.iter_rows():
        found.setdefault(number, set()).add(_groups(text))
    return found


def read_families(cache: Cache, specs: Iterable[BarSpec]) -> dict[BarSpec, list[Chain]]:
    """Read the chains of the specs that have units with optional groups, in the order of series.

    A family is the series of one spec. A family without such units is left out.
    """
    if not has_group_columns(cache):
        return {}
    by_key = {spec.key: spec for spec in specs}
    columns = ", ".join(BarSpecKey._fields)
    frames = [
        cache.query(
            f"SELECT DISTINCT {columns} FROM {cache.table('units')} "  # noqa: S608
            f"WHERE {condition} AND position(feature_groups, '@') > 0"
        )
        for condition in split_among(BarSpecKey._fields, by_key)
    ]
    wanted = [by_key[BarSpecKey(*row)] for frame in frames for row in frame.iter_rows()]
    found: dict[BarSpec, list[Chain]] = {}
    for series, chain in (read_chains(cache, wanted) if wanted else {}).items():
        if chain.units:
            found.setdefault(series.spec, []).append(chain)
    return found


def details_of(cache: Cache, units: Sequence[Unit]) -> pl.DataFrame:
    """Read the columns of the table `units`, in the order of the days."""
    columns = [name for name in table("units").types if name != "processor_state"]
    select = f"SELECT {', '.join(columns)} FROM {cache.table('units')}"  # noqa: S608
    frames = [cache.query(f"{select} WHERE {where}") for where in where_units(units) or ["0"]]
    return pl.concat(frames).sort("unit_day")


def where_units(units: Sequence[Unit]) -> list[str]:
    """Return conditions for the rows of the units, each for some of them, without overlap.

    The attempts decide. The rest only limits what the database scans.
    """
    return [_where(batch) for batch in number_batches(units)]


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
    """Read the rebuilds of the series of some specs, or of all, by series and in order."""
    keys = None if specs is None else {spec.key for spec in specs}
    # There are few rebuilds: a condition on the whole key takes longer than reading them.
    conditions = ["1"]
    if keys is not None:
        conditions = split_among(["symbol"], [(key.symbol,) for key in keys])
    select = (
        f"SELECT {', '.join(SeriesKey._fields)}, generation, first_day, state "  # noqa: S608
        f"FROM {cache.table('generations')}"
    )
    frames = [cache.query(f"{select} WHERE {condition}") for condition in conditions]
    states: dict[tuple[SeriesKey, int, date], set[str]] = {}
    for *key, number, first_day, state in (row for frame in frames for row in frame.iter_rows()):
        series = SeriesKey(*key)
        if keys is None or series[: len(BarSpecKey._fields)] in keys:
            states.setdefault((series, number, first_day), set()).add(state)
    found: dict[SeriesKey, tuple[Generation, ...]] = {}
    for (series, number, first_day), known in sorted(states.items(), key=lambda item: item[0]):
        state = next(state for state in (DISCARDED, PUBLISHED, OPEN) if state in known)
        found[series] = (*found.get(series, ()), Generation(number, first_day, state))
    return found
