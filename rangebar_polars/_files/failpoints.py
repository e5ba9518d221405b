"""The steps at which a write may be cut off, each by its name, so that tests can cut at all of them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Step", "failpoint", "on_failpoint"]


class Step(StrEnum):
    """A moment between two effects."""

    LEASES_TAKEN = "leases_taken"
    CACHE_OPENED = "cache_opened"
    BARS_BEFORE = "bars_before"
    BARS_INSERTED = "bars_inserted"
    BARS_PROVED = "bars_proved"
    UNITS_INSERTED = "units_inserted"
    UNITS_PROVED = "units_proved"
    GENERATION_OPENED = "generation_opened"
    GENERATION_PUBLISHED = "generation_published"
    GENERATION_DISCARDED = "generation_discarded"
    CHECKPOINTS_WRITTEN = "checkpoints_written"
    LOCAL_COPY_WRITTEN = "local_copy_written"
    LEASES_RELEASED = "leases_released"


def _nothing(_step: Step) -> None:
    """Go on."""


_OBSERVER: ContextVar[Callable[[Step], None]] = ContextVar("_OBSERVER", default=_nothing)


def failpoint(step: Step) -> None:
    """Say that a step is reached."""
    _OBSERVER.get()(step)


@contextmanager
def on_failpoint(observer: Callable[[Step], None]) -> Iterator[None]:
    """Have a function told of every step that this thread reaches; it may end the process.

    Examples
    --------
    >>> from rangebar_polars._files.failpoints import Step, observed, reach
    >>> with on_failpoint(print):
    ...     failpoint(Step.BARS_PROVED)
    bars_proved
    """
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)
