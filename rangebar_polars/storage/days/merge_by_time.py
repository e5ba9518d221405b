"""Order and merging of ticks that have no numbers as ids, so that their times order them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.sources import TEXT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Joined", "Ordered", "conflict", "in_order_of_times", "join_by_text", "join_by_time"]

TIME = "timestamp"


class Ordered(NamedTuple):
    """Ticks in the order of their times, and counts of what was corrected."""

    ticks: pl.DataFrame
    duplicates: int
    moved: int


class Joined(NamedTuple):
    """Stored and new ticks together, the new ones, and the number of those stored before."""

    ticks: pl.DataFrame
    new: pl.DataFrame
    duplicates: int


def conflict(id_column: str, rows: pl.DataFrame) -> TickDataError:
    """Return the error for two rows that differ and have the same id."""
    first, second = rows.head(2).rows(named=True)
    parts = [
        f"{name} `{first[name]}` and `{second[name]}`"
        for name in first
        if first[name] != second[name]
    ]
    return TickDataError(
        with_hint(
            f"two different ticks have the {id_column} `{first[id_column]}`: {', '.join(parts)}",
            "an exchange uses an id only once; find out which tick is right",
        )
    )


def in_order_of_times(ticks: pl.DataFrame) -> Ordered:
    """Sort ticks by time, and drop rows with the text id of an equal row.

    Ticks of the same time stay in the order of the frame. A frame whose newest tick comes first is
    reversed as a whole, which keeps that order, too.

    Raises
    ------
    TickDataError
        Two different rows have the same id.
    """
    single = ticks
    if TEXT_ID in ticks.columns and ticks.get_column(TEXT_ID).is_duplicated().any():
        single = ticks.unique(maintain_order=True, keep="first")
        doubled = single.filter(pl.col(TEXT_ID).is_duplicated())
        if not doubled.is_empty():
            rows = doubled.filter(pl.col(TEXT_ID) == doubled.get_column(TEXT_ID)[0])
            raise conflict(TEXT_ID, rows)
    times = single.get_column(TIME)
    duplicates = ticks.height - single.height
    if times.is_sorted():
        return Ordered(single, duplicates, 0)
    if times.is_sorted(descending=True):
        return Ordered(single.reverse(), duplicates, single.height)
    moved = int((times < times.cum_max()).sum())
    return Ordered(single.sort(TIME, maintain_order=True), duplicates, moved)


def join_by_text(stored: pl.DataFrame, offered: pl.DataFrame) -> Joined:
    """Add the offered rows whose text ids are new.

    Raises
    ------
    TickDataError
        An offered row has the id of a stored row and other values.
    """
    new = offered.join(stored, on=TEXT_ID, how="anti", maintain_order="left")
    names = [name for name in offered.columns if name in stored.columns]
    if new.height < offered.height:
        both = pl.concat([stored.select(names), offered.select(names)]).unique(maintain_order=True)
        doubled = both.filter(pl.col(TEXT_ID).is_duplicated())
        if not doubled.is_empty():
            rows = doubled.filter(pl.col(TEXT_ID) == doubled.get_column(TEXT_ID)[0])
            raise conflict(TEXT_ID, rows)
    return Joined(_together(stored, new), new, offered.height - new.height)


def join_by_time(stored: pl.DataFrame, offered: pl.DataFrame) -> Joined:
    """Add the offered rows of times between which nothing is stored.

    Where the spans of both overlap, they must have the same rows: without ids, nothing else tells
    a new tick from one that is stored already.

    Raises
    ------
    TickDataError
        The rows differ where the spans overlap.
    """
    low = max(stored.get_column(TIME)[0], offered.get_column(TIME)[0])
    high = min(stored.get_column(TIME)[-1], offered.get_column(TIME)[-1])
    inside = pl.col(TIME).is_between(low, high)
    before = stored.filter(inside)
    if before.is_empty():
        return Joined(_together(stored, offered), offered, 0)
    names = [name for name in offered.columns if name in stored.columns]
    now = offered.filter(inside)
    if not before.select(names).equals(now.select(names)):
        raise _ambiguous(before, now)
    new = offered.filter(~inside)
    return Joined(_together(stored, new), new, now.height)


def _together(stored: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    if new.is_empty():
        return stored
    rows = pl.concat([stored, new], how="diagonal")
    return rows.sort(TIME, maintain_order=True)


def _ambiguous(before: pl.DataFrame, now: pl.DataFrame) -> TickDataError:
    times: Sequence[object] = pl.concat([before[TIME], now[TIME]]).sort().to_list()
    return TickDataError(
        with_hint(
            f"the store has {before.height:,} ticks from `{times[0]}` to `{times[-1]}`, and the new "
            f"ticks are {now.height:,} others: without ids, it is unknown which of them are new",
            "write whole days, or ticks that begin after the stored ones; to replace a day, delete "
            "it first (`delete_ticks`)",
        )
    )
