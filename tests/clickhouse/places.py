"""Addresses of the caches of the tests: folders, and servers behind HTTP."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rangebar_polars.clickhouse.connection.retry import Retry
from rangebar_polars.clickhouse.open import open_cache

HERE = Path(__file__).parent
#: As many attempts as the default, almost without waits.
QUICK = Retry(attempts=5, first_wait_s=0.001, longest_wait_s=0.002, jitter_s=0.001)


@dataclass(frozen=True)
class Place:
    """The address of a cache."""

    dsn: str | None
    folder: Path

    @property
    def arguments(self):
        return {"dsn": self.dsn, "cache_dir": self.folder}

    def open(self, *, write=False):
        return open_cache(self.dsn, cache_dir=self.folder, write=write)


class Bridge:
    """A server in a separate process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "bridge.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def fail(self, *faults: str, match: str = "INSERT") -> int:
        """Make the next statements fail, and return the number of earlier faults that are left."""
        address = f"{self.url}/_faults?match={quote(match)}&faults={','.join(faults)}"
        with urllib.request.urlopen(address) as answer:
            return int(answer.read())

    def drop(self, dsn: str) -> None:
        """Drop the database of an address, and those whose names begin with its name."""
        prefix = quote(dsn.rpartition("/")[2])
        with urllib.request.urlopen(f"{self.url}/_drop?prefix={prefix}") as answer:
            answer.read()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
