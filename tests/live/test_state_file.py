"""The state file: whole at any moment, and no information if it cannot be read."""

from __future__ import annotations

import errno
import json
import os
import random
from datetime import timedelta

import pytest

from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.live.live_days import recover_journals
from rangebar_polars.storage.live.state_file import (
    read_state,
    state_age_s,
    state_path,
    write_state,
)
from storage.disks import FailingDisk, RecordingDisk
from storage.test_power import Medium, lay_out


def symbol_dir(root, disk=None):
    return SymbolDir(root, "binance", "spot", "BTCUSDT", disk or Disk())


def test_what_was_written_last_is_read(tmp_path):
    where, seen = symbol_dir(tmp_path), []
    assert read_state(where) is None
    assert state_age_s(where) is None
    with on_failpoint(seen.append):
        for number in range(3):
            write_state(where, {"applied_id": number, "series": [{"threshold": 250}]})
            assert read_state(where) == {"applied_id": number, "series": [{"threshold": 250}]}
    assert seen.count(Step.STATE_FILE_WRITTEN) == 3
    assert [path.name for path in where.live.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000, b"{}".ljust(10, b"\0")]
)
def test_an_unreadable_file_is_no_information(tmp_path, data):
    where = symbol_dir(tmp_path)
    write_state(where, {"applied_id": 1})
    state_path(where).write_bytes(data)
    assert read_state(where) is None
    state_path(where).unlink()
    state_path(where).mkdir()
    assert read_state(where) is None


@pytest.mark.parametrize(
    "name", ["create", "write", "sync", "rename", "make_folder", "sync_folder"]
)
def test_a_fault_leaves_the_old_file(tmp_path, name):
    write_state(symbol_dir(tmp_path), {"applied_id": 1}, is_durable=True)
    where = symbol_dir(tmp_path, FailingDisk((name,), 1, errno.ENOSPC))
    with pytest.raises(StorageError) as found:
        write_state(where, {"applied_id": 2}, is_durable=True)
    assert found.value.__cause__.errno == errno.ENOSPC
    assert read_state(where) == {"applied_id": 1}
    assert [path.name for path in where.live.iterdir()] == ["state.json"]
    write_state(where, {"applied_id": 2}, is_durable=True)
    assert read_state(where) == {"applied_id": 2}


def test_a_durable_state_survives_a_loss_of_power(tmp_path):
    disk = RecordingDisk()
    where = symbol_dir(tmp_path / "store", disk)
    ends = []
    for number in (1, 2, 3):
        write_state(where, {"number": number}, is_durable=True)
        ends.append(len(disk.operations))
    rng, medium = random.Random(2), Medium()
    for stop, operation in enumerate(disk.operations, start=1):
        medium.apply(operation)
        for _ in range(3):
            lay_out(medium.after_loss(lambda: rng.random() < 0.5), tmp_path, tmp_path / "left")
            found = read_state(symbol_dir(tmp_path / "left" / "store"))
            written = sum(1 for end in ends if end <= stop)
            begun = sum(1 for end in [0, *ends[:-1]] if end < stop)
            numbers = range(written, begun + 1)
            assert (0 if found is None else found["number"]) in numbers


def test_an_age_is_measured_with_the_clock_of_the_files(tmp_path):
    where = symbol_dir(tmp_path)
    write_state(where, {})
    clock.install(offset_s=86_400)  # another clock of the machine makes no difference
    try:
        age = state_age_s(where)
    finally:
        clock.install()
    before = state_path(where).stat()
    os.utime(state_path(where), (before.st_atime, before.st_mtime - 1_000))
    older = state_age_s(where)
    os.utime(state_path(where), (before.st_atime, before.st_mtime + 5_000))
    assert 0 <= age < older
    assert older >= timedelta(seconds=1_000).total_seconds()
    assert state_age_s(where) == 0
    assert [path.name for path in where.live.iterdir()] == ["state.json"]


def test_a_new_writer_removes_what_a_killed_one_left(tmp_path):
    where = symbol_dir(tmp_path)
    write_state(where, {"a": 1})
    left = where.live / ".state.json.123.0123abcd.tmp"
    other = where.live / ".now.123.0123abcd.tmp"
    left.write_text("{")
    other.write_text("")
    recover_journals(where)
    assert not left.exists()
    assert other.exists()
    assert json.loads(state_path(where).read_text()) == {"a": 1}
