"""A cache for long jobs, which is released while another process waits for it.

The embedded engine leaves threads and files behind every time it is closed, so a job of many steps
should not close it after each step.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.open import open_cache

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["SharedCache"]


class SharedCache:
    """A cache that stays open across a long job and yields when another process waits for the lock.

    Use it as a context. `cache` opens the cache if it is not open. Call `yield_if_wanted` between
    two steps of the job: it closes the folder if another process waits for it. A connection to a
    server stays open.
    """

    def __init__(self, dsn: str | None = None, *, cache_dir: str | Path | None = None) -> None:
        self._arguments = (dsn, cache_dir)
        folder = resolve(dsn, cache_dir).folder
        self._lock = None if folder is None else FolderLock(folder)
        self._stack = ExitStack()
        self._cache: Cache | None = None

    @property
    def cache(self) -> Cache:
        """The open cache, with its tables."""
        if self._cache is None:
            dsn, cache_dir = self._arguments
            opening = open_cache(dsn, cache_dir=cache_dir, write=True)
            self._cache = self._stack.enter_context(opening)
        return self._cache

    def yield_if_wanted(self) -> None:
        """Close the folder if another process waits for it. The next use opens it again."""
        if self._cache is None or self._lock is None or not self._lock.is_wanted():
            return
        self.close()

    def close(self) -> None:
        """Close the cache until its next use."""
        self._cache = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
