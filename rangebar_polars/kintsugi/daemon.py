"""Passes one after another, until a signal or an event ends them."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rangebar_polars.kintsugi.shards import KintsugiReport

__all__ = ["run_daemon"]

#: How often a wait looks whether it shall end.
_LOOK_S = 0.2
_CALM = frozenset({"clean", "healed"})


def run_daemon(
    run_pass: Callable[[Callable[[], bool]], KintsugiReport],
    *,
    interval_clean_s: float,
    interval_active_s: float,
    stop: threading.Event | None = None,
) -> None:
    """Run passes until `stop` is set or a signal arrives; a pass in progress ends its task first.

    Parameters
    ----------
    run_pass
        Runs a pass; it takes a function that returns whether to end before the next task.
    interval_clean_s, interval_active_s
        Seconds after a pass that leaves nothing open, and after any other.
    stop
        Ends the passes.
    """
    stopped = threading.Event() if stop is None else stop
    with _signals(stopped):
        while not stopped.is_set():
            report = run_pass(stopped.is_set)
            wait_s = interval_clean_s if report.status in _CALM else interval_active_s
            due_at = clock.monotonic() + wait_s
            while not stopped.is_set() and (left_s := due_at - clock.monotonic()) > 0:
                stopped.wait(min(_LOOK_S, clock.real_seconds(left_s)))


@contextmanager
def _signals(stopped: threading.Event) -> Iterator[None]:
    """Set the event at the first SIGTERM or SIGINT; the second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
