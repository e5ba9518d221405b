"""An open connection: the client of a cache and, for a folder, the lock that this process holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.folder_lock import FolderLock

__all__ = ["Connection"]


class Connection:
    """A client and the lock of its folder. A connection to a server has no lock."""

    def __init__(self, cache: Cache, lock: FolderLock | None = None) -> None:
        self.cache = cache
        self._lock = lock
        #: The identity of the folder when it became idle.
        self._identity: list[tuple[int, int] | None] = []

    def is_wanted(self) -> bool:
        """Check whether another process waits for the folder; True if that cannot be read."""
        try:
            return self._lock is not None and self._lock.is_wanted()
        except OSError:
            return True

    def set_idle(self, is_idle: bool) -> None:  # noqa: FBT001
        """Tell other processes whether a call uses the folder."""
        if self._lock is not None:
            self._lock.set_idle(is_idle)
        self._identity = _identity(self.cache.target.folder) if is_idle else []

    def is_in_place(self) -> bool:
        """Check whether the folder is still the one that became idle."""
        is_locked = self._lock is not None and self._lock.is_in_place()
        return is_locked and _identity(self.cache.target.folder) == self._identity

    def close(self) -> None:
        """Close the client and release the folder, letting waiting processes go first."""
        try:
            self.cache.close()
        finally:
            if self._lock is not None:
                self._lock.release()
        if self._lock is not None:
            self._lock.let_others_go_first()


def _identity(folder: Path | None) -> list[tuple[int, int] | None]:
    """Return numbers that change if the folder, or what the engine stores in it, is replaced."""
    paths = [] if folder is None else [folder, folder / "store", folder / "metadata"]
    return [_file_identity(path) for path in paths]


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
