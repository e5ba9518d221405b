"""Rows that are offered, joined with those that are stored; and the order of one day after another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import TickOrderError, with_hint
from rangebar_polars.sources import LONGEST_STEP_BACK_US, is_strictly_increasing
from rangebar_polars.storage.user_ticks import (
    ID,
    TIME,
    conflict,
    raised_times,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from rangebar_polars.storage.manifest.entry import DayEntry, IdSpan

__all__ = ["Merged", "id_gaps", "judge_order_of_days", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of a day after a write."""

    ticks: pl.DataFrame
    #: The rows that were not stored.
    new: pl.DataFrame
    duplicates: int = 0
    #: Rows whose time was raised to that of a row that was stored or offered.
    raised: int = 0

    @property
    def added(self) -> int:
        """The number of new rows."""
        return self.new.height


def merge(stored: pl.DataFrame, offered: pl.DataFrame) -> Merged:
    """The stored rows and those of the offered ones that are new, by their ids.

    Raises
    ------
    TickDataError
        An id that is stored is offered with other values.
    TickOrderError
        In the order of the ids, time runs back by more than a second.
    """
    if stored.is_empty():
        return Merged(offered, offered)
    new = offered.join(stored, on=ID, how="anti")
    duplicates = offered.height - new.height
    if duplicates:
        _judge_duplicates(stored, offered)
    if new.is_empty():
        return Merged(stored, new, duplicates)
    rows = pl.concat([stored, new], how="diagonal")
    if not is_strictly_increasing(rows.get_column(ID)):
        rows = rows.sort(ID)
    times = raised_times(rows)
    return Merged(times.ticks, new, duplicates, len(times.raised))


def _judge_duplicates(stored: pl.DataFrame, offered: pl.DataFrame) -> None:
    """A stored row may differ from the same trade offered again in a time that was raised."""
    names = [name for name in offered.columns if name in stored.columns and name != ID]
    # A raised time is that of the row before.
    kept = stored.with_columns(is_raised=pl.col(TIME) == pl.col(TIME).shift(1))
    pairs = offered.join(kept, on=ID, how="inner", suffix="_kept")
    behind = (pl.col(f"{TIME}_kept") - pl.col(TIME)).dt.total_microseconds()
    same = (behind == 0) | (pl.col("is_raised") & behind.is_between(0, LONGEST_STEP_BACK_US))
    for name in names:
        if name != TIME:
            same &= pl.col(name).eq_missing(pl.col(f"{name}_kept"))
    other = pairs.filter(~same)
    if not other.is_empty():
        number = other.get_column(ID)[0]
        columns = [ID, *names]
        rows = [frame.select(columns).filter(pl.col(ID) == number) for frame in (stored, offered)]
        raise conflict(number, pl.concat(rows))


def id_gaps(ids: pl.Series) -> tuple[IdSpan, ...]:
    """The spans of ids, both ends included, that rising ids leave out.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.days.merge import id_gaps
    >>> id_gaps(pl.Series([3, 4, 7, 9]))
    ((5, 6), (8, 8))
    """
    steps = ids.diff()
    if ids.is_empty() or not (steps > 1).any():
        return ()
    after = ids.filter(steps > 1)
    lengths = steps.filter(steps > 1)
    firsts = (after - lengths + 1).to_list()
    return tuple(zip(firsts, (after - 1).to_list(), strict=True))


def judge_order_of_days(days: Mapping[date, DayEntry], label: str) -> None:
    """Refuse days whose ids do not rise from one to the next."""
    with_ids = [(day, days[day]) for day in sorted(days) if days[day].first_id is not None]
    for (day, entry), (later_day, later) in pairwise(with_ids):
        if entry.last_id >= later.first_id:  # type: ignore[operator]
            raise TickOrderError(
                with_hint(
                    f"ids of {label} run back between two days: `{entry.last_id}` ends {day}, and "
                    f"`{later.first_id}` begins {later_day}",
                    "an id that is higher belongs to a later tick: look at times and ids, and at "
                    "what is stored (`delete_ticks` takes a day out)",
                )
            )
