"""Repairs of the engine's folder before it is opened.

A full disk can leave unfinished tables, and a copy that follows symbolic links has folders where the
engine needs links. With either, the engine does not start and does not report why.

In the folder, `metadata/DATABASE.sql` and `store/*/UUID/TABLE.sql` define databases and tables. Their
files are in `store/*/UUID`. `metadata/DATABASE` and `data/DATABASE/TABLE` are links to it, which the
engine creates if they are missing.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import CacheUnavailableError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["USE_TICKS", "repair_folder"]

USE_TICKS = "`get_range_bars(..., use_cache=False)` computes bars from ticks instead"

#: The folders of the engine. The definitions are removed first.
_CONTENTS = ("metadata", "data", "store", "tmp")
#: The first file that is written into the folder of a table.
_TABLE_FILE = "format_version.txt"
#: A file in the folder of every part. Only a part holds rows.
_PART_FILE = "checksums.txt"
_UUID = re.compile(rb"\bUUID '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'")


def repair_folder(folder: Path) -> None:
    """Repair a folder that no process has open, so that the engine can start.

    Raises
    ------
    CacheUnavailableError
        Definitions of tables are damaged and rows exist, or a copy of the folder is incomplete.
    """
    damaged = next(_damaged_definitions(folder), None)
    if damaged is not None:
        _remove_unfinished(folder, damaged)
    copies = [pair for pair in _links(folder) if not pair[0].is_symlink()]
    for copy, original in copies:
        _check_copy(copy, original)
    for copy, original in copies:
        _remove_copy(copy, original)


def _definitions(folder: Path) -> Iterator[Path]:
    yield from sorted((folder / "metadata").glob("*.sql"))
    for path in (folder / "store").glob("*/*"):
        if not (path / _TABLE_FILE).exists():
            yield from sorted(path.glob("*.sql"))


def _damaged_definitions(folder: Path) -> Iterator[Path]:
    """Yield empty and truncated definitions: a complete one ends with a newline."""
    for path in _definitions(folder):
        if not path.read_bytes().endswith(b"\n"):
            yield path


def _remove_unfinished(folder: Path, damaged: Path) -> None:
    """Remove unfinished tables if no row was ever stored."""
    if any(_PART_FILE in names for _, _, names in os.walk(folder / "store")):
        sentence = f"the definition of a table in `{damaged}` is empty or truncated"
        hint = (
            "restore the file from a copy of the folder, or move the folder away and populate again: "
            f"`{folder}`; {USE_TICKS}"
        )
        raise CacheUnavailableError(with_hint(sentence, hint))
    for name in _CONTENTS:
        shutil.rmtree(folder / name, ignore_errors=False, onerror=_unless_gone)


def _unless_gone(_function: object, _path: object, found: tuple[object, object, object]) -> None:
    error = found[1]
    if isinstance(error, BaseException) and not isinstance(error, FileNotFoundError):
        raise error


def _links(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the path of each link of the engine and the folder it leads to."""
    for definition in sorted((folder / "metadata").glob("*.sql")):
        database = _folder_of(folder, definition)
        if database is None:
            continue
        link = definition.with_suffix("")
        yield link, database
        for table in sorted((database if database.is_dir() else link).glob("*.sql")):
            original = _folder_of(folder, table)
            if original is not None:
                yield folder / "data" / definition.stem / table.stem, original


def _folder_of(folder: Path, definition: Path) -> Path | None:
    """Return the folder with the files of a database or a table."""
    found = _UUID.search(definition.read_bytes())
    if found is None:
        return None
    uuid = found[1].decode()
    return folder / "store" / uuid[:3] / uuid


def _check_copy(copy: Path, original: Path) -> None:
    """Refuse a copy in place of a link if it has files that the link's target lacks."""
    lost = next(_files_only_in(copy, original), None) if original.exists() else None
    if lost is not None:
        sentence = (
            f"the cache was copied without its symbolic links, and incompletely: `{lost}` is not in "
            f"`{original}`"
        )
        hint = (
            "copy it again with its links (cp -a, rsync -a, tar) while no process has it open, or "
            "remove the copy and populate again"
        )
        raise CacheUnavailableError(with_hint(sentence, hint))


def _remove_copy(copy: Path, original: Path) -> None:
    if copy.is_file():
        # Some tools store a link as a file with its target as text.
        copy.unlink()
    elif copy.is_dir() and original.exists():
        shutil.rmtree(copy)
    elif copy.is_dir():
        original.parent.mkdir(parents=True, exist_ok=True)
        copy.rename(original)


def _files_only_in(copy: Path, original: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(copy):
        for name in names:
            path = Path(folder, name)
            twin = original / path.relative_to(copy)
            if not twin.is_file() or twin.stat().st_size != path.stat().st_size:
                yield path
