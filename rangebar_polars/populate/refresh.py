"""Rebuilds: generations that replace stored days, and states recomputed from the anchor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.days import Track, compute_days, new_builder
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.clickhouse.commit.generations import discard_generation, open_generation
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.schema.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    import polars as pl

    from rangebar_polars.bar_series.units import Generation
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.compute.builder import RangeBarBuilder
    from rangebar_polars.populate.plan import SeriesPlan
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = [
    "RebuiltState",
    "Refresh",
    "begin_refresh",
    "discard_others",
    "rebuild_state",
    "stale_days",
]

#: Days whose rows are hashed together.
_BATCH_DAYS = 30


@dataclass(frozen=True, slots=True)
class Refresh:
    """An open generation of a series, and the plan of the days that it still misses."""

    plan: SeriesPlan
    generation: Generation


def begin_refresh(
    cache: Cache,
    plan: SeriesPlan,
    first_day: date,
    *,
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
    fencing
        Fencing number of the lease that the rebuild runs under.
    is_current
        Returns whether the units of a chain match the stored ticks from a day on.
    """
    interrupted = _interrupted(cache, plan.chain, first_day, is_current)
    discard_others(cache, plan.chain, interrupted, fencing=fencing)
    chain = plan.chain
    if interrupted is None:
        generation = open_generation(cache, plan.series, first_day, fencing=fencing)
        units = chain.units[: (first_day - plan.series.first_day).days]
    else:
        generation, units = interrupted, _as_if_published(cache, chain, interrupted).units
    rebuilt = Chain(plan.series, units, chain.generations)
    rest = replace(
        plan,
        chain=rebuilt,
        first_day=rebuilt.frontier,
        last_day=chain.frontier - ONE_DAY,
        generation=generation.number,
    )
    return Refresh(rest, generation)


def _interrupted(
    cache: Cache, chain: Chain, first_day: date, is_current: Callable[[Chain, date], bool]
) -> Generation | None:
    """Return the newest open generation from the same day, if its units match the stored ticks."""
    same = [
        generation for generation in chain.open_generations if generation.first_day == first_day
    ]
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


def discard_others(
    cache: Cache, chain: Chain, current: Generation | None = None, *, fencing: int
) -> None:
    """Discard the open generations of a series except the current one."""
    for generation in chain.open_generations:
        if generation != current:
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
    chain: Chain, last_day: date, ticks: TickSnapshot, builder: RangeBarBuilder
) -> Iterator[tuple[date, pl.DataFrame, bytes]]:
    """Yield each day with its bars and the state after it."""
    track = Track(chain.series, builder, chain.series.first_day)
    for computed in compute_days(ticks, [track], last_day):
        (bars,) = computed.bars
        assert bars is not None  # noqa: S101
        yield computed.day, bars, builder.checkpoint()
