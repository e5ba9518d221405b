"""What a fetch did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

__all__ = ["FetchReport"]


@dataclass(slots=True)
class FetchReport:
    """What `fetch_ticks` found and did, day by day.

    Every day of the span, up to now, is in exactly one of the first five lists.
    """

    symbol: str
    #: Days that were fetched whole.
    fetched: list[date] = field(default_factory=list)
    #: Days that the store held already.
    kept: list[date] = field(default_factory=list)
    #: Days to which more may come.
    tail: list[date] = field(default_factory=list)
    #: Days without a tick, as the source says for certain.
    absent: list[date] = field(default_factory=list)
    #: Days after the newest tick that is to be had.
    to_come: list[date] = field(default_factory=list)
    #: Of the days fetched, those whose ticks were others in the store.
    replaced: list[date] = field(default_factory=list)
    #: Ticks that were fetched.
    rows: int = 0
    #: Ids that an archive lacks and the exchange gave.
    filled_ids: int = 0
    #: Ids that the exchange does not have either.
    absent_ids: int = 0

    def __str__(self) -> str:
        """One line for a person."""
        parts = [
            f"{len(self.fetched):,} days fetched ({self.rows:,} ticks)",
            f"{len(self.kept):,} kept",
        ]
        if self.tail:
            parts.append(f"{len(self.tail):,} still growing")
        if self.absent:
            parts.append(f"{len(self.absent):,} without a tick at the source")
        if self.to_come:
            parts.append(f"{len(self.to_come):,} to come")
        if self.replaced:
            parts.append(f"{len(self.replaced):,} replaced")
        if self.filled_ids or self.absent_ids:
            parts.append(
                f"{self.filled_ids:,} ids filled in, {self.absent_ids:,} lacking at the source"
            )
        return f"{self.symbol}: {', '.join(parts)}"
