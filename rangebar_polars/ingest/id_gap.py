"""Days and ids that stop a segment: days without whole ticks, and gaps before a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.sources import has_monthly_ids, is_user_source
from rangebar_polars.storage.coverage import IdSpans

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["Hole", "first_hole", "first_line", "gap_before"]


@dataclass(frozen=True, slots=True)
class Hole:
    """A day that cannot be made into a unit, so that its segment stops there."""

    day: date
    reason: str
    #: Whether another attempt may succeed: a damaged file can be fetched again.
    may_pass: bool = False


def first_line(error: BaseException) -> str:
    """Return the message of an error without its hint."""
    return str(error).partition("\n")[0]


def first_hole(ticks: TickSnapshot, first_day: date) -> Hole | None:
    """Return the first day, from a day on, that cannot be made into a unit."""
    days = (day for day in ticks.days if day.day >= first_day)
    return next((_hole_of(day) for day in days if not day.is_final), None)


def gap_before(ticks: TickSnapshot, chain: Chain, day: date) -> Hole | None:
    """Return the gap between the units before a day and the ticks of the day.

    `ticks` holds the day before and the day. If the store still has the day before, it has checked
    the ids itself.
    """
    before, here = ticks[day - ONE_DAY], ticks[day]
    ends = [unit.tick_last_id for unit in chain.units if unit.day < day]
    if is_user_source(chain.series.spec.source) and ends and ends[-1] is None:
        return None  # ticks without numbers lie between
    ids = [number for number in ends if number is not None]
    entry = here.coverage.entry
    is_checked = before.coverage.is_stored or has_monthly_ids(chain.series.spec.source)
    if is_checked or not ids or entry is None or entry.first_id is None:
        return None
    span = (ids[-1] + 1, entry.first_id - 1)
    missing = IdSpans(entry.source_absent).missing_from(span) if span[0] <= span[1] else []
    reason = "; ".join(f"ids {first} to {last} are missing" for first, last in missing)
    return Hole(day, reason) if missing else None


_REASONS = {
    "missing": "it is not in the tick store",
    "tail": "its ticks are not complete yet",
    "quarantined": "its file was damaged and moved to quarantine",
}


def _hole_of(day: SnapshotDay) -> Hole:
    state, detail = day.coverage.state, day.coverage.reason
    reasons = [reason for reason in (_REASONS.get(state), detail) if reason]
    return Hole(day.day, "; ".join(reasons) or state)
