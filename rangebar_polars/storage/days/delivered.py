"""Check days that a source delivers, before they are stored."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.sources import LONGEST_STEP_BACK_US, delivered_schema
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.user_ticks import TIME, check_tick_values

if TYPE_CHECKING:
    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["check_delivered_day"]


def check_delivered_day(item: DayTicks, symbol_dir: SymbolDir) -> None:
    """Check a day from a source: its columns, values, times and order."""
    source, market = symbol_dir.source, symbol_dir.market
    if item.ticks.schema != delivered_schema(source, market):
        raise TypeError(
            f"ticks of {item.day} have other columns than those of `{source}` `{market}`"
        )
    if item.ticks.is_empty():
        if not (item.reason or item.is_tail):
            raise TickDataError(f"{item.day} has no ticks and no reason for it")
        return
    check_tick_values(item.ticks)
    times = item.ticks.get_column(TIME)
    slack = timedelta(microseconds=LONGEST_STEP_BACK_US)
    begin = day_start(item.day)
    inside = begin - slack <= times[0] and times[-1] < begin + ONE_DAY + slack
    if not (inside and times.is_sorted() and is_strictly_increasing(item.ticks.get_column(ID))):
        raise TickDataError(
            with_hint(
                f"ticks of {item.day} are out of order, or of another day: they begin at "
                f"`{times[0]}` and end at `{times[-1]}`",
                "a source must return a day in the order of its ids, with times that do not run back",
            )
        )
