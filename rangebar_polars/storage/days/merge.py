"""Merging new rows into stored ones, and the order of ids across days."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import TickOrderError, with_hint
from rangebar_polars.sources import LONGEST_STEP_BACK_US
from rangebar_polars.storage.days.merge_by_time import conflict, join_by_text, join_by_time
from rangebar_polars.storage.id_kinds import ID, IdKind, check_same_kind
from rangebar_polars.storage.user_ticks import TIME, raised_times

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from rangebar_polars.storage.manifest.entry import DayEntry, IdSpan

__all__ = ["Merged", "check_order_of_days", "id_gaps", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of a day after a merge."""

    ticks: pl.DataFrame
    #: The rows that were not stored.
    new: pl.DataFrame
    duplicates: int = 0
    #: Rows whose time was raised to that of an earlier row.
    raised: int = 0

    @property
    def added(self) -> int:
        """The number of new rows."""
        return self.new.height


def merge(stored: pl.DataFrame, offered: pl.DataFrame) -> Merged:
    """Add to the stored rows the offered rows whose ids are new.

    Texts as ids, and ticks without ids, are merged in the order of their times.

    Raises
    ------
    TickDataError
        An offered row has the id of a stored row and other values, or the ids are of another kind.
    TickOrderError
        In the order of the ids, time runs back by more than a second.
    """
    if stored.is_empty():
        return Merged(offered, offered)
    kind = check_same_kind(stored.columns, offered.columns)
    if kind is not IdKind.NUMBERS:
        join = join_by_text if kind is IdKind.TEXTS else join_by_time
        return Merged(*join(stored, offered))
    new = offered.join(stored, on=ID, how="anti")
    duplicates = offered.height - new.height
    if duplicates:
        _check_duplicates(stored, offered)
    if new.is_empty():
        return Merged(stored, new, duplicates)
    rows = pl.concat([stored, new], how="diagonal")
    if not is_strictly_increasing(rows.get_column(ID)):
        rows = rows.sort(ID)
    times = raised_times(rows)
    return Merged(times.ticks, new, duplicates, len(times.raised))


def _check_duplicates(stored: pl.DataFrame, offered: pl.DataFrame) -> None:
    """Raise if an offered row differs from the stored row with its id.

    The time of the stored row may have been raised, and then differs by at most a second.
    """
    names = [name for name in offered.columns if name in stored.columns and name != ID]
    # A raised time is that of the row before.
    marked = stored.with_columns(is_raised=pl.col(TIME) == pl.col(TIME).shift(1))
    pairs = offered.join(marked, on=ID, how="inner", suffix="_stored")
    behind = (pl.col(f"{TIME}_stored") - pl.col(TIME)).dt.total_microseconds()
    same = (behind == 0) | (pl.col("is_raised") & behind.is_between(0, LONGEST_STEP_BACK_US))
    for name in names:
        if name != TIME:
            same &= pl.col(name).eq_missing(pl.col(f"{name}_stored"))
    different = pairs.filter(~same)
    if not different.is_empty():
        number = different.get_column(ID)[0]
        columns = [ID, *names]
        rows = [frame.select(columns).filter(pl.col(ID) == number) for frame in (stored, offered)]
        raise conflict(ID, pl.concat(rows))


def id_gaps(ids: pl.Series) -> tuple[IdSpan, ...]:
    """Return the spans of ids, both ends included, that increasing ids leave out.

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


def check_order_of_days(days: Mapping[date, DayEntry], label: str) -> None:
    """Raise if the ids of a day do not all lie above those of the day before."""
    with_ids = [(day, days[day]) for day in sorted(days) if days[day].first_id is not None]
    for (day, entry), (later_day, later) in pairwise(with_ids):
        if entry.last_id >= later.first_id:  # type: ignore[operator]
            raise TickOrderError(
                with_hint(
                    f"ids of {label} run back between two days: `{entry.last_id}` ends {day}, and "
                    f"`{later.first_id}` begins {later_day}",
                    "a higher id belongs to a later tick; check the times and ids of both days "
                    "(`delete_ticks` removes a stored day)",
                )
            )
