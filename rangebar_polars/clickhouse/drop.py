"""Removal of stored series, or of all tables, from the bar cache."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from rangebar_polars.bar_series.identity import BarSeries, BarSpecKey, SeriesKey
from rangebar_polars.bar_series.units import DISCARDED, PUBLISHED
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.connection.sql import among, split_among
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
    """Remove whole series, or every series of a spec.

    A series becomes invisible before the first of its rows is removed, so a kill leaves it whole or
    invisible. The next call, or `gc`, removes the rest.

    Raises
    ------
    LeaseError
        A writer is at work on one of the series; nothing is removed.

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
    found = tuple(dict.fromkeys(_resolve_series(cache, series)))
    wheres = _of_series([each.key for each in found])
    removed = Removed(
        sum(count_rows(cache, "bars", where) for where in wheres),
        sum(count_rows(cache, "units", where) for where in wheres),
        0,
        sum(count_rows(cache, "population_checkpoints", where) for where in wheres),
        found,
    )
    if not dry_run and found:
        with hold_leases({each.lease_key for each in found}, cache.target) as leases:
            _drop(cache, found, wheres, leases.fencing)
    return removed


def drop_tables(cache: Cache) -> None:
    """Remove all tables, whatever their version. This needs next to no room on the disk."""
    try:
        for each in tables():
            cache.command(f"DROP TABLE IF EXISTS {cache.table(each.name)} SYNC")
    finally:
        forget_tables(cache)
        forget_chains(cache)


def _resolve_series(cache: Cache, requested: Iterable[BarSeries | BarSpec]) -> Iterator[BarSeries]:
    """Yield the series, and all series of the specs that have a row, visible or not."""
    for each in requested:
        if isinstance(each, BarSeries):
            yield each
            continue
        for name in ("units", "bars"):
            rows = cache.query(
                f"SELECT DISTINCT segment_start, anchor_us FROM {cache.table(name)} "  # noqa: S608
                f"WHERE {among(BarSpecKey._fields, [each.key])}"
            )
            for start, anchor_us in rows.sort("anchor_us").iter_rows():
                yield BarSeries(each, start, anchor_us)


def _drop(
    cache: Cache,
    series: Sequence[BarSeries],
    wheres: Sequence[str],
    fencing: Mapping[LeaseKey, int],
) -> None:
    """Hide each series by the row of a generation without units, then remove its rows."""
    empty = _next_numbers(cache, wheres)
    rows = [
        _row(each, empty.get(each.key, 1), each.first_day, PUBLISHED, fencing[each.lease_key])
        for each in series
    ]
    cache.insert("generations", table("generations").frame(rows))
    for where in wheres:
        delete_rows(cache, "units", where)
    # The generations stay: with a number used again, new rows could be dropped as repeated inserts.
    generations = read_generations(cache, {each.spec for each in series})
    rows = [
        _row(each, known.number, known.first_day, DISCARDED, fencing[each.lease_key])
        for each in series
        for known in generations.get(each.key, ())
        if known.state != DISCARDED
    ]
    cache.insert("generations", table("generations").frame(rows))
    for where in wheres:
        delete_rows(cache, "population_checkpoints", where)
    months = _months(cache, wheres).items()
    bars = [(month, where) for month, keys in months for where in _of_series(keys)]
    delete_each(cache, "bars", bars)


def _of_series(keys: Iterable[SeriesKey]) -> list[str]:
    return split_among(SeriesKey._fields, keys)


def _months(cache: Cache, wheres: Sequence[str]) -> dict[int, list[SeriesKey]]:
    """Return the series by partition of `bars`, in the order of the partitions."""
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
    """Return, by series, the first generation number that was never used."""
    numbers: dict[SeriesKey, int] = {}
    for name, where in product(("generations", "units"), wheres):
        rows = cache.query(
            f"SELECT {SERIES_COLUMNS}, max(generation) FROM {cache.table(name)} "  # noqa: S608
            f"WHERE {where} GROUP BY {SERIES_COLUMNS}"
        )
        for *key, highest in rows.iter_rows():
            series = SeriesKey(*key)
            numbers[series] = max(numbers.get(series, 1), highest + 1)
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
