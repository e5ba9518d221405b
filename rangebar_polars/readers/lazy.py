"""Bars as a lazy frame: planned when it is made, read or computed when it is collected.

A plan names the units, the processor states and the tick files that it was made from. It gives
the bars of these alone, whatever is published or fetched before it is collected.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import microseconds
from rangebar_polars.bar_series.features import stored_features
from rangebar_polars.clickhouse.query.bars import (
    READ_TRIES,
    DamagedBarsError,
    no_bars,
    read_bars,
)
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import RangeBarError, SnapshotExpiredError, with_hint
from rangebar_polars.readers.execute import compute_segment, open_if_wanted, plan_all, settle
from rangebar_polars.readers.plugins import (
    context_request,
    context_units,
    with_needed_columns,
    with_plugin_columns,
)
from rangebar_polars.storage.reading.keyed import KeyedRows, keyed_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars._warnings import RangeBarWarning
    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.plugins.call import PluginCall
    from rangebar_polars.readers.execute import ReadResult
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.reading.pruning import Bounds

__all__ = ["planned_frame"]

#: Most stored bars in memory at a time.
_MOST_ROWS = 250_000
#: Symbols and thresholds that the description of a plan lists.
_MOST_LISTED = 5

_AGAIN = "make the plan again: call scan_range_bars"


def planned_frame(
    requests: Sequence[ReadRequest], *, with_symbol: bool = False, with_threshold: bool = False
) -> tuple[pl.LazyFrame, tuple[RangeBarWarning, ...]]:
    """Plan reads of one cache, and return them as a lazy frame with their warnings.

    The requests differ in symbol and threshold only; the frame has their bars one request after
    another, with columns for the two if asked. Collecting it opens the cache for one part of the
    rows at a time. A query that needs columns of plugins holds the bars of one request at a time.
    """
    plans = plan_all(requests)
    planned = [
        _Planned(request, settle(request, with_bars=False, planned=plan), len(requests) > 1)
        for request, plan in zip(requests, plans, strict=True)
    ]
    dtypes: dict[str, pl.DataType] = {"symbol": pl.String()} if with_symbol else {}
    if with_threshold:
        dtypes["threshold"] = pl.UInt32()
    stored = no_bars(requests[0].columns).schema
    frame = keyed_frame(
        _query_of(planned),
        schema=pl.Schema({**stored, **dict.fromkeys(requests[0].plugin_columns, pl.Float64())}),
        key_dtypes=dtypes,
        time="close_time",
        name="RANGE_BARS",
        detail=_described(planned),
        begin=partial(_query_of, planned),
    )
    found = {str(warning): warning for one in planned for warning in one.result.warnings}
    return frame, tuple(found.values())


def _query_of(planned: Sequence[_Planned]) -> list[KeyedRows]:
    """Return the rows for one query, in which a plugin that has failed is not called again."""
    plugins = planned[0].request.plugins
    call = None if plugins is None else plugins.begin_again()
    return [KeyedRows(one.keys, partial(one.rows, call)) for one in planned]


def _described(planned: Sequence[_Planned]) -> str:
    symbols = list(dict.fromkeys(one.request.spec.symbol for one in planned))
    thresholds = list(dict.fromkeys(str(one.request.spec.threshold) for one in planned))
    segments = count_text(sum(len(one.result.segments) for one in planned), "segment")
    return f"{_some(symbols)} at {_some(thresholds)} dbps, {segments}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Planned:
    """A request with the reads of its segments."""

    request: ReadRequest
    result: ReadResult
    #: Whether errors have to name the series.
    is_one_of_several: bool = False

    @property
    def keys(self) -> dict[str, object]:
        """Symbol and threshold."""
        spec = self.request.spec
        return {"symbol": spec.symbol, "threshold": spec.threshold}

    def rows(
        self, call: PluginCall | None, names: list[str], bounds: Bounds
    ) -> Iterator[pl.DataFrame]:
        """Yield the bars in order. Bars outside the bounds may be left out."""
        columns = tuple(name for name in self.request.columns if name in names)
        request = replace(self.request, columns=columns, plugins=None)
        frames = _frames
        if call is not None and not set(call.columns).isdisjoint(names):
            request = replace(request, plugins=call.giving(names))
            frames = _frames_with_plugins
        try:
            yield from frames(request, self.result.segments, bounds)
        except RangeBarError as error:
            if self.is_one_of_several:
                _name_series(error, self.request.spec)
            raise


def _name_series(error: RangeBarError, spec: BarSpec) -> None:
    """Add the symbol and the threshold to a message that does not name them."""
    text, threshold = str(error), f"at {spec.threshold} dbps"
    if spec.symbol not in text or threshold not in text:
        error.args = (f"bars of {spec.symbol} {threshold}: {text}", *error.args[1:])


def _frames_with_plugins(
    request: ReadRequest, reads: Sequence[SegmentRead], bounds: Bounds
) -> Iterator[pl.DataFrame]:
    """Yield the bars of the reads in order, with the columns of plugins.

    The first one is yielded after the last call of a plugin, which has no values if a call fails.
    """
    request = with_needed_columns(request)
    parts = []
    for read in reads:
        frames = list(_frames(request, [read], bounds))
        if frames:
            bars = pl.concat(frames)
            first = int((bars.get_column("close_time") < read.span.start).sum())
            earlier, bars = bars.head(first), bars.slice(first)
            if bars.height:
                before = [*_before(request, read, bounds), earlier]
                parts.append(with_plugin_columns(request, before, bars))
    yield from parts if request.plugins is None else map(request.plugins.settle, parts)


def _before(request: ReadRequest, read: SegmentRead, bounds: Bounds) -> Iterator[pl.DataFrame]:
    """Yield the stored bars before a part of a segment that plugins need."""
    start_us = max(microseconds(read.span.start), bounds.low)
    units = context_units(request, read, start_us)
    if units:
        yield _stored(context_request(request), units, None, start_us)


def _frames(
    request: ReadRequest, reads: Sequence[SegmentRead], bounds: Bounds
) -> Iterator[pl.DataFrame]:
    """Yield the bars of the reads in order."""
    for run in _runs(reads):
        for units in _groups(run, bounds):
            start_us = max(microseconds(run[0].span.start), bounds.low)
            yield _stored(request, units, start_us, microseconds(run[-1].span.end))
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
    request: ReadRequest, units: list[Unit], start_us: int | None, end_us: int
) -> pl.DataFrame:
    """Read bars of units, or equal bars that have replaced them."""

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
                return read(cache, _same_bars(cache, units, request.features))
        return read(cache, _same_bars(cache, units, request.features))


def _same_bars(cache: Cache, units: list[Unit], features: FeatureSet) -> list[Unit]:
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
        if now is None or not now.has_bars_of(unit) or not _has_words(now, unit, features):
            raise _gone(unit)
        found.append(now)
    return found


def _has_words(now: Unit, before: Unit, features: FeatureSet) -> bool:
    """Return whether a unit has the requested groups in the version and window of another one."""
    wanted = stored_features(before.feature_groups)
    same = {wanted.word(group) for group in features.groups if group in wanted.groups}
    return same <= now.feature_groups


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
