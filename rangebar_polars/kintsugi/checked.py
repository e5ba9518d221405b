"""When each file was last read, and each archive asked for: `kintsugi/checked.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import disk_errors, replace_synced
from rangebar_polars._files.disk import Disk
from rangebar_polars._utils import clock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Checked"]

#: Files are read, and archives asked for, once in so many seconds.
INTERVAL_S = 7 * 86_400.0


class Checked:
    """Times of the last checks. A file that cannot be read counts as empty.

    Parameters
    ----------
    path
        The file with the times. Without one, all is due.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._now_s = clock.unix_seconds()
        self._times: dict[str, float] = {}
        self._has_changed = False
        if path is None:
            return
        try:
            known = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(known, dict):
            self._times = {
                name: float(at)
                for name, at in known.items()
                # A time in the future comes from a clock that was wrong.
                if isinstance(at, (int, float)) and 0 <= at <= self._now_s
            }

    def is_file_due(self, path: Path) -> bool:
        """Return whether a file of the store is to be read."""
        return self._is_due(self._file_key(path))

    def note_file(self, path: Path) -> None:
        """Note that a file was read, and is what was written."""
        self._note(self._file_key(path))

    def is_archive_due(self, url: str) -> bool:
        """Return whether an archive is to be asked for."""
        return self._is_due(url)

    def note_archive(self, url: str) -> None:
        """Note that an archive was asked for, and has not changed."""
        self._note(url)

    def save(self) -> None:
        """Write the times, if there are new ones.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        if self._path is None or not self._has_changed:
            return
        oldest = self._now_s - 2 * INTERVAL_S
        kept = {name: at for name, at in self._times.items() if at >= oldest}
        data = json.dumps(kept, indent=0, sort_keys=True).encode()
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_synced(Disk(), self._path, memoryview(data))
        self._has_changed = False

    @staticmethod
    def _file_key(path: Path) -> str:
        # The name of a file has the hash of its content; the folders are those of its symbol.
        return "/".join(path.parts[-5:])

    def _is_due(self, key: str) -> bool:
        return self._times.get(key, float("-inf")) + INTERVAL_S <= self._now_s

    def _note(self, key: str) -> None:
        self._times[key] = self._now_s
        self._has_changed = True
