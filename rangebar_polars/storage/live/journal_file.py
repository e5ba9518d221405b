"""Journals as files: their names, and what they contain."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars import _internal
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.files.content_file import read_file
from rangebar_polars.storage.layout import listed

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from rangebar_polars.storage.layout import SymbolDir

__all__ = [
    "HEADER_BYTES",
    "SCHEMA",
    "JournalContent",
    "JournalFile",
    "JournalSchemaError",
    "MissingSpan",
    "PinnedJournal",
    "day_number",
    "journal_name",
    "list_journals",
    "parse_journal",
    "parse_records",
    "pin_journals",
    "read_journal",
]

#: Length of the header of a journal.
HEADER_BYTES = 64
#: The newest layout of journals that this version reads.
SCHEMA = 1

_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.([0-9]{4,9})\.journal")
_EPOCH = date(1970, 1, 1)


class JournalSchemaError(StorageError):
    """Raised when a newer version of this package has written a journal."""


class MissingSpan(NamedTuple):
    """Consecutive ids, both ends included, that are confirmed missing."""

    first: int
    last: int
    #: `absent`, `sentinel` or `invalid`.
    reason: str


class JournalFile(NamedTuple):
    """A journal in a folder, in the order of days and numbers."""

    day: date
    number: int
    path: Path


class PinnedJournal(NamedTuple):
    """A journal, and how much of it was there at one moment."""

    file: JournalFile
    length: int


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What a journal contains, up to its first record that is incomplete or damaged."""

    day: date
    number: int
    #: The id that was applied before the first record; None without an intact header.
    follows_id: int | None
    #: Applied trades in the order of the records, with the columns of `TRADES_SCHEMA`.
    trades: pl.DataFrame
    #: Trades that arrived after their ids were confirmed missing.
    late: pl.DataFrame
    missing: tuple[MissingSpan, ...]
    #: Revisions as JSON.
    revisions: tuple[str, ...]
    #: Whether no trade of the day is expected any more.
    is_closed: bool
    #: Length of what was read.
    length: int
    #: Whether the file ends within a record.
    is_incomplete: bool = False
    #: What is wrong with the bytes after `length`; empty if nothing is.
    damage: str = ""

    @property
    def last_id(self) -> int | None:
        """The highest id that it has, as trade or as missing; None without one."""
        ids = [span.last for span in self.missing]
        if self.trades.height:
            ids.append(self.trades.get_column("agg_trade_id").max())  # type: ignore[arg-type]
        return max(ids, default=None)


def day_number(day: date) -> int:
    """Return the number of days since 1970-01-01.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.storage.live.journal_file import day_number
    >>> day_number(date(1970, 1, 2))
    1
    """
    return (day - _EPOCH).days


def journal_name(day: date, number: int) -> str:
    """Return the name of a journal.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.storage.live.journal_file import journal_name
    >>> journal_name(date(2026, 11, 2), 3)
    '2026-11-02.0003.journal'
    """
    return f"{day.isoformat()}.{number:04}.journal"


def list_journals(
    symbol_dir: SymbolDir, first_day: date | None = None, last_day: date | None = None
) -> list[JournalFile]:
    """List the journals of a symbol in the order of days and numbers, both days included."""
    found = []
    for path in listed(symbol_dir.live):
        match = _NAME.fullmatch(path.name)
        try:
            day = date.fromisoformat(match.group(1)) if match else None
        except ValueError:  # not a day of the calendar
            continue
        if match is None or day is None:
            continue
        if (first_day is None or day >= first_day) and (last_day is None or day <= last_day):
            found.append(JournalFile(day, int(match.group(2)), path))
    return sorted(found)


def pin_journals(
    symbol_dir: SymbolDir, first_day: date | None = None, last_day: date | None = None
) -> tuple[PinnedJournal, ...]:
    """List journals with their present lengths. Those without a whole header are left out."""
    pinned = []
    for file in list_journals(symbol_dir, first_day, last_day):
        try:
            length = file.path.stat().st_size
        except OSError:  # removed meanwhile
            continue
        if length >= HEADER_BYTES:
            pinned.append(PinnedJournal(file, length))
    return tuple(pinned)


def read_journal(
    symbol_dir: SymbolDir, file: JournalFile, length: int | None = None
) -> JournalContent | None:
    """Read a journal, or its first bytes. Return None for one that was removed, or has no header yet.

    Raises
    ------
    JournalSchemaError
        A newer version of this package has written it.
    StorageError
        It cannot be read.
    """
    try:
        data = read_file(symbol_dir, file.path)
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"the journal `{file.path}` cannot be read: {reason}") from error
    return parse_journal(file, data if length is None else data[:length])


def parse_journal(file: JournalFile, data: bytes) -> JournalContent | None:
    """Read the bytes of a journal. Return None if they are shorter than a header.

    Raises
    ------
    JournalSchemaError
        A newer version of this package has written them.
    """
    if len(data) < HEADER_BYTES:
        return None
    header = _internal.read_journal_header(data)
    if header is None:
        return _unreadable(file, "its header is damaged")
    schema, days, number, follows_id = header
    if schema > SCHEMA:
        raise JournalSchemaError(
            with_hint(
                f"the journal `{file.path}` has schema {schema}; this version reads {SCHEMA}",
                "use the version of rangebar-polars that has written it, or a newer one",
            )
        )
    if (days, number) != (day_number(file.day), file.number):
        return _unreadable(
            file, f"its header is that of {_EPOCH + days * ONE_DAY}, number {number}"
        )
    return replace(parse_records(file, data, 0, HEADER_BYTES), follows_id=follows_id)


def parse_records(file: JournalFile, data: bytes, offset: int, start: int = 0) -> JournalContent:
    """Read the records of a journal.

    Parameters
    ----------
    file
        The journal.
    data
        Its bytes from an offset on.
    offset
        That offset.
    start
        The position in `data` at which the first record begins.
    """
    found = _internal.read_journal(data, start)
    return JournalContent(
        day=file.day,
        number=file.number,
        follows_id=None,
        trades=found.trades,
        late=found.late,
        missing=tuple(MissingSpan(*span) for span in found.missing),
        revisions=tuple(found.revisions),
        is_closed=found.is_closed,
        length=offset + found.end,
        is_incomplete=found.is_incomplete,
        damage=found.damage or "",
    )


def _unreadable(file: JournalFile, damage: str) -> JournalContent:
    nothing = TRADES_SCHEMA.to_frame()
    return JournalContent(
        file.day,
        file.number,
        None,
        nothing,
        nothing,
        (),
        (),
        is_closed=False,
        length=0,
        damage=damage,
    )
