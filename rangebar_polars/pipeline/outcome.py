"""What came of a job: how far each series got, and why it stopped where it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.pipeline.jobs import Job
    from rangebar_polars.storage.held import HeldDay, HeldDays

__all__ = ["Hole", "JobResult", "Outcome", "TrackOutcome", "first_hole", "first_line"]


@dataclass(frozen=True, slots=True)
class Hole:
    """A day at which a segment stops, as it cannot be made into a unit."""

    day: date
    reason: str
    #: Whether another try may get past it: a file that was damaged can be fetched again.
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class TrackOutcome:
    """What a job gave for one series."""

    series: Series
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


def first_line(error: BaseException) -> str:
    """What an error says, without its hint."""
    return str(error).partition("\n")[0]


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job that has ended: what it did, or the error that ended it."""

    job: Job
    outcome: Outcome | None = None
    error: BaseException | None = None


def first_hole(held: HeldDays, first_day: date) -> Hole | None:
    """The first day from a day on that cannot be made into a unit."""
    days = (day for day in held.days if day.day >= first_day)
    return next((_hole_of(day) for day in days if not day.is_sealed), None)


def _hole_of(day: HeldDay) -> Hole:
    """Why a day cannot be made into a unit."""
    state, reason = day.coverage.state, day.coverage.reason
    words = {
        "missing": "the tick store does not hold it",
        "tail": "more of it is to come",
        "quarantined": "its file was damaged and set aside",
    }
    said = [words[state]] if state in words else []
    return Hole(day.day, "; ".join([*said, *([reason] if reason else [])]) or state)
