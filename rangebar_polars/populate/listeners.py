"""Who wants to know of each group of days that a population has published."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rangebar_polars.clickhouse.commit.publish import UnitDraft

    Watcher: TypeAlias = Callable[[Sequence[UnitDraft]], None]

__all__ = ["told", "watched"]


def _nobody(_drafts: Sequence[UnitDraft]) -> None:
    """Go on."""


_WATCHER: ContextVar[Watcher] = ContextVar("_WATCHER", default=_nobody)


def told(drafts: Sequence[UnitDraft]) -> None:
    """Say which days are published now."""
    _WATCHER.get()(drafts)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have a function told of every group that this thread publishes; an error of it ends the population.

    Examples
    --------
    >>> from rangebar_polars.populate.listeners import told, watched
    >>> with watched(lambda drafts: print(len(drafts))):
    ...     told([])
    0
    """
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)
