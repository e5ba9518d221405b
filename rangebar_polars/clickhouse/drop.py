"""Remove stored series from the bar cache."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from rangebar_polars.bar_series.identity import BarSeries, BarSpecKey, SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, PUBLISHED
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.connection.sql import among, among_in_pieces
from rangebar_polars.clickhouse.gc import (
    SERIES_COLUMNS,
    Removed,
    count_rows,
    delete_each,
    delete_rows,
)
from rangebar_polars.clickhouse.query.unit_cache import forget_chains
from rangebar_polars.clickhouse.query.units import read_generations
from rangebar_polars.clickhouse.schema.migrate import forget_tables
from rangebar_polars.clickhouse.schema.tables import table, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSpec, LeaseKey
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.sql import Value

__all__ = ["drop", "drop_tables"]


def drop(cache: Cache, series: Iterable[BarSeries | BarSpec], *, dry_run: bool = False) -> Removed:
    """Remove series wholly, or every series of families; a kill leaves each whole or invisible.

    Superseded series, which no reader takes unless its anchor is asked for, are told by
    `choice.superseded`. What a kill left of a series is removed by the next call, or by `gc`.

    Raises
    ------
    LeaseError
        A writer is at work on one of them; nothing is removed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.clickhouse.open import open_cache
    >>> from rangebar_polars.clickhouse.drop import drop
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> with open_cache(cache_dir=mkdtemp(), write=True) as cache:
    ...     drop(cache, [BarSpec.of("BTCUSDT", 250)])
    Removed(bars=0, units=0, leases=0, checkpoints=0, series=())
    """
    found = tuple(dict.fromkeys(_every_series(cache, series)))
    wheres = _of_series([one.key for one in found])
    removed = Removed(
        sum(count_rows(cache, "bars", where) for where in wheres),
        sum(count_rows(cache, "units", where) for where in wheres),
        0,
        sum(count_rows(cache, "population_checkpoints", where) for where in wheres),
        found,
    )
    if not dry_run and found:
        with hold_leases({one.lease_key for one in found}, cache.target) as leases:
            _drop(cache, found, wheres, leases.fencing)
    return removed


def drop_tables(cache: Cache) -> None:
    """Remove all tables, whatever their version. This needs next to no room on the disk."""
    try:
        for one in tables():
            cache.command(f"DROP TABLE IF EXISTS {cache.table(one.name)} SYNC")
    finally:
        forget_tables(cache)
        forget_chains(cache)


def _every_series(cache: Cache, wanted: Iterable[BarSeries | BarSpec]) -> Iterator[BarSeries]:
    """The series, and those of the families of which any row is kept, seen or not."""
    for one in wanted:
        if isinstance(one, BarSeries):
            yield one
            continue
        for name in ("units", "bars"):
            rows = cache.query(
                f"SELECT DISTINCT segment_start, anchor_us FROM {cache.table(name)} "  # noqa: S608
                f"WHERE {among(BarSpecKey._fields, [one.key])}"
            )
            for start, anchor_us in rows.sort("anchor_us").iter_rows():
                yield BarSeries(one, start, anchor_us)


def _drop(
    cache: Cache,
    series: Sequence[BarSeries],
    wheres: Sequence[str],
    fencing: Mapping[LeaseKey, int],
) -> None:
    """Hide the series by a rebuild without units, which is one row each, and remove what is left."""
    empty = _next_numbers(cache, wheres)
    rows = [
        _row(one, empty.get(one.key, 1), one.first_day, PUBLISHED, fencing[one.lease_key])
        for one in series
    ]
    cache.insert("generations", table("generations").frame(rows))
    for where in wheres:
        delete_rows(cache, "units", where)
    # Their numbers stay taken: rows equal to earlier ones would be dropped as copies.
    known = read_generations(cache, {one.spec for one in series})
    rows = [
        _row(one, each.number, each.first_day, DISCARDED, fencing[one.lease_key])
        for one in series
        for each in known.get(one.key, ())
        if each.state != DISCARDED
    ]
    cache.insert("generations", table("generations").frame(rows))
    for where in wheres:
        delete_rows(cache, "population_checkpoints", where)
    months = _months(cache, wheres).items()
    bars = [(month, one) for month, keys in months for one in _of_series(keys)]
    delete_each(cache, "bars", bars)


def _of_series(keys: Iterable[SeriesKey]) -> list[str]:
    return among_in_pieces(SeriesKey._fields, keys)


def _months(cache: Cache, wheres: Sequence[str]) -> dict[int, list[SeriesKey]]:
    """The partitions of bars that hold rows of series, in order, and which series."""
    found: dict[int, list[SeriesKey]] = {}
    for where in wheres:
        rows = cache.query(
            f"SELECT DISTINCT toYYYYMM(unit_day) AS month, {SERIES_COLUMNS} "  # noqa: S608
            f"FROM {cache.table('bars')} WHERE {where}"
        )
        for month, *key in rows.iter_rows():
            found.setdefault(month, []).append(SeriesKey(*key))
    return dict(sorted(found.items()))


def _next_numbers(cache: Cache, wheres: Sequence[str]) -> dict[SeriesKey, int]:
    """The first number of a rebuild that was never used, by series."""
    numbers: dict[SeriesKey, int] = {}
    for name, where in product(("generations", "units"), wheres):
        rows = cache.query(
            f"SELECT {SERIES_COLUMNS}, max(generation) FROM {cache.table(name)} "  # noqa: S608
            f"WHERE {where} GROUP BY {SERIES_COLUMNS}"
        )
        for *key, highest in rows.iter_rows():
            place = SeriesKey(*key)
            numbers[place] = max(numbers.get(place, 1), highest + 1)
    return numbers


def _row(
    series: BarSeries, number: int, first_day: date, state: str, fencing: int
) -> dict[str, Value]:
    return {
        **series.key._asdict(),
        "generation": number,
        "first_day": first_day,
        "state": state,
        "fencing": fencing,
    }
