"""What the cache can do without: remains of writers that were cut off, and series to be dropped.

Nothing that a reader may be about to read is removed by `gc`. A series that `drop` removes is
invisible, whole, before the first of its rows goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.bar_series.identity import LeaseKey, SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, OPEN, PUBLISHED
from rangebar_polars.clickhouse.connection.sql import among_in_pieces, joined_in_pieces

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
    """Rows that were removed, or would be."""

    bars: int = 0
    units: int = 0
    leases: int = 0
    checkpoints: int = 0
    series: tuple[BarSeries, ...] = ()

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return any((self.bars, self.units, self.leases, self.checkpoints, self.series))


def gc(cache: Cache, *, min_age: timedelta = _DAY, dry_run: bool = False) -> Removed:
    """Remove what no reader can see and no writer goes on with, and what is older than `min_age`.

    These are rows of attempts that no unit names, units of rebuilds that were discarded or that a
    later rebuild hides, claims that others have followed, and checkpoints that are not the newest.
    The age is told by the database's clock. Readers and writers may be at work.

    Parameters
    ----------
    min_age
        A writer proves and publishes an attempt within seconds after its rows, and a reader is done
        seconds after its plan.
    dry_run
        Only count.

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
    # In this order: an attempt that is old before the units are read is named by then, or never.
    attempts = _old_attempts(cache, cutoff_us)
    units = _units(cache, cutoff_us)
    needless = units.filter("is_old").join(
        _hidden(units, _states(cache, cutoff_us)), on="attempt", how="semi"
    )
    named = units.join(needless, on="attempt", how="anti")
    loose = attempts.join(named, on="attempt", how="anti")
    found = Removed(
        int(loose["rows"].sum()),
        needless.height,
        count_rows(cache, "leases", _followed(cache, cutoff_us)),
        count_rows(cache, "population_checkpoints", _outdated(cache, cutoff_us)),
    )
    if not dry_run:
        delete_each(cache, "units", [(None, where) for where in _of_attempts(needless)])
        of_months = loose.partition_by("month", as_dict=True).items()
        bars = [(month, where) for (month,), rows in of_months for where in _of_attempts(rows)]
        delete_each(cache, "bars", bars)
        if found.leases:
            delete_rows(cache, "leases", _followed(cache, cutoff_us))
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
    """What became of a rebuild, and whether that was long ago."""

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
        known[number] = max(known.get(number, now), now, key=lambda one: order.index(one.state))
    return found


def _hidden(units: pl.DataFrame, states: Mapping[SeriesKey, Mapping[int, _State]]) -> pl.DataFrame:
    """Attempts of units that no reader will see again, since a rebuild says so."""
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
    # A rebuild that goes on, or that began after the rebuilds were read.
    if number and (own is None or own.state == OPEN):
        return False
    return any(
        later > number and one.state == PUBLISHED and one.is_old and one.first_day <= day
        for later, one in states.items()
    )


def _followed(cache: Cache, cutoff_us: int) -> str:
    """Claims on series that have a later one; the highest number is never forgotten."""
    return (
        f"beat_us < {cutoff_us} AND ({_LEASE}, fencing) NOT IN "  # noqa: S608
        f"(SELECT {_LEASE}, max(fencing) FROM {cache.table('leases')} GROUP BY {_LEASE})"
    )


def _outdated(cache: Cache, cutoff_us: int) -> str:
    """Checkpoints that a newer one of the series follows, or whose unit is gone."""
    place = cache.table("population_checkpoints")
    return (
        f"updated_us < {cutoff_us} AND (({SERIES_COLUMNS}, updated_us) NOT IN "  # noqa: S608
        f"(SELECT {SERIES_COLUMNS}, max(updated_us) FROM {place} GROUP BY {SERIES_COLUMNS}) "
        f"OR attempt NOT IN (SELECT attempt FROM {cache.table('units')}))"
    )


def count_rows(cache: Cache, name: str, where: str) -> int:
    """Return how many rows of a table a condition selects."""
    return int(cache.scalar(f"SELECT count() FROM {cache.table(name)} WHERE {where}"))  # noqa: S608


def delete_rows(cache: Cache, name: str, where: str) -> None:
    """Remove rows for good; a kill leaves the rest to the database, which goes on by itself."""
    delete_each(cache, name, [(None, where)])


def delete_each(cache: Cache, name: str, conditions: Iterable[tuple[int | None, str]]) -> None:
    """Remove the rows of each condition, of one partition where it names one.

    As few statements as possible: each of them makes a new version of every part of the table,
    whichever rows it removes.
    """
    commands = [
        f"DELETE{'' if partition is None else f' IN PARTITION {partition}'} WHERE {where}"
        for partition, where in conditions
    ]
    for listed in joined_in_pieces(commands):
        cache.command(f"ALTER TABLE {cache.table(name)} {listed} SETTINGS mutations_sync = 2")


def _of_attempts(rows: pl.DataFrame) -> list[str]:
    return among_in_pieces(["attempt"], [(attempt,) for attempt in rows["attempt"]])
