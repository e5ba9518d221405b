"""The report of a write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import describe_days
from rangebar_polars.interop.report_html import facts_html

if TYPE_CHECKING:
    from datetime import date

__all__ = ["WriteReport"]


@dataclass(frozen=True, slots=True)
class WriteReport:
    """The result of a write. All that it names is in the store and survives a loss of power."""

    symbol: str
    #: Days of the ticks, in order.
    days: tuple[date, ...] = ()
    #: Months of these days. Each was written as a whole.
    months: tuple[str, ...] = ()
    #: Rows that were not in the store before.
    rows_added: int = 0
    #: Rows that were in the frame twice, or in the store already.
    duplicates: int = 0
    #: Rows moved into the order of their ids.
    moved: int = 0
    #: Rows whose time was raised to that of the row before.
    raised: int = 0
    #: Days whose stored rows a source replaced with other rows.
    replaced: tuple[date, ...] = ()
    #: Days that the store held exactly so already.
    unchanged: tuple[date, ...] = ()

    def __str__(self) -> str:
        facts = [f"{self.rows_added:,} rows added"]
        facts += [f"{number:,} {what}" for what, number in self._counts() if number]
        days = f" ({describe_days(self.days)})" if self.days else ""
        return f"{self.symbol}, {_days(len(self.days))}{days}: {', '.join(facts)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def _counts(self) -> list[tuple[str, int]]:
        return [
            ("rows stored already", self.duplicates),
            ("rows moved into the order of their ids", self.moved),
            ("times raised", self.raised),
            ("days replaced", len(self.replaced)),
            ("days unchanged", len(self.unchanged)),
        ]

    def _repr_html_(self) -> str:
        """Return the report as a table, for notebooks."""
        facts = [("days", f"{len(self.days):,} ({describe_days(self.days)})" if self.days else 0)]
        counts = [("rows added", self.rows_added), *self._counts()]
        return facts_html(f"Ticks of {self.symbol}", [*facts, *counts])


def _days(count: int) -> str:
    return f"{count:,} day{'' if count == 1 else 's'}"
