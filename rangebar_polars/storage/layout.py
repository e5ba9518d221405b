"""The folder layout of the store, and the folder of one symbol.

{root}/{source}/{market}/{symbol}/.lock, with names as `folder_name` writes them
/{year}/{day}.{first 16 digits of its SHA-256}.parquet
/{month}.manifest/{version}.json
/quarantine/…
/live/.writer, /live/state.json, /live/{day}.{number}.journal
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.disk import Disk
from rangebar_polars._utils.arguments.checks import ACCESS_HINT, is_folder
from rangebar_polars._utils.symbol_names import folder_name, name_of_folder
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.sources import (
    DEFAULT_MARKET,
    SOURCES,
    Venue,
    canonical_market,
    is_user_source,
    similar_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ACCESS_HINT",
    "LAYOUT",
    "SymbolDir",
    "day_file_name",
    "day_of_file",
    "fetch_hint",
    "is_folder",
    "listed",
    "month_of",
    "symbol_dirs",
    "write_hint",
]

#: The version of the layout, as the name of the folder below `ticks`.
LAYOUT = "v1"
DIGITS_IN_NAME = 16

_MONTH = re.compile(r"([0-9]{4}-(?:0[1-9]|1[0-2]))\.manifest")
_DAY_FILE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.([0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True)
class SymbolDir:
    """The folder of one symbol of a market."""

    root: Path
    source: str
    market: str
    symbol: str
    disk: Disk = field(default_factory=Disk, compare=False)

    @property
    def folder(self) -> Path:
        """The folder of the symbol."""
        return self.root.joinpath(*map(folder_name, (self.source, self.market, self.symbol)))

    @property
    def lock_file(self) -> Path:
        """The file that a writer holds locked."""
        return self.folder / ".lock"

    @property
    def quarantine(self) -> Path:
        """The folder of files that do not contain the bytes that were written."""
        return self.folder / "quarantine"

    @property
    def live(self) -> Path:
        """The folder of journals, and of the lock and the state of their writer."""
        return self.folder / "live"

    @property
    def label(self) -> str:
        """The symbol with its market, for messages."""
        return f"{self.symbol} ({self.source} {self.market})"

    def day_folder(self, day: date) -> Path:
        """Return the folder of the files of a day."""
        return self.folder / f"{day.year:04}"

    def day_file(self, day: date, name: str) -> Path:
        """Return the path of a file of a day."""
        return self.day_folder(day) / name

    def manifests(self, month: str) -> Path:
        """Return the folder of the versions of a month's manifest."""
        return self.folder / month[:4] / f"{month}.manifest"

    def years(self) -> list[Path]:
        """List the folders of years, in order."""
        return [path for path in _folders(self.folder) if re.fullmatch(r"[0-9]{4}", path.name)]

    def months(self) -> list[str]:
        """List the months that have a manifest, in order."""
        found = (_MONTH.fullmatch(path.name) for year in self.years() for path in _folders(year))
        return [match.group(1) for match in found if match]


def day_file_name(day: date, sha256: str) -> str:
    """Return the name of the file of a day whose bytes have this SHA-256."""
    return f"{day.isoformat()}.{sha256[:DIGITS_IN_NAME]}.parquet"


def day_of_file(name: str) -> date | None:
    """Return the day of a file name, or None if it does not name a day file."""
    match = _DAY_FILE.fullmatch(name)
    try:
        return date.fromisoformat(match.group(1)) if match else None
    except ValueError:  # not a day of the calendar
        return None


def month_of(day: date) -> str:
    """Return the month of a day, such as 2024-03."""
    return f"{day.year:04}-{day.month:02}"


def symbol_dirs(
    root: Path, source: str | None, market: str | None, symbol: str | None, disk: Disk
) -> Iterator[SymbolDir]:
    """Yield the symbols in the store. A source, market or symbol other than None filters them."""
    for found_source, found_market in _venues(root):
        if source not in (None, found_source) or market not in (None, found_market):
            continue
        for folder in _folders(root.joinpath(*map(folder_name, (found_source, found_market)))):
            name = name_of_folder(folder.name)
            if name is not None and symbol in (None, name):
                yield SymbolDir(root, found_source, found_market, name, disk)


def is_venue(source: str, market: str) -> bool:
    """Return whether two names are those of a venue, in the form that the store uses."""
    try:
        return canonical_market(source, market) == (source, market)
    except ValueError:
        return False


def _venues(root: Path) -> Iterator[Venue]:
    """Yield the venues of the table, and then the user sources in the store with their markets."""
    for name, row in SOURCES.items():
        yield from (Venue(name, market.name) for market in row.all_markets)
    for folder in _folders(root):
        source = name_of_folder(folder.name)
        if source is None or source in SOURCES:
            continue
        for below in _folders(folder):
            market = name_of_folder(below.name)
            if market is not None and is_venue(source, market):
                yield Venue(source, market)


def fetch_hint(symbol_dir: SymbolDir, first_day: date, last_day: date) -> str:
    """Return how missing days come into the store."""
    if is_user_source(symbol_dir.source):
        return write_hint(symbol_dir)
    return f"fetch them: rangebar fetch {symbol_dir.symbol} {first_day} {last_day}"


def write_hint(symbol_dir: SymbolDir) -> str:
    """Return how ticks of a user source come into the store.

    If it holds none of the source at all, the name may be a misspelling of a known one.
    """
    source, market = symbol_dir.source, symbol_dir.market
    near = similar_source(source)
    is_empty = near is not None and not _folders(symbol_dir.root / folder_name(source))
    question = f'did you mean source="{near}"? else ' if is_empty else ""
    place = f'source="{source}"' + (f', market="{market}"' if market != DEFAULT_MARKET else "")
    return (
        f'{question}write them: rb.TickStorage().write_ticks("{symbol_dir.symbol}", ticks, {place})'
    )


def listed(folder: Path) -> list[Path]:
    """List the paths in a folder, in order. A folder that does not exist is empty.

    Raises
    ------
    StorageError
        The folder cannot be listed.
    """
    return _listed(folder, lambda _: True)


def _folders(path: Path) -> list[Path]:
    return _listed(path, os.DirEntry.is_dir)


def _listed(folder: Path, is_listed: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if is_listed(entry))
    except FileNotFoundError:
        return []
    except OSError as error:
        sentence = f"the folder `{folder}` cannot be listed: {error.strerror or error}"
        raise StorageError(with_hint(sentence, ACCESS_HINT)) from error
