"""Garbage collection of the cache: rows that interrupted writers and rebuilds left behind.

Rows that a reader may be about to read are never removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.bar_series.identity import LeaseKey, SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, OPEN, PUBLISHED
from rangebar_polars.clickhouse.connection.sql import joined_batches, split_among

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["SERIES_COLUMNS", "Removed", "count_rows", "delete_each", "delete_rows", "gc"]


_DAY = timedelta(hours=24)


_MICROSECOND = timedelta(microseconds=1)


SERIES_COLUMNS = ", ".join(SeriesKey._fields)


_LEASE = ", ".join(LeaseKey._fields)


@dataclass(frozen=True, slots=True)
class Removed:
    """Numbers of rows that were removed, or would be removed in a dry run."""

    bars: int = 0
    units: int = 0
    leases: int = 0
    checkpoints: int = 0
    series: tuple[BarSeries, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was removed."""
        return any((self.bars, self.units, self.leases, self.checkpoints, self.series))


def gc(cache: Cache, *, min_age: timedelta = _DAY, dry_run: bool = False) -> Removed:
    """Remove old rows that no reader can see and no writer resumes.

    These are rows of attempts that no unit names, units of generations that were discarded or that
    a later generation hides, claims that a later claim follows, and checkpoints that are not the
    newest. Readers and writers may be at work meanwhile.

    Parameters
    ----------
    min_age
        The least age of a row to be removed, by the database's clock. A writer publishes an attempt
        seconds after its rows, and a reader ends seconds after its plan.
    dry_run
        Count the rows without removing them.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.clickhouse.open import open_cache
    >>> from rangebar_polars.clickhouse.gc import gc
    >>> with open_cache(cache_dir=mkdtemp(), write=True) as cache:
    ...     gc(cache)
    Removed(bars=0, units=0, leases=0, checkpoints=0, series=())
    """
    cutoff_us = (
        int(cache.scalar("SELECT toUnixTimestamp64Micro(now64(6))")) - min_age // _MICROSECOND
    )
    # In this order: an attempt that is old before the units are read is named by then or never.
    attempts = _old_attempts(cache, cutoff_us)
    units = _units(cache, cutoff_us)
    unused = units.filter("is_old").join(
        _hidden(units, _states(cache, cutoff_us)), on="attempt", how="semi"
    )
    named = units.join(unused, on="attempt", how="anti")
    unnamed = attempts.join(named, on="attempt", how="anti")
    found = Removed(
        int(unnamed["rows"].sum()),
        unused.height,
        count_rows(cache, "leases", _superseded_claims(cache, cutoff_us)),
        count_rows(cache, "population_checkpoints", _outdated(cache, cutoff_us)),
    )
    if not dry_run:
        delete_each(cache, "units", [(None, where) for where in _of_attempts(unused)])
        of_months = unnamed.partition_by("month", as_dict=True).items()
        bars = [(month, where) for (month,), rows in of_months for where in _of_attempts(rows)]
        delete_each(cache, "bars", bars)
        if found.leases:
            delete_rows(cache, "leases", _superseded_claims(cache, cutoff_us))
        if found.checkpoints:
            delete_rows(cache, "population_checkpoints", _outdated(cache, cutoff_us))
    return found


def _old_attempts(cache: Cache, cutoff_us: int) -> pl.DataFrame:
    return cache.query(
        "SELECT toYYYYMM(unit_day) AS month, attempt, toInt64(count()) AS rows "  # noqa: S608
        f"FROM {cache.table('bars')} GROUP BY month, attempt "
        f"HAVING {_is_old('max(written_at)', cutoff_us)}"
    )


def _is_old(time: str, cutoff_us: int) -> str:
    return f"toUnixTimestamp64Milli({time}) * 1000 < {cutoff_us}"


def _units(cache: Cache, cutoff_us: int) -> pl.DataFrame:
    return cache.query(
        f"SELECT {SERIES_COLUMNS}, unit_day, generation, attempt, "  # noqa: S608
        f"{_is_old('written_at', cutoff_us)} AS is_old FROM {cache.table('units')}"
    ).with_columns(pl.col("is_old").cast(pl.Boolean))


