"""Units of a series: published days, generations, and the chain of visible units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.columns import stored_groups
from rangebar_polars.bar_series.features import NO_FEATURES, named_features, stored_features

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries

__all__ = [
    "DISCARDED",
    "OPEN",
    "PUBLISHED",
    "Chain",
    "Generation",
    "TickDay",
    "Unit",
    "UnitDraft",
    "groups_of",
    "visible",
]


@dataclass(frozen=True, slots=True)
class TickDay:
    """The ticks that a unit was made from."""

    #: State of the day in the tick store: "final", "given" or "absent_confirmed".
    state: str
    rows: int
    #: Hash of the ticks. The unit is stale once it differs from that of the store.
    hash: str
    first_id: int | None = None
    last_id: int | None = None
    #: Ranges of ids, both ends included, that the source does not have.
    source_absent: tuple[tuple[int, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnitDraft:
    """A day of a series to publish."""

    series: BarSeries
    day: date
    #: Bars in order, with the columns of all its groups and with `is_closed` and `ended_by`.
    bars: pl.DataFrame
    ticks: TickDay
    #: State of the processor after the day.
    state: bytes
    #: Attempt of the unit of the day before; 0 on the anchor's day. None if that unit is published
    #: in the same call.
    built_on: int | None = None
    generation: int = 0
    fencing: int = 0
    #: Words of the groups, in the order of the catalogue.
    feature_groups: tuple[str, ...] = field(default_factory=stored_groups)
    #: Number of newest ticks that a resume pushes again for the optional groups.
    replay: int = 0

    @property
    def features(self) -> FeatureSet:
        """The optional groups of its bars."""
        return stored_features(frozenset(self.feature_groups))


OPEN, PUBLISHED, DISCARDED = "open", "published", "discarded"


@dataclass(frozen=True, slots=True)
class Generation:
    """A rebuild of a series, starting at a day."""

    number: int
    first_day: date
    #: "open", "published" or "discarded".
    state: str


# Not frozen: a read makes a year of them, and frozen ones take a seventh of its time.
@dataclass(slots=True, unsafe_hash=True)
class Unit:
    """A published day of a series, as far as a plan needs it.

    `read_bars` reads its bars, `states_of` its processor state, `details_of` the rest.
    """

    series: BarSeries
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
    #: Words: the groups with their versions, and the window of the look-back columns.
    feature_groups: frozenset[str]

    @property
    def closed_rows(self) -> int:
        """Number of bars that reached their threshold."""
        return self.rows - self.orphan_rows

    def has_bars_of(self, other: Unit) -> bool:
        """Return whether it has the same bars as another unit, to the last value."""
        # The sum of the row hashes covers every value of a bar.
        return (self.series, self.day, self.rows, self.row_hash_sum) == (
            other.series,
            other.day,
            other.rows,
            other.row_hash_sum,
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """The visible units of a series: one for each day from its anchor."""

    series: BarSeries
    units: tuple[Unit, ...]
    generations: tuple[Generation, ...] = ()

    @property
    def frontier(self) -> date:
        """The first day without a unit."""
        return self.series.first_day + len(self.units) * ONE_DAY

    @property
    def last(self) -> Unit | None:
        """The newest unit."""
        return self.units[-1] if self.units else None

    @property
    def feature_groups(self) -> frozenset[str]:
        """Words of the feature groups that every unit has."""
        groups = {unit.feature_groups for unit in self.units}
        return frozenset.intersection(*groups) if groups else frozenset()

    @property
    def features(self) -> FeatureSet:
        """Optional feature groups of the series: those of its first unit, in any version."""
        return named_features(self.units[0].feature_groups) if self.units else NO_FEATURES

    @property
    def left_out(self) -> tuple[str, ...]:
        """Optional groups of the series that its newest unit does not have in this version."""
        if self.last is None:
            return ()
        newest = stored_features(self.last.feature_groups).groups
        return tuple(group for group in self.features.groups if group not in newest)

    @property
    def open_generations(self) -> tuple[Generation, ...]:
        """Rebuilds that are neither published nor discarded."""
        return tuple(rebuild for rebuild in self.generations if rebuild.state == OPEN)

    @property
    def generation(self) -> int:
        """Number of the rebuild that the next unit belongs to; 0 without a rebuild."""
        numbers = (rebuild.number for rebuild in self.generations if rebuild.state == PUBLISHED)
        return max(numbers, default=0)

    def unit(self, day: date) -> Unit | None:
        """Return the unit of a day; None without one."""
        index = (day - self.series.first_day).days
        return self.units[index] if 0 <= index < len(self.units) else None

    def between(self, first_day: date, last_day: date) -> tuple[Unit, ...]:
        """Return the units from the first day to the last, both included."""
        start = max(0, (first_day - self.series.first_day).days)
        stop = max(0, (last_day - self.series.first_day).days + 1)
        return self.units[start:stop]

    def covers(self, first_day: date, last_day: date) -> bool:
        """Return whether every day from the first to the last, both included, has a unit."""
        return self.series.first_day <= first_day and last_day < self.frontier


def visible(
    first_day: date, units: Iterable[Unit], generations: Iterable[tuple[int, date]] = ()
) -> tuple[Unit, ...]:
    """Return the visible units of a series, from its first day.

    A unit is visible only if it was built on the visible unit of the day before.

    Parameters
    ----------
    first_day
        The day of the anchor.
    units
        All units of the series, in any order.
    generations
        Number and first day of every visible rebuild.
    """
    winners: dict[tuple[date, int, int], Unit] = {}
    for unit in units:
        key = (unit.day, unit.generation, unit.built_on)
        rival = winners.setdefault(key, unit)
        if rival is not unit and _wins(unit, rival):
            winners[key] = unit
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


def groups_of(units: Sequence[Unit]) -> tuple[str, ...]:
    """Return the feature groups that all of some units have, in the versions of this package."""
    common = frozenset.intersection(*(unit.feature_groups for unit in units))
    return stored_features(common).all_groups
