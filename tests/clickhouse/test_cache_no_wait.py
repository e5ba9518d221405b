"""With a wait of 0, a folder that another process holds is refused at once."""

from __future__ import annotations

import time

import pytest

from rangebar_polars.clickhouse.connection import client
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.exceptions import CacheUnavailableError

HOLD_LOCK = """
import sys
from pathlib import Path
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
assert FolderLock(Path(sys.argv[1])).acquire(0)
print("held", flush=True)
sys.stdin.read()
"""
HOLD_BY_ENGINE = """
import sys, chdb
handle = chdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def slept(monkeypatch):
    """Return the list of the seconds that this process sleeps."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("code", [HOLD_LOCK, HOLD_BY_ENGINE], ids=["package", "other program"])
def test_a_held_folder_is_refused_without_a_wait(code, embedded, run, monkeypatch, slept):
    folder = embedded.folder / "clickhouse"
    folder.mkdir()
    holder = run(code, folder)
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    with pytest.raises(CacheUnavailableError) as caught, embedded.open():
        pass
    assert caught.value.holder == holder.pid
    assert slept == []
    assert not FolderLock(folder).is_wanted()


def test_a_free_folder_is_opened(embedded, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0")
    for _ in range(2):
        with embedded.open(write=True) as cache:
            assert isinstance(cache, client.Cache)
            assert cache.target.wait_s == 0
            assert cache.scalar("SELECT 1") == 1
