"""A cache that long work keeps open, and gives away when another process asks for it.

The embedded engine leaves some threads and files behind every time it is closed, so that work of
many steps had better not close it after each.
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
    """The cache for one process at a time, each as long as nobody else wants it.

    Use it as a context: `cache` opens what is not open, and `yield_if_wanted`, called between two steps
    of the work, closes the folder if another process waits for it. A server is never given away.
    """

    def __init__(self, dsn: str | None = None, *, cache_dir: str | Path | None = None) -> None:
        self._arguments = (dsn, cache_dir)
        folder = resolve(dsn, cache_dir).folder
        self._lock = None if folder is None else FolderLock(folder)
        self._held = ExitStack()
        self._cache: Cache | None = None

    @property
    def cache(self) -> Cache:
        """The cache, open and with its tables."""
        if self._cache is None:
            dsn, cache_dir = self._arguments
            opening = open_cache(dsn, cache_dir=cache_dir, write=True)
            self._cache = self._held.enter_context(opening)
        return self._cache

    def yield_if_wanted(self) -> None:
        """Close the folder for as long as another process wants it; the next use opens it again."""
        if self._cache is None or self._lock is None or not self._lock.is_wanted():
            return
        self.close()

    def close(self) -> None:
        """Close the cache until it is used again."""
        self._cache = None
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
