"""The execution of a read: plan, read stored bars, fetch ticks, compute the rest."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import microseconds
from rangebar_polars.bar_series.days import Track, compute_days, forming, orphan
from rangebar_polars.bar_series.featured import ReplayError
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.bars import (
    READ_TRIES,
    DamagedBarsError,
    newest_bars,
    no_bars,
    read_bars,
)
from rangebar_polars.exceptions import (
    CacheForkedError,
    CacheUnavailableError,
    CoverageError,
    MissingExtraError,
    ParquetCorruptionError,
    SnapshotExpiredError,
    with_hint,
)
from rangebar_polars.readers.coverage import stale_warnings
from rangebar_polars.readers.features import cut_windows
from rangebar_polars.readers.hints import MissingBars, too_many_days_of_several
from rangebar_polars.readers.missing_ticks import with_ticks
from rangebar_polars.readers.plan import plan_read
from rangebar_polars.readers.plugins import bars_before, with_needed_columns, with_plugin_columns
from rangebar_polars.readers.request import Fetches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars._warnings import RangeBarWarning
    from rangebar_polars.bar_series.featured import BarBuilder
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.coverage import CoverageWarning

__all__ = [
    "ReadResult",
    "compute_segment",
    "ensure_ticks",
    "execute",
    "open_if_wanted",
    "plan_all",
    "read_stored",
    "settle",
]

#: How often a read starts again because stored bars were replaced between its steps.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Bars, the reads of the segments that they come from, and warnings."""

    bars: pl.DataFrame
    segments: tuple[SegmentRead, ...]
    warnings: tuple[RangeBarWarning, ...]
    #: Stored bars before these, for plugins.
    earlier: pl.DataFrame | None = None


def execute(request: ReadRequest) -> ReadResult:
    """Read the bars of a request: stored bars first, then those computed from ticks."""
    if request.plugins is not None:
        request = with_needed_columns(request)
    try:
        return _execute(request)
    except ParquetCorruptionError:
        # The corrupt file is in quarantine now, so that a second try fetches its day.
        if not request.fetch:
            raise
    except SnapshotExpiredError:
        pass
    return _execute(replace(request, fetches=Fetches()))


def _execute(request: ReadRequest) -> ReadResult:
    settled = settle(request)
    computed = [bars for read in settled.segments for bars in compute_segment(request, read)]
    bars = pl.concat([settled.bars, *computed])
    # Segments with stored bars and segments with computed ones may alternate.
    if not bars.get_column("close_time").is_sorted():
        bars = bars.sort("close_time", maintain_order=True)
    first = _first_row(request, bars)
    earlier, bars = bars.head(first), bars.slice(first)
    window = settled.segments[-1].features.window
    cut = () if window is None else cut_windows(bars, window)
    if request.plugins is not None:
        before = [earlier] if settled.earlier is None else [settled.earlier, earlier]
        bars = with_plugin_columns(request, before, bars)
    return ReadResult(bars, settled.segments, (*settled.warnings, *cut))


def _first_row(request: ReadRequest, bars: pl.DataFrame) -> int:
    """Return the row of the first requested bar; plugins need those before it."""
    if request.count is not None:
        return max(0, bars.height - request.count)
    if request.start is None:
        return 0
    return int((bars.get_column("close_time") < request.start).sum())


def settle(
    request: ReadRequest,
    *,
    with_bars: bool = True,
    planned: list[SegmentRead] | None = None,
) -> ReadResult:
    """Plan a read, read its stored bars, and take a snapshot of the ticks that continue them.

    Stored bars and the ticks that continue them belong together. If both were replaced between the
    two steps, start again. Without `with_bars`, only plan, or begin with a plan that was just made.

    Raises
    ------
    SnapshotExpiredError
        The bars were replaced during every try.
    """
    for _ in range(_TRIES):
        if with_bars:
            with open_if_wanted(request) as cache:
                planned, earlier, bars = _plan_and_read(cache, request)
        else:
            planned = planned or plan_all([request])[0]
            bars, earlier = no_bars(request.columns), None
        reads, warnings = ensure_ticks(request, planned)
        # After the snapshot, to notice a day that was replaced before it.
        units = [unit for read in planned for unit in read.units_of_span]
        stale = stale_warnings(request.spec, units, request.cache_dir)
        is_continued = any(read.units_of_span and read.computes_bars for read in reads)
        if not (stale and is_continued) or _is_current(request, planned):
            return ReadResult(bars, tuple(reads), (*stale, *warnings), earlier)
        planned, request = None, replace(request, fetches=Fetches())
    sentence = (
        f"stored bars of {request.spec.symbol} at {request.spec.threshold} dbps were replaced while "
        f"they were read, {_TRIES} times in a row"
    )
    raise SnapshotExpiredError(with_hint(sentence, "read them again when the population is done"))


