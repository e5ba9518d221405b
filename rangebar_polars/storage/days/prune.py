"""Removal of final days whose ticks stored bars have made dispensable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start, microseconds
from rangebar_polars.storage.days.journaled import is_journaled
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.manifest.versions import read_manifest, update_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry
    from rangebar_polars.storage.manifest.versions import Manifest

__all__ = ["prune_days", "pruned_days", "stored_entries", "without_neighbours"]


def stored_entries(symbol_dir: SymbolDir) -> dict[date, DayEntry]:
    """Return the valid entries of all months, in order."""
    return {
        day: entry
        for month in symbol_dir.months()
        for day, entry in read_manifest(symbol_dir, month).days.items()
        if entry.is_stored
    }


def pruned_days(symbol_dir: SymbolDir) -> frozenset[date]:
    """Return the days that were pruned, and have not been stored or deleted since."""
    found = (read_manifest(symbol_dir, month).pruned for month in symbol_dir.months())
    return frozenset().union(*found)


def without_neighbours(entries: Mapping[date, DayEntry], days: AbstractSet[date]) -> set[date]:
    """Return the days that can be removed without changing the ticks of any other day.

    A file may begin or end up to a second outside its day, and its last time raises the times of
    the next day. Such a file has to stay as long as its neighbour.
    """
    found = set(days)
    while tied := {day for day in found if _is_tied(entries, day, found)}:
        found -= tied
    return found


def _is_tied(entries: Mapping[date, DayEntry], day: date, removed: AbstractSet[date]) -> bool:
    entry, following = entries[day], entries.get(day + ONE_DAY)
    if entry.min_ts_us is None or entry.max_ts_us is None:
        return False
    start_us, end_us = (microseconds(day_start(one)) for one in (day, day + ONE_DAY))
    if day - ONE_DAY in entries and day - ONE_DAY not in removed and entry.min_ts_us < start_us:
        return True
    if following is None or day + ONE_DAY in removed:
        return False
    first_us = end_us if following.min_ts_us is None else min(end_us, following.min_ts_us)
    return entry.max_ts_us >= first_us


def prune_days(symbol_dir: SymbolDir, days: Mapping[date, DayEntry]) -> list[date]:
    """Remove days from the manifests, and record them as pruned. Return the removed days.

    Their files stay until `gc` removes them. A day stays if its entry has changed since, or if it
    has a journal.

    Parameters
    ----------
    symbol_dir
        The symbol.
    days
        The days, each with the entry that it had when its removal was decided.
    """
    removed: list[date] = []
    with writing(symbol_dir):
        entries = stored_entries(symbol_dir)
        unchanged = {
            day
            for day, entry in days.items()
            if entries.get(day) == entry and not is_journaled(symbol_dir, day)
        }
        left = without_neighbours(entries, unchanged)
        for month in symbol_dir.months():
            found: list[date] = []

            def without(old: Manifest, found: list[date] = found) -> dict[date, DayEntry | None]:
                found[:] = [day for day in sorted(old.days) if day in left]
                return dict.fromkeys(found)

            update_manifest(symbol_dir, month, without, prunes=True)
            removed += found
    return removed
