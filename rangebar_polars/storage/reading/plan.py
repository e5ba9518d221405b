"""The plan of a span: its files, from the manifests at one moment, and a check of its coverage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import ONE_DAY, microseconds
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.events import CoverageGap, emit
from rangebar_polars.exceptions import CoverageError, TicksNotCachedError, with_hint
from rangebar_polars.sources import has_monthly_ids, is_user_source, source_named
from rangebar_polars.storage.coverage import MISSING, CoverageWarning, chain
from rangebar_polars.storage.days.contracts import CONTRACTS, is_in_contracts
from rangebar_polars.storage.days.quarantine import heal
from rangebar_polars.storage.layout import fetch_hint, is_folder, month_of
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from rangebar_polars._utils.span import Span
    from rangebar_polars.storage.coverage import DayCoverage
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = [
    "PRUNED",
    "OnGap",
    "Plan",
    "PlannedDay",
    "check_coverage",
    "covered_days",
    "current_entries",
    "entries_around",
    "make_plan",
    "planned_days",
]

#: The reason of a missing day that stored bars have made dispensable.
PRUNED = "removed by `rangebar ticks prune`"

OnGap: TypeAlias = Literal["raise", "report"]

_LISTED = 10


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """A file of a plan."""

    day: date
    entry: DayEntry
    #: The last time of the day before. Times of this day are raised to it.
    floor_us: int

    @property
    def first_us(self) -> int:
        """The first time, after raising."""
        return max(self.entry.min_ts_us or 0, self.floor_us)

    @property
    def last_us(self) -> int:
        """The last time, after raising."""
        return max(self.entry.max_ts_us or 0, self.floor_us)

    def has_between(self, start_us: int, end_us: int) -> bool:
        """Return whether a time may lie in [start, end)."""
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
        """Return the plan without the files that have no tick from `low_us` to `high_us`."""
        days = (day for day in self.days if day.first_us <= high_us and day.last_us >= low_us)
        return replace(self, days=tuple(days))


def entries_around(symbol_dir: SymbolDir, span: Span) -> dict[date, DayEntry]:
    """Read the manifest entries of the months of a span and of its neighbouring days."""
    months = {month_of(day) for day in span.days()}
    months |= {month_of(span.first_day - ONE_DAY), month_of(span.last_day + ONE_DAY)}
    entries: dict[date, DayEntry] = {}
    for month in sorted(months):
        entries |= read_manifest(symbol_dir, month).days
    return entries


def current_entries(symbol_dir: SymbolDir, span: Span) -> dict[date, DayEntry]:
    """Return the entries around a span, after restoring quarantined days whose files are right.

    Days that grow have the trades of journals, too.
    """
    around = (span.first_day - ONE_DAY, *span.days(), span.last_day + ONE_DAY)

    def stored() -> dict[date, DayEntry]:
        entries = entries_around(symbol_dir, span)
        return entries | heal(symbol_dir, around, entries)

    if not is_folder(symbol_dir.live):
        return stored()
    from rangebar_polars.storage.live.live_entries import live_entries

    return live_entries(symbol_dir, around[0], around[-1], stored)


def covered_days(
    symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry], *, check_end: bool = True
) -> list[DayCoverage]:
    """Compute the coverage of the days of a span. `check_end` is as for `chain`."""
    known = get_symbol_entries().get(symbol_dir.symbol)

    def excuse(day: date) -> str | None:
        gaps = known.known_gaps if known is not None else ()
        return next((gap.reason for gap in gaps if gap.start_date <= day <= gap.end_date), None)

    is_quotes = has_monthly_ids(symbol_dir.source)
    found = chain(span.days(), entries, is_quotes=is_quotes, excuse=excuse, check_end=check_end)
    return _with_pruned(symbol_dir, found)


def _with_pruned(symbol_dir: SymbolDir, days: list[DayCoverage]) -> list[DayCoverage]:
    """Say of missing days which ones were pruned."""
    months = {month_of(item.day) for item in days if item.state == MISSING}
    pruned = {day for month in months for day in read_manifest(symbol_dir, month).pruned}
    if not pruned:
        return days
    return [
        replace(item, reason=PRUNED) if item.state == MISSING and item.day in pruned else item
        for item in days
    ]


def make_plan(symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry]) -> Plan:
    """Plan the files that hold ticks of a span.

    A file may begin or end up to a second outside its day, so neighbouring days are included.
    """
    planned = planned_days(span, entries)
    start_us, end_us = microseconds(span.start), microseconds(span.end)
    return Plan(symbol_dir, start_us, end_us, planned, _schema(symbol_dir, planned))


def planned_days(span: Span, entries: Mapping[date, DayEntry]) -> tuple[PlannedDay, ...]:
    """List the files that hold ticks of a span."""
    start_us, end_us = microseconds(span.start), microseconds(span.end)
    around = [span.first_day - ONE_DAY, *span.days(), span.last_day + ONE_DAY]
    planned = []
    for day in around:
        entry = entries.get(day)
        if entry is None or not entry.is_stored or entry.min_ts_us is None:
            continue
        item = PlannedDay(day, entry, _floor(day, entries))
        if item.has_between(start_us, end_us):
            planned.append(item)
    return tuple(planned)


def _floor(day: date, entries: Mapping[date, DayEntry]) -> int:
    before = entries.get(day - ONE_DAY)
    return before.max_ts_us or 0 if before is not None and before.is_stored else 0


def _schema(symbol_dir: SymbolDir, days: Sequence[PlannedDay]) -> pl.Schema:
    """Return the columns that any of the files has, or all of the source's without files."""
    kind = source_named(symbol_dir.source).ticks
    present = {name for item in days for name in item.entry.columns}
    if any(is_in_contracts(symbol_dir, item.entry.columns) for item in days):
        present.add(CONTRACTS)
    found = {name: dtype for name, dtype in kind.stored_schema.items() if name in present}
    return pl.Schema(found) or kind.schema


