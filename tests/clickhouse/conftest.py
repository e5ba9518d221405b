"""Caches to test with: an embedded folder, and a server behind HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

from rangebar_polars.clickhouse.client import Retry, open_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
#: Without the waits of the real ones, and as many tries.
QUICK = Retry(attempts=5, first_wait_s=0.001, longest_wait_s=0.002, jitter_s=0.001)


@dataclass(frozen=True)
class Place:
    """Where a cache is."""

    dsn: str | None
    folder: Path

    @property
    def arguments(self):
        return {"dsn": self.dsn, "cache_dir": self.folder}

    def open(self, *, write=False):
        return open_cache(self.dsn, cache_dir=self.folder, write=write)


class Bridge:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "bridge.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def fail(self, *faults: str, match: str = "INSERT") -> int:
        """Have the next statements fail; the number of earlier faults that were not used up."""
        address = f"{self.url}/_faults?match={quote(match)}&faults={','.join(faults)}"
        with urllib.request.urlopen(address) as answer:
            return int(answer.read())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path]:
    """A folder that does not wait for a disk, where there is such a place: every write is synced."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def bridge(in_memory) -> Iterator[Bridge]:
    one = Bridge(in_memory / "bridge")
    yield one
    one.stop()


@pytest.fixture
def embedded(in_memory) -> Place:
    folder = in_memory / uuid.uuid4().hex[:12]
    folder.mkdir()
    return Place(None, folder)


@pytest.fixture
def server(bridge, tmp_path) -> Place:
    """A database of its own on the bridge, or on the server that the environment names."""
    root = os.environ.get("RANGEBAR_TEST_CLICKHOUSE_DSN", bridge.url).rstrip("/")
    return Place(f"{root}/test_{uuid.uuid4().hex[:12]}", tmp_path)


@pytest.fixture(params=["embedded", "server"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def cache(place):
    with place.open(write=True) as one:
        one.writes = one.reads = QUICK
        yield one


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch, tmp_path_factory):
    for name in [name for name in os.environ if name.startswith("RANGEBAR_C")]:
        monkeypatch.delenv(name)
    empty = tmp_path_factory.getbasetemp() / "empty.toml"
    empty.touch()
    monkeypatch.setenv("RANGEBAR_CONFIG", str(empty))


@pytest.fixture
def run(tmp_path):
    """Run code in a process of its own; it is killed at the end of the test."""
    started = []

    def start(code: str, *arguments: object) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env=environment,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
