"""Run jobs in this process: compute one group of units while the one before it is published."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import SourceError, TickDataError
from rangebar_polars.populate.outcome import JobResult
from rangebar_polars.populate.workers.work import GROUP_DAYS, GROUP_S, compute_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from datetime import date

    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.populate.outcome import Outcome
    from rangebar_polars.populate.plan import Job

    Publish = Callable[[list[UnitDraft]], object]

__all__ = ["InProcessRunner", "run_job"]


def run_job(job: Job, publish: Publish, *, group_s: float = GROUP_S) -> Outcome:
    """Compute a job and publish it group by group.

    `publish` is called from another thread, for one group at a time, and not again after an error.
    """
    (result,) = InProcessRunner(publish, group_s=group_s).run([job])
    if result.outcome is None:
        raise result.error or AssertionError
    return result.outcome


class InProcessRunner:
    """Compute jobs one after another, and publish their units in groups.

    A group may hold the units of several jobs, because publishing costs about the same for one day
    as for a month: a segment of one day would otherwise cost a publication of its own.

    Parameters
    ----------
    publish
        Publishes one group. It is called from another thread, for one group at a time.
    group_s
        Seconds of work after which a group is published.
    """

    def __init__(self, publish: Publish, *, group_s: float = GROUP_S) -> None:
        self._publish = publish
        self._group_s = group_s
        self._groups: _Groups | None = None

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Run jobs of different segments; each is taken when the one before it is computed.

        Yields
        ------
        JobResult
            Each job, in order, once all of its units are published. Bad ticks and a failing source
            end their own job only; an error of `publish` ends all.
        """
        with ThreadPoolExecutor(1, "rangebar-publish") as thread:
            groups = self._groups = _Groups(thread, self._publish, self._group_s)
            source = iter(jobs)
            while True:
                try:
                    job = next(source, None)
                except Exception:
                    # What was computed before is published all the same.
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
        """Publish what is computed, before a job is waited for that may take long to come."""
        if self._groups is not None:
            self._groups.finish()


class _Groups:
    """The group that is being filled, the one that is being published, and the jobs in both."""

    def __init__(self, thread: ThreadPoolExecutor, publish: Publish, group_s: float) -> None:
        self._thread = thread
        self._publish = publish
        self._group_s = group_s
        self._begun = time.monotonic()
        self._filling: list[UnitDraft] = []
        #: Jobs that are computed and have units in the group that is being filled.
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
        """Publish what is left."""
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
        is_late = time.monotonic() - self._begun >= self._group_s
        if is_late or not is_last or len(_days(self._filling)) >= GROUP_DAYS:
            self._submit()

    def _submit(self) -> None:
        """Publish the group that is filled, after the one before it."""
        self._wait()
        if self._filling:
            self._publishing = self._thread.submit(copy_context().run, self._publish, self._filling)
        self._awaited += self._computed
        self._filling, self._computed = [], []
        self._begun = time.monotonic()

    def _wait(self) -> None:
        """Wait for the group that is being published; its error is raised here."""
        under_way, self._publishing = self._publishing, None
        if under_way is not None:
            under_way.result()
        self._published += self._awaited
        self._awaited = []


def _days(drafts: Iterable[UnitDraft]) -> set[date]:
    return {draft.day for draft in drafts}
