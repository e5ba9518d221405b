"""Bars as a lazy frame: planned when it is made, read or computed when it is collected.

A plan names the units, the processor states and the tick files that it was made from. It gives
the bars of these alone, whatever is published or fetched before it is collected.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars._utils.span import microseconds
from rangebar_polars.clickhouse.query.bars import READ_TRIES, DamagedBarsError, no_bars, read_bars
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import SnapshotExpiredError, with_hint
from rangebar_polars.readers.execute import compute_segment, open_if_wanted, settle
from rangebar_polars.storage.reading.pruning import Bounds, time_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from rangebar_polars._utils.io_source import Frames
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.coverage import CoverageWarning

__all__ = ["planned_frame"]

#: Most stored bars in memory at a time.
_MOST_ROWS = 250_000

_AGAIN = "make the plan again: call scan_range_bars"


def planned_frame(request: ReadRequest) -> tuple[pl.LazyFrame, tuple[CoverageWarning, ...]]:
    """Plan a read, and return it as a lazy frame with its warnings.

    Collecting the frame opens the cache for one part of the rows at a time.
    """
    settled = settle(request, with_bars=False)
    reads = settled.segments

    def pruned(predicate: pl.Expr) -> Frames:
        return partial(_frames, request, reads, time_bounds(predicate, "close_time"))

    spec = request.spec
    frame = lazy_frame(
        partial(_frames, request, reads, Bounds()),
        schema=no_bars(request.columns).schema,
        name="RANGE BARS",
        detail=f"{spec.symbol} at {spec.threshold} dbps, {len(reads)} segments",
        pruned=pruned,
    )
    return frame, settled.warnings


def _frames(
    request: ReadRequest, reads: Sequence[SegmentRead], bounds: Bounds, names: list[str] | None
) -> Iterator[pl.DataFrame]:
    """Yield the bars in order. Bars outside the bounds may be left out."""
    if names is not None:
        columns = tuple(name for name in request.columns if name in names)
        request = replace(request, columns=columns)
    for run in _runs(reads):
        for units in _groups(run, bounds):
            yield _stored(request, run, units, bounds)
        if microseconds(run[-1].span.end) > bounds.low:
            yield from _computed(request, run[-1])


def _runs(reads: Sequence[SegmentRead]) -> Iterator[list[SegmentRead]]:
    """Yield runs of reads of which only the last one computes bars."""
    run: list[SegmentRead] = []
    for read in reads:
        run.append(read)
        if read.computes_bars:
            yield run
            run = []
    if run:
        yield run


def _groups(run: Sequence[SegmentRead], bounds: Bounds) -> Iterator[list[Unit]]:
    """Yield the units of a run that may have a bar inside the bounds, in groups that fit in memory."""
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
    """Yield the units of a run that may have a bar inside the bounds."""
    for read in run:
        start, end = microseconds(read.span.start), microseconds(read.span.end)
        for unit in read.units:
            first, last = unit.first_close_us, unit.last_close_us
            if first is None or last is None or last < max(start, bounds.low):
                continue
            if first <= bounds.high and first < end:
                yield unit


def _stored(
    request: ReadRequest, run: Sequence[SegmentRead], units: list[Unit], bounds: Bounds
) -> pl.DataFrame:
    """Read the bars of units of a run, or equal bars that have replaced them."""
    start_us = max(microseconds(run[0].span.start), bounds.low)
    end_us = microseconds(run[-1].span.end)

    def read(cache: Cache, units: list[Unit]) -> pl.DataFrame:
        return read_bars(
            cache,
            units,
            columns=request.columns,
            start_us=start_us,
            end_us=end_us,
            include_orphans=request.include_orphans,
        )

    with open_if_wanted(request) as cache:
        if cache is None:
            raise _gone(units[0])
        with suppress(DamagedBarsError):
            return read(cache, units)
        for _ in range(READ_TRIES - 2):
            with suppress(DamagedBarsError):
                return read(cache, _same_bars(cache, units))
        return read(cache, _same_bars(cache, units))


def _same_bars(cache: Cache, units: list[Unit]) -> list[Unit]:
    """Return the visible units of the same days, if they have the same bars.

    Raises
    ------
    SnapshotExpiredError
        They have others: the bars that the plan was made from were replaced and removed.
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


def _computed(request: ReadRequest, read: SegmentRead) -> Iterator[pl.DataFrame]:
    try:
        yield from compute_segment(request, read)
    except SnapshotExpiredError as error:
        sentence, _, _ = str(error).partition("\n")
        raise SnapshotExpiredError(with_hint(sentence, _AGAIN)) from error
