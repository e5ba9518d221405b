"""The open journal of a symbol: what its writer appends, and when it is durable."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rangebar_polars import _internal
from rangebar_polars._files.failpoints import Step, failpoint, is_observed
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.storage.files.content_file import make_folders
from rangebar_polars.storage.live.journal_file import (
    HEADER_BYTES,
    day_number,
    journal_name,
    list_journals,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import polars as pl

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["Columns", "LiveJournal", "encode_columns", "encode_frame"]

_TRADES, _LATE, _REVISION, _DAY_CLOSED = 1, 3, 4, 5
#: Position of the column of ids.
_ID = 3


class Columns(Protocol):
    """Trades as one buffer per column of `TRADES_SCHEMA`: six of 8 bytes a trade, then one byte."""

    @property
    def columns(self) -> Sequence[Sequence[float]]:
        """The columns."""
        ...


def encode_columns(trades: Columns, *, is_late: bool = False) -> bytes:
    """Return a record of trades.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.trades import Trade, TradeColumns
    >>> from rangebar_polars.storage.live.journal import encode_columns
    >>> trades = TradeColumns([Trade(1_700_000_000_000_000, 0.5, 2.0, 7, 9, 9, True)])
    >>> len(encode_columns(trades))
    65
    """
    columns = trades.columns
    payload = b"".join(columns)  # type: ignore[arg-type] # buffers
    return _internal.encode_record(_LATE if is_late else _TRADES, len(columns[_ID]), payload)


def encode_frame(trades: pl.DataFrame) -> bytes:
    """Return a record of the trades of a frame with the columns of `TRADES_SCHEMA`, for builders.

    Raises
    ------
    TypeError
        A column is missing, has another type, or has nulls.
    """
    return _internal.encode_trades(trades)


@dataclass(slots=True)
class _Entry:
    """A record that is written but not synced."""

    record: bytes
    #: The id that was applied before it.
    follows_id: int


@dataclass(slots=True, eq=False)
class _OpenFile:
    """A journal that was opened by this process."""

    path: Path
    day: date
    descriptor: int
    length: int = HEADER_BYTES
    unsynced: list[_Entry] = field(default_factory=list)
    #: Whether its name may be lost with the power.
    is_new: bool = True
    #: Whether nothing more is appended.
    is_done: bool = False
    #: Number of threads that sync it.
    users: int = 0


class LiveJournal:
    """The journals of one symbol, as their writer sees them.

    Records are appended to the newest file, one `write` each. A file of an earlier process is never
    appended to. After a failed write the file is closed, and the next one is opened by the next call.
    If a file cannot be synced, its records since the last sync are written to the next one again.

    One thread appends; others may call `sync` meanwhile.

    Parameters
    ----------
    symbol_dir
        The folder of the symbol, whose writer lock this process holds.
    day
        The first day that is not closed.
    applied_id
        The id up to which every id is stored or confirmed missing.
    """

    def __init__(self, symbol_dir: SymbolDir, *, day: date, applied_id: int) -> None:
        self._symbol_dir = symbol_dir
        self._disk = symbol_dir.disk
        self._day = day
        self._applied_id = applied_id
        #: Missing ids above the applied one.
        self._ahead: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        #: Held during a sync, and taken before the other lock.
        self._sync_lock = threading.Lock()
        self._file: _OpenFile | None = None
        #: Files with records that are not synced, the newest last.
        self._unsynced: list[_OpenFile] = []
        #: Records of a file that could not be synced, with their day.
        self._again: list[tuple[date, _Entry]] = []
        self.written_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Records

    def append_trades(self, day: date, trades: Columns) -> bytes:
        """Write a record of trades of one day, in the order of their ids, and return it for builders.

        Raises
        ------
        OSError
            Nothing of it counts as written. The file is closed; the next call opens the next number.
        """
        record = encode_columns(trades)
        with self._lock:
            self._append(day, record)
            self._day = day
            self._applied(int(trades.columns[_ID][-1]))
        failpoint(Step.RECORD_WRITTEN)
        return record

    def append_missing(self, spans: Sequence[tuple[int, int, str]]) -> None:
        """Write a record of ids that are confirmed missing, and sync it with all records before it.

        Raises
        ------
        OSError
            As for `append_trades`.
        """
        record = _internal.encode_missing([(first, last, str(why)) for first, last, why in spans])
        with self._lock:
            self._append(self._day, record)
        failpoint(Step.MISSING_WRITTEN)
        try:
            self.sync()
        except OSError:
            with self._lock:
                self._again = [one for one in self._again if one[1].record is not record]
            raise
        self._ahead += [(first, last) for first, last, _ in spans]
        self._applied(self._applied_id)

    def append_late(self, trades: Columns) -> None:
        """Write a record of trades that arrived after their ids were confirmed missing.

        Raises
        ------
        OSError
            As for `append_trades`.
        """
        with self._lock:
            self._append(self._day, encode_columns(trades, is_late=True))
        failpoint(Step.RECORD_WRITTEN)

    def revision(self, text: str) -> None:
        """Write a record of a revision as JSON, and sync it with all records before it.

        Raises
        ------
        OSError
            As for `append_trades`.
        """
        data = text.encode()
        with self._lock:
            self._append(self._day, _internal.encode_record(_REVISION, len(data), data))
        self.sync()
        failpoint(Step.REVISION_WRITTEN)

    def close_day(self, day: date) -> None:
        """Mark a day as closed. Records without a day of their own belong to a later day from now on.

        Raises
        ------
        OSError
            As for `append_trades`.
        """
        with self._lock:
            self._append(day, _internal.encode_record(_DAY_CLOSED, 0, b""))
            self._day = max(self._day, day + ONE_DAY)
        failpoint(Step.DAY_CLOSED)

    @property
    def applied_id(self) -> int:
        """The id up to which every id is written or confirmed missing."""
        return self._applied_id

    def _applied(self, last_id: int) -> None:
        self._applied_id = max(self._applied_id, last_id)
        for first, last in sorted(self._ahead):
            if first <= self._applied_id + 1:
                self._applied_id = max(self._applied_id, last)
        self._ahead = [span for span in self._ahead if span[1] > self._applied_id]

    # Files

    def _append(self, day: date, record: bytes) -> None:
        self._write_again()
        self._write(self._opened(day, self._applied_id), _Entry(record, self._applied_id))

    def _write_again(self) -> None:
        """Write the records of files that could not be synced to the next file."""
        while self._again:
            day, entry = self._again[0]
            self._write(self._opened(day, entry.follows_id), entry)
            del self._again[0]

    def _write(self, file: _OpenFile, entry: _Entry) -> None:
        data = memoryview(entry.record)
        try:
            if is_observed():  # a test ends the process in the middle of the call
                self._disk.write(file.descriptor, data[: len(data) // 2])
                failpoint(Step.RECORD_HALF_WRITTEN)
                data = data[len(data) // 2 :]
            self._disk.write(file.descriptor, data)
        except BaseException:
            self._cut(file)
            raise
        file.length += len(entry.record)
        file.unsynced.append(entry)
        self.written_bytes += len(entry.record)
        if file not in self._unsynced:
            self._unsynced.append(file)

    def _opened(self, day: date, follows_id: int) -> _OpenFile:
        """Return the file of a day, after opening the next one if another day is open."""
        if self._file is not None and self._file.day == day:
            return self._file
        self._finish()
        folder = self._symbol_dir.live
        make_folders(self._symbol_dir, folder)
        numbers = [file.number for file in list_journals(self._symbol_dir, day, day)]
        number = max(numbers, default=0) + 1
        path = folder / journal_name(day, number)
        descriptor = self._disk.create(path)
        try:
            header = _internal.encode_journal_header(day_number(day), number, follows_id)
            self._disk.write(descriptor, memoryview(header))
        except BaseException:
            self._discard(path, descriptor)
            raise
        self._file = _OpenFile(path, day, descriptor)
        failpoint(Step.JOURNAL_CREATED)
        return self._file

    def _finish(self) -> None:
        """Stop appending to the open file; it is closed once its records are synced."""
        file, self._file = self._file, None
        if file is not None:
            file.is_done = True
            self._close_if_unused(file)

    def _cut(self, file: _OpenFile) -> None:
        """Close a file after a failed write, without what was written of the last record."""
        if file.length == HEADER_BYTES:
            # No file is left behind by each attempt on a full disk.
            self._file = None
            self._unsynced = [other for other in self._unsynced if other is not file]
            self._discard(file.path, file.descriptor)
            return
        with suppress(OSError):  # a reader stops there anyway
            self._disk.truncate(file.descriptor, file.length)
        self._finish()

    def _discard(self, path: Path, descriptor: int) -> None:
        with suppress(OSError):
            self._disk.close(descriptor)
        with suppress(OSError):
            self._disk.unlink(path)

    def _close_if_unused(self, file: _OpenFile) -> None:
        if file.is_done and not file.users and not file.unsynced and file.descriptor >= 0:
            descriptor, file.descriptor = file.descriptor, -1
            with suppress(OSError):  # its records are synced, or were written again
                self._disk.close(descriptor)

    # Durability

    def sync(self) -> None:
        """Wait until all records that are written are durable. Other threads may append meanwhile.

        Raises
        ------
        OSError
            A file cannot be synced. It is closed, and its records are written again by the next call.
        """
        with self._sync_lock:
            self._sync_all()

    def _sync_all(self) -> None:
        with self._lock:
            self._write_again()
            files = list(self._unsynced)
            counts = [len(file.unsynced) for file in files]
            for file in files:
                file.users += 1
        failed: OSError | None = None
        for file, count in zip(files, counts, strict=True):
            failed = self._sync_file(file, count) or failed
        if failed is not None:
            raise failed
        if files:
            failpoint(Step.RECORD_SYNCED)

    def _sync_file(self, file: _OpenFile, count: int) -> OSError | None:
        failed: OSError | None = None
        try:
            self._disk.sync_data(file.descriptor)
            if file.is_new:
                self._disk.sync_folder(file.path.parent)
        except OSError as error:
            failed = error
        with self._lock:
            file.users -= 1
            if failed is None:
                file.is_new = False
                del file.unsynced[:count]
            elif file in self._unsynced:
                # What the kernel has dropped is not written by another sync.
                self._again += [(file.day, entry) for entry in file.unsynced]
                file.unsynced.clear()
                file.is_done = True
                if self._file is file:
                    self._file = None
            if not file.unsynced and file in self._unsynced:
                self._unsynced.remove(file)
            self._close_if_unused(file)
        return failed

    def close(self) -> None:
        """Sync all records and close the files.

        Raises
        ------
        OSError
            A file cannot be synced.
        """
        try:
            self.sync()
        finally:
            with self._lock:
                self._finish()
                for file in self._unsynced:
                    file.unsynced.clear()
                    file.is_done = True
                    self._close_if_unused(file)
                self._unsynced.clear()

    @property
    def unsynced_records(self) -> int:
        """Number of records that a loss of power may take."""
        with self._lock:
            return len(self._again) + sum(len(file.unsynced) for file in self._unsynced)
