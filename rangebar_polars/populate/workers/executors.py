"""Jobs of a population run by workers: threads, processes, or machines, behind any `Executor`.

With an embedded cache the workers stage bars and the driver alone publishes; with a server each
worker publishes its own, under the leases that the driver holds. A job that is run twice, as its
worker was killed, goes on from what is published.
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

    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.populate.plan import Job
    from rangebar_polars.populate.workers.delivery import Delivery

__all__ = ["end_with_parent", "judge_executor", "run_jobs"]

#: How often a job is run in all, if its worker is killed each time before anything is published.
_TRIES = 3

_SPAWN = 'ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))'


def run_jobs(
    jobs: Iterable[Job],
    executor: Executor | Callable[[], Executor],
    publish: Callable[[list[UnitDraft]], object],
    *,
    on_days: Callable[[int], object] = lambda _: None,
) -> Iterator[JobResult]:
    """Run jobs in an executor, and publish what they give.

    Parameters
    ----------
    jobs
        One after another, each taken when a worker is free for it; all for one cache.
    executor
        It is not shut down. A function that makes one is called again if a process is killed.
    publish
        Publishes units of an embedded cache, in this thread; it gives each series' first unit of a
        group without `built_on` the attempt that it published last. Its errors end all.
    on_days
        Is told of days that were published.

    Yields
    ------
    JobResult
        Each job as it ends. The error of one does not end the others.

    Raises
    ------
    WorkerLostError
        A process was killed, and `executor` cannot be made anew.
    ValueError
        The executor forks this process, or takes no work.
    TypeError
        The function makes no executor, or its futures are none, or do not give what was computed.
    """
    with ExitStack() as held:
        workers = held.enter_context(closing(_Workers(executor)))
        source = map(_spelled_out, jobs)
        first = next(source, None)
        if first is None:
            return
        folder = resolve(first.dsn, first.cache_dir).folder
        way: Delivery = (
            DirectDelivery(on_days)
            if folder is None
            else StagedDelivery(held.enter_context(staging_folder(folder)), publish, on_days)
        )
        yield from _Run(chain([first], source), workers, way).results()


def _spelled_out(job: Job) -> Job:
    """A job with the places that the settings name here; a worker may have other settings."""
    found = config.settings(cache_dir=job.cache_dir, clickhouse_dsn=job.dsn)
    return replace(job, cache_dir=str(found.cache_dir), dsn=found.clickhouse_dsn)


# The executor


def judge_executor(executor: object) -> None:
    """Refuse what is neither an executor that takes work nor a function that may make one."""
    if executor is None:
        return
    if not isinstance(executor, Executor):
        if not callable(executor):
            raise _no_executor("`executor`", executor)
    # Of threads, and of processes.
    elif getattr(executor, "_shutdown", False) is True or (
        getattr(executor, "_shutdown_thread", False) is True
    ):
        raise _takes_no_work("it is shut down")


def _no_executor(what: str, given: object) -> TypeError:
    sentence = (
        f"{what} must be a concurrent.futures.Executor, or a function that makes one; it is of "
        f"type `{type(given).__name__}`"
    )
    return TypeError(with_hint(sentence, _SPAWN))


def _takes_no_work(reason: str) -> ValueError:
    sentence = f"`executor` takes no work: {reason}"
    return ValueError(with_hint(sentence, f"give another one, or a function: lambda: {_SPAWN}"))


class _Workers:
    """An executor, or a way to make one after another."""

    def __init__(self, given: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(given, Executor) else given
        self._made = _judged(given) if isinstance(given, Executor) else None

    @property
    def _executor(self) -> Executor:
        if self._made is None:
            assert self._make is not None  # noqa: S101
            made = self._make()
            if not isinstance(made, Executor):
                raise _no_executor("what `executor` makes", made)
            self._made = _judged(made)
        return self._made

    @property
    def slots(self) -> int:
        """How many jobs to have there at once: some more than can run, so that none waits for one."""
        executor = self._executor
        known = getattr(executor, "max_workers", None) or getattr(executor, "_max_workers", None)
        threads = getattr(getattr(executor, "_client", None), "nthreads", None)  # of Dask
        if known is None and threads is not None:
            known = sum(threads().values())
        return 1 + (known or os.cpu_count() or 1)

    def submit(self, call: tuple[Any, ...]) -> Future[Any]:
        """Start a function with arguments by place: keywords are taken by some executors."""
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
        """Replace the executor, one of whose processes was killed."""
        if self._make is None:
            raise WorkerLostError(_LOST) from cause
        self.close()

    def close(self) -> None:
        """Shut down what was made here."""
        if self._make is not None and self._made is not None:
            self._made.shutdown(wait=False)
            self._made = None


_LOST = with_hint(
    "a process of the executor was killed, which ended all of its work; what was published is kept",
    "run it again, or give a function that makes the executor anew: executor=lambda: "
    f"{_SPAWN}; a process that is killed again and again may lack memory",
)


def _judged(executor: Executor) -> Executor:
    """Refuse processes that are forked: the threads of Polars do not come along, and it hangs."""
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            with_hint("the executor forks this process, whose threads its workers lack", _SPAWN)
        )
    return executor


def _wrong_answer(method: str, given: object) -> TypeError:
    sentence = f"`{method}` of `executor` gave `{given!r}`, which is not what it has to give"
    hint = "submit gives a concurrent.futures.Future, and its result is that of the function"
    return TypeError(with_hint(sentence, hint))


def _answer(future: Future[Any]) -> Outcome | Receipt:
    """What a job gave, as the executor handed it on."""
    answer = future.result()
    if not isinstance(answer, Outcome | Receipt):
        raise _wrong_answer("a future", answer)
    return answer


def _in_a_child(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """Run a job in a process that ends when this one's has ended, however that was."""
    end_with_parent()
    return function(*arguments)


