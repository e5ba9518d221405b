"""Retries of actions that fail for a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rangebar_polars._utils import clock
from rangebar_polars._utils.optional import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Retry"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Retry:
    """A number of attempts, and the waits between them in seconds."""

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    jitter_s: float = 0.5
    #: No retry follows a try that took longer than this.
    longest_try_s: float = 30.0

    def run(self, action: Callable[[], _T], *, transient: Callable[[Exception], bool]) -> _T:
        """Return the result of the first try that succeeds, retrying transient errors.

        The second try follows the first at once, since a broken connection needs no wait.
        """
        took_s = 0.0

        def one_try() -> _T:
            nonlocal took_s
            begun = clock.monotonic()
            try:
                return action()
            finally:
                took_s = clock.monotonic() - begun

        def is_worth_retrying(error: Exception) -> bool:
            return took_s < self.longest_try_s and transient(error)

        try:
            return one_try()
        except Exception as error:
            if self.attempts == 1 or not is_worth_retrying(error):
                raise
        for attempt in import_extra("stamina", "cache").retry_context(
            on=is_worth_retrying,
            attempts=self.attempts - 1,
            timeout=None,
            wait_initial=clock.real_seconds(self.first_wait_s),
            wait_max=clock.real_seconds(self.longest_wait_s),
            wait_jitter=clock.real_seconds(self.jitter_s),
        ):
            with attempt:
                return one_try()
        raise AssertionError
