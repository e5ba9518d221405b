"""A loss of power may lose unsynced data in whole or in part. The store is old or new."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from rangebar_polars.exceptions import ParquetCorruptionError
from rangebar_polars.storage.parquet import TickStorage
from storage import jobs
from storage.disks import RecordingDisk
from storage.stock import FEBRUARY, JANUARY, SYMBOL, day_files, given_day, states, trades, whole

if TYPE_CHECKING:
    from pathlib import Path

    from storage.disks import Operation


@dataclass
class File:
    """The bytes of a file in memory and on the medium."""

    data: bytes = b""
    synced: bytes = b""


@dataclass
class Medium:
    """The possible contents of a medium: synced names and bytes, and unsynced ones."""

    #: Names whose folder was synced since.
    synced: dict[Path, File | None] = field(default_factory=dict)
    #: Names as the processes see them. None is a folder.
    names: dict[Path, File | None] = field(default_factory=dict)

    def apply(self, done: Operation) -> None:
        if done.kind == "make_folder":
            self.names.setdefault(done.path, None)
        elif done.kind == "create":
            self.names[done.path] = File()
        elif done.kind == "write":
            self.names[done.path].data += done.data
        elif done.kind == "truncate":
            file = self.names[done.path]
            file.data = file.data[: len(done.data)]
        elif done.kind == "rename":
            self.names[done.other] = self.names.pop(done.path)
        elif done.kind == "sync":
            file = self.names[done.path]
            file.synced = file.data
        elif done.kind == "link":
            self.names[done.other] = self.names[done.path]
        elif done.kind == "unlink":
            self.names.pop(done.path, None)
        else:
            self._sync_folder(done.path)

    def _sync_folder(self, folder: Path) -> None:
        for path in [path for path in self.synced if path.parent == folder]:
            del self.synced[path]
        here = {path: file for path, file in self.names.items() if path.parent == folder}
        self.synced.update(here)

    def after_loss(self, keeps) -> dict[Path, File | None]:
        """Return the names that survive. `keeps` selects the unsynced changes that do."""
        left = dict(self.synced)
        for path in self.names.keys() | self.synced.keys():
            if self.names.get(path, self) != self.synced.get(path, self) and keeps():
                if path in self.names:
                    left[path] = self.names[path]
                else:
                    left.pop(path)
        return left


def lay_out(left: dict[Path, File | None], top: Path, folder: Path) -> None:
    """Make the files of a medium, except for names in lost folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(left):
        target = folder / path.relative_to(top)
        if not target.parent.is_dir():
            continue
        if left[path] is None:
            target.mkdir()
        else:
            target.write_bytes(left[path].synced)


def losses(medium: Medium, number: int):
    """Yield choices of surviving names: none, all, and some. Unsynced bytes are lost."""
    dice = random.Random(number)
    yield medium.after_loss(lambda: False)
    yield medium.after_loss(lambda: True)
    yield medium.after_loss(lambda: dice.random() < 0.5)


def recorded(folder: Path, *work) -> tuple[list[int], list[Operation]]:
    """Return the operations of some jobs on a new store, and their number after each job."""
    storage = TickStorage(folder)
    storage._disk = disk = RecordingDisk()
    ends = []
    for do in work:
        do(storage)
        ends.append(len(disk.operations))
    return ends, disk.operations


def present(storage: TickStorage) -> list:
    return storage.list_days(SYMBOL)


def before(storage: TickStorage) -> None:
    storage.write_ticks(SYMBOL, jobs.BEFORE)


def every_loss(folder: Path, top: Path, operations: list[Operation], start: int):
    """A store as it is after a loss of power at each moment, with the number of operations done."""
    medium = Medium()
    seen = set()
    for number, done in enumerate(operations, 1):
        medium.apply(done)
        if number < start:
            continue
        for kind, left in enumerate(losses(medium, number)):
            state = frozenset((path, file and file.synced) for path, file in left.items())
            is_end = number == len(operations)
            if (state in seen) and not is_end:
                continue
            seen.add(state)
            lay_out(left, top, folder)
            yield number, kind, TickStorage(folder)


def test_a_loss_of_power_leaves_a_state_between_two_operations_of_the_store(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    (begin, end), operations = recorded(top, before, jobs.write)
    found = set()
    for number, _, storage in every_loss(tmp_path / "left", top, operations, begin):
        days = present(storage)
        rows = storage.get_ticks(SYMBOL, JANUARY, JANUARY)
        found.add((len(days), rows.height))
        assert rows.equals(jobs.BEFORE) or rows.equals(trades(JANUARY, 50, 1))
        if FEBRUARY in days:
            assert whole(storage).equals(jobs.AFTER)
        if number == end:
            assert whole(storage).equals(jobs.AFTER)
    assert found == {(1, 30), (1, 50), (2, 50)}


def test_what_a_write_reports_outlasts_a_loss_of_power_in_a_new_store(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    (end,), operations = recorded(top, jobs.write)
    for number, _, storage in every_loss(tmp_path / "left", top, operations, 1):
        for day in present(storage):
            assert not storage.get_ticks(SYMBOL, day, day).is_empty()
        if number == end:
            assert whole(storage).equals(jobs.AFTER)


def test_a_loss_of_power_in_a_quarantine_loses_no_bytes(tmp_path):
    top = tmp_path / "top"
    top.mkdir()

    def spoil(storage: TickStorage) -> None:
        (path,) = day_files(storage)
        path.write_bytes(b"spoilt")

    def read(storage: TickStorage) -> None:
        with pytest.raises(ParquetCorruptionError):
            storage.get_ticks(SYMBOL, JANUARY, JANUARY)

    (begin, _, _), operations = recorded(top, before, spoil, read)
    for number, _, storage in every_loss(tmp_path / "left", top, operations, begin):
        files = [*day_files(storage), *storage.root.rglob("quarantine/*")]
        assert files, "the file is nowhere"
        if number == len(operations):
            # The damage is not in the record: the bytes are right, and the day is restored.
            assert states(storage, JANUARY, JANUARY) == ["given"]


def test_a_name_that_another_writer_left_unsynced_is_synced(tmp_path):
    """A killed writer linked the day file, but the folder may not be synced."""
    storage = TickStorage(tmp_path)
    storage._disk = disk = RecordingDisk()
    item = given_day(JANUARY, trades(JANUARY))
    storage.put_days(SYMBOL, [item])
    (path,) = day_files(storage)
    for manifest in storage.root.rglob("*.json"):
        manifest.unlink()
    disk.operations.clear()
    storage.put_days(SYMBOL, [item])
    kinds = [(done.kind, done.path) for done in disk.operations]
    assert ("sync_folder", path.parent) in kinds
    manifests = [
        i for i, done in enumerate(disk.operations) if done.other and done.other.suffix == ".json"
    ]
    assert kinds.index(("sync_folder", path.parent)) < manifests[0]
