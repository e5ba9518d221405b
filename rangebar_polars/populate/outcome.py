"""What came of a job: how far each series got, and why it stopped where it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.ingest.id_gap import Hole
    from rangebar_polars.populate.plan import Job

__all__ = ["JobResult", "Outcome", "TrackOutcome"]


@dataclass(frozen=True, slots=True)
class TrackOutcome:
    """What a job gave for one series."""

    series: BarSeries
    #: Days that became units.
    days: int
    #: Of them, those without a tick, as the source says for certain.
    absent: tuple[date, ...]
    #: Bars that reached their threshold.
    bars: int
    #: Bars that a reset or a gap ended.
    orphans: int
    #: Where it stopped before the job's last day, and why.
    hole: Hole | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did; it is small and can be sent between processes."""

    tracks: tuple[TrackOutcome, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every track got to the job's last day."""
        return all(track.hole is None for track in self.tracks)


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job that has ended: what it did, or the error that ended it."""

    job: Job
    outcome: Outcome | None = None
    error: BaseException | None = None
