"""Bars as a lazy frame: planned when it is made, read or computed when it is collected.

A plan names the units, the processor states and the files of ticks that it was made from, and
gives the bars of these alone, whatever is published or fetched until it is collected.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars._utils.span import microseconds
from rangebar_polars.clickhouse.query.bars import no_bars, read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import SnapshotExpiredError, with_hint
from rangebar_polars.readers.execute import computed, opened, settled
from rangebar_polars.storage.reading.pruning import Bounds, time_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from rangebar_polars._utils.io_source import Frames
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.plan import Plan, SegmentRead
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["planned"]

#: So many stored bars are in memory at a time.
_MOST_ROWS = 250_000

_AGAIN = "make the plan again: call scan_range_bars"


def planned(plan: Plan) -> tuple[pl.LazyFrame, list[str]]:
    """Lazy frame of a plan, and what is to be said of it.

    The cache is opened for a part of the rows, and closed after it.
    """
    wanted = plan.wanted

    def made() -> None:
        with opened(wanted.access) as cache:
            plan.make(cache)

    _, pieces, notes = settled(plan, made)

    def pruned(predicate: pl.Expr) -> Frames:
        return partial(_frames, wanted, pieces, time_bounds(predicate, "close_time"))

    spec = wanted.asked.spec
    frame = lazy_frame(
        partial(_frames, wanted, pieces, Bounds()),
        schema=no_bars(wanted.columns).schema,
        name="RANGE BARS",
        detail=f"{spec.symbol} at {spec.threshold} dbps, {len(pieces)} segments",
        pruned=pruned,
    )
    return frame, notes


def _frames(
    wanted: ReadRequest, pieces: Sequence[SegmentRead], bounds: Bounds, names: list[str] | None
) -> Iterator[pl.DataFrame]:
    """The bars of the pieces in order; close times outside the bounds may be left out."""
    if names is not None:
        wanted = replace(wanted, columns=tuple(n for n in wanted.columns if n in names))
    for run in _runs(pieces):
        for units in _groups(run, bounds):
            yield _stored(wanted, run, units, bounds)
        if microseconds(run[-1].part.end) > bounds.low:
            yield from _computed(wanted, run[-1])


def _runs(pieces: Sequence[SegmentRead]) -> Iterator[list[SegmentRead]]:
    """The pieces in runs of which only the last one has bars that are computed."""
    run: list[SegmentRead] = []
    for piece in pieces:
        run.append(piece)
        if piece.goes_on:
            yield run
            run = []
    if run:
        yield run


def _groups(run: Sequence[SegmentRead], bounds: Bounds) -> Iterator[list[Unit]]:
    """The units of a run with a bar inside the bounds, as many at a time as fit in memory."""
    group: list[Unit] = []
    rows = 0
    for unit in _units(run, bounds):
        if group and rows + unit.rows > _MOST_ROWS:
            yield group
            group, rows = [], 0
        group.append(unit)
        rows += unit.rows
    if group:
        yield group


def _units(run: Sequence[SegmentRead], bounds: Bounds) -> Iterator[Unit]:
    """The units of a run that may have a bar inside the bounds."""
    for piece in run:
        start, end = microseconds(piece.part.start), microseconds(piece.part.end)
        for unit in piece.choice.units:
            first, last = unit.first_close_us, unit.last_close_us
            if first is None or last is None or last < max(start, bounds.low):
                continue
            if first <= bounds.high and first < end:
                yield unit


def _stored(
    wanted: ReadRequest, run: Sequence[SegmentRead], units: list[Unit], bounds: Bounds
) -> pl.DataFrame:
    """Bars of units of a run; its parts follow one another."""
    pinned = iter([units])
    with opened(wanted.access) as cache:
        if cache is None:
            raise _gone(units[0])
        return read_bars(
            cache,
            lambda: next(pinned, None) or _same_bars(cache, units),
            columns=wanted.columns,
            start_us=max(microseconds(run[0].part.start), bounds.low),
            end_us=microseconds(run[-1].part.end),
            include_orphans=wanted.orphans,
        )


def _same_bars(cache: Cache, units: list[Unit]) -> list[Unit]:
    """The units that are visible now of the same days, if their bars are those of the units.

    Raises
    ------
    SnapshotExpiredError
        They are not: the plan was made from bars that have been replaced and removed.
    """
    starts = {unit.series.segment_start for unit in units}
    chains = read_chains(cache, [units[0].series.spec], segment_starts=starts)
    found = []
    for unit in units:
        chain = chains.get(unit.series)
        now = None if chain is None else chain.unit(unit.day)
        if now is None or not now.has_bars_of(unit):
            raise _gone(unit)
        found.append(now)
    return found


def _gone(unit: Unit) -> SnapshotExpiredError:
    sentence = (
        f"bars of {unit.series} on {unit.day} that this plan was made from are not in the cache "
        "any more"
    )
    return SnapshotExpiredError(with_hint(sentence, _AGAIN))


def _computed(wanted: ReadRequest, piece: SegmentRead) -> Iterator[pl.DataFrame]:
    try:
        yield from computed(wanted, piece)
    except SnapshotExpiredError as error:
        sentence, _, _ = str(error).partition("\n")
        raise SnapshotExpiredError(with_hint(sentence, _AGAIN)) from error
