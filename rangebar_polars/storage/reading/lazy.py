"""Ticks of one or several symbols as a lazy frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars.sources import source_named
from rangebar_polars.storage.reading.keyed import KeyedRows, keyed_frame
from rangebar_polars.storage.reading.read import read_plan
from rangebar_polars.storage.user_ticks import TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars.storage.reading.plan import Plan
    from rangebar_polars.storage.reading.pruning import Bounds
    from rangebar_polars.storage.reading.read import Refetch

__all__ = ["PlannedTicks", "tick_frame"]

_MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class PlannedTicks:
    """The ticks of one symbol as the store holds them at one moment."""

    plan: Plan
    #: Fetches the ticks of a day whose file is corrupt.
    refetch: Refetch | None = None

    def rows(self, names: list[str], bounds: Bounds) -> Iterator[pl.DataFrame]:
        """Read those of these columns that the symbol has."""
        return read_plan(self.plan.within(bounds.low, bounds.high), names, self.refetch)


def tick_frame(planned: Sequence[PlannedTicks], *, with_symbol: bool = False) -> pl.LazyFrame:
    """Return the ticks of symbols of one market as a lazy frame, one symbol after another.

    With `with_symbol`, the first column is the symbol.
    """
    dtypes: dict[str, pl.DataType] = {"symbol": pl.String()} if with_symbol else {}
    return keyed_frame(
        [KeyedRows({"symbol": one.plan.symbol_dir.symbol}, one.rows) for one in planned],
        schema=_schema([one.plan for one in planned]),
        key_dtypes=dtypes,
        time=TIME,
        name="TICKS",
        detail=_described([one.plan for one in planned]),
    )


def _schema(plans: Sequence[Plan]) -> pl.Schema:
    """Return the columns that any of the symbols has; without files, those of the source."""
    if len(plans) == 1:
        return plans[0].schema
    kind = source_named(plans[0].symbol_dir.source).ticks
    found = {name for plan in plans if plan.days for name in plan.schema}
    return pl.Schema({n: dtype for n, dtype in kind.stored_schema.items() if n in found}) or (
        kind.schema
    )


def _described(plans: Sequence[Plan]) -> str:
    venue = plans[0].symbol_dir
    symbols = [plan.symbol_dir.symbol for plan in plans]
    more = len(symbols) - _MOST_LISTED
    names = ", ".join(symbols[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")
    files = count_text(sum(len(plan.days) for plan in plans), "file")
    return f"{names} ({venue.source} {venue.market}), {files}"
