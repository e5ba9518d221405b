"""How bars get from a worker into the cache: published there, or staged for the driver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars.populate.outcome import Outcome, TrackOutcome
from rangebar_polars.populate.workers.publish import run_published
from rangebar_polars.populate.workers.staging import Inbox, stage_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.populate.plan import Job
    from rangebar_polars.populate.workers.staging import Receipt

__all__ = ["Delivery", "DirectDelivery", "JobTotals", "StagedDelivery", "Task"]


#: Seconds between two looks for staged groups.
_LOOK_S = 0.05


# In the driver


class JobTotals:
    """What the units of a job that were published come to, over all its runs."""

    def __init__(self, job: Job) -> None:
        self._tracks = {
            track.series: TrackOutcome(track.series, 0, (), 0, 0, None) for track in job.tracks
        }
        self._days: set[date] = set()

    def add(self, drafts: Sequence[UnitDraft]) -> int:
        """Count units; how many days there are among them of which there was none."""
        for draft in drafts:
            one = self._tracks[draft.series]
            closed = int(draft.bars["is_closed"].sum())
            is_absent = draft.ticks.state == "absent_confirmed"
            self._tracks[draft.series] = replace(
                one,
                days=one.days + 1,
                absent=(*one.absent, draft.day) if is_absent else one.absent,
                bars=one.bars + closed,
                orphans=one.orphans + draft.bars.height - closed,
            )
        new = {draft.day for draft in drafts} - self._days
        self._days |= new
        return len(new)

    def outcome(self, last: Outcome) -> Outcome:
        """The outcome of the job; the last run knows where it met a hole."""
        holes = {one.series: one.hole for one in last.tracks}
        return Outcome(
            tuple(replace(one, hole=holes.get(one.series)) for one in self._tracks.values())
        )


@dataclass(slots=True, eq=False)
class Task:
    """A job that runs or has to be run."""

    job: Job
    tally: JobTotals
    #: Runs that ended with nothing published.
    vain: int = 0
    inbox: Inbox | None = None


class Delivery(Protocol):
    """How bars get from a worker into the cache."""

    #: Seconds after which `collect` may find something; None: never.
    look_s: float | None

    def call(self, task: Task) -> tuple[Any, ...]:
        """Function and arguments for the worker."""

    def collect(self, task: Task) -> None:
        """Publish what the worker has handed over."""

    def outcome(self, task: Task, answer: Any) -> Outcome | None:  # noqa: ANN401
        """What the job did, once its worker has answered; None if it must be run again."""

    def forget(self, task: Task) -> None:
        """The job has ended."""


class DirectDelivery:
    """The worker publishes."""

    look_s: float | None = None

    def __init__(self, on_days: Callable[[int], object]) -> None:
        self._on_days = on_days

    def call(self, task: Task) -> tuple[Any, ...]:
        """The worker needs nothing but the job."""
        return run_published, task.job

    def collect(self, task: Task) -> None:
        """Nothing comes by."""

    def outcome(self, task: Task, answer: Outcome) -> Outcome:
        """The worker's own words."""
        self._on_days(task.job.days)
        return answer

    def forget(self, task: Task) -> None:
        """Nothing is left."""


class StagedDelivery:
    """The worker stages files, and the driver publishes."""

    look_s: float | None = _LOOK_S

    def __init__(
        self,
        folder: Path,
        publish: Callable[[list[UnitDraft]], object],
        on_days: Callable[[int], object],
    ) -> None:
        self._folder = folder
        self._publish = publish
        self._on_days = on_days
        self._number = 0

    def call(self, task: Task) -> tuple[Any, ...]:
        """The worker is told of the folder; it is the same one when the job is run again."""
        if task.inbox is None:
            self._number += 1
            task.inbox = Inbox(self._folder / f"{self._number:04d}")
        task.inbox.begin()
        return stage_job, task.job, str(task.inbox.folder)

    def collect(self, task: Task) -> None:
        """Publish the groups that are there, in order."""
        inbox = task.inbox
        while inbox is not None and (drafts := inbox.take()) is not None:
            self._publish(drafts)
            inbox.done(drafts)
            task.vain = 0
            self._on_days(task.tally.add(drafts))

    def outcome(self, task: Task, answer: Receipt) -> Outcome | None:
        """What was published, if it is all that the worker has staged."""
        assert task.inbox is not None  # noqa: S101
        if task.inbox.index < answer.groups:
            return None
        return task.tally.outcome(answer.outcome)

    def forget(self, task: Task) -> None:
        """Remove the job's folder."""
        if task.inbox is not None:
            task.inbox.remove()
