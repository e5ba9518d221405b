"""Journals that this process has read a moment ago, so that a read again decodes only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.live.journal_file import HEADER_BYTES, parse_records, read_journal

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import JournalContent, PinnedJournal

__all__ = ["read_pinned"]

#: Most trades that are remembered: those of a busy day, some 60 MB a million.
_MOST_ROWS = 2_000_000
#: Chunks of a frame above which it is copied into one.
_MOST_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a file, and what the file was like."""

    content: JournalContent
    #: Length that was read.
    length: int
    inode: int
    mtime_ns: int


_lock = threading.Lock()
_recent: OrderedDict[Path, _Known] = OrderedDict()


def read_pinned(symbol_dir: SymbolDir, pinned: PinnedJournal) -> JournalContent | None:
    """Read a journal up to its pinned length. Return None for one that was removed.

    Raises
    ------
    JournalSchemaError, StorageError
        As for `read_journal`.
    """
    path = pinned.file.path
    try:
        now = path.stat()
    except OSError:
        return read_journal(symbol_dir, pinned.file, pinned.length)
    with _lock:
        known = _recent.get(path)
    if known is not None:
        is_same_file = known.inode == now.st_ino and known.length <= now.st_size
        is_changed = known.length == now.st_size and known.mtime_ns != now.st_mtime_ns
        if not is_same_file or is_changed or known.length > pinned.length:
            known = None
    content = _extended(symbol_dir, pinned, known)
    if content is None or content.damage:
        return content
    if known is None or pinned.length > known.length:
        _remember(path, _Known(content, pinned.length, now.st_ino, now.st_mtime_ns))
    return content


def _extended(
    symbol_dir: SymbolDir, pinned: PinnedJournal, known: _Known | None
) -> JournalContent | None:
    if known is None or known.content.length < HEADER_BYTES:
        return read_journal(symbol_dir, pinned.file, pinned.length)
    if pinned.length == known.length:
        return known.content
    old = known.content
    try:
        with pinned.file.path.open("rb") as file:
            file.seek(old.length)
            data = file.read(pinned.length - old.length)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"the journal `{pinned.file.path}` cannot be read: {reason}") from error
    new = parse_records(pinned.file, data, old.length)
    return replace(
        new,
        follows_id=old.follows_id,
        trades=_joined(old.trades, new.trades),
        late=_joined(old.late, new.late),
        missing=old.missing + new.missing,
        revisions=old.revisions + new.revisions,
        is_closed=old.is_closed or new.is_closed,
    )


def _joined(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    if new.is_empty():
        return old
    joined = pl.concat([old, new])
    return joined.rechunk() if joined.n_chunks() > _MOST_CHUNKS else joined


def _remember(path: Path, known: _Known) -> None:
    with _lock:
        _recent[path] = known
        _recent.move_to_end(path)
        rows = sum(one.content.trades.height for one in _recent.values())
        while _recent and rows > _MOST_ROWS:
            _, gone = _recent.popitem(last=False)
            rows -= gone.content.trades.height
