"""The report of a fetch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

__all__ = ["FetchReport"]


@dataclass(slots=True)
class FetchReport:
    """The outcome of `fetch_ticks`, day by day.

    Every day of the span, up to now, is in exactly one of the first five lists.
    """

    symbol: str
    #: Days that were fetched whole.
    fetched: list[date] = field(default_factory=list)
    #: Days that the store already held.
    kept: list[date] = field(default_factory=list)
    #: Days that may still grow.
    tail: list[date] = field(default_factory=list)
    #: Days that have no tick, as the source confirms.
    absent: list[date] = field(default_factory=list)
    #: Days after the newest available tick.
    to_come: list[date] = field(default_factory=list)
    #: Fetched days that replaced other ticks in the store.
    replaced: list[date] = field(default_factory=list)
    #: Number of ticks fetched.
    rows: int = 0
    #: Number of ids that are missing from an archive and were fetched by id.
    filled_ids: int = 0
    #: Number of ids that the exchange does not have either.
    absent_ids: int = 0

    def __str__(self) -> str:
        parts = [
            f"{len(self.fetched):,} days fetched ({self.rows:,} ticks)",
            f"{len(self.kept):,} already stored",
        ]
        if self.tail:
            parts.append(f"{len(self.tail):,} still growing")
        if self.absent:
            parts.append(f"{len(self.absent):,} without ticks at the source")
        if self.to_come:
            parts.append(f"{len(self.to_come):,} not published yet")
        if self.replaced:
            parts.append(f"{len(self.replaced):,} replaced")
        if self.filled_ids or self.absent_ids:
            parts.append(
                f"{self.filled_ids:,} ids filled in, {self.absent_ids:,} not found at the source"
            )
        return f"{self.symbol}: {', '.join(parts)}"