def check_coverage(symbol_dir: SymbolDir, days: Sequence[DayCoverage], on_gap: OnGap) -> None:
    """Raise for missing days and for gaps, or report them with a warning."""
    if on_gap not in ("raise", "report"):
        raise ValueError(f"`on_gap` is `{on_gap}`; choose from `raise`, `report`")
    missing = [item for item in days if not item.is_stored]
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
    parts = [f"{kind}: {_describe_days(found)}" for found, kind in kinds if found]
    if parts:
        warn_caller(f"ticks of {symbol_dir.label}: {'; '.join(parts)}", CoverageWarning)


def _describe_days(days: Sequence[DayCoverage]) -> str:
    names = [f"{item.day}{_describe_reason(item)}" for item in days]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _describe_reason(item: DayCoverage) -> str:
    parts = ["quarantined"] if item.state == "quarantined" else []
    parts += [item.reason] if item.reason else []
    return f" ({': '.join(parts)})" if parts else ""


def _not_cached(symbol_dir: SymbolDir, missing: Sequence[DayCoverage]) -> TicksNotCachedError:
    days = [item.day for item in missing]
    return TicksNotCachedError(
        with_hint(
            f"{count_text(len(days), 'day')} of {symbol_dir.label} {'is' if len(days) == 1 else 'are'} "
            f"not in the store: {_describe_days(missing)}",
            f"{fetch_hint(symbol_dir, days[0], days[-1])}; or return the available ticks: "
            'on_gap="report"',
        ),
        symbol=symbol_dir.symbol,
        days=days,
    )


def _gap_hint(symbol_dir: SymbolDir, days: Sequence[date]) -> str:
    hint = fetch_hint(symbol_dir, days[0], days[-1])
    if not is_user_source(symbol_dir.source):
        return hint
    return f"{hint}; if the exchange leaves out numbers, write the ticks without the column of ids"


def _broken(symbol_dir: SymbolDir, broken: Sequence[DayCoverage]) -> CoverageError:
    days = [item.day for item in broken]
    return CoverageError(
        with_hint(
            f"ticks of {symbol_dir.label} have gaps on {count_text(len(days), 'day')}: "
            f"{_describe_days(broken)}",
            f'{_gap_hint(symbol_dir, days)}; or return the available ticks: on_gap="report"',
        ),
        symbol=symbol_dir.symbol,
        days=days,
    )
