"""Day files: written once, read in one pass, and decoded only after their SHA-256 is checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._files.atomic import disk_errors, sha256_of
from rangebar_polars._internal import __version__
from rangebar_polars._utils import clock
from rangebar_polars.day_ticks import Origin
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.sources import stored_schema_of
from rangebar_polars.storage.days.contracts import in_coins, is_in_contracts
from rangebar_polars.storage.days.merge import id_gaps
from rangebar_polars.storage.files.codec import content_hash, decode, encode
from rangebar_polars.storage.files.content_file import move_aside, place, read_file
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.layout import day_file_name
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.user_ticks import TIME

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import IdSpan, State

__all__ = ["Content", "FileFaultError", "read_day", "read_verified", "store_day"]


class FileFaultError(Exception):
    """A file of the store is gone or has other bytes. This error does not leave the package."""

    def __init__(self, path: Path, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason
        self.is_gone = is_gone


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a day, and what its manifest entry records about them."""

    ticks: pl.DataFrame
    state: State
    origin: Origin = field(default_factory=lambda: Origin(kind="user"))
    source_absent: tuple[IdSpan, ...] = ()
    reason: str = ""

    def entry(self) -> DayEntry:
        """Return the manifest entry without the fields that depend on the file."""
        ticks = self.ticks
        common = DayEntry(
            state=self.state,
            origin=self.origin,
            source_absent=self.source_absent,
            reason=self.reason,
            fetched_at=clock.utc_now().isoformat(timespec="seconds"),
            writer=f"{__version__} polars {pl.__version__}",
        )
        if ticks.is_empty():
            return common
        times = ticks.get_column(TIME).to_physical()
        entry = replace(
            common,
            columns=tuple(ticks.columns),
            rows=ticks.height,
            min_ts_us=int(times[0]),
            max_ts_us=int(times[-1]),
        )
        if ID not in ticks.columns:  # texts, or no ids, cannot prove that none is missing
            return entry
        ids = ticks.get_column(ID)
        first_id, last_id = int(ids[0]), int(ids[-1])
        return replace(entry, first_id=first_id, last_id=last_id, id_gaps=id_gaps(ids))


def store_day(
    symbol_dir: SymbolDir, day: date, content: Content, old: DayEntry | None
) -> DayEntry | None:
    """Write the rows of a day to a file.

    Returns
    -------
    DayEntry or None
        The manifest entry of the day, None if `old` describes the same rows.
    """
    ticks, entry = content.ticks, content.entry()
    if ticks.is_empty():
        return _unless_same(entry, old)
    if old is not None and old.is_stored and (old.rows, old.columns) == (entry.rows, entry.columns):
        entry = replace(entry, content=content_hash(ticks))
        if entry.content == old.content:
            file = {"file": old.file, "bytes": old.bytes, "sha256": old.sha256}
            return _unless_same(replace(entry, **file), old)  # type: ignore[arg-type]
    data = encode(ticks)
    with ThreadPoolExecutor(1) as hasher:
        hashed = None if entry.content else hasher.submit(content_hash, ticks)
        placed = _place_day(symbol_dir, day, entry, data)
        return placed if hashed is None else replace(placed, content=hashed.result())


def _unless_same(new: DayEntry, old: DayEntry | None) -> DayEntry | None:
    """Return the new entry, or None if the old one is the same but for when it was written."""
    if old is None:
        return new
    return None if replace(new, fetched_at=old.fetched_at, writer=old.writer) == old else new


def _place_day(symbol_dir: SymbolDir, day: date, entry: DayEntry, data: memoryview) -> DayEntry:
    folder = symbol_dir.day_folder(day)
    try:
        sha256 = place(symbol_dir, folder, data, lambda sha256: day_file_name(day, sha256))
    except FileExistsError:
        sha256 = sha256_of(data)
        _replace_unless_whole(symbol_dir, folder / day_file_name(day, sha256), sha256, data)
    name = day_file_name(day, sha256)
    return replace(entry, file=name, bytes=len(data), sha256=sha256)


def _replace_unless_whole(symbol_dir: SymbolDir, path: Path, sha256: str, data: memoryview) -> None:
    """Check the file that already has the name. Move it aside if it does not hold the bytes."""
    with disk_errors(path):
        is_whole = sha256_of(read_file(symbol_dir, path)) == sha256
    if not is_whole:
        move_aside(symbol_dir, path)
        place(symbol_dir, path.parent, data, lambda _: path.name)


def read_verified(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> bytes:
    """Read the bytes of a day's file once, and check their SHA-256 against the manifest.

    Raises
    ------
    FileFaultError
        The file is gone or has other bytes.
    StorageError
        The operating system could not read the file. Its bytes may be right.
    """
    path = symbol_dir.day_file(day, entry.file)
    try:
        data = read_file(symbol_dir, path)
    except FileNotFoundError as error:
        raise FileFaultError(path, "the file is gone", is_gone=True) from error
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            with_hint(
                f"`{path}` could not be read: {error.strerror or error}",
                "the file was left unchanged; try again when the cause is fixed",
            )
        ) from error
    found = sha256_of(data)
    if found != entry.sha256:
        raise FileFaultError(path, f"its SHA-256 is `{found}`, not `{entry.sha256}` as written")
    return data


def read_day(symbol_dir: SymbolDir, day: date, entry: DayEntry) -> pl.DataFrame:
    """Read all rows of a day.

    Raises
    ------
    FileFaultError
        The file is gone or has other bytes.
    """
    known = stored_schema_of(symbol_dir.source)
    schema = {name: known[name] for name in entry.columns}
    data = read_verified(symbol_dir, day, entry)
    ticks = decode(data, schema, symbol_dir.day_file(day, entry.file))
    return in_coins(symbol_dir, ticks) if is_in_contracts(symbol_dir, entry.columns) else ticks
