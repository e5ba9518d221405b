"""Gaps between files of trades, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FileChain", "Once", "some_of"]

LISTED = 3
ONE_DAY_US = 86_400_000_000


class Once:
    """Tells each message once, whichever thread or pass it comes from; a pickled copy tells again."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._told: dict[str, object] = {}

    def __call__(self, message: str, *arguments: object) -> None:
        """Pass a message on unless it was passed on before."""
        token = object()
        if self._told.setdefault(message, token) is token:  # setdefault is atomic
            self._tell(message, *arguments)

    def __reduce__(self) -> tuple[type[Once], tuple[Callable[..., None]]]:
        return type(self), (self._tell,)


class FileChain:
    """The end of the files so far; one for each pass over the files of a plan."""

    def __init__(self) -> None:
        self._source = ""
        self._last_id: int | None = None
        self._last_us: int | None = None
        self._gaps: list[str] = []

    def missing(self) -> str:
        """Describe what is missing between files; empty if nothing is."""
        if not self._gaps:
            return ""
        listed = some_of(self._gaps)
        return f"trades are missing: {listed}. Is a file missing, or in another place?"

    def follow_ids(self, source: str, first: int, last: int) -> None:
        """Continue with a file that holds these consecutive ids, and note a gap before it."""
        if self._last_id is not None and first > self._last_id + 1:
            self._gaps.append(
                f"ids {self._last_id + 1} to {first - 1} between `{self._source}` and `{source}`"
            )
        self._source, self._last_id = source, max(last, self._last_id or last)

    def follow_times(self, source: str, first_us: int, last_us: int) -> None:
        """Continue with a file of a market that never closes, and note a day without a trade."""
        if self._last_us is not None and first_us - self._last_us >= ONE_DAY_US:
            days = f"{(first_us - self._last_us) / ONE_DAY_US:.3g}"
            unit = "day" if days == "1" else "days"
            self._gaps.append(f"{days} {unit} between `{self._source}` and `{source}`")
        self._source, self._last_us = source, last_us


def some_of(items: Sequence[str]) -> str:
    """Return the first items as a list, with the number of the others."""
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more
