"""Columns of feature plugins in a read, and the bars before it that they depend on.

Plugins get the bars of one symbol, threshold and segment at a time, with as many earlier bars of the
same series as they need, so that values do not depend on where a read begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import day_start, microseconds
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.clickhouse.query.bars import newest_bars, newest_units, no_bars
from rangebar_polars.plugins.provider import input_columns
from rangebar_polars.readers.request import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["bars_before", "context_request", "context_units", "with_needed_columns"]
__all__ += ["with_plugin_columns"]


def with_needed_columns(request: ReadRequest) -> ReadRequest:
    """Return a request that reads the columns its plugins get, too."""
    return replace(request, columns=in_order({*request.columns, *_needed()}))


def bars_before(
    cache: Cache, request: ReadRequest, units: Sequence[Unit], bars: pl.DataFrame
) -> pl.DataFrame:
    """Read the stored bars before a read that its plugins need.

    Parameters
    ----------
    units
        The stored units of all series of the read, from the beginning of each series on.
    bars
        The stored bars of the read.

    Returns
    -------
    DataFrame
        Closed bars of the segment in which the read begins, with the columns that plugins get.

    Raises
    ------
    DamagedBarsError
        Published rows are not there any more.
    """
    start, same = request.start, 0
    if start is None and request.count is not None and bars.height:
        times = bars.get_column("close_time")
        start, same = times[0], int((times == times[0]).sum())
    # Without a number of bars or a start, a read begins with the first bar of a series.
    if start is None or not request.context:
        return no_bars(_needed())
    first = segment_of(start, request.spec.reset).start
    own = [unit for unit in units if unit.series.segment_start == first]
    # Bars may close at the same time, of which the read has the last ones.
    end_us = microseconds(start) + (1 if same else 0)
    found = newest_bars(cache, own, request.context + same, columns=_needed(), end_us=end_us)
    return found.head(max(0, found.height - same))


def context_units(request: ReadRequest, read: SegmentRead, end_us: int) -> list[Unit]:
    """Return the stored units of a segment whose bars before an instant its plugins need."""
    return newest_units(read.units, request.context, end_us) if request.context else []


def context_request(request: ReadRequest) -> ReadRequest:
    """Return the request for the bars of `context_units`."""
    return replace(request, columns=in_order(_needed()), include_orphans=False)


def with_plugin_columns(
    request: ReadRequest, earlier: Sequence[pl.DataFrame], bars: pl.DataFrame
) -> pl.DataFrame:
    """Add the columns of the plugins to the bars of a read.

    Parameters
    ----------
    earlier
        Bars before those of the read, in order. Only those of the same segment are used.
    bars
        The bars, in order, of a request of `with_needed_columns`.

    Raises
    ------
    PluginError
        A plugin fails, and `RANGEBAR_PLUGINS` is `strict`.
    """
    call, spec = request.plugins, request.spec
    if call is None:
        return bars
    names = in_order(_needed())
    found = [frame.select(names).filter("is_closed") for frame in earlier if frame.height]
    before = pl.concat([no_bars(names), *found])
    parts = []
    for part in _segments(bars, spec.reset):
        start = day_start(segment_of(part.item(0, "close_time"), spec.reset).start)
        context = before.filter(pl.col("close_time") >= start)
        values = call.columns_of(
            pl.concat([context, part.select(names)]),
            context=context.height,
            symbol=spec.symbol,
            threshold=spec.threshold,
        )
        parts.append(part.with_columns(values.get_columns()))
    nothing = bars.clear().with_columns(pl.lit(None, pl.Float64).alias(one) for one in call.columns)
    return call.settle(pl.concat([nothing, *parts]))


def _needed() -> set[str]:
    return {*input_columns(), "is_closed"}


def _segments(bars: pl.DataFrame, reset: str) -> Iterator[pl.DataFrame]:
    """Yield the bars of each segment; they are in order."""
    while bars.height:
        times = bars.get_column("close_time")
        end = segment_of(times[0], reset).end
        count = bars.height if end is None else int(times.search_sorted(day_start(end), "left"))
        yield bars.head(count)
        bars = bars.slice(count)
