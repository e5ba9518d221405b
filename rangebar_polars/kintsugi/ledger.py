"""The ledger of repairs: a line for each task and pass, which says when a task is tried again."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._utils import clock
from rangebar_polars.kintsugi.shards import HEALED

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.kintsugi.shards import KintsugiResult

__all__ = ["Ledger", "Tries"]

#: A failed task is tried again after 1, 2, 4, … hours, at most a day.
FIRST_RETRY_S, LONGEST_RETRY_S = 3_600.0, 86_400.0
#: The failure that is reported as one that cannot be repaired.
UNREPAIRABLE = 3
_TRIED = frozenset({"repaired", "absent", "failed"})


@dataclass(slots=True)
class Tries:
    """What is known of a task: the passes that tried it, and its failures since it last was healed."""

    attempts: int = 0
    failures: int = 0
    last_s: float = float("-inf")
    #: Whether it was found and not healed.
    is_open: bool = False

    @property
    def due_s(self) -> float:
        """When it is tried again, in seconds since 1970."""
        if not self.failures:
            return float("-inf")
        exponent = min(self.failures - 1, 16)
        return self.last_s + min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0**exponent)


class Ledger:
    """The lines of earlier passes. Lines that cannot be read are left out.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tries: dict[str, Tries] = {}
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            lines = []
        now_s = clock.unix_seconds()
        for line in lines:
            self._take(line, now_s)

    def _take(self, line: bytes, now_s: float) -> None:
        try:
            values = json.loads(line)
            key, action, at_s = str(values["key"]), str(values["action"]), float(values["at_s"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        if math.isnan(at_s):
            return
        # A time in the future comes from a clock that was wrong; it must not delay a task.
        self._note(key, action, min(at_s, now_s))

    def _note(self, key: str, action: str, at_s: float) -> None:
        known = self._tries.setdefault(key, Tries())
        known.is_open = action not in HEALED
        if action not in _TRIED:
            return
        known.attempts += 1
        known.last_s = at_s
        known.failures = known.failures + 1 if action == "failed" else 0

    def tries(self, key: str) -> Tries:
        """Return what is known of a task."""
        return self._tries.get(key, Tries())

    def is_due(self, key: str) -> bool:
        """Return whether a task is to be tried now."""
        return self.tries(key).due_s <= clock.unix_seconds()

    def append(self, result: KintsugiResult, facts: dict[str, Any]) -> Tries:
        """Write the line of a result in one write, synced, and return what is known of its task.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        now_s = clock.unix_seconds()
        key = result.shard.key
        values = {
            "time": clock.utc_now().isoformat(),
            "at_s": now_s,
            "key": key,
            **facts,
            **result.to_dict(),
        }
        data = json.dumps(values, ensure_ascii=False).encode() + b"\n"
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                # A line that an earlier process left torn ends here.
                if _is_torn(self._path):
                    data = b"\n" + data
                os.write(file, data)
                os.fsync(file)
            finally:
                os.close(file)
        self._note(key, result.action, now_s)
        return self.tries(key)


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"
