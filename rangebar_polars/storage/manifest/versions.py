"""The numbered versions of the manifest of a month.

A version is written once, under a name that must be free, and contains its own SHA-256. Readers use
the highest version. If it cannot be read, that is an error: its content is never guessed.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from rangebar_polars._files.atomic import disk_errors, sha256_of
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import ManifestError, StorageError, with_hint
from rangebar_polars.storage.files.content_file import place, read_file
from rangebar_polars.storage.layout import listed
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.manifest.entry_rules import check_entry, check_pruned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["Manifest", "manifest_versions", "read_manifest", "update_manifest"]

FORMAT = 1
TRIES = 100

#: Source, market, symbol, month and number of a version.
_Names: TypeAlias = tuple[str, str, str, str, int]

_VERSION = re.compile(r"([0-9]{6,18})\.json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a manifest. A month without a manifest has version 0."""

    month: str
    version: int = 0
    days: Mapping[date, DayEntry] = field(default_factory=dict)
    sha256: str = ""
    #: Days that were removed because stored bars make their ticks dispensable.
    pruned: frozenset[date] = frozenset()


def manifest_versions(symbol_dir: SymbolDir, month: str) -> dict[int, Path]:
    """List the versions of a month by their number, in order."""
    names = [(path, _VERSION.fullmatch(path.name)) for path in listed(symbol_dir.manifests(month))]
    return dict(sorted((int(match.group(1)), path) for path, match in names if match))


def read_manifest(symbol_dir: SymbolDir, month: str) -> Manifest:
    """Read the highest version of a month.

    Raises
    ------
    ManifestError
        The version cannot be read.
    """
    for _ in range(TRIES):
        versions = manifest_versions(symbol_dir, month)
        if not versions:
            return Manifest(month)
        version, path = versions.popitem()
        try:
            data = read_file(symbol_dir, path)
        except FileNotFoundError:  # a newer version was written, and this one removed
            continue
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error).partition("\n")[0]) from error
        names = (symbol_dir.source, symbol_dir.market, symbol_dir.symbol, month, version)
        return _parse(path, data, names)
    raise _unreadable(symbol_dir.manifests(month), "its versions disappear while they are read")


def update_manifest(
    symbol_dir: SymbolDir,
    month: str,
    change: Callable[[Manifest], Mapping[date, DayEntry | None]],
    *,
    prunes: bool = False,
) -> Manifest:
    """Write the next version with the days that `change` returns. None removes a day.

    If another writer was first, `change` is called again on the newer version. If it returns no
    days, no version is written. With `prunes`, removed days are recorded as pruned.
    """
    for _ in range(TRIES):
        old = read_manifest(symbol_dir, month)
        changed = change(old)
        if not changed:
            return old
        days = {day: entry for day, entry in {**old.days, **changed}.items() if entry is not None}
        pruned = old.pruned - changed.keys() | (changed.keys() - days if prunes else frozenset())
        failpoint(Step.DAYS_PLACED)
        _touch_replaced(symbol_dir, old.days, days)
        try:
            return _commit(symbol_dir, old, days, pruned)
        except FileExistsError:
            continue
    raise StorageError(
        with_hint(
            f"`{symbol_dir.manifests(month)}` changes faster than it can be written",
            "stop the other writers: the folder is on a file system without locks",
        )
    )


def _touch_replaced(
    symbol_dir: SymbolDir, old: Mapping[date, DayEntry], new: Mapping[date, DayEntry]
) -> None:
    """Set the age of files to zero that the new version no longer names."""
    named = {entry.file for entry in new.values()}
    for day, entry in old.items():
        if entry.file and entry.file not in named:
            path = symbol_dir.day_file(day, entry.file)
            with disk_errors(path), suppress(FileNotFoundError):
                symbol_dir.disk.touch(path)
                failpoint(Step.REPLACED_TOUCHED)


def _commit(
    symbol_dir: SymbolDir, old: Manifest, days: Mapping[date, DayEntry], pruned: frozenset[date]
) -> Manifest:
    version = old.version + 1
    body: dict[str, Any] = {
        "format": FORMAT,
        "source": symbol_dir.source,
        "market": symbol_dir.market,
        "symbol": symbol_dir.symbol,
        "month": old.month,
        "version": version,
        "previous": old.sha256,
        "written_at": clock.utc_now().isoformat(timespec="seconds"),
        "days": {day.isoformat(): days[day].to_json() for day in sorted(days)},
    }
    if pruned:
        body["pruned"] = [day.isoformat() for day in sorted(pruned)]
    digest = _digest(body)
    data = json.dumps({**body, "sha256": digest}, indent=1).encode()
    name = f"{version:06}.json"
    place(symbol_dir, symbol_dir.manifests(old.month), memoryview(data), lambda _: name)
    failpoint(Step.MANIFEST_COMMITTED)
    return Manifest(old.month, version, days, digest, pruned)


def _digest(body: Mapping[str, Any]) -> str:
    return sha256_of(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


# A version never changes and is parsed often. Its bytes are still read each time.
@lru_cache(maxsize=64)
def _parse(path: Path, data: bytes, names: _Names) -> Manifest:
    try:
        body = json.loads(data)
        digest = body.pop("sha256")
        _check_body(body, digest, names)
        days = {
            date.fromisoformat(day): DayEntry.from_json(entry)
            for day, entry in body["days"].items()
        }
        source, *_, month, version = names
        for day, entry in days.items():
            check_entry(source, month, day, entry)
        pruned = frozenset(date.fromisoformat(day) for day in body.get("pruned", ()))
        check_pruned(month, days, pruned)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    return Manifest(month, version, MappingProxyType(days), digest, pruned)


def _check_body(body: dict[str, Any], digest: str, names: _Names) -> None:
    if digest != _digest(body):
        raise ValueError("its SHA-256 does not match")
    if body["format"] != FORMAT:
        raise ValueError(f"its format is `{body['format']}`, of a newer version of the package")
    if tuple(body[key] for key in ("source", "market", "symbol", "month", "version")) != names:
        raise ValueError("it belongs to another month, symbol or version")


def _unreadable(path: Path, reason: str) -> ManifestError:
    return ManifestError(
        with_hint(
            f"the manifest `{path}` cannot be read: {reason}",
            "`rangebar ticks verify` lists the faulty files; the previous version is in the same "
            "folder, and the ticks are unchanged",
        )
    )
