"""Columns of feature plugins in a read, and the bars before it that they depend on.

Plugins get the bars of one symbol, threshold and segment at a time, with as many earlier bars of the
same series as they need, so that values do not depend on where a read begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import day_start, microseconds
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.clickhouse.query.bars import newest_bars, no_bars, read_bars
from rangebar_polars.plugins.provider import input_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.plugins.call import PluginCall
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["needed_columns", "read_stored", "with_plugin_columns"]


def needed_columns(call: PluginCall) -> set[str]:
    """Return the columns of a bar that a read with these plugins needs."""
    return {*input_columns(), "is_closed"} if call.columns else set()


def read_stored(
    cache: Cache, request: ReadRequest, units: Sequence[Unit]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the stored bars of a request, and those before them that its plugins need.

    Parameters
    ----------
    units
        The stored units of all series of the read, from the beginning of each series on.

    Returns
    -------
    tuple of DataFrame
        Closed bars of the segment in which the read begins, then the bars of the read.

    Raises
    ------
    DamagedBarsError
        Published rows are not there any more.
    """
    end_us = None if request.end is None else microseconds(request.end)
    if request.count is not None:
        bars = newest_bars(cache, units, request.count, columns=request.columns, end_us=end_us)
    else:
        bars = read_bars(
            cache,
            units,
            columns=request.columns,
            start_us=None if request.start is None else microseconds(request.start),
            end_us=end_us,
            include_orphans=request.include_orphans,
        )
    return _bars_before(cache, request, units, bars), bars


def _bars_before(
    cache: Cache, request: ReadRequest, units: Sequence[Unit], bars: pl.DataFrame
) -> pl.DataFrame:
    names = needed_columns(request.plugins)
    start, same = request.start, 0
    if start is None and request.count is not None and bars.height:
        times = bars.get_column("close_time")
        start, same = times[0], int((times == times[0]).sum())
    # Without a number of bars or a start, a read begins with the first bar of a series.
    if start is None or not request.plugins.min_bars:
        return no_bars(names)
    first = segment_of(start, request.spec.reset).start
    own = [unit for unit in units if unit.series.segment_start == first]
    # Bars may close at the same time, of which the read has the last ones.
    end_us = microseconds(start) + (1 if same else 0)
    count = request.plugins.min_bars + same
    found = newest_bars(cache, own, count, columns=names, end_us=end_us)
    return found.head(max(0, found.height - same))


def with_plugin_columns(
    request: ReadRequest, earlier: Sequence[pl.DataFrame], bars: pl.DataFrame
) -> pl.DataFrame:
    """Add the columns of the plugins to the bars of a read.

    Parameters
    ----------
    earlier
        Bars before those of the read, in order. Only those of the same segment are used.
    bars
        The bars, in order, with the columns of `needed_columns`.

    Raises
    ------
    PluginError
        A plugin fails, and `RANGEBAR_PLUGINS` is `strict`.
    """
    call, spec = request.plugins, request.spec
    if not call.columns:
        return bars
    names = no_bars(needed_columns(call)).columns
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


def _segments(bars: pl.DataFrame, reset: str) -> Iterator[pl.DataFrame]:
    """Yield the bars of each segment; they are in order."""
    while bars.height:
        times = bars.get_column("close_time")
        end = segment_of(times[0], reset).end
        count = bars.height if end is None else int(times.search_sorted(day_start(end), "left"))
        yield bars.head(count)
        bars = bars.slice(count)
