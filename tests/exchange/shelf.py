"""The shelf of published files: what stands on it now, and what was put there instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exchange.archive import (
    checksum_text,
    exness_path,
    quote_archive,
    trade_archives,
    zip_of,
)
from exchange.clock import Clock
from exchange.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from exchange.archive import (
        Published,
    )
    from exchange.quotes import QuoteTape
    from rangebar_polars._utils.span import When

__all__ = ["CHECKSUM", "Shelf", "Stored", "write_archive"]

CHECKSUM = ".CHECKSUM"


class Stored(NamedTuple):
    """A file as it stands on the shelf."""

    content: bytes
    modified: datetime


class Shelf:
    """Files of some tapes by path, with changes made to them."""

    def __init__(
        self, tapes: Iterable[Tape | QuoteTape], *, header: bool = False, between: str = " "
    ) -> None:
        tapes = list(tapes)
        self._between = between
        self._files = {
            file.path: file
            for tape in tapes
            if isinstance(tape, Tape)
            for file in trade_archives(tape, header=header)
        }
        self._months = {
            exness_path(tape.symbol, month.year, month.month): (tape, month)
            for tape in tapes
            if not isinstance(tape, Tape)
            for month in tape.months
        }
        self._running: dict[tuple[str, datetime], Published] = {}
        self._changed: dict[str, Stored | None] = {}

    def paths(self, now: datetime) -> list[str]:
        """Paths of all that is published, checksums too."""
        zips = [*self._files, *self._months]
        known = [*zips, *(path + CHECKSUM for path in self._files), *self._changed]
        return [path for path in dict.fromkeys(known) if self.find(path, now) is not None]

    def find(self, path: str, now: datetime) -> Stored | None:
        """The file of a path, if it is published."""
        if path in self._changed:
            return self._changed[path]
        if path.endswith(CHECKSUM):
            of = path.removesuffix(CHECKSUM)
            # Exness publishes none.
            file = None if of in self._months else self.find(of, now)
            name = of.rpartition("/")[2]
            return file and Stored(checksum_text(name, file.content), file.modified)
        made = self.published(path, now)
        if made is None or made.since > now:
            return None
        return Stored(made.content, made.since)

    def published(self, path: str, now: datetime) -> Published | None:
        """The file that the tapes give."""
        if path not in self._months:
            return self._files.get(path)
        tape, month = self._months[path]
        file = quote_archive(tape, month, now, between=self._between)
        # One object a content, so that it is compressed once.
        return file and self._running.setdefault((path, file.since), file)

    def put(self, path: str, content: bytes | None, modified: datetime) -> None:
        """Set the bytes of a file, from now on; None takes it away."""
        self._changed[path] = None if content is None else Stored(content, modified)

    def rewrite(self, path: str, change: Callable[[bytes], bytes], now: datetime) -> None:
        """Change the CSV in an archive; its checksum follows."""
        file = self.published(path, now)
        if file is None:
            raise KeyError(path)
        self.put(path, zip_of({file.member: change(file.text)}), now)

    def write(self, folder: Path, now: datetime) -> Path:
        """Write all that is published below a folder."""
        for path in self.paths(now):
            stored = self.find(path, now)
            if stored is not None:
                place = folder / path.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(stored.content)
        return folder


def write_archive(
    folder: Path,
    *tapes: Tape | QuoteTape,
    now: When = "2100-01-01",
    header: bool = False,
    between: str = " ",
) -> Path:
    """Write all that is published by `now` below a folder, for `file://` addresses.

    `header` is for the markets of futures; `between` stands between date and time of quotes.
    """
    return Shelf(tapes, header=header, between=between).write(folder, Clock(now).now)
