"""Garbage collection: files that no manifest names any more, removed after a week."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.locks import beat
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.layout import day_of_file, is_folder, listed, month_of
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.manifest.versions import manifest_versions, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["GARBAGE_SECONDS", "Garbage", "collect", "garbage", "sweep", "unreferenced"]

#: How long a file stays after the last manifest that names it. Lazy frames may still read it.
GARBAGE_SECONDS = 7 * 86_400.0
#: Origin of a day file that journals were written to.
_STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that no newest manifest names."""

    path: Path
    bytes: int
    month: str


def unreferenced(symbol_dir: SymbolDir) -> Iterator[tuple[str, Path]]:
    """Yield day files that no newest manifest names, and manifests that are not the newest."""
    for month in symbol_dir.months():
        *older, _newest = manifest_versions(symbol_dir, month).values() or [None]
        yield from ((month, path) for path in older if path is not None)
    for year in symbol_dir.years():
        files: dict[str, list[Path]] = {}
        for path in listed(year):
            if day_of_file(path.name) is not None:
                files.setdefault(path.name[:7], []).append(path)
        for month, paths in files.items():
            named = _named(symbol_dir, month)
            yield from ((month, path) for path in paths if path.name not in named)


def garbage(symbol_dir: SymbolDir) -> list[Garbage]:
    """List the garbage that is old enough to be removed."""
    found = []
    oldest = time.time() - GARBAGE_SECONDS
    for month, path in unreferenced(symbol_dir):
        with disk_errors(path), suppress(FileNotFoundError):
            status = path.stat()
            if status.st_mtime <= oldest:
                found.append(Garbage(path, status.st_size, month))
    if is_folder(symbol_dir.live):
        found += _journals(symbol_dir, oldest)
    return found


def _journals(symbol_dir: SymbolDir, oldest: float) -> Iterator[Garbage]:
    """Yield the journals of days that were written to their files by a time."""
    from rangebar_polars.storage.live.journal_file import list_journals

    for file in list_journals(symbol_dir):
        month = month_of(file.day)
        with disk_errors(file.path), suppress(FileNotFoundError):
            status = file.path.stat()
            entry = read_manifest(symbol_dir, month).days.get(file.day)
            if entry is not None and status.st_mtime <= oldest and _has_journals(entry, oldest):
                yield Garbage(file.path, status.st_size, month)


def _has_journals(entry: DayEntry, oldest: float) -> bool:
    """Return whether a day was committed by a time, and does not need its journals since."""
    if entry.state not in SETTLED and not (entry.is_stored and entry.origin.kind == _STREAM):
        return False
    try:
        return datetime.fromisoformat(entry.fetched_at).timestamp() <= oldest
    except (ValueError, OverflowError):
        return False


def collect(symbol_dir: SymbolDir) -> list[Garbage]:
    """Remove the garbage that is old enough, reading the manifest again before each file."""
    removed = []
    with writing(symbol_dir), disk_errors(symbol_dir.folder):
        for item in garbage(symbol_dir):
            if _is_still_garbage(symbol_dir, item):
                symbol_dir.disk.unlink(item.path)
                failpoint(Step.GARBAGE_REMOVED)
                beat(symbol_dir.lock_file)
                removed.append(item)
    return removed


def sweep(symbol_dirs: Iterable[SymbolDir], *, dry_run: bool) -> pl.DataFrame:
    """Remove the garbage of some symbols, or only list it, and return it as a frame."""
    find = garbage if dry_run else collect
    rows = [
        (symbol_dir.symbol, str(item.path), item.bytes)
        for symbol_dir in symbol_dirs
        for item in find(symbol_dir)
    ]
    schema = {"symbol": pl.String, "file": pl.String, "bytes": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _is_still_garbage(symbol_dir: SymbolDir, item: Garbage) -> bool:
    if item.path.suffix == ".journal":  # `garbage` has just read the manifest, under the lock
        return True
    if item.path.suffix == ".parquet":
        return item.path.name not in _named(symbol_dir, item.month)
    newest = max(manifest_versions(symbol_dir, item.month).values(), default=None)
    return newest is not None and item.path != newest


def _named(symbol_dir: SymbolDir, month: str) -> set[str]:
    return {entry.file for entry in read_manifest(symbol_dir, month).days.values()}
