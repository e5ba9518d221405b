"""The journals of a symbol as a reader follows them while their writer appends."""

from __future__ import annotations

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

__all__ = ["JournalTail"]


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a journal was read."""

    offset: int = 0
    is_damaged: bool = False


class JournalTail:
    """Reads the journals of a symbol, and then what is appended to them, each record once.

    Parameters
    ----------
    symbol_dir
        The folder of the symbol.
    first_day
        Journals of earlier days are left out.
    """

    def __init__(self, symbol_dir: SymbolDir, first_day: date) -> None:
        self._symbol_dir = symbol_dir
        self._first_day = first_day
        self._progress: dict[JournalFile, _Progress] = {}

    def poll(self) -> list[JournalContent]:
        """Return what was appended since the last call, one content a file, in the order of files.

        Files without new records are left out, and so is a record that is not whole yet. A damaged
        file is returned once, with what precedes the damage, and not read again.

        Raises
        ------
        JournalSchemaError
            A newer version of this package has written a journal.
        StorageError
            A file cannot be read.
        """
        files = list_journals(self._symbol_dir, self._first_day)
        self._progress = {file: self._progress.get(file, _Progress()) for file in files}
        contents = map(self._poll_file, files)
        return [content for content in contents if content is not None]

    def _poll_file(self, file: JournalFile) -> JournalContent | None:
        before = self._progress[file]
        if before.is_damaged:
            return None
        data = _appended(file, before.offset)
        if before.offset:
            content: JournalContent | None = parse_records(file, data, before.offset)
        else:
            content = parse_journal(file, data)
        if content is None:
            return None
        self._progress[file] = _Progress(content.length, bool(content.damage))
        is_new = content.length > max(before.offset, HEADER_BYTES)
        return content if is_new or content.damage else None


def _appended(file: JournalFile, offset: int) -> bytes:
    """Read a file from an offset on. One that was removed meanwhile has nothing."""
    try:
        if file.path.stat().st_size <= offset:
            return b""
        with file.path.open("rb") as opened:
            opened.seek(offset)
            return opened.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"the journal `{file.path}` cannot be read: {reason}") from error
