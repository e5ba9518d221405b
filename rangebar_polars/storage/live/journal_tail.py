"""The end of the journals of a symbol, as a reader follows it while their writer appends."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.live.journal_file import (
    HEADER_BYTES,
    list_journals,
    parse_journal,
    parse_records,
)

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import JournalContent, JournalFile
    from rangebar_polars.storage.live.live_days import PinnedJournal

__all__ = ["JournalTail"]


@dataclass(slots=True)
class _Read:
    """How far a journal was read."""

    offset: int = 0
    is_damaged: bool = False


class JournalTail:
    """Reads what is appended to the journals of a symbol, each record once.

    Parameters
    ----------
    symbol_dir
        The folder of the symbol.
    first_day
        Journals of earlier days are left out.
    pinned
        Journals that were read already, up to their pinned lengths. A record that was not whole then
        is read later.
    """

    def __init__(
        self,
        symbol_dir: SymbolDir,
        first_day: date,
        pinned: tuple[PinnedJournal, ...] = (),
    ) -> None:
        self._symbol_dir = symbol_dir
        self._first_day = first_day
        self._read: dict[JournalFile, _Read] = {}
        for one in pinned:
            self._skip(one)

    def _skip(self, one: PinnedJournal) -> None:
        content = self._parsed(one.file, self._bytes(one.file, 0)[: one.length])
        if content is not None:
            self._read[one.file] = _Read(content.length, bool(content.damage))

    def poll(self) -> list[JournalContent]:
        """Return what was appended since the last call, a content a file, in the order of files.

        Files without anything new are left out.

        Raises
        ------
        JournalSchemaError
            A newer version of this package has written a journal.
        StorageError
            A file cannot be read.
        """
        found = []
        files = list_journals(self._symbol_dir, self._first_day)
        for file in files:
            content = self._poll_file(file)
            if content is not None:
                found.append(content)
        self._read = {file: read for file, read in self._read.items() if file in set(files)}
        return found

    def _poll_file(self, file: JournalFile) -> JournalContent | None:
        read = self._read.get(file, _Read())
        if read.is_damaged or self._size(file) <= read.offset:
            return None
        data = self._bytes(file, read.offset)
        if read.offset:
            content: JournalContent | None = parse_records(file, data, read.offset)
        else:
            content = self._parsed(file, data)
        if content is None:
            return None
        before = max(read.offset, HEADER_BYTES)
        self._read[file] = _Read(max(content.length, read.offset), bool(content.damage))
        return content if content.length > before or content.damage else None

    def _parsed(self, file: JournalFile, data: bytes) -> JournalContent | None:
        return parse_journal(file, data)

    def _size(self, file: JournalFile) -> int:
        try:
            return file.path.stat().st_size
        except OSError:  # removed meanwhile
            return 0

    def _bytes(self, file: JournalFile, offset: int) -> bytes:
        """Read a file from an offset on; nothing if it was removed."""
        try:
            with file.path.open("rb") as opened:
                opened.seek(offset, os.SEEK_SET)
                return opened.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"the journal `{file.path}` cannot be read: {reason}") from error
