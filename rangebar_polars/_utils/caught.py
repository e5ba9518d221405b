"""Catch what the code of others raises: functions of the user, plugins of a library."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Caught"]


class Caught(AbstractContextManager["Caught"]):
    """Keeps the exception of a block in `error`, so that its caller decides what follows.

    Only for blocks that call code which may raise anything.

    Parameters
    ----------
    even_exits
        Whether exceptions are caught that are no `Exception`, such as `SystemExit`.

    Examples
    --------
    >>> from rangebar_polars._utils.caught import Caught
    >>> with Caught() as caught:
    ...     _ = 1 / 0
    >>> caught.error
    ZeroDivisionError('division by zero')
    """

    def __init__(self, *, even_exits: bool = False) -> None:
        #: What was raised; None if nothing was.
        self.error: BaseException | None = None
        self._kind = BaseException if even_exits else Exception

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error if isinstance(error, self._kind) else None
        return self.error is not None
