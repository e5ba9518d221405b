"""The ticks that a population needs: fetched where the store lacks them, and compared with units."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.days import is_readable
from rangebar_polars.clickhouse.query.units import states_of
from rangebar_polars.exceptions import SourceError, TickDataError
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.ingest.id_gap import Hole, first_hole, first_line, gap_before
from rangebar_polars.populate.refresh import RebuiltState, rebuild, stale_days
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.symbol_registry import past_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.shared import SharedCache
    from rangebar_polars.ingest.fetch import Venue
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = ["PopulationTicks"]


@dataclass(slots=True)
class PopulationTicks:
    """Ticks of any symbols, in one store."""

    cache_dir: str | Path | None
    verbose: bool
    #: Why days of a segment could not be fetched.
    failures: dict[tuple[str, date], Exception] = field(default_factory=dict)
    _snapshots: dict[tuple[object, ...], TickSnapshot] | None = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Look at each span of days only once until the end, whatever the number of thresholds."""
        before, self._snapshots = self._snapshots, {}
        try:
            yield
        finally:
            self._snapshots = before

    def held(self, spec: BarSpec, first_day: date, last_day: date) -> TickSnapshot:
        """Days as the store holds them now, or held them before within `frozen`."""
        key = (spec.symbol, spec.source, spec.market, first_day, last_day)
        if self._snapshots is not None and key in self._snapshots:
            return self._snapshots[key]
        storage = TickStorage(self.cache_dir)
        where = _place(spec)
        found = snapshot(storage, spec.symbol, first_day, last_day, check_end=False, **where)
        if self._snapshots is not None:
            self._snapshots[key] = found
        return found

    def fetch(
        self,
        chain: Chain,
        first_day: date,
        last_day: date,
        turns: SharedCache,
        *,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Fetch what the store lacks of days of a segment, month by month.

        `before` is called if there is anything to fetch, which may take long.
        What a source does not give is a failure, which is kept: the days before it can be used.
        """
        spec = chain.series.spec
        lacking = [day.day for day in self.held(spec, first_day, last_day).days if not day.is_final]
        if not lacking:
            return
        before()
        # A folder that is held while a source is asked would keep others from it for long.
        turns.close()
        if self._snapshots is not None:
            self._snapshots.clear()
        for _, month in groupby(lacking, key=lambda day: (day.year, day.month)):
            days = list(month)
            try:
                with past_gate(spec.symbol):
                    fetch_ticks(
                        spec.symbol,
                        days[0],
                        days[-1],
                        cache_dir=self.cache_dir,
                        verbose=self.verbose,
                        **_place(spec),
                    )
            except (SourceError, TickDataError) as error:
                self.failures[spec.symbol, chain.series.segment_start] = error
                return

    def stale(self, chain: Chain, last_day: date) -> tuple[date, ...]:
        """Days of a chain up to a last one that were made of other ticks than the store holds."""
        if not chain.units:
            return ()
        end = min(last_day, chain.frontier - ONE_DAY)
        if end < chain.series.first_day:
            return ()
        held = self.held(chain.series.spec, chain.series.first_day, end)
        return stale_days(chain, end, held)

    def is_current(self, chain: Chain, first_day: date) -> bool:
        """Whether a chain was made, from a day on, of the ticks that the store holds."""
        return all(day < first_day for day in self.stale(chain, chain.frontier))

    def absent(self, spec: BarSpec, days: Sequence[date]) -> tuple[tuple[date, ...], int]:
        """Those of some days that have no tick, as the source says for certain, and how many ids."""
        if not days:
            return (), 0
        held = self.held(spec, min(days), max(days))
        entries = {day: held[day].coverage.entry for day in days}
        ids = sum(
            last - first + 1
            for entry in entries.values()
            if entry is not None
            for first, last in entry.source_absent
        )
        without = (day for day in days if held[day].coverage.state == "absent_confirmed")
        return tuple(without), ids

    def gap_before(self, chain: Chain, day: date) -> Hole | None:
        """Ids that are missing between the units before a day and the day.

        Where the store still has the day before, it has judged them itself.
        """
        return gap_before(self.held(chain.series.spec, day - ONE_DAY, day), chain, day)

    def state_before(self, chain: Chain, day: date, turns: SharedCache) -> RebuiltState | Hole:
        """State with which a day begins; one that this version cannot read is computed again."""
        base = chain.unit(day - ONE_DAY)
        if base is None:
            return RebuiltState(None, None)
        state = states_of(turns.cache, [base])[base]
        if is_readable(state):
            return RebuiltState(state, None)
        anchor = chain.series.first_day
        self.fetch(chain, anchor, base.day, turns)
        held = self.held(chain.series.spec, anchor, base.day)
        hole = first_hole(held, anchor)
        if hole is not None:
            what = f"the state after {base.day} is of another version, and its ticks are lacking"
            return Hole(day, f"{what}: {hole.day}: {hole.reason}")
        return rebuild(chain, base.day, held)

    def reason(self, chain: Chain, hole: Hole) -> Hole:
        """A hole with what the source said, if it was asked."""
        series = chain.series
        error = self.failures.get((series.spec.symbol, series.segment_start))
        if error is None:
            return hole
        return Hole(hole.day, f"{hole.reason}: {first_line(error)}", hole.may_pass)


def _place(spec: BarSpec) -> Venue:
    return {"source": spec.source, "market": spec.market}
