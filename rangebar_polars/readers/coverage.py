"""Coverage of a span by stored bars, and the check of stored bars against their ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span
from rangebar_polars.bar_series.identity import BAR_SEMANTICS, is_other_semantics
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.query.bars import coverage_of
from rangebar_polars.clickhouse.query.units import read_chains, specs_like
from rangebar_polars.exceptions import StorageError
from rangebar_polars.readers.hints import stale_warning
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import stored_hashes
from rangebar_polars.symbol_registry import past_gate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.query import SeriesQuery
    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["COVERAGE_SCHEMA", "coverage_rows", "other_semantics", "stale_units", "stale_warnings"]


_NO_DAY = date(1971, 1, 1)


_CHANGED = "the store has other ticks than the bars of the day were made from"


#: Columns and dtypes of `coverage`.
COVERAGE_SCHEMA = pl.Schema(
    {
        "unit_day": pl.Date(),
        "state": pl.String(),
        "rows": pl.Int64(),
        "first_id": pl.Int64(),
        "last_id": pl.Int64(),
        "gap_before": pl.Int64(),
        "reason": pl.String(),
        "segment": pl.String(),
        "anchor": pl.Datetime("us", "UTC"),
        "features": pl.String(),
    }
)


def coverage_rows(
    cache: Cache | None,
    query: SeriesQuery,
    start: datetime | None,
    end: datetime | None,
    cache_dir: Path | str | None = None,
) -> pl.DataFrame:
    """Return a row for each day and each series that stores it, and a row for each other day.

    The columns are those of `COVERAGE_SCHEMA`. A bound that is None is that of the stored days.
    """
    chains = [] if cache is None else _chains(cache, query)
    days = _span_of(chains, start, end)
    units = [unit for chain in chains for unit in chain.units if unit.day in days]
    frames = [COVERAGE_SCHEMA.to_frame()]
    if cache is not None and units:
        frames.append(_stored_rows(cache, units, cache_dir))
    stored = {unit.day for unit in units}
    missing = [day for day in days if day not in stored]
    if missing:
        other = {} if cache is None else other_semantics(cache, query.spec)
        frames.append(_missing_rows(query.spec, missing, other))
    return pl.concat(frames).sort("unit_day", "anchor")


def _chains(cache: Cache, query: SeriesQuery) -> list[Chain]:
    chains = query.matching(read_chains(cache, [query.spec]))
    if query.anchor is not None:
        return chains
    hidden = superseded(chains)
    return [chain for chain in chains if chain.series not in hidden]


def _span_of(chains: list[Chain], start: datetime | None, end: datetime | None) -> _Days:
    days = [unit.day for chain in chains for unit in chain.units]
    if start is None and not days:
        return _Days(_NO_DAY, _NO_DAY - ONE_DAY)
    first = min(days) if start is None else start.date()
    last = max(days, default=first - ONE_DAY)
    if end is not None:
        last = Span(end, min(end, clock.utc_now())).last_day
    return _Days(first, last)


@dataclass(frozen=True, slots=True)
class _Days:
    """A range of days, both ends included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __iter__(self) -> Iterator[date]:
        for offset in range((self.last - self.first).days + 1):
            yield self.first + offset * ONE_DAY


def _stored_rows(cache: Cache, units: list[Unit], cache_dir: Path | str | None) -> pl.DataFrame:
    reset = units[0].series.spec.reset
    changed = [
        (unit.day, unit.series.anchor_us, _CHANGED) for unit in stale_units(units, cache_dir)
    ]
    stale = pl.DataFrame(
        changed,
        schema={"unit_day": pl.Date, "anchor_us": pl.Int64, "changed": pl.String},
        orient="row",
    )
    is_stale = pl.col("changed").is_not_null()
    return (
        coverage_of(cache, units)
        .join(stale, on=["unit_day", "anchor_us"], how="left")
        .with_columns(
            pl.when(is_stale).then(pl.lit("stale")).otherwise("state").alias("state"),
            pl.concat_str(
                pl.when(is_stale).then(pl.format("{} (it was {})", "changed", "state")),
                pl.when(pl.col("reason") != "").then("reason"),
                separator="; ",
                ignore_nulls=True,
            ).alias("text"),
            pl.col("anchor_us").cast(pl.Datetime("us", "UTC")).alias("anchor"),
            _segment_names(reset),
        )
        .select(
            *("unit_day", "state", "rows", "first_id", "last_id", "gap_before"),
            pl.when(pl.col("text") != "").then("text").alias("reason"),
            *("segment", "anchor", "features"),
        )
    )


def _segment_names(reset: str) -> pl.Expr:
    def name_of(day: date) -> str:
        return segment_of(day, reset).name

    return pl.col("unit_day").map_elements(name_of, return_dtype=pl.String).alias("segment")


def _missing_rows(spec: BarSpec, days: list[date], other: Mapping[date, int]) -> pl.DataFrame:
    rows = [
        {
            "unit_day": day,
            "state": "missing",
            "rows": 0,
            "reason": f"stored under bar_semantics {other[day]}" if day in other else None,
            "segment": segment_of(day, spec.reset).name,
        }
        for day in days
    ]
    return pl.DataFrame(rows, schema=COVERAGE_SCHEMA)


def other_semantics(cache: Cache, spec: BarSpec) -> dict[date, int]:
    """Return the days that are stored under another version of the bar rule, with the version."""
    others = [
        other
        for other in specs_like(cache, spec)
        if is_other_semantics(other)
        and replace(other.rules, bar_semantics=BAR_SEMANTICS) == spec.rules
    ]
    return {
        unit.day: chain.series.spec.rules.bar_semantics
        for chain in (read_chains(cache, others) if others else {}).values()
        for unit in chain.units
    }


def stale_units(units: Sequence[Unit], cache_dir: Path | str | None = None) -> set[Unit]:
    """Return the units of one spec that were made from other ticks than the store has now.

    A day that the store does not hold is not stale: its bars may come from another machine.
    """
    storage = TickStorage(cache_dir)
    if not units or not storage.root.is_dir():
        return set()
    spec = units[0].series.spec
    days = [unit.day for unit in units]
    with past_gate(spec.symbol):
        hashes = stored_hashes(
            storage,
            spec.symbol,
            min(days),
            max(days),
            source=spec.source,
            market=spec.market,
        )
    return {unit for unit in units if hashes.get(unit.day, unit.tick_hash) != unit.tick_hash}


def stale_warnings(
    spec: BarSpec, units: Sequence[Unit], cache_dir: Path | str | None = None
) -> list[CoverageWarning]:
    """Return warnings for units of one spec whose ticks have changed."""
    try:
        stale = stale_units(units, cache_dir)
    except StorageError as error:
        sentence = f"bars of {spec.symbol} at {spec.threshold} dbps: cannot check their ticks: "
        return [CoverageWarning(f"{sentence}{error}")]
    return [stale_warning(spec, {unit.day for unit in stale})] if stale else []
