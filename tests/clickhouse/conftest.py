"""Caches to test with: an embedded folder, and a server behind HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

from places import HERE, QUICK, Bridge, Place

from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path]:
    """A folder in memory if possible, since every write is synced to the disk."""
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
def server(bridge, tmp_path) -> Iterator[Place]:
    """A new database on the bridge, or on the server that the environment names."""
    root = os.environ.get("RANGEBAR_TEST_CLICKHOUSE_DSN", bridge.url).rstrip("/")
    one = Place(f"{root}/test_{uuid.uuid4().hex[:12]}", tmp_path)
    yield one
    bridge.drop(one.dsn)


@pytest.fixture(params=["embedded", "server"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def open_folder(in_memory) -> Iterator[Cache]:
    """An embedded cache that stays open for all tests of a module, since an engine starts slowly."""
    folder = in_memory / uuid.uuid4().hex[:12]
    with pytest.MonkeyPatch.context() as patch:
        _forget_settings(patch, folder.parent)
        with open_cache(cache_dir=folder) as one:
            yield one


@pytest.fixture(params=["embedded", "server"])
def cache(request) -> Iterator[Cache]:
    """An empty cache with its tables. A module that uses it must not open another folder."""
    if request.param == "server":
        with request.getfixturevalue("server").open(write=True) as one:
            one.writes = one.reads = QUICK
            yield one
    else:
        yield request.getfixturevalue("empty")


@pytest.fixture
def empty(open_folder) -> Iterator[Cache]:
    """A new database in the embedded cache."""
    target = replace(open_folder.target, database=f"test_{uuid.uuid4().hex[:12]}")
    one = Cache(open_folder._client, target)
    one.writes = one.reads = QUICK
    create_tables_if_missing(one)
    yield one
    # The engine looks after all tables that it has.
    open_folder.command(f"DROP DATABASE IF EXISTS `{target.database}`")


def _forget_settings(patch, folder):
    for name in [name for name in os.environ if name.startswith("RANGEBAR_C")]:
        patch.delenv(name)
    empty = folder / "empty.toml"
    empty.touch()
    patch.setenv("RANGEBAR_CONFIG", str(empty))


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch, in_memory):
    _forget_settings(monkeypatch, in_memory)


@pytest.fixture
def run(tmp_path):
    """Run code in a separate process, which is killed at the end of the test."""
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
