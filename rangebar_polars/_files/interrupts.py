"""Ctrl-C between two steps that belong together: it is kept until both are done.

An interrupt may come after any call of the main thread, so also between taking a lock and noting
that it is held; the lock would then be nobody's, and stay as long as the process runs.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Uninterrupted", "raise_if_interrupted"]

#: Those contexts of the main thread that are entered, the innermost last.
_ENTERED: list[Uninterrupted] = []


class Uninterrupted:
    """A context in which the main thread keeps Ctrl-C for later; other threads never get one.

    Where a step in it is long and can be cut off, `allow` comes before it and `keep` after it,
    which may be in another thread.
    """

    def __init__(self, *, is_needed: bool = True) -> None:
        self._came = False
        #: What handles an interrupt.
        self._handler: Any = None
        # One that was set from C cannot be set again.
        self._is_on = is_needed and signal.getsignal(signal.SIGINT) is not None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def __enter__(self) -> Self:
        self.keep()
        _ENTERED.append(self)
        return self

    def keep(self) -> None:
        """Keep interrupts from here on."""
        if self._is_on and _is_main():
            self._handler = signal.signal(signal.SIGINT, self._note)

    def allow(self) -> None:
        """Let interrupts come, the kept one first."""
        if self._handler is not None and _is_main():
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None
        came, self._came = self._came, False
        if came:
            signal.raise_signal(signal.SIGINT)

    def check(self) -> None:
        """Let a kept interrupt come, and keep those after it."""
        if self._came:
            self.allow()
            self.keep()

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
