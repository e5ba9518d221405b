"""Populations that an update or an upgrade needs: pure functions of the stored chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.features import NO_FEATURES
from rangebar_polars.bar_series.identity import BAR_SEMANTICS
from rangebar_polars.bar_series.selection import furthest, superseded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.sources import Venue

__all__ = ["PopulateTask", "update_tasks", "upgrade_tasks"]


@dataclass(frozen=True, slots=True)
class PopulateTask:
    """One population: the thresholds of a symbol that miss the same days."""

    venue: Venue
    symbol: str
    #: By its stored name.
    reset: str
    prevent_same_timestamp_close: bool
    start: datetime
    #: None for the newest day.
    last_day: date | None
    thresholds: tuple[int, ...] = ()
    #: Optional feature groups that the stored bars must have.
    features: FeatureSet = NO_FEATURES

    def __str__(self) -> str:
        at = ", ".join(str(threshold) for threshold in self.thresholds)
        last = "the newest day" if self.last_day is None else self.last_day
        kind = f"{self.venue}, reset {self.reset}"
        return f"{self.symbol} ({kind}) at {at} dbps from {self.start.date()} to {last}"


def update_tasks(chains: Iterable[Chain]) -> list[PopulateTask]:
    """Return the populations that extend every spec from its newest segment.

    Each starts at the furthest frontier. Only series at that frontier reach the day, and a
    population continues the earliest-anchored of them, which is the one to extend.
    """
    by_spec: dict[BarSpec, list[Chain]] = {}
    for chain in chains:
        if chain.units and _is_current(chain.series.spec):
            by_spec.setdefault(chain.series.spec, []).append(chain)
    return _group(
        (spec, day_start(furthest(stored).frontier), None, NO_FEATURES)
        for spec, stored in by_spec.items()
    )


def upgrade_tasks(
    chains: Iterable[Chain],
) -> tuple[list[PopulateTask], list[tuple[BarSeries, str]]]:
    """Return the populations that rebuild outdated series, and the series that cannot be rebuilt.

    A series is outdated if another bar rule computed it, or if a day does not have the optional
    feature groups of its first day in the version of this package.
    """
    stored = [chain for chain in chains if chain.units]
    current = [chain for chain in stored if chain.series.spec.rules.bar_semantics == BAR_SEMANTICS]
    outdated, skipped = [], []
    for chain in stored:
        rules = chain.series.spec.rules
        if rules.bar_semantics == BAR_SEMANTICS or _is_rebuilt(chain, current):
            continue
        if rules.bar_semantics > BAR_SEMANTICS:
            skipped.append((chain.series, "a newer version of the package computed it"))
        elif rules.max_gap_us is not None:
            skipped.append((chain.series, "a population cannot apply `max_gap`"))
        else:
            last_day = chain.frontier - ONE_DAY
            outdated.append((chain.series.spec, chain.series.anchor, last_day, chain.features))
    hidden = superseded(current)
    outdated += [
        (chain.series.spec, chain.series.anchor, chain.frontier - ONE_DAY, chain.features)
        for chain in current
        if chain.series not in hidden
        and _is_current(chain.series.spec)
        and not set(chain.features.words) <= chain.feature_groups
    ]
    return _group(outdated), skipped


def _is_current(spec: BarSpec) -> bool:
    """Return whether this version of the package populates bars of a spec."""
    rules = spec.rules
    return rules.bar_semantics == BAR_SEMANTICS and rules.max_gap_us is None


def _is_rebuilt(outdated: Chain, current: Iterable[Chain]) -> bool:
    """Return whether a current series covers all days of an outdated one."""
    spec = outdated.series.spec
    gate = spec.rules.prevent_same_timestamp_close
    return any(
        chain.series.spec.key[:-1] == spec.key[:-1]
        and chain.series.spec.rules.prevent_same_timestamp_close == gate
        and chain.series.segment_start == outdated.series.segment_start
        and chain.series.anchor_us <= outdated.series.anchor_us
        and chain.frontier >= outdated.frontier
        for chain in current
    )


def _group(
    days: Iterable[tuple[BarSpec, datetime, date | None, FeatureSet]],
) -> list[PopulateTask]:
    """Group specs into tasks, so that thresholds with equal days share one pass over the ticks."""
    thresholds: dict[PopulateTask, set[int]] = {}
    for spec, start, last_day, features in days:
        task = PopulateTask(
            spec.venue,
            spec.symbol,
            spec.reset,
            spec.rules.prevent_same_timestamp_close,
            start,
            last_day,
            features=features,
        )
        thresholds.setdefault(task, set()).add(spec.threshold)
    tasks = [replace(task, thresholds=tuple(sorted(found))) for task, found in thresholds.items()]
    return sorted(tasks, key=lambda task: (task.symbol, task.start, task.thresholds))
