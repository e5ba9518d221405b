"""The stored trades of a symbol, as far as no id is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.storage.live.live_days import live_view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["ID", "TIME", "Reached", "contiguous"]

ID, TIME = "agg_trade_id", "timestamp"
#: Trades that are yielded at once.
ROWS = 100_000


@dataclass(slots=True)
class Reached:
    """How far stored trades have been read."""

    applied_id: int | None = None
    highest_us: int = 0
    last_day: date | None = None
    is_closed: bool = False
    missing: list[MissingIds] = field(default_factory=list)
    #: Revisions as JSON.
    revisions: list[str] = field(default_factory=list)


def contiguous(
    folder: SymbolDir, first_day: date, last_day: date, reached: Reached
) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield stored trades day by day, in parts, as far as no id is missing."""
    view = live_view(folder, first_day, last_day)
    for found in view.days():
        reached.revisions += found.revisions
        if reached.applied_id is None:
            ids = [*(first for first, _ in found.absent), *found.trades.get_column(ID).head(1)]
            if not ids:
                continue
            reached.applied_id = min(ids) - 1
        after_id = reached.applied_id
        end_id = found.chain_end(after_id)
        trades = found.trades.filter(pl.col(ID).is_between(after_id + 1, end_id))
        reached.missing += [
            MissingIds(one.first, one.last, MissingReason(one.reason))
            for one in found.missing
            if one.last <= end_id
        ]
        for part in trades.iter_slices(ROWS):
            yield found.day, part
        reached.applied_id, reached.last_day = end_id, found.day
        reached.is_closed = found.is_closed
        if trades.height:
            reached.highest_us = int(trades.get_column(TIME).dt.epoch("us")[-1])
        if found.trades.height and end_id < found.trades.get_column(ID)[-1]:
            return
