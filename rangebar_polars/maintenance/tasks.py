"""What an upkeep of the bar cache has to do: pure functions of what is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.identity import BAR_SEMANTICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain

__all__ = ["PopulateTask", "errands_of_update", "errands_of_upgrade", "furthest"]


@dataclass(frozen=True, slots=True)
class PopulateTask:
    """A population of the thresholds of one symbol that have the same days to do."""

    source: str
    market: str
    symbol: str
    #: By its stored name.
    reset: str
    prevent_same_timestamp_close: bool
    start: datetime
    #: None for the newest day.
    last_day: date | None
    thresholds: tuple[int, ...] = ()

    def __str__(self) -> str:
        at = ", ".join(str(threshold) for threshold in self.thresholds)
        last = "the newest day" if self.last_day is None else self.last_day
        place = f"{self.source}/{self.market}, reset {self.reset}"
        return f"{self.symbol} ({place}) at {at} dbps from {self.start.date()} to {last}"


def errands_of_update(chains: Iterable[Chain]) -> list[PopulateTask]:
    """What has to be populated so that every family goes on from its newest segment.

    A population from the frontier on continues exactly the series that is meant: nothing reaches
    that day but the series of the furthest frontier, of which it takes the earliest anchor.
    """
    by_family: dict[BarSpec, list[Chain]] = {}
    for chain in chains:
        if chain.units and _is_current(chain.series.spec):
            by_family.setdefault(chain.series.spec, []).append(chain)
    return _joined(
        (spec, day_start(furthest(kept).frontier), None) for spec, kept in by_family.items()
    )


def furthest(chains: Sequence[Chain]) -> Chain:
    """The earliest-anchored chain at the furthest frontier of the newest segment."""
    newest = max(chain.series.segment_start for chain in chains)
    rivals = [chain for chain in chains if chain.series.segment_start == newest]
    return min(rivals, key=lambda one: (-one.frontier.toordinal(), one.series.anchor_us))


def errands_of_upgrade(
    chains: Iterable[Chain],
) -> tuple[list[PopulateTask], list[tuple[BarSeries, str]]]:
    """What has to be built anew, and the series for which that is not possible."""
    kept = [chain for chain in chains if chain.units]
    now = [chain for chain in kept if chain.series.spec.rules.bar_semantics == BAR_SEMANTICS]
    wanted, left = [], []
    for chain in kept:
        rules = chain.series.spec.rules
        if rules.bar_semantics == BAR_SEMANTICS or _is_rebuilt(chain, now):
            continue
        if rules.bar_semantics > BAR_SEMANTICS:
            left.append((chain.series, "a newer version of the package computed it"))
        elif rules.max_gap_us is not None:
            left.append((chain.series, "a population knows no longest gap"))
        else:
            last_day = chain.frontier - ONE_DAY
            wanted.append((chain.series.spec, chain.series.anchor, last_day))
    return _joined(wanted), left


def _is_current(spec: BarSpec) -> bool:
    """Whether a population of today would build bars of this family."""
    rules = spec.rules
    return rules.bar_semantics == BAR_SEMANTICS and rules.max_gap_us is None


def _is_rebuilt(old: Chain, now: Iterable[Chain]) -> bool:
    """Whether a series of today's rule holds all days of an old one."""
    mine = old.series.spec
    gate = mine.rules.prevent_same_timestamp_close
    return any(
        one.series.spec.key[:-1] == mine.key[:-1]
        and one.series.spec.rules.prevent_same_timestamp_close == gate
        and one.series.segment_start == old.series.segment_start
        and one.series.anchor_us <= old.series.anchor_us
        and one.frontier >= old.frontier
        for one in now
    )


def _joined(wanted: Iterable[tuple[BarSpec, datetime, date | None]]) -> list[PopulateTask]:
    """Errands whose thresholds share one pass over the ticks."""
    thresholds: dict[PopulateTask, set[int]] = {}
    for spec, start, last_day in wanted:
        errand = PopulateTask(
            spec.source,
            spec.market,
            spec.symbol,
            spec.reset,
            spec.rules.prevent_same_timestamp_close,
            start,
            last_day,
        )
        thresholds.setdefault(errand, set()).add(spec.threshold)
    joined = [
        replace(errand, thresholds=tuple(sorted(found))) for errand, found in thresholds.items()
    ]
    return sorted(joined, key=lambda errand: (errand.symbol, errand.start, errand.thresholds))
