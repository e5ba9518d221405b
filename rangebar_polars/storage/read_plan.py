"""Which files make up a span: taken from manifests once, and judged before anything is read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, microseconds
from rangebar_polars.events import CoverageGap, emit
from rangebar_polars.exceptions import CoverageError, TicksNotCachedError, with_hint
from rangebar_polars.sources import has_monthly_ids, schema_of
from rangebar_polars.storage.coverage import CoverageWarning, chain
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.manifest import read_manifest
from rangebar_polars.storage.quarantine import heal
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from rangebar_polars._utils.span import Span
    from rangebar_polars.storage.coverage import DayCoverage
    from rangebar_polars.storage.entry import DayEntry
    from rangebar_polars.storage.layout import SymbolDir

__all__ = [
    "OnGap",
    "Plan",
    "PlannedDay",
    "covered_days",
    "current_entries",
    "entries_around",
    "judge",
    "make_plan",
    "planned_days",
]

OnGap: TypeAlias = Literal["raise", "report"]

_LISTED = 10


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """A file of a plan."""

    day: date
    entry: DayEntry
    #: The last time of the day before: no time of this one is below it.
    floor_us: int

    @property
    def first_us(self) -> int:
        """The first time that is given."""
        return max(self.entry.min_ts_us or 0, self.floor_us)

    @property
    def last_us(self) -> int:
        """The last time that is given."""
        return max(self.entry.max_ts_us or 0, self.floor_us)

    def has_between(self, start_us: int, end_us: int) -> bool:
        """Whether a time that is given may lie in [start, end)."""
        return self.first_us < end_us and self.last_us >= start_us


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a span as they were at one moment."""

    symbol_dir: SymbolDir
    start_us: int
    end_us: int
    days: tuple[PlannedDay, ...]
    schema: pl.Schema

    def within(self, low_us: int, high_us: int) -> Plan:
        """The same without the files that have no tick from `low_us` to `high_us`."""
        kept = (day for day in self.days if day.first_us <= high_us and day.last_us >= low_us)
        return replace(self, days=tuple(kept))


def entries_around(symbol_dir: SymbolDir, span: Span) -> dict[date, DayEntry]:
    """What the manifests say of the months of a span, and of the days beside it."""
    months = {month_of(day) for day in span.days()}
    months |= {month_of(span.first_day - ONE_DAY), month_of(span.last_day + ONE_DAY)}
    entries: dict[date, DayEntry] = {}
    for month in sorted(months):
        entries |= read_manifest(symbol_dir, month).days
    return entries


def current_entries(symbol_dir: SymbolDir, span: Span) -> dict[date, DayEntry]:
    """Return the entries around a span, after days whose fault is gone were taken back."""
    entries = entries_around(symbol_dir, span)
    around = (span.first_day - ONE_DAY, *span.days(), span.last_day + ONE_DAY)
    return entries | heal(symbol_dir, around, entries)


def covered_days(
    symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry], *, judge_end: bool = True
) -> list[DayCoverage]:
    """Coverage of the days of a span; `judge_end` as for `chain`."""
    known = get_symbol_entries().get(symbol_dir.symbol)

    def excuse(day: date) -> str | None:
        gaps = known.known_gaps if known is not None else ()
        return next((gap.reason for gap in gaps if gap.start_date <= day <= gap.end_date), None)

    is_quotes = has_monthly_ids(symbol_dir.source)
    return chain(span.days(), entries, is_quotes=is_quotes, excuse=excuse, judge_end=judge_end)


def make_plan(symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry]) -> Plan:
    """The files that hold ticks of a span.

    A file may begin or end up to a second outside its day, so those beside are looked at too.
    """
    planned = planned_days(span, entries)
    start_us, end_us = microseconds(span.start), microseconds(span.end)
    return Plan(symbol_dir, start_us, end_us, planned, _schema(symbol_dir.source, planned))


def planned_days(span: Span, entries: Mapping[date, DayEntry]) -> tuple[PlannedDay, ...]:
    """The files of a plan of a span."""
    start_us, end_us = microseconds(span.start), microseconds(span.end)
    around = [span.first_day - ONE_DAY, *span.days(), span.last_day + ONE_DAY]
    planned = []
    for day in around:
        entry = entries.get(day)
        if entry is None or not entry.is_kept or entry.min_ts_us is None:
            continue
        item = PlannedDay(day, entry, _floor(day, entries))
        if item.has_between(start_us, end_us):
            planned.append(item)
    return tuple(planned)


def _floor(day: date, entries: Mapping[date, DayEntry]) -> int:
    before = entries.get(day - ONE_DAY)
    return before.max_ts_us or 0 if before is not None and before.is_kept else 0


def _schema(source: str, days: Sequence[PlannedDay]) -> pl.Schema:
    """The columns that any of the files has, or all of the source if there is no file."""
    whole = schema_of(source)
    present = {name for item in days for name in item.entry.columns}
    return pl.Schema({name: dtype for name, dtype in whole.items() if name in present}) or whole


def judge(symbol_dir: SymbolDir, days: Sequence[DayCoverage], on_gap: OnGap) -> None:
    """Refuse, or report, days that are missing and gaps of those that are not."""
    if on_gap not in ("raise", "report"):
        raise ValueError(f"`on_gap` is `{on_gap}`; choose from `raise`, `report`")
    missing = [item for item in days if not item.is_kept]
    broken = [item for item in days if item.gaps]
    if on_gap == "raise" and missing:
        raise _not_cached(symbol_dir, missing)
    for item in broken:
        for gap in item.gaps:
            emit(
                CoverageGap(
                    symbol_dir.symbol, day=gap.day, first_id=gap.first_id, last_id=gap.last_id
                )
            )
    if on_gap == "raise" and broken:
        raise _broken(symbol_dir, broken)
    kinds = ((missing, "not in the store"), (broken, "incomplete"))
    parts = [f"{words}: {_listed(found)}" for found, words in kinds if found]
    if parts:
        warnings.warn(
            f"ticks of {symbol_dir.label}: {'; '.join(parts)}", CoverageWarning, stacklevel=4
        )


def _listed(days: Sequence[DayCoverage]) -> str:
    names = [f"{item.day}{_why(item)}" for item in days]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _why(item: DayCoverage) -> str:
    words = ["quarantined"] if item.state == "quarantined" else []
    words += [item.reason] if item.reason else []
    return f" ({': '.join(words)})" if words else ""


def _not_cached(symbol_dir: SymbolDir, missing: Sequence[DayCoverage]) -> TicksNotCachedError:
    days = [item.day for item in missing]
    return TicksNotCachedError(
        with_hint(
            f"{len(days):,} days of {symbol_dir.label} are not in the store: {_listed(missing)}",
            f"fetch them: rangebar fetch {symbol_dir.symbol} {days[0]} {days[-1]}; or take what there "
            'is: on_gap="report"',
        ),
        symbol=symbol_dir.symbol,
        days=days,
    )


def _broken(symbol_dir: SymbolDir, broken: Sequence[DayCoverage]) -> CoverageError:
    days = [item.day for item in broken]
    return CoverageError(
        with_hint(
            f"ticks of {symbol_dir.label} have gaps on {len(days):,} days: {_listed(broken)}",
            f"fetch them: rangebar fetch {symbol_dir.symbol} {days[0]} {days[-1]}; or take what there "
            'is: on_gap="report"',
        ),
        symbol=symbol_dir.symbol,
        days=days,
    )
