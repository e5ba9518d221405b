"""Frames to a function or a coroutine function."""

from __future__ import annotations

import asyncio
import inspect
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    import polars as pl

__all__ = ["CallbackReceiver"]


class CallbackReceiver:
    """Calls a function with each frame.

    Parameters
    ----------
    function
        A function or a coroutine function of a frame.
    name
        Name of the consumer, for the thread of a loop.
    loop
        Where coroutines run; None for a loop of their own, which runs between the calls, too.
    """

    kind = "callback"

    def __init__(
        self,
        function: Callable[[pl.DataFrame], object],
        name: str = "default",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._function = function
        self._name = name
        self._loop = loop
        self._own: Thread | None = None
        self._running: Future[None] | None = None
        self._is_aborted = False

    def deliver(self, frame: pl.DataFrame, _delivered: Callable[[int], None]) -> None:
        """Call the function, and wait until it has returned or its coroutine has ended.

        Raises
        ------
        BaseException
            Whatever the function raises.
        """
        result = self._function(frame)
        if inspect.isawaitable(result):
            self._wait(result)

    def abort(self) -> None:
        """Cancel a coroutine that runs. A function cannot be cancelled."""
        self._is_aborted = True
        running = self._running
        if running is not None:
            running.cancel()

    def close(self) -> None:
        """End the loop of the coroutines, and the tasks that they have left."""
        if self._own is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._own.join()
            self._own = self._loop = None

    def _wait(self, awaitable: Awaitable[object]) -> None:
        loop = self._started()
        coroutine = _guarded(awaitable)
        try:
            self._running = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            _discard(awaitable)
            raise
        try:
            if self._is_aborted:
                self._running.cancel()
            self._running.result()
        except _RaisedError as raised:
            raise raised.error from None
        finally:
            self._running = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            name = f"rangebar-loop-{self._name}"
            self._own = Thread(target=_run, args=(loop,), name=name, daemon=True)
            self._own.start()
        return self._loop


class _RaisedError(Exception):
    """Carries what a coroutine raises to the thread of its consumer."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


async def _guarded(awaitable: Awaitable[object]) -> None:
    """Wait for an awaitable. SystemExit, raised as it is, would end the loop of the caller."""
    try:
        await awaitable
    except BaseException as error:
        raise _RaisedError(error) from error


def _discard(awaitable: Any) -> None:  # noqa: ANN401
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
