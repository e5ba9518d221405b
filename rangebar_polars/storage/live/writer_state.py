"""What other processes know of the writer of a symbol, and the days that are left to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import describe_days
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.storage.layout import is_folder
from rangebar_polars.storage.live.journal_file import list_journals
from rangebar_polars.storage.live.state_file import day_of, read_state, state_age_s
from rangebar_polars.storage.live.union import is_settled
from rangebar_polars.storage.live.writer_lock import has_writer, writer_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = [
    "WRITER_GONE",
    "WriterState",
    "check_not_streamed",
    "streamed_days",
    "streamed_span",
    "writer_state",
]

WRITER_GONE, NOT_RESPONDING, UNKNOWN = "writer gone", "not responding", "unknown"
LIVE = "live"
#: A writer replaces its state file every 5 s.
LONGEST_AGE_S = 15.0


@dataclass(frozen=True, slots=True)
class WriterState:
    """The state of a symbol that is, or was, streamed."""

    #: A state of `/health`, or "writer gone", "not responding" or "unknown".
    state: str
    reason: str = ""
    #: Process of the writer; None without one.
    process: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a writer, which the newest days are left to."""
        return self.state != WRITER_GONE

    @property
    def is_live(self) -> bool:
        """Whether the writer has applied all that the exchange has sent."""
        return self.state == LIVE

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


def writer_state(symbol_dir: SymbolDir) -> WriterState:
    """Return the state of the writer of a symbol.

    Raises
    ------
    StorageError
        The lock cannot be tried.
    """
    is_held, known = has_writer(symbol_dir), read_state(symbol_dir)
    if not is_held:
        return WriterState(WRITER_GONE)
    process = writer_process(symbol_dir)
    if known is None:
        return WriterState(UNKNOWN, "no state file", process)
    age_s = state_age_s(symbol_dir)
    if age_s is not None and age_s > LONGEST_AGE_S:
        return WriterState(NOT_RESPONDING, f"its state file is {age_s:.0f} s old", process)
    state, reason = (known.get(name) for name in ("state", "reason"))
    return WriterState(str(state or UNKNOWN), str(reason or ""), process)


def streamed_days(
    symbol_dir: SymbolDir, days: Iterable[date], entries: Mapping[date, DayEntry] | None = None
) -> set[date]:
    """Return which of some days a writer streams at this moment: those are left to it.

    They are the days from the first one that it journals to today, without those that are settled
    by their entries.

    Examples
    --------
    >>> from datetime import date
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.live.writer_state import streamed_days
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = TickStorage(mkdtemp()).symbol_dir("BTCUSDT", "binance", "spot")
    >>> streamed_days(folder, [date(2026, 11, 2)])
    set()

    Raises
    ------
    StorageError
        The lock cannot be tried.
    """
    span = streamed_span(symbol_dir)
    if span is None:
        return set()
    settled = entries or {}
    return {day for day in days if span[0] <= day <= span[1] and not is_settled(settled.get(day))}


def streamed_span(symbol_dir: SymbolDir) -> tuple[date, date] | None:
    """Return the first day that a writer journals, and today; None without a writer.

    Raises
    ------
    StorageError
        The lock cannot be tried.
    """
    if not is_folder(symbol_dir.live) or not has_writer(symbol_dir):
        return None
    known = read_state(symbol_dir) or {}
    applied_day, today = day_of(known.get("applied_at")), clock.utc_now().date()
    last = today if applied_day is None else max(today, applied_day)
    first = day_of(known.get("live_from"))
    if first is None:  # a writer that has just started
        first = min([one.day for one in list_journals(symbol_dir)] + [last])
    return first, last


def check_not_streamed(
    symbol_dir: SymbolDir, days: Iterable[date], entries: Mapping[date, DayEntry], operation: str
) -> None:
    """Refuse to change days that a writer streams at this moment.

    Raises
    ------
    StorageError
        Some of the days are streamed. It names the process of the writer.
    """
    streamed = streamed_days(symbol_dir, days, entries)
    if not streamed:
        return
    process = writer_process(symbol_dir)
    holder, stop = "another process", "stop it"
    if process == os.getpid():
        holder, stop = f"this process ({process})", "close what streams it in this process"
    elif process is not None:
        holder, stop = f"process {process}", f"stop it (kill {process})"
    raise StorageError(
        with_hint(
            f"`{operation}` cannot change {describe_days(streamed)} of {symbol_dir.label}: "
            f"{holder} streams the symbol into the store",
            f"{stop}, or choose other days",
        )
    )
