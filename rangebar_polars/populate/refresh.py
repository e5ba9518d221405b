"""Series that are built anew: refreshes under a generation, and states computed again."""

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

__all__ = ["RebuiltState", "Refresh", "begin_refresh", "discard_others", "rebuild", "stale_days"]


@dataclass(frozen=True, slots=True)
class Refresh:
    """A rebuild of a series, and the days that are still to be built for it."""

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
    """Open a rebuild from a day to what is visible, or go on with one that was cut off.

    Parameters
    ----------
    cache
        The cache.
    plan
        The series as it is visible.
    first_day
        The first day that is built anew.
    fencing
        Number of the lease under which it is done.
    is_current
        Whether a chain was made, from a day on, of the ticks that the store holds.
    """
    found = _cut_off(cache, plan.chain, first_day, is_current)
    discard_others(cache, plan.chain, found, fencing=fencing)
    chain = plan.chain
    if found is None:
        generation = open_generation(cache, plan.series, first_day, fencing=fencing)
        kept = chain.units[: (first_day - plan.series.first_day).days]
    else:
        generation, kept = found, _as_if(cache, chain, found).units
    rebuilt = Chain(plan.series, kept, chain.generations)
    last_day = chain.frontier - ONE_DAY
    following = replace(
        plan,
        chain=rebuilt,
        first_day=rebuilt.frontier,
        last_day=last_day,
        generation=generation.number,
    )
    return Refresh(following, generation)


def _cut_off(
    cache: Cache, chain: Chain, first_day: date, is_current: Callable[[Chain, date], bool]
) -> Generation | None:
    """An open rebuild from the same day, if what it has is worth going on with."""
    same = [one for one in chain.open_generations if one.first_day == first_day]
    if not same:
        return None
    newest = max(same, key=lambda one: one.number)
    return newest if is_current(_as_if(cache, chain, newest), first_day) else None


def _as_if(cache: Cache, chain: Chain, generation: Generation) -> Chain:
    """The chain as it would be if the rebuild were published, up to what it has."""
    series = chain.series
    found = read_chains(
        cache,
        [series.spec],
        segment_starts={series.segment_start},
        as_if_published={(series, generation.number)},
    )[series]
    since = [unit for unit in found.units if unit.day >= generation.first_day]
    rebuilt = [unit for unit in since if unit.generation == generation.number]
    kept = len(found.units) - len(since)
    return Chain(series, found.units[: kept + len(rebuilt)], found.generations)


def discard_others(
    cache: Cache, chain: Chain, kept: Generation | None = None, *, fencing: int
) -> None:
    """Give up the open rebuilds of a series, but one."""
    for generation in chain.open_generations:
        if generation != kept:
            discard_generation(cache, chain.series, generation, fencing=fencing)


def stale_days(chain: Chain, last_day: date, held: TickSnapshot) -> tuple[date, ...]:
    """Days up to a last one whose ticks are not those that their units were made of.

    Days that the store does not vouch for say nothing.
    """
    units = chain.between(held.days[0].day, min(last_day, held.days[-1].day))
    return tuple(
        unit.day
        for unit, now in ((unit, held[unit.day]) for unit in units)
        if now.coverage.is_stored and now.tick_hash != unit.tick_hash
    )


@dataclass(frozen=True, slots=True)
class RebuiltState:
    """A state that was computed again from the anchor on."""

    state: bytes | None
    #: The first day whose bars are not those that are kept; the state is that of the day before.
    differs: date | None


def rebuild(chain: Chain, last_day: date, held: TickSnapshot) -> RebuiltState:
    """State after a day, computed again from the anchor on, as far as the bars are those kept.

    Parameters
    ----------
    chain
        A series, with units up to the last day at least.
    last_day
        The day whose state is wanted.
    held
        The days from the anchor on; all of them must be there.
    """
    builder = new_builder(chain.series.spec)
    state: bytes | None = None
    computed = _computed(chain, last_day, held, builder)
    while days := list(islice(computed, 30)):
        rows = rows_of([bars for _, bars, _ in days])
        for (day, _, after), sent in zip(days, rows, strict=True):
            unit = chain.unit(day)
            assert unit is not None  # noqa: S101
            if (sent.height, sent["row_hash"].sum()) != (unit.rows, unit.row_hash_sum):
                return RebuiltState(state, day)
            state = after
    return RebuiltState(state, None)


def _computed(
    chain: Chain, last_day: date, held: TickSnapshot, builder: RangeBarBuilder
) -> Iterator[tuple[date, pl.DataFrame, bytes]]:
    track = Track(chain.series, builder, chain.series.first_day)
    for computed in compute_days(held, [track], last_day):
        (bars,) = computed.bars
        assert bars is not None  # noqa: S101
        yield computed.day, bars, builder.checkpoint()
