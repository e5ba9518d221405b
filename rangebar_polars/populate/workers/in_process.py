"""Run jobs in this process: compute one group of units while the previous one is published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.exceptions import SourceError, TickDataError
from rangebar_polars.populate.outcome import JobResult
from rangebar_polars.populate.workers.work import GROUP_DAYS, GROUP_S, compute_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from datetime import date

    from rangebar_polars.bar_series.units import UnitDraft
    from rangebar_polars.populate.outcome import Outcome
    from rangebar_polars.populate.plan import Job

    Publish = Callable[[list[UnitDraft]], object]

__all__ = ["InProcessRunner", "run_job"]


def run_job(job: Job, publish: Publish, *, group_s: float = GROUP_S) -> Outcome:
    """Compute a job and publish it group by group.

    `publish` is called from another thread, one group at a time, and not again after an error.
    """
    (result,) = InProcessRunner(publish, group_s=group_s).run([job])
    if result.outcome is None:
        raise result.error or AssertionError
    return result.outcome


class InProcessRunner:
    """Computes jobs one after another, and publishes their units in groups.

    Publishing one day costs about as much as publishing a month. A group may therefore hold units
    of several jobs, so that a segment of one day does not need a publication of its own.

    Parameters
    ----------
    publish
        Publishes one group. It is called from another thread, one group at a time.
    group_s
        Seconds of work after which a group is published.
    """

    def __init__(self, publish: Publish, *, group_s: float = GROUP_S) -> None:
        self._publish = publish
        self._group_s = group_s
        self._groups: _Groups | None = None

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Run jobs; each is drawn once the previous one is computed.

        A job that continues the one before it is made after `flush`, which publishes that one.

        Yields
        ------
        JobResult
            Each job, in order, once all of its units are published. Bad ticks and a failing source
            end only their own job; an error of `publish` ends the run.
        """
        with ThreadPoolExecutor(1, "rangebar-publish") as thread:
            groups = self._groups = _Groups(thread, self._publish, self._group_s)
            source = iter(jobs)
            while True:
                try:
                    job = next(source, None)
                except Exception:
                    # The units of the jobs before are still published.
                    groups.finish()
                    yield from groups.published()
                    raise
                if job is None:
                    break
                groups.compute(job)
                yield from groups.published()
            groups.finish()
            yield from groups.published()

    def flush(self) -> None:
        """Publish the computed units before a long wait for the next job."""
        if self._groups is not None:
            self._groups.finish()


class _Groups:
    """The group that is being filled, the group that is being published, and their jobs."""

    def __init__(self, thread: ThreadPoolExecutor, publish: Publish, group_s: float) -> None:
        self._thread = thread
        self._publish = publish
        self._group_s = group_s
        self._started = clock.monotonic()
        self._filling: list[UnitDraft] = []
        #: Computed jobs with units in the group that is being filled.
        self._computed: list[JobResult] = []
        self._publishing: Future[object] | None = None
        #: Jobs whose last units are being published.
        self._awaited: list[JobResult] = []
        self._published: list[JobResult] = []

    def compute(self, job: Job) -> None:
        """Compute a job."""
        try:
            outcome = self._compute(job)
        except (TickDataError, SourceError) as error:
            result = JobResult(job, error=error)
        else:
            result = JobResult(job, outcome)
        self._computed.append(result)
        if not self._filling:
            self._awaited += self._computed
            self._computed = []

    def published(self) -> Iterator[JobResult]:
        """Yield the jobs whose units are all published."""
        if self._publishing is None or self._publishing.done():
            self._wait()
        yield from self._published
        self._published = []

    def finish(self) -> None:
        """Publish the last group."""
        self._submit()
        self._wait()

    def _compute(self, job: Job) -> Outcome:
        groups = compute_units(job, group_s=self._group_s)
        while True:
            try:
                drafts = next(groups)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            self._add(drafts, is_last=drafts[-1].day == job.last_day)

    def _add(self, drafts: list[UnitDraft], *, is_last: bool) -> None:
        days = _days(self._filling) | _days(drafts)
        if len({(day.year, day.month) for day in days}) > 1 or len(days) > GROUP_DAYS:
            self._submit()
        self._filling += drafts
        is_late = clock.monotonic() - self._started >= self._group_s
        if is_late or not is_last or len(_days(self._filling)) >= GROUP_DAYS:
            self._submit()

    def _submit(self) -> None:
        """Start to publish the filled group once the previous one is published."""
        self._wait()
        if self._filling:
            self._publishing = self._thread.submit(copy_context().run, self._publish, self._filling)
        self._awaited += self._computed
        self._filling, self._computed = [], []
        self._started = clock.monotonic()

    def _wait(self) -> None:
        """Wait for the group that is being published, and raise its error."""
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.result()
        self._published += self._awaited
        self._awaited = []


def _days(drafts: Iterable[UnitDraft]) -> set[date]:
    return {draft.day for draft in drafts}
