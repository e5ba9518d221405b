"""Folders, servers, and processes for the proofs."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")
if not hasattr(os, "fork"):
    pytest.skip("processes are forked", allow_module_level=True)

from population.places import Bridge, Place
from population.workers import Workers
from repetitions import IS_LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: No source of ticks listens at this address.
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="package")
def in_memory() -> Iterator[Path]:
    """Return a folder in memory where the machine has one, since every write is synced."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="package", autouse=True)
def _settings(in_memory) -> Iterator[None]:
    """Remove the settings of the user, and point at sources that do not answer."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RANGEBAR_C")]:
            patch.delenv(name)
        (in_memory / "empty.toml").touch()
        patch.setenv("RANGEBAR_CONFIG", str(in_memory / "empty.toml"))
        for name in ("ARCHIVE", "REST"):
            patch.setenv(f"RANGEBAR_BINANCE_{name}_URL", DEAD)
        patch.setenv("RANGEBAR_HTTP_TRIES", "1")
        yield


@pytest.fixture(scope="package")
def all_workers(in_memory, _settings) -> Iterator[Workers]:
    one = Workers(in_memory)
    yield one
    one.stop()


@pytest.fixture
def workers(all_workers) -> Iterator[Workers]:
    """Return the worker processes, which end with the test."""
    yield all_workers
    all_workers.end_all()


@pytest.fixture(scope="package")
def new_folder(in_memory) -> Callable[[], Path]:
    def make() -> Path:
        folder = in_memory / uuid.uuid4().hex[:12]
        folder.mkdir()
        return folder

    return make


@pytest.fixture(scope="package")
def bridge(in_memory) -> Iterator[Bridge]:
    one = Bridge(in_memory / "bridge")
    yield one
    one.stop()


@pytest.fixture
def embedded(new_folder) -> Place:
    return Place(new_folder())


@pytest.fixture
def faulty(bridge, new_folder) -> Iterator[Place]:
    """Return a database of its own on the bridge, which can be made to fail."""
    one = bridge.database(new_folder())
    yield one
    bridge.fail()
    bridge.drop(one.dsn)


@pytest.fixture
def server(request, new_folder) -> Iterator[Place]:
    """Return a database of its own, on the server in the environment or on the bridge."""
    address = os.environ.get("RANGEBAR_TEST_CLICKHOUSE_DSN")
    if address is None:
        bridge = request.getfixturevalue("bridge")
        one = bridge.database(new_folder())
        yield one
        bridge.drop(one.dsn)
    else:
        yield Place(new_folder(), f"{address.rstrip('/')}/test_{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["embedded", "server"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="package")
def is_long() -> bool:
    return IS_LONG
