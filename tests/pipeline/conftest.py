"""Folders for populations, and processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No source of ticks listens at this address.
DEAD = "http://127.0.0.1:9"
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path]:
    """Return a folder in memory where the machine has one, since every write is synced."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def folder(in_memory, monkeypatch) -> Path:
    """Return a cache folder for the test, without settings of the user."""
    pytest.importorskip("chdb")
    pytest.importorskip("clickhouse_connect")
    for name in [name for name in os.environ if name.startswith("RANGEBAR_C")]:
        monkeypatch.delenv(name)
    one = in_memory / uuid.uuid4().hex[:12]
    one.mkdir()
    (one / "empty.toml").touch()
    monkeypatch.setenv("RANGEBAR_CONFIG", str(one / "empty.toml"))
    for name in ("ARCHIVE", "REST"):
        monkeypatch.setenv(f"RANGEBAR_BINANCE_{name}_URL", DEAD)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    return one


@pytest.fixture
def run(tmp_path):
    """Run code in a process of its own; it is killed at the end of the test."""
    started = []

    def start(code: str, *arguments: object) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
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
