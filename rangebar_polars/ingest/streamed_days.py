"""Days that another process streams: only their archive is requested meanwhile."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from rangebar_polars.fetch.source import ARCHIVE_PATIENCE
from rangebar_polars.storage.live.state_file import read_state
from rangebar_polars.storage.live.writer_lock import has_writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["streamed_days"]


def streamed_days(symbol_dir: SymbolDir, days: Iterable[date], today: date) -> set[date]:
    """Return which of the days a writer streams now, or has streamed since it started.

    Days that are older than archives take to appear are not among them.

    Examples
    --------
    >>> from datetime import date
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.ingest.streamed_days import streamed_days
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = TickStorage(mkdtemp()).symbol_dir("BTCUSDT", "binance", "spot")
    >>> streamed_days(folder, [date(2026, 11, 2)], date(2026, 11, 2))
    set()
    """
    recent = {day for day in days if today - day <= ARCHIVE_PATIENCE}
    if not recent or not has_writer(symbol_dir):
        return set()
    state = read_state(symbol_dir)
    try:
        live_from = date.fromisoformat(str((state or {}).get("live_from")))
    except ValueError:
        return set()
    return {day for day in recent if day >= live_from}
