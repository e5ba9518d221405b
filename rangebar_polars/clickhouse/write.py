"""Units are published: the rows first, then proof that they are there, then the row that shows them.

A kill at any moment leaves either what was visible before or what is visible after. Rows of an
attempt that no unit names are never seen.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars import _internal
from rangebar_polars.clickhouse.ddl import table
from rangebar_polars.clickhouse.series import SeriesKey
from rangebar_polars.clickhouse.sql import among, literal
from rangebar_polars.clickhouse.steps import Step, reach
from rangebar_polars.clickhouse.stored import feature_groups, hash_sql, rows_of
from rangebar_polars.clickhouse.units import read_chains
from rangebar_polars.exceptions import CacheWriteError, LeaseLostError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.clickhouse.units import Unit

__all__ = ["DayOfTicks", "UnitDraft", "publish"]

#: How often rows are sent anew, as another attempt, when the cache holds others than were sent.
_ATTEMPTS = 3

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayOfTicks:
    """What a unit was made of."""

    #: Of the day in the tick store: "final", "given" or "absent_confirmed".
    state: str
    rows: int
    #: Of the ticks' content: another one makes the unit stale.
    hash: str
    first_id: int | None = None
    last_id: int | None = None
    #: Spans of ids, both ends included, that the source does not have.
    source_absent: tuple[tuple[int, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnitDraft:
    """A day of a series that is to be published."""

    series: Series
    day: date
    #: Bars of the unit in order, with all features and with `is_closed` and `ended_by`.
    bars: pl.DataFrame
    ticks: DayOfTicks
    #: State of the processor after the day.
    state: bytes
    #: Attempt of the unit of the day before, 0 on the anchor's day; None if that unit is
    #: published in the same call.
    built_on: int | None = None
    generation: int = 0
    fencing: int = 0
    feature_groups: tuple[str, ...] = field(default_factory=feature_groups)


@dataclass(slots=True)
class _Attempt:
    """A draft with the rows that are sent for it under a number of its own."""

    draft: UnitDraft
    rows: pl.DataFrame
    number: int

    @property
    def expected(self) -> tuple[int, int, int, int | None, int | None, int]:
        """What the cache must say of its rows."""
        rows, total = self.rows, self.rows["row_hash"].sum()
        ids = (rows["first_agg_trade_id"].min(), rows["last_agg_trade_id"].max())
        return (rows.height, total, total, *ids, rows.height - int(rows["is_closed"].sum()))  # type: ignore[return-value]


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
    rows_of_units = rows_of([draft.bars for draft in drafts])
    _judge_days(drafts)
    attempts = [
        _Attempt(draft, rows, _number()) for draft, rows in zip(drafts, rows_of_units, strict=True)
    ]
    reach(Step.BARS_BEFORE)
    _send_bars(cache, attempts)
    reach(Step.BARS_PROVED)
    numbers = {(one.draft.series, one.draft.day): one.number for one in attempts}
    rows = [
        _unit_row(one, numbers[place] if isinstance(place, tuple) else place)
        for one, place in zip(attempts, before, strict=True)
    ]
    cache.insert("units", table("units").frame(rows))
    reach(Step.UNITS_INSERTED)
    units = _winners(cache, attempts)
    reach(Step.UNITS_PROVED)
    return units


def _number() -> int:
    """Random number of an attempt; 0 stands for none."""
    return secrets.randbits(63) + 1


def _built_on(drafts: Sequence[UnitDraft]) -> list[int | tuple[Series, date]]:
    """Attempt that each draft is built on, or which draft of the group it is."""
    places = {(draft.series, draft.day) for draft in drafts}
    if len(places) != len(drafts):
        raise ValueError("two of the units to be published are the same day of the same series")
    found: list[int | tuple[Series, date]] = []
    for draft in drafts:
        yesterday = (draft.series, draft.day - _ONE_DAY)
        if (draft.built_on is None) != (yesterday in places):
            raise ValueError(
                with_hint(
                    f"the unit `{draft.day}` of {draft.series} does not say what it is built on",
                    "`built_on` is None only for a day whose day before is in the same group",
                )
            )
        found.append(yesterday if draft.built_on is None else draft.built_on)
    return found


def _judge_days(drafts: Sequence[UnitDraft]) -> None:
    """Refuse a unit that does not belong to its series, or a bar that does not to its unit."""
    for draft in drafts:
        segment = draft.series.segment
        is_first = draft.day == draft.series.first_day
        if draft.day < draft.series.first_day or draft.day not in segment:
            raise ValueError(f"`{draft.day}` is no day of {draft.series}")
        if draft.built_on is not None and (draft.built_on == 0) != is_first:
            raise ValueError(f"only the first unit of {draft.series} is built on none")
        close = draft.bars.filter("is_closed").select(
            first=pl.col("close_time").min().dt.date(), last=pl.col("close_time").max().dt.date()
        )
        if not {*close.row(0)} <= {draft.day, None}:
            raise ValueError(
                f"a bar of the unit `{draft.day}` of {draft.series} closes on another day"
            )


def _send_bars(cache: Cache, attempts: list[_Attempt]) -> None:
    pending = [one for one in attempts if one.rows.height]
    for _ in range(_ATTEMPTS):
        _insert_bars(cache, pending)
        held = _held(cache, pending) if pending else {}
        pending = [one for one in pending if held.get(one.number) != one.expected]
        if not pending:
            return
        for one in pending:
            # What stands under the old number is nobody's from now on.
            one.number = _number()
    first = pending[0].draft
    raise CacheWriteError(
        with_hint(
            f"the bar cache at `{cache.target.address}` does not hold the bars of {first.series} "
            f"on `{first.day}` that were sent, in `{_ATTEMPTS}` attempts",
            "look at the disk and the log of the database; nothing of this day is visible",
        )
    )


def _insert_bars(cache: Cache, attempts: list[_Attempt]) -> None:
    """One insert a month: only within one partition is an insert all or nothing."""
    months: dict[tuple[int, int], list[pl.DataFrame]] = {}
    for one in attempts:
        day = one.draft.day
        months.setdefault((day.year, day.month), []).append(_with_key(one))
    for frames in months.values():
        cache.insert("bars", pl.concat(frames))
        reach(Step.BARS_INSERTED)


def _with_key(one: _Attempt) -> pl.DataFrame:
    key = {**one.draft.series.key._asdict(), "unit_day": one.draft.day, "attempt": one.number}
    dtypes = table("bars").dtypes()
    return one.rows.select(
        *(pl.lit(value, dtype=dtypes[name]).alias(name) for name, value in key.items()),
        pl.all(),
    )


def _held(cache: Cache, attempts: list[_Attempt]) -> dict[int, tuple[Any, ...]]:
    """What the cache says of the rows of each attempt, hashed again over the stored values."""
    days = [one.draft.day for one in attempts]
    numbers = ", ".join(str(one.number) for one in attempts)
    rows = cache.query(
        f"SELECT attempt, toInt64(count()), sum(row_hash), sum({hash_sql()}), "  # noqa: S608
        "min(first_agg_trade_id), max(last_agg_trade_id), toInt64(countIf(NOT is_closed)) "
        f"FROM {cache.table('bars')} "
        f"WHERE {among(SeriesKey._fields, [one.draft.series.key for one in attempts])} "
        f"AND unit_day BETWEEN {literal(min(days))} AND {literal(max(days))} "
        f"AND attempt IN ({numbers}) GROUP BY attempt"
    )
    return {attempt: tuple(facts) for attempt, *facts in rows.iter_rows()}


def _unit_row(one: _Attempt, built_on: int) -> dict[str, Any]:
    draft, ticks = one.draft, one.draft.ticks
    count, total, _, first_id, last_id, orphans = one.expected
    close = one.rows["close_time_us"]
    return {
        **draft.series.key._asdict(),
        **asdict(draft.series.family.configuration),
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
        "bar_first_id": first_id,
        "bar_last_id": last_id,
        "rows": count,
        "orphan_rows": orphans,
        "row_hash_sum": total,
        "first_close_us": close.min(),
        "last_close_us": close.max(),
        "feature_groups": list(draft.feature_groups),
        "processor_state": draft.state,
        "code_version": _internal.__version__,
        "writer": f"{socket.gethostname()}:{os.getpid()}",
    }


def _winners(cache: Cache, attempts: list[_Attempt]) -> list[Unit]:
    """The published units as every reader finds them; another writer's in their place is an error."""
    chains = read_chains(
        cache,
        {one.draft.series.family: None for one in attempts},
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
