"""A quarantined day is restored once its original bytes are back."""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars import events
from rangebar_polars.exceptions import ParquetCorruptionError, TicksNotCachedError
from rangebar_polars.storage.manifest.versions import read_manifest, update_manifest
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot
from storage.disks import FailingDisk
from storage.stock import (
    JANUARY,
    SYMBOL,
    day_files,
    given_day,
    quarantined,
    states,
    trades,
)

if TYPE_CHECKING:
    from pathlib import Path

TICKS = trades(JANUARY)


@pytest.fixture(params=["given", "final"])
def storage(request, tmp_path):
    """Return a store with one day, of the user or of a source."""
    storage = TickStorage(tmp_path)
    if request.param == "given":
        storage.write_ticks(SYMBOL, TICKS)
    else:
        storage.put_days(SYMBOL, [given_day(JANUARY, TICKS)])
    return storage


def read(storage: TickStorage) -> bool:
    return storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(TICKS)


def scan(storage: TickStorage) -> bool:
    return storage.scan_ticks(SYMBOL, JANUARY, JANUARY).collect().equals(TICKS)


def is_in_snapshot(storage: TickStorage) -> bool:
    ticks = snapshot(storage, SYMBOL, JANUARY, JANUARY)
    return ticks.days[0].is_stored and sum(map(len, ticks.frames(JANUARY, JANUARY))) == TICKS.height


def has_ticks(storage: TickStorage) -> bool:
    return storage.has_ticks(SYMBOL, JANUARY, JANUARY)


def verify(storage: TickStorage) -> bool:
    return "ok" in storage.verify()["state"]


def fetch(storage: TickStorage) -> bool:
    """Fetch without a reachable source."""
    folder = storage.root.parent.parent
    return rb.fetch_ticks(SYMBOL, JANUARY, JANUARY, cache_dir=folder).kept == [JANUARY]


def move_away_and_back(storage: TickStorage, path: Path) -> None:
    away = path.with_name("away")
    path.rename(away)
    set_aside(storage)
    assert states(storage, JANUARY, JANUARY) == ["quarantined"]
    away.rename(path)


def unmount(storage: TickStorage, path: Path) -> None:
    """Move the day files of a year away, but not its manifests."""
    away = storage.root.parent / "away"
    away.mkdir()
    path.rename(away / path.name)
    set_aside(storage)
    (away / path.name).rename(path)


def restore_from_a_backup(storage: TickStorage, path: Path) -> None:
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"\0")
    set_aside(storage)
    path.write_bytes(right)


def mend_in_quarantine(storage: TickStorage, path: Path) -> None:
    right = path.read_bytes()
    path.write_bytes(bytes(len(right)))
    set_aside(storage)
    (aside,) = quarantined(storage)
    aside.write_bytes(right)


def mend_in_quarantine_under_a_wrong_file(storage: TickStorage, path: Path) -> None:
    right = path.read_bytes()
    mend_in_quarantine(storage, path)
    path.write_bytes(bytes(len(right)))


def set_aside(storage: TickStorage) -> None:
    before = states(storage, JANUARY, JANUARY)
    assert before in (["given"], ["final"])
    with pytest.raises(ParquetCorruptionError):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    with pytest.raises(TicksNotCachedError, match="quarantined"):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)


@pytest.mark.parametrize("access", [read, scan, is_in_snapshot, has_ticks, verify, fetch])
@pytest.mark.parametrize(
    "fault",
    [
        move_away_and_back,
        unmount,
        restore_from_a_backup,
        mend_in_quarantine,
        mend_in_quarantine_under_a_wrong_file,
    ],
)
def test_a_day_whose_right_bytes_are_back_is_in_service_again(storage, fault, access):
    (state,) = states(storage, JANUARY, JANUARY)
    entry = read_manifest(storage.symbol_dir(SYMBOL, "binance", "spot"), "2024-01").days[JANUARY]
    (path,) = day_files(storage)
    heard = []
    events.register_hook("tick_file_restored", heard.append)
    try:
        fault(storage, path)
        assert access(storage)
        assert events.flush_hooks()
    finally:
        events.unregister_hook("tick_file_restored", heard.append)
    assert states(storage, JANUARY, JANUARY) == [state]
    assert read_manifest(storage.symbol_dir(SYMBOL, "binance", "spot"), "2024-01").days == {
        JANUARY: entry
    }
    assert read(storage)
    assert [payload.details["day"] for payload in heard] == [JANUARY]