@cache
def end_with_parent() -> None:
    """Let the process of a pool end when its parent has ended: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    # Not an exit that waits for threads. The pipe of the pool tells of no end, as both ends are here.
    os._exit(1)


class _Run:
    """The jobs that are under way."""

    def __init__(self, jobs: Iterator[Job], workers: _Workers, way: Delivery) -> None:
        self._jobs = jobs
        self._workers = workers
        self._way = way
        self._running: dict[Future[Any], Task] = {}
        #: To be run again.
        self._again: deque[Task] = deque()
        #: Why the executor takes nothing any more.
        self._broken: BrokenExecutor | None = None

    def results(self) -> Iterator[JobResult]:
        """Each job as it ends."""
        try:
            while self._fill():
                ready, _ = wait(self._running, self._way.look_s, FIRST_COMPLETED)
                for task in self._running.values():
                    self._way.collect(task)
                for future in ready:
                    yield from self._ended(future)
                if self._broken is not None:
                    yield from self._recover(self._broken)
        finally:
            for future in self._running:
                future.cancel()

    def _fill(self) -> bool:
        """Start jobs where there is room; False if there is nothing more to do."""
        room = self._workers.slots - len(self._running)
        while room > 0 and self._broken is None and (task := self._next()) is not None:
            room -= 1
            try:
                self._running[self._workers.submit(self._way.call(task))] = task
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
        elif (outcome := self._way.outcome(task, _answer(future))) is not None:
            yield self._result(task, outcome)
        else:
            yield from self._try_again(task)

    def _recover(self, cause: BrokenExecutor) -> Iterator[JobResult]:
        """Go on with another executor: the one that broke has ended all that it had."""
        lost = [*self._again, *self._running.values()]
        self._again.clear()
        self._running.clear()
        for task in lost:
            self._way.collect(task)
        self._workers.renew(cause)
        self._broken = None
        for task in lost:
            yield from self._try_again(task)

    def _try_again(self, task: Task) -> Iterator[JobResult]:
        task.vain += 1
        if task.vain < _TRIES:
            self._again.append(task)
            return
        job = task.job
        sentence = (
            f"the work on `{job.symbol}` from `{job.first_day}` to `{job.last_day}` was lost "
            f"`{_TRIES}` times"
        )
        hint = "see what ends the processes (memory?), and the disk; what was published is kept"
        yield self._result(task, error=WorkerLostError(with_hint(sentence, hint)))

    def _result(
        self, task: Task, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> JobResult:
        self._way.forget(task)
        return JobResult(task.job, outcome, error)
