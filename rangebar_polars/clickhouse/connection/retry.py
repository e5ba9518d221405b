"""Trying again what may pass."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rangebar_polars._utils.optional import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Retry"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often something is tried, and how long to wait in between, in seconds."""

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    jitter_s: float = 0.5
    #: A try that has taken longer is the last one: who never answers is not asked again.
    longest_try_s: float = 30.0

    def run(self, action: Callable[[], _T], *, transient: Callable[[Exception], bool]) -> _T:
        """Result of the first try that does not fail in a way that may pass.

        The second follows the first at once, as a connection that has broken asks for.
        """
        took_s = 0.0

        def one_try() -> _T:
            nonlocal took_s
            begun = time.monotonic()
            try:
                return action()
            finally:
                took_s = time.monotonic() - begun

        def may_pass(error: Exception) -> bool:
            return took_s < self.longest_try_s and transient(error)

        try:
            return one_try()
        except Exception as error:
            if self.attempts == 1 or not may_pass(error):
                raise
        for attempt in import_extra("stamina", "cache").retry_context(
            on=may_pass,
            attempts=self.attempts - 1,
            timeout=None,
            wait_initial=self.first_wait_s,
            wait_max=self.longest_wait_s,
            wait_jitter=self.jitter_s,
        ):
            with attempt:
                return one_try()
        raise AssertionError
