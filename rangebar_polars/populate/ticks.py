"""Ticks of a population: fetch missing days, and compare stored days with units."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.days import is_readable
from rangebar_polars.clickhouse.query.units import replay_day, replays_of, states_of
from rangebar_polars.exceptions import SourceError, TickDataError, TicksNotCachedError
from rangebar_polars.ingest.fetch import ensure_days
from rangebar_polars.ingest.id_gap import Hole, first_hole, first_line, gap_before
from rangebar_polars.populate.refresh import RebuiltState, rebuild_state, stale_days
from rangebar_polars.sources import has_monthly_ids
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.shared import SharedCache
    from rangebar_polars.sources import Venue
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = ["PopulationTicks"]


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


@dataclass(slots=True)
class PopulationTicks:
    """Ticks of any symbols, in one store."""

    cache_dir: str | Path | None
    verbose: bool
    #: Why days of a segment could not be fetched, by symbol and segment start.
    failures: dict[tuple[str, date], Exception] = field(default_factory=dict)
    _snapshots: dict[tuple[Venue, str, date, date], TickSnapshot] | None = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Reuse snapshots within the block, so that several thresholds share each of them."""
        before, self._snapshots = self._snapshots, {}
        try:
            yield
        finally:
            self._snapshots = before

    def snapshot(self, spec: BarSpec, first_day: date, last_day: date) -> TickSnapshot:
        """Take a snapshot of days in the store, or reuse one within `frozen`."""
        key = (spec.venue, spec.symbol, first_day, last_day)
        if self._snapshots is not None and key in self._snapshots:
            return self._snapshots[key]
        days = snapshot(
            TickStorage(self.cache_dir),
            spec.symbol,
            first_day,
            last_day,
            source=spec.source,
            market=spec.market,
            check_end=False,
        )
        if self._snapshots is not None:
            self._snapshots[key] = days
        return days

    def fetch(
        self,
        chain: Chain,
        first_day: date,
        last_day: date,
        shared: SharedCache,
        *,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Fetch the missing days of a segment, month by month.

        `before` is called if anything is missing, since a fetch may take long. An error of the
        source is noted as a failure; the days before it can still be used.
        """
        missing = self._missing(chain, first_day, last_day)
        if not missing:
            return
        before()
        self._release(shared)
        for _, month in groupby(missing, key=_first_of_month):
            if not self._fetched(chain, list(month)):
                return

    def fetch_next(
        self,
        chain: Chain,
        first_day: date,
        last_day: date,
        shared: SharedCache,
        *,
        before: Callable[[], object],
    ) -> date:
        """Fetch the missing days of the first month, and return the last day to compute now.

        Months that are stored already are computed before a fetch, and each month before the next one
        is fetched. The first day of the next month is fetched too: an archive that was published again
        may have moved ticks over midnight. An error of the source is noted as a failure. All days are
        computed then, up to the missing one.

        Parameters
        ----------
        chain
            A series of the segment.
        first_day, last_day
            The days of the segment that are not computed yet.
        shared
            The cache, which is closed during a fetch.
        before
            Called before a fetch, since that may take long.
        """
        missing = self._missing(chain, first_day, last_day)
        if not missing:
            return last_day
        month = _first_of_month(missing[0])
        following = month if month > first_day else _first_of_month(month + 31 * ONE_DAY)
        wanted = [day for day in missing if day < following]
        later = next((day for day in missing if day >= following), None)
        boundary = None if later is None else _first_of_month(later)
        if boundary in missing and not has_monthly_ids(chain.series.spec.source):
            wanted.append(boundary)
        if wanted:
            before()
            self._release(shared)
            if not self._fetched(chain, wanted):
                return last_day
        return last_day if boundary is None else boundary - ONE_DAY

    def _missing(self, chain: Chain, first_day: date, last_day: date) -> list[date]:
        """Return the days that the store does not hold, or that may have grown."""
        days = self.snapshot(chain.series.spec, first_day, last_day).days
        return [day.day for day in days if not day.is_final]

    def _release(self, shared: SharedCache) -> None:
        """Close the cache: other processes would wait for the folder as long as a fetch takes."""
        shared.close()
        if self._snapshots is not None:
            self._snapshots.clear()

    def _fetched(self, chain: Chain, days: Sequence[date]) -> bool:
        """Fetch days, and return whether the source could give them; note its error if not."""
        spec = chain.series.spec
        span = Span(day_start(days[0]), day_start(days[-1] + ONE_DAY))
        try:
            ensure_days(
                spec.venue, spec.symbol, span, cache_dir=self.cache_dir, verbose=self.verbose
            )
        except (SourceError, TickDataError, TicksNotCachedError) as error:
            self.failures[spec.symbol, chain.series.segment_start] = error
            return False
        return True

    def stale(self, chain: Chain, last_day: date) -> tuple[date, ...]:
        """Return the days up to a last day whose stored ticks differ from those of their units."""
        if not chain.units:
            return ()
        end = min(last_day, chain.frontier - ONE_DAY)
        if end < chain.series.first_day:
            return ()
        ticks = self.snapshot(chain.series.spec, chain.series.first_day, end)
        return stale_days(chain, end, ticks)

    def is_current(self, chain: Chain, first_day: date) -> bool:
        """Return whether no unit is stale from a day on."""
        return all(day < first_day for day in self.stale(chain, chain.frontier))

    def absent(self, spec: BarSpec, days: Sequence[date]) -> tuple[tuple[date, ...], int]:
        """Return the days without ticks, and the number of ids, that the source confirms absent."""
        if not days:
            return (), 0
        ticks = self.snapshot(spec, min(days), max(days))
        entries = {day: ticks[day].coverage.entry for day in days}
        ids = sum(
            last - first + 1
            for entry in entries.values()
            if entry is not None
            for first, last in entry.source_absent
        )
        empty = (day for day in days if ticks[day].coverage.state == "absent_confirmed")
        return tuple(empty), ids

    def gap_before(self, chain: Chain, day: date) -> Hole | None:
        """Return the gap between the units before a day and the ticks of the day."""
        return gap_before(self.snapshot(chain.series.spec, day - ONE_DAY, day), chain, day)

    def state_before(self, chain: Chain, day: date, shared: SharedCache) -> RebuiltState | Hole:
        """Return the state at the start of a day; recompute it if this version cannot read it."""
        base = chain.unit(day - ONE_DAY)
        if base is None:
            return RebuiltState(None, None)
        state = states_of(shared.cache, [base])[base]
        if is_readable(state):
            return RebuiltState(state, None)
        anchor = chain.series.first_day
        self.fetch(chain, anchor, base.day, shared)
        ticks = self.snapshot(chain.series.spec, anchor, base.day)
        hole = first_hole(ticks, anchor)
        if hole is not None:
            reason = (
                f"the state after {base.day} is of another version, and ticks to recompute it are "
                f"missing: {hole.day}: {hole.reason}"
            )
            return Hole(day, reason)
        return rebuild_state(chain, base.day, ticks)

    def replay_before(
        self, chain: Chain, day: date, features: FeatureSet, shared: SharedCache
    ) -> int | Hole:
        """Return how many ticks a resume at a day pushes again, after fetching missing ones.

        Return a hole if they are not available.
        """
        base = chain.unit(day - ONE_DAY)
        if base is None or not features:
            return 0
        count = replays_of(shared.cache, [base])[base]
        if not count:
            return 0
        units = chain.between(chain.series.first_day, base.day)
        first_day = replay_day(shared.cache, units, count)
        self.fetch(chain, first_day, base.day, shared)
        hole = first_hole(self.snapshot(chain.series.spec, first_day, base.day), first_day)
        if hole is None:
            return count
        reason = (
            f"columns of optional feature groups need ticks before this day, which are missing: "
            f"{hole.day}: {hole.reason}"
        )
        return Hole(day, reason, hole.may_pass)

    def with_source_error(self, chain: Chain, hole: Hole) -> Hole:
        """Add the error of the source to the reason of a hole, if there was one."""
        series = chain.series
        error = self.failures.get((series.spec.symbol, series.segment_start))
        if error is None:
            return hole
        return Hole(hole.day, f"{hole.reason}: {first_line(error)}", hole.may_pass)
