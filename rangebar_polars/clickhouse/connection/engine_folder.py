"""The folder of the embedded engine before it is opened: what would keep the engine out is mended.

A full disk can leave tables half made, and a copy that follows symbolic links has folders where the
engine needs links. The engine would say no more than that it cannot start.

In the folder, `metadata/DATABASE.sql` and `store/*/UUID/TABLE.sql` define databases and tables. Their
files are in `store/*/UUID`, to which `metadata/DATABASE` and `data/DATABASE/TABLE` are links that the
engine makes where there are none.
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

__all__ = ["USE_TICKS", "mend"]

USE_TICKS = "`get_range_bars(..., use_cache=False)` computes bars from ticks instead"

#: What the engine keeps in its folder; the definitions go first.
_CONTENTS = ("metadata", "data", "store", "tmp")
#: In the folder of a table, written before anything else.
_OF_A_TABLE = "format_version.txt"
#: In the folder of every part, which holds rows.
_OF_A_PART = "checksums.txt"
_UUID = re.compile(rb"\bUUID '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'")


def mend(folder: Path) -> None:
    """Make ready for the engine a folder that no process has open.

    Raises
    ------
    CacheUnavailableError
        Definitions of tables are damaged and there are rows, or a copy of the folder is not whole.
    """
    damaged = next(_damaged_definitions(folder), None)
    if damaged is not None:
        _begin_anew(folder, damaged)
    copies = [pair for pair in _links(folder) if not pair[0].is_symlink()]
    for place, original in copies:
        _judge_copy(place, original)
    for place, original in copies:
        _remove_copy(place, original)


def _definitions(folder: Path) -> Iterator[Path]:
    yield from sorted((folder / "metadata").glob("*.sql"))
    for place in (folder / "store").glob("*/*"):
        if not (place / _OF_A_TABLE).exists():
            yield from sorted(place.glob("*.sql"))


def _damaged_definitions(folder: Path) -> Iterator[Path]:
    """Definitions that are empty or cut off: they are written at once and end with a line."""
    for path in _definitions(folder):
        if not path.read_bytes().endswith(b"\n"):
            yield path


def _begin_anew(folder: Path, damaged: Path) -> None:
    """Remove tables that were never finished, if no row was ever stored."""
    if any(_OF_A_PART in names for _, _, names in os.walk(folder / "store")):
        sentence = f"the definition of a table in `{damaged}` is empty or cut off"
        hint = (
            "take the file from a copy of the folder, or move the folder away and populate again: "
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
    """Where the engine has links, and the folders that they lead to."""
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
    """Folder with the files of a database or a table."""
    found = _UUID.search(definition.read_bytes())
    if found is None:
        return None
    uuid = found[1].decode()
    return folder / "store" / uuid[:3] / uuid


def _judge_copy(place: Path, original: Path) -> None:
    """Refuse a copy in the place of a link if not all of it is where the link leads."""
    lost = next(_files_only_in(place, original), None) if original.exists() else None
    if lost is not None:
        sentence = (
            f"the cache was copied without its symbolic links, and not as a whole: `{lost}` is not "
            f"in `{original}`"
        )
        hint = (
            "copy it again while no process has it open, with its links: cp -a, rsync -a, tar; or "
            "remove the copy and populate again"
        )
        raise CacheUnavailableError(with_hint(sentence, hint))


def _remove_copy(place: Path, original: Path) -> None:
    if place.is_file():
        # The text of a link.
        place.unlink()
    elif place.is_dir() and original.exists():
        shutil.rmtree(place)
    elif place.is_dir():
        original.parent.mkdir(parents=True, exist_ok=True)
        place.rename(original)


def _files_only_in(place: Path, original: Path) -> Iterator[Path]:
    for at, _, names in os.walk(place):
        for name in names:
            path = Path(at, name)
            twin = original / path.relative_to(place)
            if not twin.is_file() or twin.stat().st_size != path.stat().st_size:
                yield path
