"""Rebuilds: generations that replace stored days, and states recomputed from the anchor.

A rebuild that adds optional feature groups, or changes their window, is an upgrade. It begins at the
anchor and leaves the bars as they are. Populations that request no groups leave an interrupted one
for another that does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.days import Track, compute_days, new_builder
from rangebar_polars.bar_series.features import stored_features
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.clickhouse.commit.generations import discard_generation, open_generation
from rangebar_polars.clickhouse.query.units import generation_features, read_chains
from rangebar_polars.clickhouse.schema.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date

    import polars as pl

    from rangebar_polars.bar_series.featured import BarBuilder
    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.units import Generation
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.plan import SeriesPlan
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = [
    "Rebuilds",
    "RebuiltState",
    "Refresh",
    "begin_refresh",
    "discard",
    "rebuild_state",
    "resumable",
    "stale_days",
    "upgraded_features",
]

#: Days whose rows are hashed together.
_BATCH_DAYS = 30


def upgraded_features(plan: SeriesPlan) -> FeatureSet | None:
    """Return the optional groups of the upgrade that a request needs; None if it needs none.

    A stored series is upgraded if one of its units does not have a requested group, in the version of
    this package and with the requested window.
    """
    wanted, chain = plan.requested.request.features, plan.chain
    if plan.is_new or not wanted:
        return None
    own = chain.features
    target = own.joined(wanted, wanted.window or own.window or plan.first_features.window)
    words = {target.word(group) for group in wanted.groups}
    return None if words <= chain.feature_groups else target


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """The open generations of a series, and the words of the units that they have already."""

    plan: SeriesPlan
    words: Mapping[int, set[frozenset[str]]]

    @classmethod
    def of(cls, cache: Cache, plan: SeriesPlan) -> Rebuilds:
        """Read the open generations of the series of a plan."""
        return cls(plan, generation_features(cache, plan.chain))

    @property
    def upgrades(self) -> list[Generation]:
        """Upgrades, oldest first."""
        return [each for each in self.plan.chain.open_generations if self._is_upgrade(each)]

    @property
    def others(self) -> list[Generation]:
        """Generations that are no upgrades."""
        return [each for each in self.plan.chain.open_generations if not self._is_upgrade(each)]

    @property
    def is_touched(self) -> bool:
        """Whether the population of the plan has to resume or discard one of them."""
        return bool(self.others or (self.upgrades and self.plan.requested.request.features))

    def _is_upgrade(self, generation: Generation) -> bool:
        stored = frozenset[str]().union(*self.words.get(generation.number, ()))
        begins = generation.first_day == self.plan.series.first_day
        return begins and bool(stored - self.plan.chain.feature_groups)

    def has_features(self, generation: Generation, wanted: FeatureSet) -> bool:
        """Return whether every unit of a generation has the wanted groups and their window."""
        for words in self.words.get(generation.number, ()):
            features = stored_features(words)
            if not set(wanted.groups) <= set(features.groups):
                return False
            if wanted.window not in (None, features.window):
                return False
        return True

    def has_exactly(self, generation: Generation, features: FeatureSet) -> bool:
        """Return whether no unit of a generation has other words than those of the groups."""
        return self.words.get(generation.number, set()) <= {frozenset(features.words)}


@dataclass(frozen=True, slots=True)
class Refresh:
    """An open generation of a series, and the plan of the days that it still misses."""

    plan: SeriesPlan
    generation: Generation
    #: The units that it replaces.
    replaced: Chain
    is_upgrade: bool = False

    def changed(self, cache: Cache) -> tuple[date, ...]:
        """Return the days of the complete generation whose bars differ from the replaced ones."""
        rebuilt = _as_if_published(cache, self.replaced, self.generation)
        return tuple(
            unit.day
            for unit in rebuilt.units
            for before in [self.replaced.unit(unit.day)]
            if before is not None
            and (before.rows, before.row_hash_sum) != (unit.rows, unit.row_hash_sum)
        )


def begin_refresh(
    cache: Cache,
    plan: SeriesPlan,
    first_day: date,
    features: FeatureSet,
    *,
    interrupted: Iterable[Generation],
    replaced: Iterable[Generation],
    fencing: int,
    is_current: Callable[[Chain, date], bool],
) -> Refresh:
    """Open a generation from a day to the visible frontier, or resume an interrupted one.

    Parameters
    ----------
    cache
        The cache.
    plan
        Plan of the visible series.
    first_day
        The first day to rebuild.
    features
        Optional groups of the days, if the first one is that of the anchor.
    interrupted
        Open generations that may be resumed if they begin on the same day and their ticks are those
        of the store.
    replaced
        Open generations to discard, except the one that is resumed.
    fencing
        Fencing number of the lease that the rebuild runs under.
    is_current
        Returns whether the units of a chain match the stored ticks from a day on.
    """
    chain = plan.chain
    resumed = resumable(cache, chain, first_day, interrupted, is_current)
    discard(cache, chain, [each for each in replaced if each != resumed], fencing=fencing)
    if resumed is None:
        generation = open_generation(cache, plan.series, first_day, fencing=fencing)
        units = chain.units[: (first_day - plan.series.first_day).days]
    else:
        generation, units = resumed, _as_if_published(cache, chain, resumed).units
    rebuilt = Chain(plan.series, units, chain.generations)
    rest = replace(
        plan,
        chain=rebuilt,
        first_day=rebuilt.frontier,
        last_day=chain.frontier - ONE_DAY,
        generation=generation.number,
        first_features=features,
    )
    return Refresh(rest, generation, chain)


def resumable(
    cache: Cache,
    chain: Chain,
    first_day: date,
    interrupted: Iterable[Generation],
    is_current: Callable[[Chain, date], bool],
) -> Generation | None:
    """Return the newest generation from the same day, if its units match the stored ticks."""
    same = [generation for generation in interrupted if generation.first_day == first_day]
    if not same:
        return None
    newest = max(same, key=lambda generation: generation.number)
    return newest if is_current(_as_if_published(cache, chain, newest), first_day) else None


def _as_if_published(cache: Cache, chain: Chain, generation: Generation) -> Chain:
    """Return the chain that would be visible if the generation were published as it is."""
    series = chain.series
    visible = read_chains(
        cache,
        [series.spec],
        segment_starts={series.segment_start},
        as_if_published={(series, generation.number)},
    )[series]
    since = [unit for unit in visible.units if unit.day >= generation.first_day]
    rebuilt = [unit for unit in since if unit.generation == generation.number]
    count = len(visible.units) - len(since) + len(rebuilt)
    return Chain(series, visible.units[:count], visible.generations)


def discard(cache: Cache, chain: Chain, generations: Iterable[Generation], *, fencing: int) -> None:
    """Discard open generations of a series."""
    for generation in generations:
        discard_generation(cache, chain.series, generation, fencing=fencing)


def stale_days(chain: Chain, last_day: date, ticks: TickSnapshot) -> tuple[date, ...]:
    """Return the days up to a last day whose stored ticks differ from those of their units.

    Days that the store does not hold are not stale.
    """
    units = chain.between(ticks.days[0].day, min(last_day, ticks.days[-1].day))
    return tuple(
        unit.day
        for unit, now in ((unit, ticks[unit.day]) for unit in units)
        if now.coverage.is_stored and now.tick_hash != unit.tick_hash
    )


@dataclass(frozen=True, slots=True)
class RebuiltState:
    """A processor state that was recomputed from the anchor."""

    state: bytes | None
    #: The first day whose bars differ from the stored ones; the state is that of the day before.
    differs: date | None


def rebuild_state(chain: Chain, last_day: date, ticks: TickSnapshot) -> RebuiltState:
    """Recompute the state after a day, as long as the recomputed bars equal the stored ones.

    Parameters
    ----------
    chain
        A series with units up to the last day at least.
    last_day
        The day after which the state is needed.
    ticks
        Every day from the anchor on; none may be missing.
    """
    builder = new_builder(chain.series.spec)
    state: bytes | None = None
    recomputed = _recompute(chain, last_day, ticks, builder)
    while days := list(islice(recomputed, _BATCH_DAYS)):
        frames = rows_of([bars for _, bars, _ in days])
        for (day, _, after), rows in zip(days, frames, strict=True):
            unit = chain.unit(day)
            assert unit is not None  # noqa: S101
            if (rows.height, rows["row_hash"].sum()) != (unit.rows, unit.row_hash_sum):
                return RebuiltState(state, day)
            state = after
    return RebuiltState(state, None)


def _recompute(
    chain: Chain, last_day: date, ticks: TickSnapshot, builder: BarBuilder
) -> Iterator[tuple[date, pl.DataFrame, bytes]]:
    """Yield each day with its bars and the state after it."""
    track = Track(chain.series, builder, chain.series.first_day)
    for computed in compute_days(ticks, [track], last_day):
        (bars,) = computed.bars
        assert bars is not None  # noqa: S101
        yield computed.day, bars, builder.checkpoint()
