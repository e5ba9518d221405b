"""Verification of every file of the store, and statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from rangebar_polars.exceptions import ManifestError, StorageError
from rangebar_polars.storage.days.day_file import FileFaultError, read_verified
from rangebar_polars.storage.days.quarantine import heal
from rangebar_polars.storage.gc import unreferenced
from rangebar_polars.storage.layout import day_of_file, is_folder, listed
from rangebar_polars.storage.manifest.versions import manifest_versions, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = [
    "VERIFY_SCHEMA",
    "Inspection",
    "inspect",
    "listed_days",
    "stats",
    "stored_days",
    "verify",
]

#: Columns and dtypes of `TickStorage.verify`.
VERIFY_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "market": pl.String(),
        "symbol": pl.String(),
        "day": pl.Date(),
        "file": pl.String(),
        "state": pl.String(),
        "reason": pl.String(),
    }
)

_Row: TypeAlias = "tuple[date | None, Path, str, str | None]"


def verify(symbol_dirs: Iterable[SymbolDir]) -> pl.DataFrame:
    """Check every file of some symbols, and report its state: `ok`, `corrupt`, `missing` and so on."""
    rows = [
        (symbol_dir.source, symbol_dir.market, symbol_dir.symbol, day, str(path), state, reason)
        for symbol_dir in symbol_dirs
        for day, path, state, reason in _files(symbol_dir)
    ]
    return pl.DataFrame(rows, schema=VERIFY_SCHEMA, orient="row")


def _files(symbol_dir: SymbolDir) -> Iterator[_Row]:
    has_faults = False
    for month in symbol_dir.months():
        try:
            days = read_manifest(symbol_dir, month).days
        except ManifestError as error:
            has_faults = True
            newest = list(manifest_versions(symbol_dir, month).values())[-1]
            yield None, newest, "manifest unreadable", str(error).partition("\n")[0]
            continue
        for day in sorted(days):
            if days[day].file:
                yield _file(symbol_dir, day, days[day])
    if not has_faults:  # otherwise it is unknown which files are named
        for _, path in unreferenced(symbol_dir):
            if file_day := day_of_file(path.name):
                yield file_day, path, "unreferenced", None
    for path in listed(symbol_dir.quarantine):
        yield day_of_file(path.name), path, "quarantined", None
    if is_folder(symbol_dir.live):
        yield from _journals(symbol_dir)


def _journals(symbol_dir: SymbolDir) -> Iterator[_Row]:
    from rangebar_polars.storage.live.journal_file import list_journals, read_journal

    for file in list_journals(symbol_dir):
        try:
            content = read_journal(symbol_dir, file)
        except StorageError as error:
            yield file.day, file.path, "unreadable", str(error).partition("\n")[0]
            continue
        damage = "" if content is None else content.damage
        yield file.day, file.path, "corrupt" if damage else "ok", damage or None


def _file(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> _Row:
    path = symbol_dir.day_file(day, entry.file)
    if not entry.is_stored:
        restored = heal(symbol_dir, [day], {day: entry}).get(day)
        if restored is None or not restored.file:
            return day, path, "quarantined", entry.reason
        entry, path = restored, symbol_dir.day_file(day, restored.file)
    try:
        read_verified(symbol_dir, day, entry)
    except FileFaultError as fault:
        return day, path, "missing" if fault.is_gone else "corrupt", fault.reason
    except StorageError as error:
        return day, path, "unreadable", str(error).partition("\n")[0]
    return day, path, "ok", None


@dataclass(slots=True)
class Inspection:
    """What the manifests of a symbol name, and what is wrong with it."""

    days: int = 0
    bytes: int = 0
    quarantined: list[date] = field(default_factory=list)
    #: Days whose file is missing or has another size.
    damaged: list[date] = field(default_factory=list)
    #: Months whose manifest cannot be read.
    unreadable: list[str] = field(default_factory=list)


def inspect(symbol_dir: SymbolDir) -> Inspection:
    """Check the manifests and the sizes of the files of a symbol, without reading the files."""
    found = Inspection()
    for month in symbol_dir.months():
        try:
            days = read_manifest(symbol_dir, month).days
        except ManifestError:
            found.unreadable.append(month)
            continue
        for day, entry in sorted(days.items()):
            if not entry.is_stored:
                found.quarantined.append(day)
                continue
            found.days, found.bytes = found.days + 1, found.bytes + entry.bytes
            if entry.file and _size(symbol_dir.day_file(day, entry.file)) != entry.bytes:
                found.damaged.append(day)
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def all_days(symbol_dir: SymbolDir) -> dict[date, DayEntry]:
    """Return every day in the manifests of a symbol."""
    days: dict[date, DayEntry] = {}
    for month in symbol_dir.months():
        days |= read_manifest(symbol_dir, month).days
    return days


def stored_days(symbol_dir: SymbolDir) -> dict[date, DayEntry]:
    """Return the days of a symbol that are valid in the store, in order."""
    days = all_days(symbol_dir)
    return {day: days[day] for day in sorted(days) if days[day].is_stored}


def listed_days(symbol_dir: SymbolDir) -> list[date]:
    """Return the days of a symbol that are valid in the store, or have journals, in order."""
    entries = all_days(symbol_dir)
    days = {day for day, entry in entries.items() if entry.is_stored}
    if is_folder(symbol_dir.live):
        from rangebar_polars.storage.live.live_entries import live_days_stored

        days.update(live_days_stored(symbol_dir, entries))
    return sorted(days)


def _all_with_journals(symbol_dir: SymbolDir) -> dict[date, DayEntry]:
    """Return every day in the manifests and the journals of a symbol."""
    if not is_folder(symbol_dir.live):
        return all_days(symbol_dir)
    from rangebar_polars.storage.live.live_entries import live_entries

    return live_entries(symbol_dir, date.min, date.max, partial(all_days, symbol_dir))


def stats(symbol_dir: SymbolDir) -> dict[str, object]:
    """Sum up the days of a symbol."""
    known = _all_with_journals(symbol_dir)
    days = {day: known[day] for day in sorted(known) if known[day].is_stored}
    with_rows = [entry for entry in days.values() if entry.rows]
    states: dict[str, int] = {}
    for entry in known.values():
        states[entry.state] = states.get(entry.state, 0) + 1
    return {
        "symbol": symbol_dir.symbol,
        "source": symbol_dir.source,
        "market": symbol_dir.market,
        "days": len(days),
        "rows": sum(entry.rows for entry in days.values()),
        "bytes": sum(entry.bytes for entry in days.values()),
        "first_day": min(days, default=None),
        "last_day": max(days, default=None),
        "first_id": with_rows[0].first_id if with_rows else None,
        "last_id": with_rows[-1].last_id if with_rows else None,
        "states": states,
        "raised": sum(entry.origin.raised for entry in days.values()),
    }
