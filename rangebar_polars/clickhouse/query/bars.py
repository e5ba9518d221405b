"""Bars of units, read with proof that they are the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.bar_series.columns import OPTIONAL_GROUPS, all_columns, value_columns
from rangebar_polars.clickhouse.query.units import details_of, feature_sums_of, where_units
from rangebar_polars.clickhouse.schema.rows import bars_of
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.sources import IDS_PER_MONTH, sources_with_monthly_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = [
    "MOST_ROWS",
    "READ_TRIES",
    "DamagedBarsError",
    "closed_before",
    "count_bars",
    "coverage_of",
    "newest_bars",
    "newest_units",
    "no_bars",
    "read_bars",
]

#: Number of rows from which several threads are faster.
_LARGE = 200_000


# Above the largest value of `bar_seq`.
_ROWS_A_UNIT = 2**32

#: The largest number of rows that Polars takes; as a count it means all rows.
MOST_ROWS = 2**32 - 1

#: Number of times to plan and read before changed rows count as damaged.
READ_TRIES = 3

_PROOF = ("attempt", "unit_day", "bar_seq", "row_hash")


class DamagedBarsError(CoverageError):
    """Stored rows of a unit differ from those that were published.

    The unit may have been replaced since it was planned: plan again, up to `READ_TRIES` times.
    """

    def __init__(self, unit: Unit, found: int) -> None:
        super().__init__(
            with_hint(
                f"stored bars are damaged: {unit.series} on {unit.day}: {found} rows instead of "
                f"{unit.rows}",
                "populate_cache_resumable(..., force_refresh=True), or rangebar populate with "
                "--force-refresh, builds them again",
            ),
            symbol=unit.series.spec.symbol,
            days=[unit.day],
        )


def read_bars(
    cache: Cache,
    units: Sequence[Unit],
    *,
    columns: Iterable[str] | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    include_orphans: bool = False,
) -> pl.DataFrame:
    """Read the bars of units whose close time lies in [start, end), in order.

    Parameters
    ----------
    units
        At most one a day. Their days need not be those of the bounds: a bar that a gap ended is
        part of the unit of the day that revealed it.
    columns
        Names from the catalogue, of groups that every unit has. Default: core and microstructure.
    start_us, end_us
        Microseconds since 1970; None for no bound.
    include_orphans
        Include bars that a reset or a gap ended. The bar that a reset ends is known to be an
        orphan only at the reset: a read that ends before it does not include the bar.

    Returns
    -------
    DataFrame
        Columns in the order of the catalogue, without `bar_id`.

    Raises
    ------
    DamagedBarsError
        Published rows are not there any more.
    """
    names = set(columns) if columns is not None else {column.bar_name for column in value_columns()}
    needed = names | {"close_time", "is_closed"} | ({"ended_by"} if include_orphans else set())
    touched = _touched(units, start_us, end_us)
    rows = _read(cache, touched, [c.name for c in all_columns() if c.bar_name in needed])
    passes = [_has_ended(touched, end_us) if include_orphans else pl.col("is_closed")]
    bars = bars_of(rows.filter([*passes, *_closes_between(start_us, end_us)]))
    return bars.select(name for name in bars.columns if name in names)


def _closes_between(start_us: int | None, end_us: int | None) -> list[pl.Expr]:
    close = pl.col("close_time_us")
    starts = [] if start_us is None else [close >= start_us]
    return starts if end_us is None else [*starts, close < end_us]


def _has_ended(units: Sequence[Unit], end_us: int | None) -> pl.Expr:
    """Return whether a bar has ended by an instant: an orphan ends with its segment."""
    last = max(units, key=lambda unit: unit.day, default=None)
    segment_end_us = None if last is None else last.series.segment.end_us
    if last is None or end_us is None or segment_end_us is None or segment_end_us <= end_us:
        return pl.lit(value=True)
    is_earlier = pl.col("unit_day") < last.series.segment_start
    return pl.col("is_closed") | (pl.col("ended_by") != "reset") | is_earlier


def _touched(units: Sequence[Unit], start_us: int | None, end_us: int | None) -> list[Unit]:
    """Return the units that may have a bar that closes in [start, end)."""
    return [
        unit
        for unit in units
        if unit.first_close_us is not None
        and unit.last_close_us is not None
        and (start_us is None or unit.last_close_us >= start_us)
        and (end_us is None or unit.first_close_us < end_us)
    ]


def _read(cache: Cache, units: Sequence[Unit], columns: list[str]) -> pl.DataFrame:
    """Read rows in order, and prove that they are those that were published."""
    if len({unit.day for unit in units}) != len(units):
        raise ValueError("two of the units have the same day, so that their bars have no order")
    if not units:
        return pl.DataFrame(schema={c.name: c.dtype for c in all_columns() if c.name in columns})
    proof = list(columns)
    sums: Mapping[int, int] = {}
    if any(c.name in columns and c.group in OPTIONAL_GROUPS for c in all_columns()):
        proof.append("feature_hash")
        sums = feature_sums_of(cache, units)
    rows = _rows(cache, units, proof, final=False)
    if _changed(rows, units, sums) is not None:
        # An insert that was tried twice may have left copies of rows.
        rows = _rows(cache, units, proof, final=True)
        changed = _changed(rows, units, sums)
        if changed is not None:
            raise DamagedBarsError(*changed)
    # The database usually returns them in order.
    order = rows.select(pl.col("unit_day").cast(pl.Int64) * _ROWS_A_UNIT + pl.col("bar_seq"))
    return rows if order.to_series().is_sorted() else rows.sort("unit_day", "bar_seq")


def _rows(cache: Cache, units: Sequence[Unit], columns: list[str], *, final: bool) -> pl.DataFrame:
    """Read rows with what proves them; `final` merges copies."""
    large = sum(unit.rows for unit in units) > _LARGE
    statements = _statements(cache, units, columns, final=final)
    return pl.concat([cache.query(statement, large=large) for statement in statements])


def _statements(
    cache: Cache, units: Sequence[Unit], columns: list[str], *, final: bool
) -> list[str]:
    selected = ", ".join((*columns, *_PROOF))
    source = f"{cache.table('bars')}{' FINAL' if final else ''}"
    return [f"SELECT {selected} FROM {source} WHERE {where}" for where in where_units(units)]  # noqa: S608


def _changed(
    rows: pl.DataFrame, units: Sequence[Unit], feature_sums: Mapping[int, int]
) -> tuple[Unit, int] | None:
    """Return the first unit whose rows are not those published, and their number.

    `feature_sums` has the published hash of the optional groups by attempt, if the rows have them.
    """
    hashes = ("row_hash", "feature_hash") if feature_sums else ("row_hash",)
    sums = rows.group_by("attempt").agg(pl.len().alias("rows"), pl.col(hashes).sum())
    found = {attempt: facts for attempt, *facts in sums.iter_rows()}
    for unit in units:
        published = [unit.rows, unit.row_hash_sum]
        published += [feature_sums[unit.attempt]] if feature_sums else []
        facts = found.get(unit.attempt, [0] * len(published))
        if facts != published:
            return unit, facts[0]
    return None


def newest_bars(
    cache: Cache,
    units: Sequence[Unit],
    count: int,
    *,
    columns: Iterable[str] | None = None,
    end_us: int | None = None,
) -> pl.DataFrame:
    """Read the newest closed bars before an instant, at most `count`, in order.

    Only as many of the newest units are read as hold that number of bars.
    """
    newest = newest_units(units, count, end_us)
    bars = read_bars(cache, newest, columns=columns, end_us=end_us)
    return bars.tail(min(count, MOST_ROWS))


def newest_units(units: Sequence[Unit], count: int | None, end_us: int | None = None) -> list[Unit]:
    """Return the units that hold the newest closed bars before an instant.

    `count` is the number of bars; None for all.
    """
    touched = sorted(_touched(units, None, end_us), key=lambda unit: unit.day)
    if count is None:
        return touched
    first, bars = len(touched), 0
    while first and bars < count:
        first -= 1
        bars += closed_before(touched[first : first + 1], end_us)
    return touched[first:]


def closed_before(units: Sequence[Unit], end_us: int | None) -> int:
    """Return the number of closed bars in units that end before an instant.

    Bars of a unit that the instant cuts are not counted.
    """
    return sum(unit.closed_rows for unit in units if _ends_before(unit, end_us))


def _ends_before(unit: Unit, end_us: int | None) -> bool:
    return end_us is None or unit.last_close_us is None or unit.last_close_us < end_us


def count_bars(
    cache: Cache,
    units: Sequence[Unit],
    *,
    start_us: int | None = None,
    end_us: int | None = None,
) -> int:
    """Return the number of closed bars whose close time lies in [start, end).

    Only the bars of units that a bound cuts are read.
    """
    whole: list[Unit] = []
    cut: list[Unit] = []
    for unit in _touched(units, start_us, end_us):
        starts = start_us is None or unit.first_close_us is None or unit.first_close_us >= start_us
        (whole if starts and _ends_before(unit, end_us) else cut).append(unit)
    times = _read(cache, cut, ["close_time_us", "is_closed"])
    passes = [pl.col("is_closed"), *_closes_between(start_us, end_us)]
    return sum(unit.closed_rows for unit in whole) + times.filter(passes).height


def no_bars(columns: Iterable[str] | None = None) -> pl.DataFrame:
    """Return the empty frame of `read_bars`."""
    found = value_columns() if columns is None else all_columns()
    bars = bars_of(pl.DataFrame(schema={column.name: column.dtype for column in found}))
    names = set(bars.columns if columns is None else columns)
    return bars.select(name for name in bars.columns if name in names)


def coverage_of(cache: Cache, units: Sequence[Unit]) -> pl.DataFrame:
    """Return a row for each unit: its closed bars, its ticks, and the ids missing before it.

    `state` is the state of the day in the tick store: final, given or absent_confirmed.
    `gap_before` counts the ids between the last one before the unit and its first; 0 without ids.
    `features` has the words of the feature groups.
    """
    return _with_ids_before(details_of(cache, units)).select(
        "unit_day",
        pl.col("day_state").alias("state"),
        (pl.col("rows") - pl.col("orphan_rows")).alias("rows"),
        pl.col("tick_first_id").alias("first_id"),
        pl.col("tick_last_id").alias("last_id"),
        _gap_before().alias("gap_before"),
        "reason",
        "tick_hash",
        "source_absent",
        "segment_start",
        "anchor_us",
        pl.col("feature_groups").alias("features"),
    )


def _with_ids_before(details: pl.DataFrame) -> pl.DataFrame:
    """Add the last id before each unit, from its own series or another one with the day before."""
    day_before = details.group_by(pl.col("unit_day").dt.offset_by("1d")).agg(
        pl.col("tick_last_id").max().alias("id_of_day_before")
    )
    own = pl.col("tick_last_id").forward_fill().shift(1).over("segment_start", "anchor_us")
    return (
        details.sort("unit_day", "segment_start", "anchor_us")
        .with_columns(own.alias("own_id_before"))
        .join(day_before, on="unit_day", how="left", maintain_order="left")
        .with_columns(pl.coalesce("own_id_before", "id_of_day_before").alias("id_before"))
    )


def _gap_before() -> pl.Expr:
    first, before = pl.col("tick_first_id"), pl.col("id_before")
    # Ids that number the rows of a month start again with the next one.
    of_another_month = pl.col("source").is_in(sources_with_monthly_ids()) & (
        first // IDS_PER_MONTH != before // IDS_PER_MONTH
    )
    return pl.when(of_another_month).then(0).otherwise(first - before - 1).fill_null(0)
