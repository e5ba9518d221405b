"""Run the jobs of a population in an `Executor`: threads, processes or other machines.

With an embedded cache, workers stage their bars and only the driver publishes. With a server, each
worker publishes its own bars, under leases that the driver holds. A job whose worker was killed is
run again, and resumes after its published units.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from rangebar_polars import config
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import WorkerLostError, with_hint
from rangebar_polars.populate.outcome import JobResult, Outcome
from rangebar_polars.populate.workers.delivery import (
    DirectDelivery,
    JobTotals,
    StagedDelivery,
    Task,
)
from rangebar_polars.populate.workers.staging import Receipt, staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from rangebar_polars.bar_series.units import UnitDraft
    from rangebar_polars.populate.plan import Job
    from rangebar_polars.populate.workers.delivery import Delivery

__all__ = ["ExecutorRunner", "check_executor", "end_with_parent", "run_jobs"]

#: Runs of a job in a row that may end without publishing anything, because its worker is killed.
_TRIES = 3

_SPAWN = 'ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))'


def run_jobs(
    jobs: Iterable[Job],
    executor: Executor | Callable[[], Executor],
    publish: Callable[[list[UnitDraft]], object],
    *,
    on_days: Callable[[int], object] = lambda _: None,
) -> Iterator[JobResult]:
    """Run jobs in an executor, and publish their units.

    Parameters
    ----------
    jobs
        Jobs for one cache, each drawn when a worker is free for it.
    executor
        The executor, which is not shut down, or a function that makes one. The function is called
        again if a process is killed.
    publish
        Publishes units to an embedded cache, in this thread. If the first unit of a series has no
        `built_on`, `publish` fills in the attempt that it published last. Its errors end the run.
    on_days
        Called with the number of newly published days.

    Yields
    ------
    JobResult
        Each job as it ends. An error of one job does not end the others.

    Raises
    ------
    WorkerLostError
        A process was killed, and the executor cannot be replaced.
    ValueError
        The executor forks this process, or takes no work.
    TypeError
        The function does not return an executor, or the executor does not return futures with the
        results of the jobs.
    """
    with ExecutorRunner(executor, publish, on_days=on_days) as runner:
        yield from runner.run(jobs)


class ExecutorRunner:
    """Runs jobs in an executor, one set of jobs after another; a context that ends its workers.

    The parameters are those of `run_jobs`.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        publish: Callable[[list[UnitDraft]], object],
        *,
        on_days: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._stack = ExitStack()
        self._workers = self._stack.enter_context(closing(_Workers(executor)))
        self._publish = publish
        self._on_days = on_days
        self._delivery: Delivery | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Run jobs, and yield each as it ends. All jobs of a runner are for one cache."""
        source = map(_with_settings, jobs)
        first = next(source, None)
        if first is None:
            return
        if self._delivery is None:
            self._delivery = self._delivery_of(first)
        yield from _Run(chain([first], source), self._workers, self._delivery).results()

    def _delivery_of(self, job: Job) -> Delivery:
        folder = resolve(job.dsn, job.cache_dir).folder
        if folder is None:
            return DirectDelivery(self._on_days)
        staging = self._stack.enter_context(staging_folder(folder))
        return StagedDelivery(staging, self._publish, self._on_days)


def _with_settings(job: Job) -> Job:
    """Resolve the folder and the DSN of a job here, since a worker may have other settings."""
    resolved = config.settings(cache_dir=job.cache_dir, clickhouse_dsn=job.dsn)
    return replace(job, cache_dir=str(resolved.cache_dir), dsn=resolved.clickhouse_dsn)


# The executor


def check_executor(executor: object) -> None:
    """Refuse an executor that is shut down, and any value that is not an executor or a function."""
    if executor is None:
        return
    if not isinstance(executor, Executor):
        if not callable(executor):
            raise _no_executor("`executor`", executor)
    # Executors of threads and of processes name the flag differently.
    elif getattr(executor, "_shutdown", False) is True or (
        getattr(executor, "_shutdown_thread", False) is True
    ):
        raise _takes_no_work("it is shut down")


def _no_executor(what: str, value: object) -> TypeError:
    sentence = (
        f"{what} must be a concurrent.futures.Executor, or a function that makes one; it is of "
        f"type `{type(value).__name__}`"
    )
    return TypeError(with_hint(sentence, _SPAWN))


def _takes_no_work(reason: str) -> ValueError:
    sentence = f"`executor` takes no work: {reason}"
    return ValueError(with_hint(sentence, f"pass another one, or a function: lambda: {_SPAWN}"))


class _Workers:
    """An executor, or a function that makes a new one when the current one breaks."""

    def __init__(self, executor: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        self._current = _refuse_fork(executor) if isinstance(executor, Executor) else None

    @property
    def _executor(self) -> Executor:
        if self._current is None:
            assert self._make is not None  # noqa: S101
            made = self._make()
            if not isinstance(made, Executor):
                raise _no_executor("the return value of `executor`", made)
            self._current = _refuse_fork(made)
        return self._current

    @property
    def slots(self) -> int:
        """Number of jobs to submit at once: one more than can run, so that no worker waits."""
        executor = self._executor
        known = getattr(executor, "max_workers", None) or getattr(executor, "_max_workers", None)
        threads = getattr(getattr(executor, "_client", None), "nthreads", None)  # of Dask
        if known is None and threads is not None:
            known = sum(threads().values())
        return 1 + (known or os.cpu_count() or 1)

    def submit(self, call: tuple[Any, ...]) -> Future[Any]:
        """Submit a function with positional arguments; some executors use keywords themselves."""
        if isinstance(self._executor, ProcessPoolExecutor):
            call = (_in_a_child, *call)
        try:
            future = self._executor.submit(*call)
        except BrokenExecutor:
            raise
        except RuntimeError as error:
            raise _takes_no_work(str(error)) from error
        if not isinstance(future, Future):
            raise _wrong_answer("submit", future)
        return future

    def renew(self, cause: BaseException) -> None:
        """Replace an executor that has lost a process."""
        if self._make is None:
            raise WorkerLostError(_LOST) from cause
        self.close()

    def close(self) -> None:
        """Shut down an executor that was made here."""
        if self._make is not None and self._current is not None:
            self._current.shutdown(wait=False)
            self._current = None


_LOST = with_hint(
    "a process of the executor was killed, which ended all of its work; published days are stored",
    "run it again, or pass a function that makes a new executor: executor=lambda: "
    f"{_SPAWN}; a process that is killed repeatedly may be running out of memory",
)


def _refuse_fork(executor: Executor) -> Executor:
    """Refuse an executor that forks: Polars hangs in a forked process, which has no threads."""
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            with_hint("`executor` forks this process, but its threads are lost in a fork", _SPAWN)
        )
    return executor


def _wrong_answer(method: str, value: object) -> TypeError:
    sentence = f"`{method}` of `executor` gave `{value!r}`, which is not a valid result"
    hint = "submit must return a concurrent.futures.Future with the result of the function"
    return TypeError(with_hint(sentence, hint))


def _answer(future: Future[Any]) -> Outcome | Receipt:
    """Return the result of a job, as the executor passed it on."""
    answer = future.result()
    if not isinstance(answer, Outcome | Receipt):
        raise _wrong_answer("a future", answer)
    return answer


def _in_a_child(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """Run a job in a child process that ends when this process ends, even if it is killed."""
    end_with_parent()
    return function(*arguments)


@cache
def end_with_parent() -> None:
    """End this pool process when its parent has ended; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    # A normal exit would wait for threads. The pool's pipe does not close, since both ends are open
    # in this process.
    os._exit(1)


