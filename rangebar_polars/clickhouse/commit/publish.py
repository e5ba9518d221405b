"""Publication of units: first the rows, then their proof, then the row that makes them visible.

A kill at any moment leaves the state before or after the publication. Rows of an attempt that no
unit names are never visible.
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
from rangebar_polars.clickhouse.commit.attempts import (
    attempts_of,
    by_columns,
    new_number,
    with_keys,
)
from rangebar_polars.clickhouse.connection.driver import is_damage
from rangebar_polars.clickhouse.connection.sql import enclosing, literal, number_batches
from rangebar_polars.clickhouse.damage import set_damaged_aside
from rangebar_polars.clickhouse.query.units import read_chains, where_units
from rangebar_polars.clickhouse.schema.rows import hash_sql
from rangebar_polars.clickhouse.schema.tables import added_columns, table
from rangebar_polars.exceptions import CacheQueryError, CacheWriteError, LeaseLostError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.bar_series.columns import StoredColumn
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.commit.attempts import Attempt
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["TickDay", "UnitDraft", "publish", "write_checkpoints"]


#: How often rows are sent as a new attempt when the stored rows differ from those that were sent.
_ATTEMPTS = 3


def publish(cache: Cache, drafts: Sequence[UnitDraft]) -> list[Unit]:
    """Publish days of series as a group: afterwards all of them are visible, or none.

    Parameters
    ----------
    cache
        An open cache with its tables, and with the columns of the groups of the drafts.
    drafts
        Days of any number of series. The days of one series are consecutive, and `built_on` of
        the first one names the unit that they extend.

    Returns
    -------
    list of Unit
        The units, in the order of the drafts.

    Raises
    ------
    CacheWriteError
        The stored rows differ from those that were sent, or the cache cannot be reached. Then
        nothing new is visible, or the whole group is, without a confirmation.
    LeaseLostError
        Units of another writer are visible instead of these.
    ValueError
        The drafts are not days of their series, or their bars cannot be stored.
    """
    if not drafts:
        return []
    before = _built_on(drafts)
    attempts = attempts_of(drafts)
    failpoint(Step.BARS_BEFORE)
    _send_bars(cache, attempts)
    failpoint(Step.BARS_PROVED)
    numbers = {(attempt.draft.series, attempt.draft.day): attempt.number for attempt in attempts}
    rows = [
        _unit_row(attempt, numbers[parent] if isinstance(parent, tuple) else parent)
        for attempt, parent in zip(attempts, before, strict=True)
    ]
    has_features = any(attempt.columns for attempt in attempts)
    units = table("units").extended(added_columns(())["units"] if has_features else ())
    cache.insert("units", units.frame(rows))
    failpoint(Step.UNITS_INSERTED)
    published = _winners(cache, attempts)
    failpoint(Step.UNITS_PROVED)
    return published


def _built_on(drafts: Sequence[UnitDraft]) -> list[int | tuple[BarSeries, date]]:
    """Return the attempt that each draft is built on, or the series and day of a draft of the group."""
    days = {(draft.series, draft.day) for draft in drafts}
    if len(days) != len(drafts):
        raise ValueError("two of the units to publish are the same day of the same series")
    found: list[int | tuple[BarSeries, date]] = []
    for draft in drafts:
        yesterday = (draft.series, draft.day - ONE_DAY)
        if (draft.built_on is None) != (yesterday in days):
            raise ValueError(
                with_hint(
                    f"the unit `{draft.day}` of {draft.series} does not name the unit it is built on",
                    "`built_on` is None only if the day before is in the same group",
                )
            )
        found.append(yesterday if draft.built_on is None else draft.built_on)
    return found


def _send_bars(cache: Cache, attempts: list[Attempt]) -> None:
    pending = [attempt for attempt in attempts if attempt.rows.height]
    for _ in range(_ATTEMPTS):
        _insert_bars(cache, pending)
        stored = _proof(cache, pending) if pending else {}
        pending = [attempt for attempt in pending if stored.get(attempt.number) != attempt.expected]
        if not pending:
            return
        for attempt in pending:
            # No unit will ever name the rows of the old number.
            attempt.number = new_number()
    first = pending[0].draft
    raise CacheWriteError(
        with_hint(
            f"the bar cache at `{cache.target.address}` did not store the bars of {first.series} on "
            f"`{first.day}` as they were sent, in `{_ATTEMPTS}` attempts",
            "check the disk and the log of the database; nothing of this day is visible",
        )
    )


def _insert_bars(cache: Cache, attempts: list[Attempt]) -> None:
    """Insert the bars of each month separately: an insert is atomic only within a partition."""
    months: dict[tuple[int, int], list[Attempt]] = {}
    for attempt in attempts:
        day = attempt.draft.day
        months.setdefault((day.year, day.month), []).append(attempt)
    for of_month in months.values():
        for with_columns in by_columns(of_month).values():
            cache.insert("bars", with_keys(with_columns))
            failpoint(Step.BARS_INSERTED)


def _proof(cache: Cache, attempts: list[Attempt]) -> dict[int, tuple[Any, ...]]:
    """Read back the facts of attempts.

    For a rebuild, the old rows of its days are read too, as a reader of the new rows will read
    them. If they are damaged, they are set aside; on a server, that is left to its operator.
    Other attempts skip the old rows.
    """
    if any(attempt.draft.generation == 0 for attempt in attempts):
        return _stored_facts(cache, attempts, "PREWHERE")
    try:
        return _stored_facts(cache, attempts, "WHERE")
    except CacheQueryError as error:
        days = [attempt.draft.day for attempt in attempts]
        if not (cache.is_embedded and is_damage(error) and set_damaged_aside(cache, days)):
            raise
    return _stored_facts(cache, attempts, "WHERE")


def _stored_facts(cache: Cache, attempts: list[Attempt], where: str) -> dict[int, tuple[Any, ...]]:
    """Compute the facts of each attempt in the database, with hashes over the stored values.

    `PREWHERE` reads the values of these rows alone, `WHERE` also those of other rows in a block.
    """
    facts: dict[int, tuple[Any, ...]] = {}
    for columns, with_columns in by_columns(attempts).items():
        for batch in number_batches(with_columns):
            facts |= _stored_facts_of(cache, batch, columns, where)
    return facts


def _stored_facts_of(
    cache: Cache, attempts: Sequence[Attempt], columns: Sequence[StoredColumn], where: str
) -> dict[int, tuple[Any, ...]]:
    days = [attempt.draft.day for attempt in attempts]
    numbers = ", ".join(str(attempt.number) for attempt in attempts)
    of_features = f", sum(feature_hash), sum({hash_sql(columns)})" if columns else ""
    rows = cache.query(
        f"SELECT attempt, toInt64(count()), sum(row_hash), sum({hash_sql()}), "  # noqa: S608
        "min(first_agg_trade_id), max(last_agg_trade_id), toInt64(countIf(NOT is_closed))"
        f"{of_features} FROM {cache.table('bars')} "
        f"{where} {enclosing(SeriesKey._fields, [attempt.draft.series.key for attempt in attempts])} "
        f"AND unit_day BETWEEN {literal(min(days))} AND {literal(max(days))} "
        f"AND attempt IN ({numbers}) GROUP BY attempt"
    )
    return {number: tuple(facts) for number, *facts in rows.iter_rows()}


def _unit_row(attempt: Attempt, built_on: int) -> dict[str, Any]:
    draft, ticks = attempt.draft, attempt.draft.ticks
    facts = attempt.facts
    return {
        **draft.series.key._asdict(),
        **asdict(draft.series.spec.rules),
        "unit_day": draft.day,
        "generation": draft.generation,
        "attempt": attempt.number,
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
        **_of_features(attempt),
    }


def _of_features(attempt: Attempt) -> dict[str, Any]:
    """Return the values of a unit that only a cache with optional groups has."""
    replay = str(attempt.draft.replay) if attempt.columns else ""
    return {"feature_hash_sum": attempt.feature_hash_sum, "replay": replay}


def _winners(cache: Cache, attempts: list[Attempt]) -> list[Unit]:
    """Return the published units as readers see them, or raise if another writer's are visible."""
    chains = read_chains(
        cache,
        {attempt.draft.series.spec: None for attempt in attempts},
        segment_starts={attempt.draft.series.segment_start for attempt in attempts},
        as_if_published={(attempt.draft.series, attempt.draft.generation) for attempt in attempts},
    )
    units: list[Unit] = []
    for attempt in attempts:
        chain = chains.get(attempt.draft.series)
        unit = chain.unit(attempt.draft.day) if chain is not None else None
        if unit is None or unit.attempt != attempt.number:
            raise LeaseLostError(
                with_hint(
                    f"another writer has published {attempt.draft.series} on `{attempt.draft.day}`",
                    "run it again when the other writer has ended; it continues from what that one published",
                )
            )
        units.append(unit)
    return units


def write_checkpoints(cache: Cache, units: Sequence[Unit]) -> None:
    """Copy units, at most one of each series, to `population_checkpoints` within the database."""
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
