"""The report of a fetch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import describe_days
from rangebar_polars.interop.report_html import facts_html

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
            f"{count_text(len(self.fetched), 'day')} fetched ({count_text(self.rows, 'tick')})",
            f"{len(self.kept):,} already stored",
        ]
        parts += [f"{len(days):,} {what}" for what, days in self._further() if days]
        if self.filled_ids or self.absent_ids:
            parts.append(
                f"{self.filled_ids:,} ids filled in, {self.absent_ids:,} not found at the source"
            )
        return f"{self.symbol}: {', '.join(parts)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def _further(self) -> list[tuple[str, list[date]]]:
        return [
            ("still growing", self.tail),
            ("without ticks at the source", self.absent),
            ("not published yet", self.to_come),
            ("replaced", self.replaced),
        ]

    def _repr_html_(self) -> str:
        """Return the report as a table, for notebooks."""
        days = [("fetched", self.fetched), ("already stored", self.kept), *self._further()]
        facts: list[tuple[str, object]] = [
            (f"days {what}", f"{len(listed):,} ({describe_days(listed)})")
            for what, listed in days
            if listed
        ]
        facts += [("ticks fetched", self.rows)]
        facts += [("ids filled in", self.filled_ids)] if self.filled_ids else []
        facts += [("ids not found at the source", self.absent_ids)] if self.absent_ids else []
        return facts_html(f"Ticks of {self.symbol}", facts)
