"""Ctrl-C between two steps that belong together: it is kept until both are done.

An interrupt may come after any call of the main thread, so also between taking a lock and noting
that it is held; the lock would then be nobody's, and stay as long as the process runs.
"""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Uninterrupted", "raise_if_interrupted"]

#: Those contexts of the main thread that are entered, the innermost last.
_ENTERED: list[Uninterrupted] = []


class Uninterrupted:
    """A context in which the main thread keeps Ctrl-C for later; other threads never get one.

    Where a step in it is long and can be cut off, `allow` comes before it and, as the first thing
    after it, `handler = keep()`.
    """

    def __init__(self, *, is_needed: bool = True) -> None:
        self._came = False
        #: Keeps interrupts, and gives what handled them: a call of C, so that none comes before it.
        self.keep: Callable[[], Any] = bool
        #: What handles an interrupt; None or False where it is not for us.
        self.handler: Any = None
        if is_needed and _is_main() and signal.getsignal(signal.SIGINT) is not None:
            self.keep = partial(signal.signal, signal.SIGINT, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def __enter__(self) -> Self:
        self.handler = self.keep()
        _ENTERED.append(self)
        return self

    def allow(self) -> None:
        """Let interrupts come, the kept one first."""
        if self.keep is not bool:
            signal.signal(signal.SIGINT, self.handler)
        came, self._came = self._came, False
        if came:
            signal.raise_signal(signal.SIGINT)

    def check(self) -> None:
        """Let a kept interrupt come, and keep those after it."""
        if self._came:
            self.allow()
            self.handler = self.keep()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _ENTERED.remove(self)
        self.allow()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def raise_if_interrupted() -> None:
    """Let an interrupt come that is kept: who only waits has nothing to lose."""
    for one in tuple(_ENTERED) if _is_main() else ():
        one.check()
