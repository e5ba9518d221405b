"""Units are published: the rows first, then proof that they are there, then the row that shows them.

A kill at any moment leaves either what was visible before or what is visible after. Rows of an
attempt that no unit names are never seen.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.clickhouse.commit.attempts import attempts_of, new_number, with_keys
from rangebar_polars.clickhouse.connection.driver import is_damage
from rangebar_polars.clickhouse.connection.sql import enclosing, literal, numbers_in_pieces
from rangebar_polars.clickhouse.damage import set_damaged_aside
from rangebar_polars.clickhouse.query.units import read_chains, where_units
from rangebar_polars.clickhouse.schema.rows import hash_sql
from rangebar_polars.clickhouse.schema.tables import table
from rangebar_polars.exceptions import CacheQueryError, CacheWriteError, LeaseLostError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.commit.attempts import Attempt
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["TickDay", "UnitDraft", "publish", "write_checkpoints"]


#: How often rows are sent anew, as another attempt, when the cache holds others than were sent.
_ATTEMPTS = 3


def publish(cache: Cache, drafts: Sequence[UnitDraft]) -> list[Unit]:
    """Publish days of series as a group: all of them are visible afterwards, or none.

    Parameters
    ----------
    cache
        An open cache that is ready.
    drafts
        Days of any number of series. Those of one series follow one another, and the first
        one's `built_on` says where they go on.

    Returns
    -------
    list of Unit
        The units, in the order of the drafts.

    Raises
    ------
    CacheWriteError
        The cache does not hold what was sent, or cannot be asked; nothing new is visible, or the
        whole group is and nobody heard of it.
    LeaseLostError
        Another writer's units stand where these should.
    ValueError
        The drafts are no days of a series, or their bars cannot be stored.
    """
    if not drafts:
        return []
    before = _built_on(drafts)
    attempts = attempts_of(drafts)
    failpoint(Step.BARS_BEFORE)
    _send_bars(cache, attempts)
    failpoint(Step.BARS_PROVED)
    numbers = {(one.draft.series, one.draft.day): one.number for one in attempts}
    rows = [
        _unit_row(one, numbers[place] if isinstance(place, tuple) else place)
        for one, place in zip(attempts, before, strict=True)
    ]
    cache.insert("units", table("units").frame(rows))
    failpoint(Step.UNITS_INSERTED)
    units = _winners(cache, attempts)
    failpoint(Step.UNITS_PROVED)
    return units


def _built_on(drafts: Sequence[UnitDraft]) -> list[int | tuple[BarSeries, date]]:
    """Attempt that each draft is built on, or which draft of the group it is."""
    places = {(draft.series, draft.day) for draft in drafts}
    if len(places) != len(drafts):
        raise ValueError("two of the units to be published are the same day of the same series")
    found: list[int | tuple[BarSeries, date]] = []
    for draft in drafts:
        yesterday = (draft.series, draft.day - ONE_DAY)
        if (draft.built_on is None) != (yesterday in places):
            raise ValueError(
                with_hint(
                    f"the unit `{draft.day}` of {draft.series} does not say what it is built on",
                    "`built_on` is None only for a day whose day before is in the same group",
                )
            )
        found.append(yesterday if draft.built_on is None else draft.built_on)
    return found


def _send_bars(cache: Cache, attempts: list[Attempt]) -> None:
    pending = [one for one in attempts if one.rows.height]
    for _ in range(_ATTEMPTS):
        _insert_bars(cache, pending)
        held = _proof(cache, pending) if pending else {}
        pending = [one for one in pending if held.get(one.number) != one.expected]
        if not pending:
            return
        for one in pending:
            # What stands under the old number is nobody's from now on.
            one.number = new_number()
    first = pending[0].draft
    raise CacheWriteError(
        with_hint(
            f"the bar cache at `{cache.target.address}` does not hold the bars of {first.series} "
            f"on `{first.day}` that were sent, in `{_ATTEMPTS}` attempts",
            "look at the disk and the log of the database; nothing of this day is visible",
        )
    )


def _insert_bars(cache: Cache, attempts: list[Attempt]) -> None:
    """One insert a month: only within one partition is an insert all or nothing."""
    months: dict[tuple[int, int], list[Attempt]] = {}
    for one in attempts:
        day = one.draft.day
        months.setdefault((day.year, day.month), []).append(one)
    for of_month in months.values():
        cache.insert("bars", with_keys(of_month))
        failpoint(Step.BARS_INSERTED)


def _proof(cache: Cache, attempts: list[Attempt]) -> dict[int, tuple[Any, ...]]:
    """What the cache holds of attempts; a rebuild does not depend on what it replaces.

    The old rows of its days are read, too, as a reader of the new ones would meet them. Where they
    are damaged they are set aside, but on a server, where that is for who runs it to decide. What
    is no rebuild passes them over.
    """
    if any(one.draft.generation == 0 for one in attempts):
        return _held(cache, attempts, "PREWHERE")
    try:
        return _held(cache, attempts, "WHERE")
    except CacheQueryError as error:
        days = [one.draft.day for one in attempts]
        if not (cache.is_embedded and is_damage(error) and set_damaged_aside(cache, days)):
            raise
    return _held(cache, attempts, "WHERE")


def _held(cache: Cache, attempts: list[Attempt], where: str) -> dict[int, tuple[Any, ...]]:
    """What the cache says of the rows of each attempt, hashed again over the stored values.

    `PREWHERE` reads the values of no other rows, `WHERE` those that are kept in one block, too.
    """
    held: dict[int, tuple[Any, ...]] = {}
    for piece in numbers_in_pieces(attempts):
        held |= _held_of(cache, piece, where)
    return held


def _held_of(cache: Cache, attempts: Sequence[Attempt], where: str) -> dict[int, tuple[Any, ...]]:
    days = [one.draft.day for one in attempts]
    numbers = ", ".join(str(one.number) for one in attempts)
    rows = cache.query(
        f"SELECT attempt, toInt64(count()), sum(row_hash), sum({hash_sql()}), "  # noqa: S608
        "min(first_agg_trade_id), max(last_agg_trade_id), toInt64(countIf(NOT is_closed)) "
        f"FROM {cache.table('bars')} "
        f"{where} {enclosing(SeriesKey._fields, [one.draft.series.key for one in attempts])} "
        f"AND unit_day BETWEEN {literal(min(days))} AND {literal(max(days))} "
        f"AND attempt IN ({numbers}) GROUP BY attempt"
    )
    return {attempt: tuple(facts) for attempt, *facts in rows.iter_rows()}


def _unit_row(one: Attempt, built_on: int) -> dict[str, Any]:
    draft, ticks = one.draft, one.draft.ticks
    facts = one.facts
    return {
        **draft.series.key._asdict(),
        **asdict(draft.series.spec.rules),
        "unit_day": draft.day,
        "generation": draft.generation,
        "attempt": one.number,
        "built_on": built_on,
        "fencing": draft.fencing,
        "day_state": ticks.state,
        "reason": ticks.reason,
        "tick_first_id": ticks.first_id,
        "tick_last_id": ticks.last_id,
        "tick_rows": ticks.rows,
        "tick_hash": ticks.hash,
        "source_absent": json.dumps(ticks.source_absent),
        "bar_first_id": facts.first_id,
        "bar_last_id": facts.last_id,
        "rows": facts.rows,
        "orphan_rows": facts.orphans,
        "row_hash_sum": facts.row_hash_sum,
        "first_close_us": facts.first_close_us,
        "last_close_us": facts.last_close_us,
        "feature_groups": " ".join(draft.feature_groups),
        "processor_state": draft.state,
        "code_version": _internal.__version__,
        "writer": f"{socket.gethostname()}:{os.getpid()}",
    }


def _winners(cache: Cache, attempts: list[Attempt]) -> list[Unit]:
    """The published units as every reader finds them; another writer's in their place is an error."""
    chains = read_chains(
        cache,
        {one.draft.series.spec: None for one in attempts},
        segment_starts={one.draft.series.segment_start for one in attempts},
        as_if_published={(one.draft.series, one.draft.generation) for one in attempts},
    )
    units: list[Unit] = []
    for one in attempts:
        chain = chains.get(one.draft.series)
        unit = chain.unit(one.draft.day) if chain is not None else None
        if unit is None or unit.attempt != one.number:
            raise LeaseLostError(
                with_hint(
                    f"another writer has published {one.draft.series} on `{one.draft.day}`",
                    "run it again when the other one is done; what it published is kept",
                )
            )
        units.append(unit)
    return units


def write_checkpoints(cache: Cache, units: Sequence[Unit]) -> None:
    """Copy units, at most one of a series, to `population_checkpoints`, the database by itself."""
    if not units:
        return
    columns = ", ".join(name for name in table("population_checkpoints").types)
    copied = columns.removesuffix("updated_us")
    for where in where_units(units):
        cache.command(
            f"INSERT INTO {cache.table('population_checkpoints')} ({columns}) "  # noqa: S608
            f"SELECT {copied}toUnixTimestamp64Micro(now64(6)) FROM {cache.table('units')} "
            f"WHERE {where}"
        )
    failpoint(Step.CHECKPOINTS_WRITTEN)
