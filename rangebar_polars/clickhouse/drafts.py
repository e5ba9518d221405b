"""What a writer gives for a unit: a day of a series, its bars, and what they were made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.stored import feature_groups

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from rangebar_polars.clickhouse.series import Series

__all__ = ["DayOfTicks", "UnitDraft"]


@dataclass(frozen=True, slots=True)
class DayOfTicks:
    """What a unit was made of."""

    #: Of the day in the tick store: "final", "given" or "absent_confirmed".
    state: str
    rows: int
    #: Of the ticks' content: another one makes the unit stale.
    hash: str
    first_id: int | None = None
    last_id: int | None = None
    #: Spans of ids, both ends included, that the source does not have.
    source_absent: tuple[tuple[int, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnitDraft:
    """A day of a series that is to be published."""

    series: Series
    day: date
    #: Bars of the unit in order, with all features and with `is_closed` and `ended_by`.
    bars: pl.DataFrame
    ticks: DayOfTicks
    #: State of the processor after the day.
    state: bytes
    #: Attempt of the unit of the day before, 0 on the anchor's day; None if that unit is
    #: published in the same call.
    built_on: int | None = None
    generation: int = 0
    fencing: int = 0
    feature_groups: tuple[str, ...] = field(default_factory=feature_groups)
