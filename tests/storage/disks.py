"""Disks that count, record or fail, and an observer that kills the process. Everything else is real."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._files.disk import Disk

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars._files.failpoints import Step


class CountingDisk(Disk):
    """A disk that counts the reads of each file."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[Path] = Counter()

    def read(self, path: Path) -> bytes:
        self.reads[path] += 1
        return super().read(path)


class KillAt:
    """An observer that kills the process (SIGKILL) the n-th time that a step is reached."""

    def __init__(self, step: Step, number: int) -> None:
        self.step = step
        self.left = number

    def __call__(self, step: Step) -> None:
        if step is self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FailingDisk(Disk):
    """A disk that raises an OSError at the n-th call of one of the operations."""

    def __init__(self, names: tuple[str, ...], number: int, code: int) -> None:
        super().__init__()
        self.names = names
        self.left = number
        self.code = code
        self.failed = False

    def __getattribute__(self, name: str):
        value = super().__getattribute__(name)
        if name.startswith("_") or name == "names" or name not in self.names:
            return value

        def call(*arguments):
            self.left -= 1
            if self.left == 0:
                self.failed = True
                if name == "write":  # a part of the bytes is written
                    super(FailingDisk, self).write(arguments[0], arguments[1][:1])
                raise OSError(self.code, os.strerror(self.code))
            return value(*arguments)

        return call


class Operation(NamedTuple):
    kind: str
    path: Path
    other: Path | None = None
    data: bytes = b""


class RecordingDisk(Disk):
    """A disk that records every operation that changes the medium."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.paths: dict[int, Path] = {}

    def _record(self, kind: str, path: Path, other: Path | None = None, data: bytes = b"") -> None:
        self.operations.append(Operation(kind, path, other, data))

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._record("make_folder", path)

    def create(self, path: Path) -> int:
        file = super().create(path)
        self.paths[file] = path
        self._record("create", path)
        return file

    def write(self, file: int, data: memoryview) -> None:
        super().write(file, data)
        self._record("write", self.paths[file], data=bytes(data))

    def sync(self, file: int) -> None:
        super().sync(file)
        self._record("sync", self.paths[file])

    def sync_data(self, file: int) -> None:
        super().sync_data(file)
        self._record("sync", self.paths[file])

    def truncate(self, file: int, length: int) -> None:
        super().truncate(file, length)
        self._record("truncate", self.paths[file], data=bytes(length))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._record("rename", source, target)

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        self._record("link", source, target)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._record("unlink", path)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self._record("sync_folder", path)