def plan_all(requests: Sequence[ReadRequest]) -> list[list[SegmentRead]]:
    """Plan the reads of requests for one cache, before anything is fetched for any of them.

    Raises
    ------
    CoverageError
        Too many days would have to be computed. It names all requests of which this is true.
    """
    plans, refused = [], []
    with open_if_wanted(requests[0]) as cache:
        for request in requests:
            try:
                plans.append(plan_read(cache, request))
            except CoverageError as error:
                if not isinstance(error.remedy, MissingBars):
                    raise
                refused.append(error)
    if refused:
        if len(refused) == 1:
            raise refused[0]
        raise too_many_days_of_several(refused, uses_cache=requests[0].use_cache)
    return plans


def _plan_and_read(
    cache: Cache | None, request: ReadRequest
) -> tuple[list[SegmentRead], pl.DataFrame | None, pl.DataFrame]:
    """Plan and read the units, and plan again if they were replaced meanwhile.

    Return the plan and the two frames of `read_stored`.
    """
    if cache is None:
        return plan_read(None, request), None, no_bars(request.columns)
    for _ in range(READ_TRIES - 1):
        planned = plan_read(cache, request)
        with suppress(DamagedBarsError):
            return planned, *read_stored(cache, request, _units(planned))
    planned = plan_read(cache, request)
    return planned, *read_stored(cache, request, _units(planned))


def read_stored(
    cache: Cache, request: ReadRequest, units: Sequence[Unit]
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """Read the stored bars of a request, and those before them that its plugins need.

    Parameters
    ----------
    units
        The stored units of all series of the read, from the beginning of each series on.

    Returns
    -------
    tuple of DataFrame
        The bars before, None without plugins, and the bars.

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
    if request.plugins is None:
        return None, bars
    return bars_before(cache, request, units, bars), bars


def _units(reads: Sequence[SegmentRead]) -> list[Unit]:
    return [unit for read in reads for unit in read.units]


def _is_current(request: ReadRequest, planned: Sequence[SegmentRead]) -> bool:
    """Return whether a plan made now has the same units."""
    with open_if_wanted(request) as cache:
        now = plan_read(cache, request)
    return _attempts(now) == _attempts(planned)


def _attempts(reads: Sequence[SegmentRead]) -> list[int]:
    return [unit.attempt for unit in _units(reads)]


def ensure_ticks(
    request: ReadRequest, reads: Sequence[SegmentRead]
) -> tuple[Sequence[SegmentRead], list[CoverageWarning]]:
    """Return the reads with snapshots of their ticks, fetched if necessary, and warnings."""
    if all(read.needed_ticks is None for read in reads):
        return reads, []
    return with_ticks(request, reads)


@contextmanager
def open_if_wanted(request: ReadRequest) -> Iterator[Cache | None]:
    """Open the cache if the request uses it; None if not, or if nothing is stored.

    Without the libraries of the cache nothing is stored, unless the request names an address.
    """
    raise_if_forked("reading bars")
    with ExitStack() as stack:
        cache = None
        if request.use_cache:
            try:
                cache = stack.enter_context(reading(request.dsn, cache_dir=request.cache_dir))
            except MissingExtraError:
                if request.dsn is not None:
                    raise
            except CacheUnavailableError as error:
                raise _naming_use_cache(error) from error
        yield cache


def _naming_use_cache(error: CacheUnavailableError) -> CacheUnavailableError:
    text = str(error)
    # A forked child cannot read ticks either.
    if "use_cache=False" not in text and not isinstance(error, CacheForkedError):
        text += "; use_cache=False computes bars from ticks instead"
    return type(error)(text, holder=error.holder)


def compute_segment(request: ReadRequest, read: SegmentRead) -> Iterator[pl.DataFrame]:
    """Compute the bars of a segment that are not stored, a day at a time.

    If plugins need bars before the read, those that are computed are among them.
    """
    if not read.computes_bars:
        return
    try:
        builder = read.builder(request.columns)
    except ReplayError as error:
        raise _changed_ticks(read, error) from error
    for bars in _of_ticks(read, builder):
        yield _requested(request, read, bars)
    if read.ends_segment and read.is_complete:
        yield _requested(request, read, orphan(builder))
    elif read.is_last:
        yield _requested(request, read, forming(builder))


def _changed_ticks(read: SegmentRead, error: ReplayError) -> CoverageError:
    day = read.units[-1].day
    return CoverageError(
        with_hint(
            f"stored bars of {read.series} cannot be continued from `{day}`: {error}",
            "populate_cache_resumable(..., refresh_stale=True) builds them again",
        ),
        symbol=read.series.spec.symbol,
        days=[day],
    )


def _of_ticks(read: SegmentRead, builder: BarBuilder) -> Iterator[pl.DataFrame]:
    ticks = read.ticks
    if ticks is None or read.snapshot is None:
        return
    track = Track(read.series, builder, ticks.first_day)
    for day in compute_days(read.snapshot, [track], ticks.last_day, end=ticks.end):
        yield from (bars for bars in day.bars if bars is not None)


def _requested(request: ReadRequest, read: SegmentRead, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars that close in the span of the segment, without unrequested kinds."""
    start = read.series.anchor if request.context else read.span.start
    passes = pl.col("close_time").is_between(start, read.span.end, closed="left")
    is_forming = pl.col("ended_by").is_null()
    passes &= pl.col("is_closed") | pl.lit(request.include_orphans) | is_forming
    return bars.filter(passes).select(request.columns)
