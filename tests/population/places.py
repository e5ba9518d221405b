"""Caches to populate: a folder, or a database of a server, beside a folder of ticks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import rangebar_polars as rb
from population.tape import SYMBOL
from rangebar_polars.clickhouse.open import open_cache

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import date

    from rangebar_polars.clickhouse.connection.client import Cache

BRIDGE = Path(__file__).resolve().parents[1] / "clickhouse" / "bridge.py"


@dataclass(frozen=True)
class Place:
    """A folder of ticks, and a cache: in the same folder, or at an address."""

    folder: Path
    dsn: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for a call in this process or in another."""
        where: dict[str, Any] = {"cache_dir": str(self.folder)}
        return where if self.dsn is None else {**where, "dsn": self.dsn}

    def open(self) -> AbstractContextManager[Cache]:
        return open_cache(self.dsn, cache_dir=self.folder, write=True)

    def populate(self, first: date | str, last: date | str, threshold: Any = 250, **options: Any):
        """Populate in this process."""
        given = {"threshold_decimal_bps": threshold, "verbose": False, "notify": False}
        return rb.populate_cache_resumable(
            options.pop("symbol", SYMBOL), first, last, **given, **self.arguments, **options
        )

    def with_ticks_of(self, folder: Path) -> Place:
        """Copy the ticks of another folder into this place, and return it."""
        shutil.copytree(folder / "ticks", self.folder / "ticks", symlinks=True)
        return self

    def elsewhere(self, folder: Path) -> Place:
        """Return the same server, as used by a machine with a cache folder of its own."""
        return Place(folder, self.dsn)


class Bridge:
    """A server in a process of its own, which can fail, be killed, and be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Start it on what its folder holds; its address is another one."""
        self.process = subprocess.Popen(
            [sys.executable, str(BRIDGE), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def fail(self, *faults: str, match: str = "INSERT") -> int:
        """Have the next statements fail; the number of earlier faults that were not used up."""
        address = f"{self.url}/_faults?match={quote(match)}&faults={','.join(faults)}"
        with urllib.request.urlopen(address) as answer:
            return int(answer.read())

    def database(self, folder: Path) -> Place:
        """Return a place with a database of its own."""
        return Place(folder, f"{self.url}/test_{uuid.uuid4().hex[:12]}")

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
