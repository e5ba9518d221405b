"""A folder with two months of ticks and series of their bars, made once."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

from rangebar_polars.clickhouse.open import open_cache
from readers.shared import make_shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars.clickhouse.connection.client import Cache
    from readers.shared import SharedFolder


@pytest.fixture(scope="package")
def in_memory() -> Iterator[Path]:
    """A folder that does not wait for a disk, where there is such a place: every write is synced."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="package")
def shared(in_memory) -> SharedFolder:
    return make_shared_folder(in_memory / "shared")


@pytest.fixture(scope="module")
def shared_cache(shared) -> Iterator[Cache]:
    """The cache of the shared folder, open for all tests of a module: an engine takes time to start."""
    with open_cache(cache_dir=shared.folder, write=True) as cache:
        yield cache


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port of this machine at which nobody answers."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
