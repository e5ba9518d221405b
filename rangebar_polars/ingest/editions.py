"""Republished days, stored together with the neighbours that ids have moved to or from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.storage.coverage import IdSpans
from rangebar_polars.storage.days.merge import id_gaps, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from datetime import date

    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.fetch.source import IdSource

__all__ = ["Editions", "StoredIds"]


class StoredIds(NamedTuple):
    """Ids of a day that the store holds, or held before its file was damaged."""

    first: int
    last: int
    #: Whether the user wrote the day, so that no source may replace it.
    is_of_user: bool = False


@dataclass(frozen=True, slots=True)
class Editions:
    """Groups days of a source with the neighbours that must be stored with them.

    An archive that is published again may have moved trades across midnight. Such a day alone would
    overlap the stored day beside it, or leave out ids that have moved there. The day and its
    neighbours are therefore taken from the source together.
    """

    #: Returns the ids of a day in the store.
    stored_ids: Callable[[date], StoredIds | None]
    #: Fetches a neighbouring day.
    refetch: Callable[[date], DayTicks | None]
    #: Fetches ids that are missing from an archive.
    ids: IdSource

    def runs(self, batches: Iterable[Sequence[DayTicks]]) -> Generator[list[DayTicks]]:
        """Yield days in order, each with the days that must be stored with it.

        Parameters
        ----------
        batches
            Days of the source, in order. A day is held back only while the day after it is needed.
        """
        run: list[DayTicks] = []
        for fetched in chain.from_iterable(batches):
            if run and run[-1].day + ONE_DAY != fetched.day:
                yield self._completed(self._with_later(run))
                run = []
            run = [*(run or self._earlier(fetched)), fetched]
            if not self._is_open_at_end(fetched):
                yield self._completed(run)
                run = []
        if run:
            yield self._completed(self._with_later(run))

    def of_day(self, fetched: DayTicks) -> list[DayTicks]:
        """Return a day together with the neighbours that must be stored with it."""
        return self._completed(self._with_later([*self._earlier(fetched), fetched]))

    def _earlier(self, fetched: DayTicks) -> list[DayTicks]:
        """Fetch the days before a day, as far as their stored ids overlap."""
        run: list[DayTicks] = []
        while self._is_open_at_start(run[0] if run else fetched):
            before = self._neighbour((run[0] if run else fetched).day - ONE_DAY)
            if before is None:
                break
            run.insert(0, before)
        return run

    def _with_later(self, run: list[DayTicks]) -> list[DayTicks]:
        """Append the days after a run, as far as their stored ids overlap."""
        while self._is_open_at_end(run[-1]):
            after = self._neighbour(run[-1].day + ONE_DAY)
            if after is None:
                break
            run = [*run, after]
        return run

    def _neighbour(self, day: date) -> DayTicks | None:
        stored = self.stored_ids(day)
        return None if stored is None or stored.is_of_user else self.refetch(day)

    def _is_open_at_start(self, fetched: DayTicks) -> bool:
        ends, stored = _ends(fetched), self.stored_ids(fetched.day)
        before = self.stored_ids(fetched.day - ONE_DAY)
        if ends is None:
            return stored is not None
        is_short = stored is not None and stored.first < ends[0]
        return is_short or (before is not None and ends[0] <= before.last)

    def _is_open_at_end(self, fetched: DayTicks) -> bool:
        ends, stored = _ends(fetched), self.stored_ids(fetched.day)
        after = self.stored_ids(fetched.day + ONE_DAY)
        if ends is None:
            return stored is not None
        is_short = stored is not None and ends[1] < stored.last
        return is_short or (after is not None and after.first <= ends[1])

    def _completed(self, run: Sequence[DayTicks]) -> list[DayTicks]:
        """Complete each day with its stored ids that no other day of the run has."""
        ends = [_ends(fetched) for fetched in run]
        days = []
        for index, fetched in enumerate(run):
            stored = self.stored_ids(fetched.day)
            if stored is None:
                days.append(fetched)
                continue
            low = max((end[1] + 1 for end in ends[:index] if end), default=stored.first)
            high = min((end[0] - 1 for end in ends[index + 1 :] if end), default=stored.last)
            known = (max(stored.first, low), min(stored.last, high))
            days.append(_complete(fetched, known if known[0] <= known[1] else (), self.ids))
        return days


def _complete(fetched: DayTicks, known: Sequence[int], source: IdSource) -> DayTicks:
    """Add the ids to a day that are missing between the outermost ids known of it."""
    ids = fetched.ticks.get_column("agg_trade_id")
    known = [*ids.head(1), *ids.tail(1), *known]
    if not known:
        return fetched
    ends = pl.Series([min(known) - 1, max(known) + 1])
    absent, known_absent = list(fetched.source_absent), IdSpans(fetched.source_absent)
    ticks = fetched.ticks
    for gap in id_gaps(pl.concat([ends[:1], ids, ends[1:]])):
        for first, last in known_absent.missing_from(gap):
            rows, missing = source.ids(first, last)
            ticks = merge(ticks, rows).ticks
            absent += missing
    return replace(fetched, ticks=ticks, source_absent=tuple(sorted(absent)))


def _ends(fetched: DayTicks) -> tuple[int, int] | None:
    """Return the first and the last id of a day."""
    ids = fetched.ticks.get_column("agg_trade_id")
    return None if ids.is_empty() else (int(ids[0]), int(ids[-1]))