def test_a_file_that_is_still_wrong_stays_in_quarantine(storage):
    (path,) = day_files(storage)
    path.write_bytes(bytes(path.stat().st_size))
    set_aside(storage)
    for access in (read, scan, has_ticks, verify):
        with contextlib.suppress(TicksNotCachedError):
            assert not access(storage)
    assert states(storage, JANUARY, JANUARY) == ["quarantined"]
    assert len(quarantined(storage)) == 1


def test_a_quarantined_file_that_cannot_be_read_is_asked_again_later(storage):
    (path,) = day_files(storage)
    move_away_and_back(storage, path)
    intact = storage._disk
    storage._disk = FailingDisk(("read",), 2, errno.EIO)  # after the manifest
    assert storage.coverage(SYMBOL, JANUARY, JANUARY)["state"].to_list() == ["quarantined"]
    assert storage._disk.failed
    storage._disk = intact
    assert read(storage)


@pytest.mark.parametrize("operation", ["lock", "link"])
def test_a_store_that_cannot_be_written_still_gives_a_day_that_is_right_in_its_place(
    storage, operation
):
    (path,) = day_files(storage)
    away = path.with_name("away")
    path.rename(away)
    set_aside(storage)
    away.rename(path)
    intact = storage._disk
    storage._disk = FailingDisk((operation,), 1, errno.EROFS)
    assert read(storage)
    assert storage._disk.failed
    storage._disk = intact
    assert read_manifest(storage.symbol_dir(SYMBOL, "binance", "spot"), "2024-01").days[
        JANUARY
    ].state == ("quarantined")


@pytest.mark.parametrize(("kind", "state"), [("user", "given"), ("archive", "tail")])
def test_a_day_that_an_older_version_quarantined_gets_the_state_of_its_origin(
    tmp_path, kind, state
):
    storage = TickStorage(tmp_path)
    if kind == "user":
        storage.write_ticks(SYMBOL, TICKS)
    else:
        storage.put_days(SYMBOL, [given_day(JANUARY, TICKS)])
    symbol_dir = storage.symbol_dir(SYMBOL, "binance", "spot")
    entry = read_manifest(symbol_dir, "2024-01").days[JANUARY]
    old = replace(entry, state="quarantined", reason="the file is gone")
    update_manifest(symbol_dir, "2024-01", lambda _: {JANUARY: old})
    assert read(storage)
    assert states(storage, JANUARY, JANUARY) == [state]


def test_verify_ends_well_once_the_bytes_are_back(storage):
    (path,) = day_files(storage)
    away = path.with_name("away")
    command = [sys.executable, "-m", "rangebar_polars", "ticks", "verify"]
    environment = {"RANGEBAR_CACHE_DIR": str(storage.root.parent.parent)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=300
        )

    path.rename(away)
    set_aside(storage)
    assert run().returncode == 1
    away.rename(path)
    done = run()
    assert done.returncode == 0
    assert ",ok," in done.stdout
    assert read(storage)


def test_the_state_before_is_written_beside_the_fault(storage):
    (state,) = states(storage, JANUARY, JANUARY)
    (path,) = day_files(storage)
    path.unlink()
    set_aside(storage)
    newest = max(storage.root.rglob("2024-01.manifest/*.json"))
    entry = json.loads(newest.read_text())["days"][str(JANUARY)]
    assert (entry["state"], entry["kept_state"]) == ("quarantined", state)
