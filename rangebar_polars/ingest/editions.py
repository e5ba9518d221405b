"""Days that a source publishes again: stored together where ids moved from one day to the next."""

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

    from rangebar_polars.fetch.source import IdSource
    from rangebar_polars.sources import DayTicks

__all__ = ["Editions", "HeldIds"]


class HeldIds(NamedTuple):
    """Ids of a day that the store holds, or held before its file was at fault."""

    first: int
    last: int
    #: Whether the user wrote the day, so that no source may replace it.
    is_of_user: bool = False


@dataclass(frozen=True, slots=True)
class Editions:
    """Days as their source gives them now, beside what the store holds of them and around them.

    An archive that is published again may have moved trades over midnight. One such day alone
    collides with the stored day beside it, or is without ids that are there now. A day and its
    neighbours are then taken from the source together.
    """

    #: Ids of a day in the store.
    held: Callable[[date], HeldIds | None]
    #: Fetches a day that was not asked for.
    again: Callable[[date], DayTicks | None]
    #: Gives ids that an archive is without.
    ids: IdSource

    def runs(self, batches: Iterable[Sequence[DayTicks]]) -> Generator[list[DayTicks]]:
        """Give days in order, those together that must be stored together.

        Parameters
        ----------
        batches
            Days of the source, in order. A day is held back only while the day after it is needed.
        """
        run: list[DayTicks] = []
        for found in chain.from_iterable(batches):
            if run and run[-1].day + ONE_DAY != found.day:
                yield self._settled(self._with_later(run))
                run = []
            run = [*(run or self._earlier(found)), found]
            if not self._is_open_at_end(found):
                yield self._settled(run)
                run = []
        if run:
            yield self._settled(self._with_later(run))

    def of_day(self, found: DayTicks) -> list[DayTicks]:
        """Give a day with the neighbours that must be stored with it."""
        return self._settled(self._with_later([*self._earlier(found), found]))

    def _earlier(self, found: DayTicks) -> list[DayTicks]:
        """Fetch the days before one that begins among their ids."""
        run: list[DayTicks] = []
        while self._is_open_at_start(run[0] if run else found):
            before = self._fetched((run[0] if run else found).day - ONE_DAY)
            if before is None:
                break
            run.insert(0, before)
        return run

    def _with_later(self, run: list[DayTicks]) -> list[DayTicks]:
        """Fetch the days after a run that ends among their ids."""
        while self._is_open_at_end(run[-1]):
            after = self._fetched(run[-1].day + ONE_DAY)
            if after is None:
                break
            run = [*run, after]
        return run

    def _fetched(self, day: date) -> DayTicks | None:
        held = self.held(day)
        return None if held is None or held.is_of_user else self.again(day)

    def _is_open_at_start(self, found: DayTicks) -> bool:
        ends, held = _ends(found), self.held(found.day)
        before = self.held(found.day - ONE_DAY)
        if ends is None:
            return held is not None
        is_short = held is not None and held.first < ends[0]
        return is_short or (before is not None and ends[0] <= before.last)

    def _is_open_at_end(self, found: DayTicks) -> bool:
        ends, held = _ends(found), self.held(found.day)
        after = self.held(found.day + ONE_DAY)
        if ends is None:
            return held is not None
        is_short = held is not None and ends[1] < held.last
        return is_short or (after is not None and after.first <= ends[1])

    def _settled(self, run: Sequence[DayTicks]) -> list[DayTicks]:
        """Complete each day by the ids that the store has of it and no other day of the run has."""
        ends = [_ends(found) for found in run]
        days = []
        for index, found in enumerate(run):
            held = self.held(found.day)
            if held is None:
                days.append(found)
                continue
            low = max((end[1] + 1 for end in ends[:index] if end), default=held.first)
            high = min((end[0] - 1 for end in ends[index + 1 :] if end), default=held.last)
            known = (max(held.first, low), min(held.last, high))
            days.append(completed(found, known if known[0] <= known[1] else (), self.ids))
        return days


def completed(found: DayTicks, known: Sequence[int], source: IdSource) -> DayTicks:
    """Return a day with the ids that its archive is without, between the outermost known ones."""
    ids = found.ticks.get_column("agg_trade_id")
    known = [*ids.head(1), *ids.tail(1), *known]
    if not known:
        return found
    ends = pl.Series([min(known) - 1, max(known) + 1])
    absent, known_absent = list(found.source_absent), IdSpans(found.source_absent)
    ticks = found.ticks
    for gap in id_gaps(pl.concat([ends[:1], ids, ends[1:]])):
        for first, last in known_absent.missing_from(gap):
            rows, lacking = source.ids(first, last)
            ticks = merge(ticks, rows).ticks
            absent += lacking
    return replace(found, ticks=ticks, source_absent=tuple(sorted(absent)))


def _ends(found: DayTicks) -> tuple[int, int] | None:
    ids = found.ticks.get_column("agg_trade_id")
    return None if ids.is_empty() else (int(ids[0]), int(ids[-1]))
