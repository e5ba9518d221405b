"""Outcome of a job: how far each series got, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.ingest.id_gap import Hole
    from rangebar_polars.populate.plan import Job

__all__ = ["JobResult", "Outcome", "SeriesOutcome"]


@dataclass(frozen=True, slots=True)
class SeriesOutcome:
    """The outcome of a job for one series."""

    series: BarSeries
    #: Number of days that became units.
    days: int
    #: Those of the days that have no tick, as the source confirms.
    absent: tuple[date, ...]
    #: Number of bars that reached their threshold.
    bars: int
    #: Number of bars that a reset or a gap ended.
    orphans: int
    #: Where the series stopped before the job's last day, and why.
    hole: Hole | None
    #: The day before the job, if the stored ticks do not give the state after it any more.
    differs: date | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a job. It is small, so that it can be sent between processes."""

    series: tuple[SeriesOutcome, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every series got to the job's last day."""
        return all(outcome.hole is None for outcome in self.series)


@dataclass(frozen=True, slots=True)
class JobResult:
    """A finished job, with its outcome or the error that ended it."""

    job: Job
    outcome: Outcome | None = None
    error: BaseException | None = None
