"""A full, read-only or broken disk and damaged files are reported, and never silently skipped."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
import warnings
from itertools import cycle
from pathlib import Path

import polars as pl
import pytest

from faulty import in_plan
from rangebar_polars._files.disk import Disk
from rangebar_polars.exceptions import (
    ManifestError,
    ParquetCorruptionError,
    StorageError,
    TicksNotCachedError,
)
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated
from storage import jobs
from storage.disks import CountingDisk, FailingDisk
from storage.stock import (
    FEBRUARY,
    JANUARY,
    SYMBOL,
    day_files,
    given_day,
    quarantined,
    states,
    temporaries,
    trades,
    whole,
)

WRITING = ("make_folder", "lock", "create", "write", "sync", "link", "touch", "sync_folder")
BIT_FLIPS = repeated(100, 300)


@pytest.fixture
def storage(tmp_path):
    storage = TickStorage(tmp_path)
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY))])
    return storage


def write_failing(folder: Path, number: int, code: int) -> FailingDisk:
    """Write with a failing n-th operation, and check what is left."""
    storage = TickStorage(folder)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    intact = storage._disk
    storage._disk = disk = FailingDisk(WRITING, number, code)
    raised = None
    try:
        jobs.write(storage)
    except StorageError as error:
        raised = error
    storage._disk = intact
    assert raised is None or str(folder) in str(raised)
    assert not isinstance(raised, ParquetCorruptionError)
    assert not temporaries(storage)
    rows = storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    assert rows.equals(jobs.BEFORE) or rows.equals(trades(JANUARY, 50, 1))
    assert raised is not None or whole(storage).equals(jobs.AFTER)
    jobs.write(storage)
    assert whole(storage).equals(jobs.AFTER)
    return disk


def test_a_write_that_fails_anywhere_leaves_the_old_state_and_names_the_place(tmp_path):
    codes = cycle([errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EDQUOT])
    number = 1
    while write_failing(tmp_path / str(number), number, next(codes)).failed:
        number += 1
    assert number > 30


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_file_that_the_system_cuts_off_is_an_error(tmp_path):
    code = (
        "import resource, signal, sys, runpy; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); script = sys.argv.pop(1);"
        "runpy.run_path(script, run_name='__main__')"
    )
    job = json.dumps({"action": "write", "folder": str(tmp_path)})
    script = str(Path(__file__).with_name("workers.py"))
    done = subprocess.run(
        [sys.executable, "-c", code, script, job], capture_output=True, text=True, check=False
    )
    assert "StorageError" in done.stderr
    assert "File too large" in done.stderr
    storage = TickStorage(tmp_path)
    assert not temporaries(storage)
    assert storage.list_days(SYMBOL) == []


def twice(storage: TickStorage) -> None:
    for _ in range(2):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_file_that_cannot_be_read_is_an_error_and_stays(storage, code, number):
    (path,) = day_files(storage)
    intact = storage._disk
    storage._disk = FailingDisk(("read",), number, code)
    with pytest.raises(StorageError, match=str(storage.root)) as caught:
        twice(storage)
    assert not isinstance(caught.value, ParquetCorruptionError)
    storage._disk = intact
    assert path.exists()
    assert states(storage, JANUARY, JANUARY) == ["final"]


def test_a_corrupt_file_where_nothing_can_be_moved_is_named_and_stays(storage):
    (path,) = day_files(storage)
    path.write_bytes(path.read_bytes()[:-1])
    for number, names in enumerate([("lock",), ("make_folder",), ("link",)]):
        storage._disk = FailingDisk(names, 1, errno.EROFS)
        with pytest.raises(ParquetCorruptionError, match=path.name) as caught:
            storage.get_ticks(SYMBOL, JANUARY, JANUARY)
        assert caught.value.path == path, number
        assert path.exists()


def flipped(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def test_every_flipped_bit_is_found(storage):
    dice = random.Random(8)
    (path,) = day_files(storage)
    data, item = path.read_bytes(), given_day(JANUARY, trades(JANUARY))
    for number in range(BIT_FLIPS):
        path.write_bytes(flipped(data, dice))
        if number % 2:
            with pytest.raises(ParquetCorruptionError, match=str(JANUARY)):
                storage.get_ticks(SYMBOL, JANUARY, JANUARY)
            assert states(storage, JANUARY, JANUARY) == ["quarantined"]
            storage.put_days(SYMBOL, [item])
        else:
            plan = storage.scan_ticks(SYMBOL, JANUARY, JANUARY, refetch=lambda _: item)
            assert plan.collect().equals(item.ticks)
        assert states(storage, JANUARY, JANUARY) == ["final"]
        assert path.read_bytes() == data
        (aside,) = quarantined(storage)
        aside.unlink()


def damages():
    """Return ways to damage a file, each with the bytes that it leaves."""
    yield from (
        (f"cut at {part}/20", lambda data, part=part: data[: len(data) * part // 20])
        for part in range(20)
    )
    yield "footer zeroed", lambda data: data[:-200] + bytes(200)
    yield "header zeroed", lambda data: bytes(100) + data[100:]
    yield "longer by a byte", lambda data: data + b"\0"
    yield "text", lambda _: b"<html>not found</html>"
    yield "another Parquet file", lambda _: encoded(pl.DataFrame({"a": [1, 2, 3]}))
    yield "the same columns, other rows", lambda _: encoded(trades(JANUARY, price=7.0))
    yield "the same rows, written otherwise", lambda data: encoded(pl.read_parquet(data))


def encoded(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "damage"), list(damages()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_damage_is_found_and_set_aside(storage, name, damage):
    (path,) = day_files(storage)
    spoilt = damage(path.read_bytes())
    path.write_bytes(spoilt)
    assert storage.verify()["state"].to_list() == ["corrupt"]
    with pytest.raises(ParquetCorruptionError):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    assert [path.read_bytes() for path in quarantined(storage)] == [spoilt]
    assert not storage.has_ticks(SYMBOL, JANUARY, JANUARY)
    with pytest.raises(TicksNotCachedError, match="quarantined"):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    with pytest.warns(CoverageWarning, match="quarantined"):
        assert storage.get_ticks(SYMBOL, JANUARY, JANUARY, on_gap="report").is_empty()


def test_a_file_that_is_gone_is_found(storage):
    (path,) = day_files(storage)
    path.unlink()
    assert storage.verify()["state"].to_list() == ["missing"]
    with pytest.raises(ParquetCorruptionError, match="gone"):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    plan = storage.scan_ticks(
        SYMBOL, JANUARY, JANUARY, refetch=lambda day: given_day(day, trades(day))
    )
    assert plan.collect().equals(trades(JANUARY))


def test_a_corrupt_file_is_not_merged_into(storage):
    storage.delete_ticks(SYMBOL)
    storage.write_ticks(SYMBOL, jobs.BEFORE)
    (path,) = [path for path in day_files(storage) if path.name in str(storage.verify()["file"][0])]
    path.write_bytes(b"")
    with pytest.raises(ParquetCorruptionError):
        jobs.write(storage)
    assert states(storage, JANUARY, JANUARY) == ["quarantined"]
    with pytest.raises(StorageError, match="do not cover them"):
        storage.write_ticks(SYMBOL, jobs.BEFORE.head(3))
    jobs.write(storage)
    assert whole(storage).equals(jobs.AFTER)


def test_a_file_of_the_right_name_with_other_bytes_gives_way(storage):
    (path,) = day_files(storage)
    storage.delete_ticks(SYMBOL)
    path.write_bytes(b"rot")
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY))])
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))
    assert [path.read_bytes() for path in quarantined(storage)] == [b"rot"]


def test_of_two_readers_of_a_corrupt_file_the_second_finds_it_mended(storage):
    item = given_day(JANUARY, trades(JANUARY))
    plans = [storage.scan_ticks(SYMBOL, JANUARY, JANUARY, refetch=lambda _: item) for _ in "ab"]
    (path,) = day_files(storage)
    path.write_bytes(b"rot")
    assert all(plan.collect().equals(item.ticks) for plan in plans)
    assert len(quarantined(storage)) == 1


def newest(storage: TickStorage):
    return max(storage.root.rglob("2024-01.manifest/*.json"))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_manifest_that_is_cut_off_is_an_error_for_readers_and_writers(storage, part):
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, price=200.0))])
    path = newest(storage)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    for work in (
        lambda: storage.get_ticks(SYMBOL, JANUARY, JANUARY),
        lambda: storage.coverage(SYMBOL, JANUARY, JANUARY),
        lambda: storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY))]),
        lambda: storage.gc(dry_run=False),
    ):
        with pytest.raises(ManifestError, match="ticks verify"):
            work()
    assert newest(storage) == path
    assert storage.verify()["state"].to_list() == ["manifest unreadable"]
    assert len(day_files(storage)) == 2


@pytest.mark.parametrize("change", ["older version", "other number", "other symbol", "other rows"])
def test_a_manifest_in_the_place_of_another_is_an_error(storage, change):
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, price=200.0))])
    path = newest(storage)
    first = path.with_name("000001.json").read_bytes()
    path.write_bytes(
        {
            "older version": first,
            "other number": path.read_bytes().replace(b'"version": 2', b'"version": 3'),
            "other rows": path.read_bytes().replace(b'"rows": 50', b'"rows": 60'),
            "other symbol": path.read_bytes().replace(b"BTCUSDT", b"ETHUSDT"),
        }[change]
    )
    with pytest.raises(ManifestError):
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)


class Flaky(Disk):
    """A disk that reads the first bytes of day files wrongly a few times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def read(self, path: Path) -> bytes:
        data = super().read(path)
        if path.suffix == ".parquet" and self.left:
            self.left -= 1
            return b"\0" + data[1:]
        return data


