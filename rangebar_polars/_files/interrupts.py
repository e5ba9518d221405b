"""Deferral of Ctrl-C while two steps that belong together are done.

An interrupt may arrive after any call of the main thread, for example between taking a lock and
recording it. Nobody would release the lock then until the process ends.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Uninterrupted", "raise_if_interrupted"]

#: The contexts that the main thread has entered, the innermost last.
_ENTERED: list[Uninterrupted] = []


class Uninterrupted:
    """A context in which the main thread defers Ctrl-C. Other threads never receive it.

    Around a long step that may be interrupted, call `allow` before it and `defer` after it, each
    from any thread.
    """

    def __init__(self, *, is_needed: bool = True) -> None:
        self._is_pending = False
        #: The handler of an interrupt outside of this context.
        self._handler: Any = None
        # A handler that was set from C cannot be restored.
        self._is_on = is_needed and signal.getsignal(signal.SIGINT) is not None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._is_pending = True

    def __enter__(self) -> Self:
        self.defer()
        _ENTERED.append(self)
        return self

    def defer(self) -> None:
        """Defer interrupts from here on."""
        if self._is_on and _is_main():
            self._handler = signal.signal(signal.SIGINT, self._note)

    def allow(self) -> None:
        """Stop deferring interrupts, and raise a deferred one."""
        if self._handler is not None and _is_main():
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None
        is_pending, self._is_pending = self._is_pending, False
        if is_pending:
            signal.raise_signal(signal.SIGINT)

    def check(self) -> None:
        """Raise a deferred interrupt, and defer later ones."""
        if self._is_pending:
            self.allow()
            self.defer()

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
    """Raise a deferred interrupt, during a wait in which nothing would be lost."""
    for context in tuple(_ENTERED) if _is_main() else ():
        context.check()