class _Run:
    """Jobs that are running, and jobs to run again."""

    def __init__(self, jobs: Iterator[Job], workers: _Workers, delivery: Delivery) -> None:
        self._jobs = jobs
        self._workers = workers
        self._delivery = delivery
        self._running: dict[Future[Any], Task] = {}
        #: Tasks to run again.
        self._again: deque[Task] = deque()
        #: Why the executor takes no more work.
        self._broken: BrokenExecutor | None = None

    def results(self) -> Iterator[JobResult]:
        """Yield each job as it ends."""
        try:
            while self._fill():
                ready, _ = wait(self._running, self._delivery.poll_s, FIRST_COMPLETED)
                for task in self._running.values():
                    self._delivery.collect(task)
                for future in ready:
                    yield from self._ended(future)
                if self._broken is not None:
                    yield from self._recover(self._broken)
        finally:
            for future in self._running:
                future.cancel()

    def _fill(self) -> bool:
        """Submit jobs while there is room; return False once nothing is left to do."""
        room = self._workers.slots - len(self._running)
        while room > 0 and self._broken is None and (task := self._next()) is not None:
            room -= 1
            try:
                self._running[self._workers.submit(self._delivery.call(task))] = task
            except BrokenExecutor as error:
                self._broken = error
                self._again.appendleft(task)
        return bool(self._running or self._again)

    def _next(self) -> Task | None:
        if self._again:
            return self._again.popleft()
        job = next(self._jobs, None)
        return None if job is None else Task(job, JobTotals(job))

    def _ended(self, future: Future[Any]) -> Iterator[JobResult]:
        task = self._running.pop(future)
        error = WorkerLostError(_LOST) if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            self._broken = error
            self._again.append(task)
        elif error is not None:
            yield self._result(task, error=error)
        elif (outcome := self._delivery.outcome(task, _answer(future))) is not None:
            yield self._result(task, outcome)
        else:
            yield from self._try_again(task)

    def _recover(self, cause: BrokenExecutor) -> Iterator[JobResult]:
        """Replace a broken executor, and run its tasks again."""
        lost = [*self._again, *self._running.values()]
        self._again.clear()
        self._running.clear()
        for task in lost:
            self._delivery.collect(task)
        self._workers.renew(cause)
        self._broken = None
        for task in lost:
            yield from self._try_again(task)

    def _try_again(self, task: Task) -> Iterator[JobResult]:
        task.failed_runs += 1
        if task.failed_runs < _TRIES:
            self._again.append(task)
            return
        job = task.job
        sentence = (
            f"the job of `{job.symbol}` from `{job.first_day}` to `{job.last_day}` was lost "
            f"`{_TRIES}` times"
        )
        hint = (
            "check the memory and the disk, and what ends the processes; published days are stored"
        )
        yield self._result(task, error=WorkerLostError(with_hint(sentence, hint)))

    def _result(
        self, task: Task, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> JobResult:
        self._delivery.forget(task)
        return JobResult(task.job, outcome, error)
