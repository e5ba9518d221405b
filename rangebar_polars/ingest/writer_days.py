"""Days that are left to the process that streams them: nothing is requested but their archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.fetch.source import ARCHIVE_PATIENCE
from rangebar_polars.storage.layout import is_folder, month_of
from rangebar_polars.storage.manifest.versions import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from rangebar_polars.fetch.source import DaySource
    from rangebar_polars.storage.coverage import Gap
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["WriterDays"]


@dataclass(frozen=True, slots=True)
class WriterDays:
    """The days of a symbol that a process streams into the store at the moment.

    Days that are older than archives take to appear are not among them.
    """

    symbol_dir: SymbolDir
    #: Whether not even their archive is requested.
    is_read: bool = False
    #: Whether all days are left to it.
    archives_only: bool = False
    days: set[date] = field(default_factory=set)

    def note(self, days: Iterable[date]) -> None:
        """Note which of some days, which are not settled, a process streams.

        Raises
        ------
        StorageError
            The lock of the writer cannot be tried.
        """
        if self.archives_only:
            self.days.update(days)
            return
        if not is_folder(self.symbol_dir.live):
            return
        from rangebar_polars.storage.live.writer_state import streamed_days

        today = clock.utc_now().date()
        recent = [day for day in days if today - day <= ARCHIVE_PATIENCE]
        self.days.update(streamed_days(self.symbol_dir, recent))

    def leaves(self, day: date) -> bool:
        """Return whether a day, of the noted days or beside them, is left to the writer."""
        if day in self.days:
            return True
        if not is_folder(self.symbol_dir.live):
            return False
        from rangebar_polars.storage.live.writer_state import streamed_days

        entries = read_manifest(self.symbol_dir, month_of(day)).days
        is_recent = clock.utc_now().date() - day <= ARCHIVE_PATIENCE
        return is_recent and bool(streamed_days(self.symbol_dir, [day], entries))

    def unpublished(self, source: DaySource) -> list[date]:
        """Return the days without an archive. The others are not left to their writer any more."""
        if source.by_id is None:
            return []
        today = clock.utc_now().date()
        for day in sorted(self.days):
            if day < today and source.by_id.is_published(day):
                self.days.discard(day)
        return sorted(self.days)

    def without(self, gaps: Sequence[Gap]) -> list[Gap]:
        """Return the gaps whose ids may be requested: a writer has lost those of a damaged journal."""
        return [gap for gap in gaps if gap.day not in self.days or self._is_damaged(gap.day)]

    def _is_damaged(self, day: date) -> bool:
        if self.is_read:
            return False
        from rangebar_polars.storage.live.live_entries import has_damage

        return has_damage(self.symbol_dir, day)