def test_a_file_that_reads_well_under_the_lock_stays(storage):
    storage._disk = Flaky(1)
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))
    assert not quarantined(storage)


def test_bytes_that_were_fetched_again_are_proved_too(storage):
    storage._disk = Flaky(3)
    item = given_day(JANUARY, trades(JANUARY))
    plan = storage.scan_ticks(SYMBOL, JANUARY, JANUARY, refetch=lambda _: item)
    with pytest.raises(in_plan(ParquetCorruptionError), match="is not what was written"):
        plan.collect()


class Forgetful(Disk):
    """A disk that stores other bytes than it was passed."""

    def write(self, file: int, data: memoryview) -> None:
        super().write(file, memoryview(bytes(len(data))))


def test_bytes_that_do_not_read_back_are_not_given_a_name(tmp_path):
    storage = TickStorage(tmp_path)
    storage._disk = Forgetful()
    with pytest.raises(StorageError, match="does not hold the bytes"):
        jobs.write(storage)
    assert not day_files(storage)
    assert not temporaries(storage)


def test_a_newest_manifest_that_is_gone_loses_no_file(storage):
    storage.put_days(SYMBOL, [given_day(JANUARY, trades(JANUARY, price=200.0))])
    newest(storage).unlink()
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))
    assert sorted(storage.verify()["state"]) == ["ok", "unreferenced"]


def test_a_missing_day_is_reported_and_the_others_are_given(storage):
    with pytest.raises(TicksNotCachedError, match="2024-02-01") as caught:
        whole(storage)
    assert caught.value.days == (FEBRUARY,)
    with pytest.warns(CoverageWarning, match="2024-02-01"):
        rows = storage.get_ticks(SYMBOL, JANUARY, FEBRUARY, on_gap="report")
    assert rows.equals(trades(JANUARY))


def test_a_whole_store_is_read_without_a_warning(storage):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage.scan_ticks(SYMBOL, JANUARY, JANUARY, on_gap="report").collect()


def test_each_file_is_read_once(tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, jobs.AFTER)
    storage._disk = disk = CountingDisk()
    plan = storage.scan_ticks(SYMBOL, JANUARY, FEBRUARY)
    manifests = dict(disk.reads)
    disk.reads.clear()
    bars = plan.rangebar.bars(250).collect()
    assert bars.height
    assert set(manifests.values()) == {1}
    assert dict(disk.reads) == dict.fromkeys(day_files(storage), 1)