class _State(NamedTuple):
    """The state of a generation, and whether it is old."""

    first_day: date
    state: str
    is_old: bool


def _states(cache: Cache, cutoff_us: int) -> dict[SeriesKey, dict[int, _State]]:
    rows = cache.query(
        f"SELECT {SERIES_COLUMNS}, generation, first_day, state, "  # noqa: S608
        f"{_is_old('min(written_at)', cutoff_us)} "
        f"FROM {cache.table('generations')} GROUP BY {SERIES_COLUMNS}, generation, first_day, state"
    )
    order = (OPEN, PUBLISHED, DISCARDED)
    found: dict[SeriesKey, dict[int, _State]] = {}
    for *key, number, first_day, state, is_old in rows.iter_rows():
        known = found.setdefault(SeriesKey(*key), {})
        now = _State(first_day, state, bool(is_old))
        known[number] = max(known.get(number, now), now, key=lambda each: order.index(each.state))
    return found


def _hidden(units: pl.DataFrame, states: Mapping[SeriesKey, Mapping[int, _State]]) -> pl.DataFrame:
    """Return the attempts of units that a generation hides from all readers for good."""
    keys = pl.DataFrame(list(states), schema=units.select(SeriesKey._fields).schema, orient="row")
    rows = units.join(keys, on=SeriesKey._fields, how="semi")
    hidden = [
        attempt
        for *key, day, number, attempt, _ in rows.iter_rows()
        if _is_hidden(day, number, states[SeriesKey(*key)])
    ]
    return pl.DataFrame({"attempt": hidden}, schema={"attempt": pl.UInt64})


def _is_hidden(day: date, number: int, states: Mapping[int, _State]) -> bool:
    own = states.get(number)
    if own is not None and own.state == DISCARDED:
        return own.is_old
    # A generation that is still being written, or that began after the generations were read.
    if number and (own is None or own.state == OPEN):
        return False
    return any(
        later > number and state.state == PUBLISHED and state.is_old and state.first_day <= day
        for later, state in states.items()
    )


def _superseded_claims(cache: Cache, cutoff_us: int) -> str:
    """Write the condition for claims that a later one follows. The highest number always stays."""
    return (
        f"beat_us < {cutoff_us} AND ({_LEASE}, fencing) NOT IN "  # noqa: S608
        f"(SELECT {_LEASE}, max(fencing) FROM {cache.table('leases')} GROUP BY {_LEASE})"
    )


def _outdated(cache: Cache, cutoff_us: int) -> str:
    """Write the condition for checkpoints that are not the newest, or whose unit is removed."""
    name = cache.table("population_checkpoints")
    return (
        f"updated_us < {cutoff_us} AND (({SERIES_COLUMNS}, updated_us) NOT IN "  # noqa: S608
        f"(SELECT {SERIES_COLUMNS}, max(updated_us) FROM {name} GROUP BY {SERIES_COLUMNS}) "
        f"OR attempt NOT IN (SELECT attempt FROM {cache.table('units')}))"
    )


def count_rows(cache: Cache, name: str, where: str) -> int:
    """Count the rows of a table that a condition selects."""
    return int(cache.scalar(f"SELECT count() FROM {cache.table(name)} WHERE {where}"))  # noqa: S608


def delete_rows(cache: Cache, name: str, where: str) -> None:
    """Remove rows for good. After a kill, the database completes the removal by itself."""
    delete_each(cache, name, [(None, where)])


def delete_each(cache: Cache, name: str, conditions: Iterable[tuple[int | None, str]]) -> None:
    """Remove the rows of each condition, in one partition if a number is with it.

    As few statements as possible are sent, since each one makes a new version of every part of the
    table, whichever rows it removes.
    """
    commands = [
        f"DELETE{'' if partition is None else f' IN PARTITION {partition}'} WHERE {where}"
        for partition, where in conditions
    ]
    for listed in joined_batches(commands):
        cache.command(f"ALTER TABLE {cache.table(name)} {listed} SETTINGS mutations_sync = 2")


def _of_attempts(rows: pl.DataFrame) -> list[str]:
    return split_among(["attempt"], [(attempt,) for attempt in rows["attempt"]])
