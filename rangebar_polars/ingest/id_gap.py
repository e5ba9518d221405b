"""Gaps in the ids of ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.sources import has_monthly_ids
from rangebar_polars.storage.coverage import IdSpans

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["Hole", "first_hole", "first_line", "gap_before"]


@dataclass(frozen=True, slots=True)
class Hole:
    """A day at which a segment stops, as it cannot be made into a unit."""

    day: date
    reason: str
    #: Whether another try may get past it: a file that was damaged can be fetched again.
    may_pass: bool = False


def first_line(error: BaseException) -> str:
    """What an error says, without its hint."""
    return str(error).partition("\n")[0]


def first_hole(held: TickSnapshot, first_day: date) -> Hole | None:
    """The first day from a day on that cannot be made into a unit."""
    days = (day for day in held.days if day.day >= first_day)
    return next((_hole_of(day) for day in days if not day.is_final), None)


def gap_before(held: TickSnapshot, chain: Chain, day: date) -> Hole | None:
    """Return the ids that are missing between the units before a day and the day.

    `held` is the day before and the day. Where the store still has the day before, it has judged
    the ids itself.
    """
    before, here = held[day - ONE_DAY], held[day]
    ids = [u.tick_last_id for u in chain.units if u.day < day and u.tick_last_id is not None]
    entry = here.coverage.entry
    is_judged = before.coverage.is_kept or has_monthly_ids(chain.series.spec.source)
    if is_judged or not ids or entry is None or entry.first_id is None:
        return None
    span = (ids[-1] + 1, entry.first_id - 1)
    left = IdSpans(entry.source_absent).missing_from(span) if span[0] <= span[1] else []
    words = "; ".join(f"ids {first} to {last} are missing" for first, last in left)
    return Hole(day, words) if left else None


def _hole_of(day: SnapshotDay) -> Hole:
    """Why a day cannot be made into a unit."""
    state, reason = day.coverage.state, day.coverage.reason
    words = {
        "missing": "the tick store does not hold it",
        "tail": "more of it is to come",
        "quarantined": "its file was damaged and set aside",
    }
    said = [words[state]] if state in words else []
    return Hole(day.day, "; ".join([*said, *([reason] if reason else [])]) or state)
