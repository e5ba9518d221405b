"""How bars get from a worker into the cache: published there, or staged for the driver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars._span import ONE_DAY
from rangebar_polars.pipeline.outcome import Outcome, TrackOutcome
from rangebar_polars.pipeline.publishing import run_published
from rangebar_polars.pipeline.staging import Inbox, Outbox
from rangebar_polars.pipeline.work import drafts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.clickhouse.write import UnitDraft
    from rangebar_polars.pipeline.jobs import Job, JobTrack

__all__ = ["Direct", "Receipt", "Staged", "Tally", "Task", "Way", "stage_job"]

#: Seconds between two looks for staged groups.
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker says of a job that it has staged."""

    outcome: Outcome
    #: How many groups it has in all.
    groups: int


# In the worker: functions of a module and arguments by place, as any executor can send them


def stage_job(job: Job, folder: str) -> Receipt:
    """Compute a job, and put its units into files for the driver."""
    outbox = Outbox(Path(folder))
    known = outbox.standing()
    index, after = known.index, known.after
    reached = {series: (day, state) for series, day, state in known.states}
    rest = _continued(job, reached)
    if not rest.tracks:
        return Receipt(Outcome(()), index)
    groups = drafts_of(rest)
    while True:
        try:
            drafts = next(groups)
        except StopIteration as end:
            return Receipt(end.value, index)
        # As in a run from the start: the driver knows the attempt that the next unit is built on.
        same = [replace(one, built_on=None) if one.series in reached else one for one in drafts]
        after = outbox.put(same, index, after)
        index += 1


def _continued(job: Job, reached: Mapping[Series, tuple[date, bytes]]) -> Job:
    """A job without the days that are done: of each series, the last one and the state after it."""
    moved = [
        _moved(track, *reached[track.series]) if track.series in reached else track
        for track in job.tracks
    ]
    tracks = tuple(track for track in moved if track.first_day <= job.last_day)
    first_day = min((track.first_day for track in tracks), default=job.first_day)
    return replace(job, tracks=tracks, first_day=first_day)


def _moved(track: JobTrack, day: date, state: bytes) -> JobTrack:
    return replace(track, first_day=day + ONE_DAY, state=state)


# In the driver


class Tally:
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
    tally: Tally
    #: Runs that ended with nothing published.
    vain: int = 0
    inbox: Inbox | None = None


class Way(Protocol):
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


class Direct:
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


class Staged:
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
