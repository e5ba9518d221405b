"""A long job holds a folder open, and yields it to a waiting process."""

from __future__ import annotations

import os

import pytest

from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.schema.migrate import has_tables
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.exceptions import CacheUnavailableError

ASK = """
import sys
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.schema.migrate import has_tables
print("asking", flush=True)
with open_cache(cache_dir=sys.argv[1]) as cache:
    print("open", has_tables(cache), flush=True)
"""


def test_a_folder_stays_open_while_no_process_waits(embedded):
    with SharedCache(cache_dir=embedded.folder) as shared:
        first = shared.cache
        shared.yield_if_wanted()
        assert shared.cache is first
        assert has_tables(first)
    with embedded.open() as later:
        assert later is first


def test_a_waiting_process_gets_the_folder_between_two_steps(embedded, run):
    lock = FolderLock(embedded.folder / "clickhouse")
    with SharedCache(cache_dir=embedded.folder) as shared:
        first = shared.cache
        process = run(ASK, embedded.folder)
        while not lock.is_wanted():
            assert process.poll() is None
        assert shared.cache is first
        shared.yield_if_wanted()
        assert shared.cache is not first
        out, errors = process.communicate(timeout=600)
        assert out == "asking\nopen True\n", errors


def test_a_wait_that_has_ended_is_not_seen(embedded, run, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0.05")
    lock = FolderLock(embedded.folder / "clickhouse")
    other = FolderLock(embedded.folder / "clickhouse")
    assert lock.acquire(0)
    assert not other.acquire(0.05)
    assert not lock.is_wanted()
    with pytest.raises(CacheUnavailableError, match=f"`{os.getpid()}`"), embedded.open():
        pass
    lock.release()


def test_a_folder_that_the_caller_holds_stays_open(embedded):
    with embedded.open() as outer, SharedCache(cache_dir=embedded.folder) as shared:
        assert shared.cache is outer
        shared.close()
        assert outer.scalar("SELECT 1") == 1


def test_a_connection_to_a_server_stays_open(server):
    with SharedCache(server.dsn, cache_dir=server.folder) as shared:
        first = shared.cache
        shared.yield_if_wanted()
        assert shared.cache is first
