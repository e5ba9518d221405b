"""Days of which the store has journals, as writes see them. Without journals, nothing is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.layout import is_folder, month_of
from rangebar_polars.storage.manifest.versions import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["check_days_of_user", "check_span_of_user", "is_journaled", "remove_journals"]


def is_journaled(symbol_dir: SymbolDir, day: date) -> bool:
    """Return whether a day has a journal."""
    if not is_folder(symbol_dir.live):
        return False
    from rangebar_polars.storage.live.journal_file import list_journals

    return bool(list_journals(symbol_dir, day, day))


def check_days_of_user(symbol_dir: SymbolDir, days: Iterable[date], operation: str) -> None:
    """Refuse to change days that a writer streams at this moment.

    Raises
    ------
    StorageError
        Some of the days are streamed. It names the process of the writer.
    """
    if not is_folder(symbol_dir.live):
        return
    from rangebar_polars.storage.live.writer_state import check_not_streamed

    changed = list(days)
    entries: dict[date, DayEntry] = {}
    for month in sorted({month_of(day) for day in changed}):
        entries |= read_manifest(symbol_dir, month).days
    check_not_streamed(symbol_dir, changed, entries, operation)


def check_span_of_user(symbol_dir: SymbolDir, first: date, last: date, operation: str) -> None:
    """Do the same for all days of a span."""
    if not is_folder(symbol_dir.live):
        return
    from rangebar_polars.storage.live.writer_state import streamed_span

    span = streamed_span(symbol_dir)
    if span is None:
        return
    day, end = max(first, span[0]), min(last, span[1])
    count = (end - day).days + 1
    check_days_of_user(symbol_dir, (day + index * ONE_DAY for index in range(count)), operation)


def remove_journals(symbol_dir: SymbolDir, first: date, last: date) -> set[date]:
    """Remove the journals of a span, and return their days. The caller holds the store lock.

    Raises
    ------
    StorageError
        A writer has started meanwhile, or a file cannot be removed.
    """
    if not is_folder(symbol_dir.live):
        return set()
    from rangebar_polars.storage.live.journal_file import list_journals
    from rangebar_polars.storage.live.writer_lock import WriterLock

    files = list_journals(symbol_dir, first, last)
    if not files:
        return set()
    lock = WriterLock.try_take(symbol_dir)
    if lock is None:
        raise StorageError(
            f"journals of {symbol_dir.label} cannot be removed: a process streams the symbol now"
        )
    with lock, disk_errors(symbol_dir.live):
        for file in files:
            symbol_dir.disk.unlink(file.path)
        symbol_dir.disk.sync_folder(symbol_dir.live)
    return {file.day for file in files}
