"""Bars as a lazy frame: which series answer is settled at the call, rows are read when collected."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._span import microseconds
from rangebar_polars._stream import lazy_frame
from rangebar_polars.clickhouse.rows import no_bars, read_bars
from rangebar_polars.clickhouse.units import read_chains
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.pipeline.reading import computed, opened, ready
from rangebar_polars.storage.pruning import Bounds, time_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from rangebar_polars._stream import Frames
    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.units import Unit
    from rangebar_polars.pipeline.reading import Piece, Plan, Wanted

__all__ = ["planned"]

#: So many stored bars are in memory at a time.
_MOST_ROWS = 250_000


def planned(plan: Plan) -> tuple[pl.LazyFrame, list[str]]:
    """Lazy frame of a plan, and what is to be said of it.

    The cache is opened for a part of the rows, and closed after it.
    """
    with opened(plan.wanted.access) as cache:
        plan.make(cache)
    pieces, notes = ready(plan)
    wanted = plan.wanted

    def pruned(predicate: pl.Expr) -> Frames:
        return partial(_frames, wanted, pieces, time_bounds(predicate, "close_time"))

    family = wanted.asked.family
    frame = lazy_frame(
        partial(_frames, wanted, pieces, Bounds()),
        schema=no_bars(wanted.columns).schema,
        name="RANGE BARS",
        detail=f"{family.symbol} at {family.threshold} dbps, {len(pieces)} segments",
        pruned=pruned,
    )
    return frame, notes


def _frames(
    wanted: Wanted, pieces: Sequence[Piece], bounds: Bounds, names: list[str] | None
) -> Iterator[pl.DataFrame]:
    """The bars of the pieces in order; close times outside the bounds may be left out."""
    if names is not None:
        wanted = replace(wanted, columns=tuple(n for n in wanted.columns if n in names))
    for piece in pieces:
        for units in _groups(piece, bounds):
            yield _stored(wanted, piece, units, bounds)
        if microseconds(piece.part.end) > bounds.low:
            yield from computed(wanted, piece)


def _groups(piece: Piece, bounds: Bounds) -> Iterator[list[Unit]]:
    """The units with a bar inside the bounds, so many at a time as fit."""
    group: list[Unit] = []
    start, end = microseconds(piece.part.start), microseconds(piece.part.end)
    for unit in piece.choice.units:
        first, last = unit.first_close_us, unit.last_close_us
        if first is None or last is None or last < max(start, bounds.low):
            continue
        if first > bounds.high or first >= end:
            continue
        if group and sum(one.rows for one in group) + unit.rows > _MOST_ROWS:
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _stored(wanted: Wanted, piece: Piece, units: list[Unit], bounds: Bounds) -> pl.DataFrame:
    planned_once = iter([units])
    with opened(wanted.access) as cache:
        if cache is None:
            raise _gone(units)
        return read_bars(
            cache,
            lambda: next(planned_once, None) or _again(cache, units),
            columns=wanted.columns,
            start_us=max(microseconds(piece.part.start), bounds.low),
            end_us=microseconds(piece.part.end),
            include_orphans=wanted.orphans,
        )


def _again(cache: Cache, units: list[Unit]) -> list[Unit]:
    """The units that are visible now of the same days: others, after a rebuild."""
    series = units[0].series
    chains = read_chains(cache, [series.family], segment_starts=[series.segment_start])
    chain = chains.get(series)
    found = [] if chain is None else [chain.unit(unit.day) for unit in units]
    kept = [unit for unit in found if unit is not None]
    if len(kept) < len(units):
        raise _gone(units)
    return kept


def _gone(units: list[Unit]) -> CoverageError:
    series = units[0].series
    sentence = f"bars of {series} are not in the cache any more"
    return CoverageError(
        with_hint(sentence, "call scan_range_bars again"),
        symbol=series.family.symbol,
        days=[unit.day for unit in units],
    )
