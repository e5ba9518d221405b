"""Detect what is wrong with stored bars: units and their rows say it, never the times of bars."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.days import restored
from rangebar_polars.bar_series.live_builders import bars_state
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.connection.driver import is_damage
from rangebar_polars.clickhouse.query.units import states_of, where_units
from rangebar_polars.clickhouse.schema.rows import hash_sql
from rangebar_polars.exceptions import CacheError, CheckpointError, NoAnswerError
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.kintsugi.scope import is_populated
from rangebar_polars.maintenance.tasks import update_tasks
from rangebar_polars.populate.refresh import stale_days
from rangebar_polars.sources import Venue
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.symbol_registry import past_gate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.kintsugi.scope import Place, Scope
    from rangebar_polars.kintsugi.shards import Shard

__all__ = ["damaged_units", "heads_behind", "open_generations", "stale_units", "unreadable_states"]

#: Units whose rows are hashed together.
_BATCH = 200


def rebuildable(place: Place) -> list[Chain]:
    """Return the stored series that a population may rebuild."""
    hidden = superseded(place.chains)
    return [one for one in place.chains if is_populated(one) and one.series not in hidden]


def _rest(chain: Chain, first_day: date) -> list[date]:
    """Return the stored days of a chain from a day on: they are rebuilt together."""
    count = (chain.frontier - first_day).days
    return [first_day + number * ONE_DAY for number in range(count)]


def open_generations(place: Place) -> list[Shard]:
    """Return the tasks of rebuilds that were cut off."""
    return [
        place.shard(
            "open_generation",
            _rest(chain, rebuild.first_day),
            "a rebuild was cut off",
            priority="P1",
            chains=[chain],
        )
        for chain in rebuildable(place)
        for rebuild in chain.open_generations[-1:]
    ]


def stale_units(place: Place, scope: Scope) -> list[Shard]:
    """Return the tasks of days whose ticks have changed since their bars were stored."""
    chains = rebuildable(place)
    if not chains:
        return []
    folder = place.folder
    first_day = min(chain.series.first_day for chain in chains)
    last_day = max(chain.frontier for chain in chains) - ONE_DAY
    ticks = snapshot(
        scope.storage,
        folder.symbol,
        first_day,
        last_day,
        source=folder.source,
        market=folder.market,
        check_end=False,
    )
    found = []
    for chain in chains:
        days = stale_days(chain, last_day, ticks)
        if days:
            reason = "the ticks have changed since the bars were stored"
            found.append(place.shard("stale_unit", days, reason, priority="P1", chains=[chain]))
    return found


def damaged_units(place: Place, cache: Cache) -> list[Shard]:
    """Return the tasks of days whose stored bars are not those that were published."""
    found = []
    for chain in rebuildable(place):
        days = [unit.day for unit in _damaged(cache, chain.units)]
        if days:
            reason = "the stored bars are not those that were published"
            found.append(place.shard("unit_damaged", days, reason, priority="P1", chains=[chain]))
    return found


def _damaged(cache: Cache, units: Sequence[Unit]) -> list[Unit]:
    found: list[Unit] = []
    for start in range(0, len(units), _BATCH):
        batch = units[start : start + _BATCH]
        suspects = _differing(cache, batch, "")
        # A copy that a repeated insert has left behind is merged, sooner or later.
        found += _differing(cache, suspects, " FINAL") if suspects else []
    return found


def _differing(cache: Cache, units: Sequence[Unit], modifier: str) -> list[Unit]:
    """Return the units whose number of rows or sum of hashes differs; the hashes are computed again."""
    facts: dict[int, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    try:
        for where in where_units(units):
            rows = cache.query(
                f"SELECT attempt, toInt64(count()), sum(row_hash), sum({hash_sql()}) "  # noqa: S608
                f"FROM {cache.table('bars')}{modifier} WHERE {where} GROUP BY attempt"
            )
            facts |= {attempt: (count, *hashes) for attempt, count, *hashes in rows.iter_rows()}
    except CacheError as error:
        if not is_damage(error):
            raise
        if len(units) == 1:
            return list(units)
        middle = len(units) // 2
        halves = units[:middle], units[middle:]
        return [unit for half in halves for unit in _differing(cache, half, modifier)]
    return [
        unit
        for unit in units
        if facts[unit.attempt] != (unit.rows, unit.row_hash_sum, unit.row_hash_sum)
    ]


def unreadable_states(place: Place, cache: Cache) -> list[Shard]:
    """Return the tasks of series whose newest state this version cannot continue from."""
    chains = rebuildable(place)
    newest = [unit for chain in chains if (unit := chain.last) is not None]
    states = states_of(cache, newest)
    found = []
    for chain in chains:
        assert chain.last is not None  # noqa: S101 - it has units
        try:
            restored(bars_state(states.get(chain.last, b"")))
        except CheckpointError as error:
            days = _rest(chain, chain.series.first_day)
            reason = str(error).partition("\n")[0]
            found.append(
                place.shard("state_unreadable", days, reason, priority="P1", chains=[chain])
            )
    return found


def heads_behind(place: Place, scope: Scope, max_stale_hours: float) -> list[Shard]:
    """Return the tasks of families that lack whole days which the source has.

    Raises
    ------
    NoAnswerError
        The source does not say which day is its newest.
    """
    chains = rebuildable(place)
    if not chains:
        return []
    folder, now = place.folder, clock.utc_now()
    with past_gate(folder.symbol):
        clamp = newest_day(
            folder.symbol,
            None,
            venue=Venue(folder.source, folder.market),
            cache_dir=scope.cache_dir,
        )
    found = []
    for task in update_tasks(chains):
        first_day = task.start.date()
        is_late = now - day_start(first_day + ONE_DAY) > timedelta(hours=max_stale_hours)
        if first_day > clamp.day and not clamp.is_certain and first_day < now.date():
            raise NoAnswerError(f"the newest day of {place} is not known: {clamp.why}")
        if first_day > clamp.day and not is_late:
            continue
        touched = [
            chain
            for chain in chains
            if chain.series.spec.threshold in task.thresholds
            and chain.series.spec.reset == task.reset
            and chain.frontier == first_day
        ]
        count = max(1, (clamp.day - first_day).days + 1)
        days = [first_day + number * ONE_DAY for number in range(count)]
        reason = "bars of these days are not stored"
        if first_day > clamp.day:
            reason = f"the source does not have the day ({clamp.why})"
        found.append(place.shard("head_behind", days, reason, priority="P0", chains=touched))
    return found
