"""Work on the next items while one is used, in threads that nobody has to wait for."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, wait
from contextlib import ExitStack
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from rangebar_polars._utils.fork import fork_count, raise_if_inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

__all__ = ["ahead"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# A wait without an end would not be interrupted by Ctrl-C: Polars has signals taken up again.
_WAIT_S = 0.1
# How long work that is given up may take to end: what computes does, what waits for a server not.
_GRACE_S = 1.0


def ahead(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, count: int
) -> Generator[ResultT]:
    """Results of the work on each item, in order, `count` items under way at a time.

    What is under way when the generator is closed, or when work on an item fails, is given up.

    Examples
    --------
    >>> from rangebar_polars.fetch.prefetch import ahead
    >>> list(ahead(len, ["a", "bc", ""], count=2))
    [1, 2, 0]
    """
    under_way: deque[_Errand[ItemT, ResultT]] = deque()
    left = iter(items)
    begun = fork_count()
    try:
        while True:
            while len(under_way) < count and (more := next(left, _NOTHING)) is not _NOTHING:
                under_way.append(_Errand(work, more))  # type: ignore[arg-type]
            if not under_way:
                return
            raise_if_inherited(begun, "fetching")
            yield under_way.popleft().result()
    finally:
        _give_up(under_way)


_NOTHING = object()


class _Errand(Thread, Generic[ItemT, ResultT]):
    """A call in a thread of its own, which does not keep the interpreter from ending."""

    def __init__(self, work: Callable[[ItemT], ResultT], item: ItemT) -> None:
        super().__init__(name="rangebar-fetch", daemon=True)
        self._work, self._item = work, item
        self._future: Future[ResultT] = Future()
        self.start()

    def run(self) -> None:
        with ExitStack() as stack:
            stack.push(self._failed)
            self._future.set_result(self._work(self._item))

    def _failed(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> bool:
        """Hand an error over to whoever asks for the result."""
        if error is not None:
            self._future.set_exception(error)
        return True

    def result(self) -> ResultT:
        """What the call gives, or the error that it raises."""
        while not self._future.done():
            wait([self._future], timeout=_WAIT_S)
        return self._future.result()


def _give_up(errands: Iterable[_Errand[ItemT, ResultT]]) -> None:
    end = time.monotonic() + _GRACE_S
    for errand in errands:
        errand.join(max(0.0, end - time.monotonic()))
