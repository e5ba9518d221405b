"""Delivery of bars from a worker to the cache: published by the worker, or staged for the driver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars.populate.outcome import Outcome, SeriesOutcome
from rangebar_polars.populate.workers.publish import run_published
from rangebar_polars.populate.workers.staging import Inbox, stage_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.units import UnitDraft
    from rangebar_polars.populate.plan import Job
    from rangebar_polars.populate.workers.staging import Receipt

__all__ = ["Delivery", "DirectDelivery", "JobTotals", "StagedDelivery", "Task"]


#: Seconds between two polls for staged groups.
_POLL_S = 0.05


class JobTotals:
    """Totals of the published units of a job, over all its runs."""

    def __init__(self, job: Job) -> None:
        self._series = {
            part.series: SeriesOutcome(part.series, 0, (), 0, 0, None) for part in job.series_jobs
        }
        self._days: set[date] = set()

    def add(self, drafts: Sequence[UnitDraft]) -> int:
        """Count units; return the number of days that were not counted before."""
        for draft in drafts:
            total = self._series[draft.series]
            closed = int(draft.bars["is_closed"].sum())
            is_absent = draft.ticks.state == "absent_confirmed"
            self._series[draft.series] = replace(
                total,
                days=total.days + 1,
                absent=(*total.absent, draft.day) if is_absent else total.absent,
                bars=total.bars + closed,
                orphans=total.orphans + draft.bars.height - closed,
            )
        new = {draft.day for draft in drafts} - self._days
        self._days |= new
        return len(new)

    def outcome(self, last: Outcome) -> Outcome:
        """Return the outcome of the job, with the holes that its last run met."""
        ends = {outcome.series: (outcome.hole, outcome.differs) for outcome in last.series}
        return Outcome(
            tuple(
                replace(total, hole=hole, differs=differs)
                for total in self._series.values()
                for hole, differs in [ends.get(total.series, (None, None))]
            )
        )


@dataclass(slots=True, eq=False)
class Task:
    """A job that is running or waits to be run."""

    job: Job
    totals: JobTotals
    #: Number of runs that ended without publishing anything.
    failed_runs: int = 0
    inbox: Inbox | None = None


class Delivery(Protocol):
    """A way for bars to get from a worker into the cache."""

    #: Seconds between two calls of `collect`; None if there is nothing to collect.
    poll_s: float | None

    def call(self, task: Task) -> tuple[Any, ...]:
        """Return the function and the arguments for the worker."""

    def collect(self, task: Task) -> None:
        """Publish the groups that the worker has staged."""

    def outcome(self, task: Task, answer: Any) -> Outcome | None:  # noqa: ANN401
        """Return the outcome of a job whose worker has answered; None if it must be run again."""

    def forget(self, task: Task) -> None:
        """Clean up after a finished job."""


class DirectDelivery:
    """Delivery by workers that publish their bars themselves."""

    poll_s: float | None = None

    def __init__(self, on_days: Callable[[int], object]) -> None:
        self._on_days = on_days

    def call(self, task: Task) -> tuple[Any, ...]:
        """Return the function and the job."""
        return run_published, task.job

    def collect(self, task: Task) -> None:
        """Do nothing: nothing is staged."""

    def outcome(self, task: Task, answer: Outcome) -> Outcome:
        """Return the worker's outcome."""
        self._on_days(task.job.days)
        return answer

    def forget(self, task: Task) -> None:
        """Do nothing: nothing is left behind."""


class StagedDelivery:
    """Delivery by files that workers stage and the driver publishes."""

    poll_s: float | None = _POLL_S

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
        """Return the function, the job and its folder, which further runs of the job share."""
        if task.inbox is None:
            self._number += 1
            task.inbox = Inbox(self._folder / f"{self._number:04d}")
        task.inbox.begin()
        return stage_job, task.job, str(task.inbox.folder)

    def collect(self, task: Task) -> None:
        """Publish the staged groups in order."""
        inbox = task.inbox
        while inbox is not None and (drafts := inbox.take()) is not None:
            self._publish(drafts)
            inbox.done(drafts)
            task.failed_runs = 0
            self._on_days(task.totals.add(drafts))

    def outcome(self, task: Task, answer: Receipt) -> Outcome | None:
        """Return the outcome if every staged group was published."""
        assert task.inbox is not None  # noqa: S101
        if task.inbox.index < answer.groups:
            return None
        return task.totals.outcome(answer.outcome)

    def forget(self, task: Task) -> None:
        """Remove the job's folder."""
        if task.inbox is not None:
            task.inbox.remove()
