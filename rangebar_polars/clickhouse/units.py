"""Published days of series, and which of them are visible.

A unit counts only if the unit it was built on is the visible one of the day before, so that what
is visible of a series is a chain from its anchor without a hole, made by one computation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._span import ONE_DAY
from rangebar_polars.clickhouse.ddl import table
from rangebar_polars.clickhouse.generations import OPEN, PUBLISHED, read_generations
from rangebar_polars.clickhouse.series import Configuration, Family, FamilyKey, Series, SeriesKey
from rangebar_polars.clickhouse.sql import (
    among,
    among_in_pieces,
    enclosing,
    literal,
    numbers_in_pieces,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.generations import Generation

__all__ = [
    "Chain",
    "Unit",
    "details_of",
    "families_like",
    "read_chains",
    "states_of",
    "visible",
    "where_units",
]

#: So many days or series are listed in a query; of more, only the first and the last are named.
_MOST_STARTS, _MOST_SERIES = 1_000, 16


# Not frozen, since a year of them is made for each read, and that takes a seventh of the time.
@dataclass(slots=True, unsafe_hash=True)
class Unit:
    """A published day of a series: what a plan needs of it.

    Its bars are read by `rows`, its processor state by `states_of`, the rest by `details_of`.
    """

    series: Series
    day: date
    generation: int
    attempt: int
    #: Attempt of the unit of the day before; 0 on the anchor's day.
    built_on: int
    fencing: int
    tick_first_id: int | None
    tick_last_id: int | None
    tick_hash: str
    rows: int
    orphan_rows: int
    row_hash_sum: int
    first_close_us: int | None
    last_close_us: int | None
    feature_groups: frozenset[str]

    @property
    def closed_rows(self) -> int:
        """Bars that reached their threshold."""
        return self.rows - self.orphan_rows

    def has_bars_of(self, other: Unit) -> bool:
        """Whether it holds the same bars as another unit, to the last value."""
        # The sum of the row hashes takes in every value of a bar.
        return (self.series, self.day, self.rows, self.row_hash_sum) == (
            other.series,
            other.day,
            other.rows,
            other.row_hash_sum,
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """What is visible of a series: one unit a day from its anchor on."""

    series: Series
    units: tuple[Unit, ...]
    generations: tuple[Generation, ...] = ()

    @property
    def frontier(self) -> date:
        """The first day that is not held; it reaches a day if it is that day or a later one."""
        return self.series.first_day + len(self.units) * ONE_DAY

    @property
    def last(self) -> Unit | None:
        """The newest unit."""
        return self.units[-1] if self.units else None

    @property
    def feature_groups(self) -> frozenset[str]:
        """Groups of features that every unit has."""
        groups = {unit.feature_groups for unit in self.units}
        return frozenset.intersection(*groups) if groups else frozenset()

    @property
    def open_generations(self) -> tuple[Generation, ...]:
        """Rebuilds that are neither published nor discarded."""
        return tuple(one for one in self.generations if one.state == OPEN)

    @property
    def generation(self) -> int:
        """Number of the rebuild that the next unit belongs to; 0 where there is none."""
        published = (one.number for one in self.generations if one.state == PUBLISHED)
        return max(published, default=0)

    def unit(self, day: date) -> Unit | None:
        """The unit of a day, if it is held."""
        place = (day - self.series.first_day).days
        return self.units[place] if 0 <= place < len(self.units) else None

    def between(self, first_day: date, last_day: date) -> tuple[Unit, ...]:
        """The units of the days from the first to the last, both included."""
        start = max(0, (first_day - self.series.first_day).days)
        stop = max(0, (last_day - self.series.first_day).days + 1)
        return self.units[start:stop]

    def covers(self, first_day: date, last_day: date) -> bool:
        """Whether the days from the first to the last, both included, are all held."""
        return self.series.first_day <= first_day and last_day < self.frontier


def visible(
    first_day: date, units: Iterable[Unit], generations: Iterable[tuple[int, date]] = ()
) -> tuple[Unit, ...]:
    """The units of a series that count, from its first day on.

    Parameters
    ----------
    first_day
        The day of the anchor.
    units
        All units of the series, in any order.
    generations
        Number and first day of every rebuild that is visible.
    """
    winners: dict[tuple[date, int, int], Unit] = {}
    for unit in units:
        place = (unit.day, unit.generation, unit.built_on)
        rival = winners.setdefault(place, unit)
        if rival is not unit and _wins(unit, rival):
            winners[place] = unit
    published = sorted(generations)
    chain: list[Unit] = []
    day, newest, built_on = first_day, 0, 0
    while True:
        if published:
            newest = max((number for number, first in published if first <= day), default=0)
        winner = winners.get((day, newest, built_on))
        if winner is None:
            return tuple(chain)
        chain.append(winner)
        day, built_on = day + ONE_DAY, winner.attempt


def _wins(unit: Unit, rival: Unit) -> bool:
    return (-unit.fencing, unit.attempt) < (-rival.fencing, rival.attempt)


_CONFIGURATION = tuple(field.name for field in fields(Configuration))
# Columns of a unit in the order of its fields; the series comes before them.
_COLUMNS = ("unit_day", *(field.name for field in fields(Unit)[2:]))


def read_chains(
    cache: Cache,
    families: Iterable[Family] | None = None,
    *,
    segment_starts: Collection[date] | None = None,
    as_if_published: Collection[tuple[Series, int]] = (),
) -> dict[Series, Chain]:
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
    listed = None if families is None else list(families)
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
    families: list[Family] | None,
    segment_starts: Collection[date] | None,
) -> Iterator[Series]:
    """Series of the families of which a rebuild is visible, with units or without."""
    by_key: dict[tuple[Any, ...], Family] = {family.key: family for family in families or ()}
    for key, known in generations.items():
        family = by_key.get(key[: len(FamilyKey._fields)])
        is_asked_for = segment_starts is None or key.segment_start in segment_starts
        if family is not None and is_asked_for and any(one.state == PUBLISHED for one in known):
            yield Series(family, key.segment_start, key.anchor_us)


def _published(
    series: Series, known: Sequence[Generation], as_if: Collection[tuple[Series, int]]
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
    cache: Cache, families: list[Family] | None, segment_starts: Collection[date] | None
) -> dict[Series, list[Unit]]:
    conditions = ["1"]
    if families is not None:
        conditions = among_in_pieces(FamilyKey._fields, [family.key for family in families])
    of_segments = "1" if segment_starts is None else _of_segments(segment_starts)
    # Of one family everything is known but the segment and the anchor.
    key = _OF_FAMILY if families and len(families) == 1 else (*SeriesKey._fields, *_CONFIGURATION)
    frames = [
        cache.query(
            f"SELECT {', '.join((*key, *_COLUMNS))} "  # noqa: S608
            f"FROM {cache.table('units')} WHERE {condition} AND {of_segments}"
        )
        for condition in conditions
    ]
    # Groups of a frame take longer than a loop over so few rows.
    found: dict[tuple[Any, ...], tuple[Series, list[Unit]]] = {}
    for row in (row for frame in frames for row in frame.rows()):
        values = row[: len(key)]
        if values not in found:
            of_one = Series(families[0], *values) if key is _OF_FAMILY and families else None
            found[values] = (of_one or _series(values), [])
        series, units = found[values]
        units.append(Unit(series, *[*row[len(key) : -1], _groups(row[-1])]))
    return dict(found.values())


_OF_FAMILY = ("segment_start", "anchor_us")


def _series(values: tuple[Any, ...]) -> Series:
    key = SeriesKey(*values[: len(SeriesKey._fields)])
    family = Family(*key[:5], Configuration(*values[len(SeriesKey._fields) :]))
    return Series(family, key.segment_start, key.anchor_us)


@lru_cache
def _groups(text: str) -> frozenset[str]:
    return frozenset(text.split())


def families_like(cache: Cache, family: Family) -> list[Family]:
    """Families of which anything is kept, and that differ from this one in configuration alone."""
    place = FamilyKey._fields[:-1]
    rows = cache.query(
        f"SELECT DISTINCT {', '.join(_CONFIGURATION)} FROM {cache.table('units')} "  # noqa: S608
        f"WHERE {among(place, [family.key[: len(place)]])}"
    )
    found = (replace(family, configuration=Configuration(*row)) for row in rows.iter_rows())
    return [other for other in found if other != family]


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
    return [_where(piece) for piece in numbers_in_pieces(units)]


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
