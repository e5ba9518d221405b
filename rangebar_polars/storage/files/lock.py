"""The lock of a symbol: one writer at a time. Readers take no lock."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import disk_errors, temporary_pid
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.processes import is_running
from rangebar_polars.storage.files.content_file import make_folders
from rangebar_polars.storage.layout import is_folder, listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["writing"]

_STALE_SECONDS = 3600.0


@contextmanager
def writing(symbol_dir: SymbolDir) -> Iterator[None]:
    """Hold the lock of a symbol, waiting for any other holder first.

    The operating system releases the lock of a process that ends, however it ends. Unfinished files
    of such a process are removed.

    Raises
    ------
    StorageError
        The holder has made no progress for the time of the setting `tick_lock_wait_s`.
    """
    disk = symbol_dir.disk
    with disk_errors(symbol_dir.lock_file):
        make_folders(symbol_dir, symbol_dir.folder)
        file = disk.lock(symbol_dir.lock_file)
    try:
        failpoint(Step.LOCKED)
        with disk_errors(symbol_dir.folder):
            _remove_stale(symbol_dir)
        yield
    finally:
        disk.unlock(file)


def _remove_stale(symbol_dir: SymbolDir) -> None:
    for path in _temporaries(symbol_dir):
        pid = temporary_pid(path.name)
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        if pid is not None and age >= _STALE_SECONDS and not is_running(pid):
            symbol_dir.disk.unlink(path)
            failpoint(Step.STALE_TEMP_REMOVED)


def _temporaries(symbol_dir: SymbolDir) -> list[Path]:
    """List the temporary files of the symbol, which are beside its days and manifests."""
    found = []
    for year in symbol_dir.years():
        for path in listed(year):
            found += listed(path) if path.suffix == ".manifest" and is_folder(path) else [path]
    return [path for path in found if temporary_pid(path.name) is not None]
