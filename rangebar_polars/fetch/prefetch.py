"""Prefetching of upcoming items in daemon threads."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, wait
from contextlib import ExitStack
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import fork_count, raise_if_inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

__all__ = ["DaemonTask", "prefetch"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# Ctrl-C does not interrupt a wait without a timeout, because Polars handles the signal.
_WAIT_S = 0.1
# How long to wait for abandoned work: computations finish in this time, waits for a server may not.
_GRACE_S = 1.0


def prefetch(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, count: int
) -> Generator[ResultT]:
    """Yield the results of `work` for each item, in order, with `count` items in progress at a time.

    Work in progress is abandoned when the generator is closed, or when the work on an item fails.

    Examples
    --------
    >>> from rangebar_polars.fetch.prefetch import prefetch
    >>> list(prefetch(len, ["a", "bc", ""], count=2))
    [1, 2, 0]
    """
    in_progress: deque[DaemonTask[ItemT, ResultT]] = deque()
    left = iter(items)
    begun = fork_count()
    try:
        while True:
            while len(in_progress) < count and (more := next(left, _NOTHING)) is not _NOTHING:
                in_progress.append(DaemonTask(work, more))  # type: ignore[arg-type]
            if not in_progress:
                return
            raise_if_inherited(begun, "fetching")
            yield in_progress.popleft().result()
    finally:
        _abandon(in_progress)


_NOTHING = object()


class DaemonTask(Thread, Generic[ItemT, ResultT]):
    """A call in a daemon thread, which does not keep the interpreter running."""

    def __init__(self, work: Callable[[ItemT], ResultT], item: ItemT) -> None:
        super().__init__(name="rangebar-fetch", daemon=True)
        self._work, self._item = work, item
        self._future: Future[ResultT] = Future()
        self.start()

    def run(self) -> None:
        """Make the call, and store its result or its error."""
        with ExitStack() as stack:
            stack.push(self._failed)
            self._future.set_result(self._work(self._item))

    def _failed(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> bool:
        """Store an error for the caller of `result`."""
        if error is not None:
            self._future.set_exception(error)
        return True

    def result(self, limit_s: float = math.inf) -> ResultT:
        """Wait for the call, and return its result or raise its error.

        Raises
        ------
        TimeoutError
            The call has not ended after `limit_s` seconds. It continues in its thread.
        """
        end = clock.monotonic() + limit_s
        while not self._future.done():
            left_s = end - clock.monotonic()
            if left_s <= 0:
                raise TimeoutError
            wait([self._future], timeout=clock.real_seconds(min(_WAIT_S, left_s)))
        return self._future.result()


def _abandon(tasks: Iterable[DaemonTask[ItemT, ResultT]]) -> None:
    end = clock.monotonic() + _GRACE_S
    for task in tasks:
        task.join(clock.real_seconds(max(0.0, end - clock.monotonic())))
