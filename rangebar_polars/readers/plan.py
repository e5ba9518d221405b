"""The plan of a read: for each segment, stored units of one series and the days computed from ticks.

A segment never mixes two series.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds
from rangebar_polars.bar_series.days import Replay, is_readable, new_builder, resumed
from rangebar_polars.bar_series.features import (
    DEFAULT_WINDOW,
    NO_FEATURES,
    FeatureSet,
)
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.bar_series.selection import (
    SegmentSelection,
    family_features,
    select_series,
)
from rangebar_polars.bar_series.units import Chain, groups_of
from rangebar_polars.clickhouse.query.bars import closed_before, newest_units
from rangebar_polars.clickhouse.query.unit_cache import cached_chains
from rangebar_polars.clickhouse.query.units import (
    read_families,
    replay_day,
    replays_of,
    states_of,
)
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.readers.coverage import other_semantics
from rangebar_polars.readers.features import (
    check_units,
    check_windows,
    lacking,
    window_of,
)
from rangebar_polars.readers.hints import too_many_days
from rangebar_polars.readers.request import MAX_COMPUTED_DAYS
from rangebar_polars.sources import is_user_source
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from rangebar_polars._utils.arguments.durations import Window
    from rangebar_polars.bar_series.featured import BarBuilder
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = ["SegmentRead", "days_from_ticks", "newest_end", "plan_read", "visible_chains"]

_ONE_MICROSECOND = timedelta(microseconds=1)
#: Days before the last one that a read of the newest bars computes where no bars are stored.
_WINDOW = timedelta(days=29)


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """The read of one segment: stored units of a series, followed by bars computed from ticks."""

    series: BarSeries
    #: The part of the read that lies in the segment.
    span: Span
    #: Units of the series from its first day on. Later ones than the span may hold bars of it.
    units: tuple[Unit, ...] = ()
    #: State of the processor after the last unit, where the computation resumes from it.
    state: bytes | None = None
    #: Ticks of the days to compute.
    snapshot: TickSnapshot | None = None
    #: Whether the forming bar at the end is part of the result.
    is_last: bool = False
    #: Whether the ticks of the last day are complete.
    is_complete: bool = True
    #: Optional feature groups of its bars, stored or computed.
    features: FeatureSet = NO_FEATURES
    #: Number of newest ticks of the units that a computation of these groups needs, and their first
    #: day; None without such ticks.
    replay: int = 0
    replay_from: date | None = None

    @classmethod
    def of(cls, selection: SegmentSelection) -> SegmentRead:
        """Return the read of a selected series, before states and ticks are known."""
        return cls(selection.series, selection.part, selection.units)

    @property
    def ticks(self) -> Span | None:
        """The ticks to compute: from the end of the units, or from the anchor. None for no ticks."""
        start = self.series.anchor
        if self.units:
            start = day_start(self._frontier)
        return Span(start, self.span.end) if start < self.span.end else None

    @property
    def needed_ticks(self) -> Span | None:
        """The ticks to compute, and those before them that optional feature groups need."""
        ticks = self.ticks
        if self.replay_from is None:
            return ticks
        end = day_start(self._frontier) if ticks is None else ticks.end
        return Span(day_start(self.replay_from), end)

    @property
    def _frontier(self) -> date:
        """The first day after the units."""
        return self.series.first_day + len(self.units) * ONE_DAY

    @property
    def ends_segment(self) -> bool:
        """Whether the span reaches the end of the segment, where the forming bar ends too."""
        end = self.series.segment.end
        return end is not None and self.span.end >= day_start(end)

    @property
    def computes_bars(self) -> bool:
        """Whether bars are computed after the stored ones, if only the forming one."""
        return self.ticks is not None or (self.is_last and not self.ends_segment)

    @property
    def units_of_span(self) -> tuple[Unit, ...]:
        """Units up to the last day of the span."""
        last_day = self.span.last_day
        return tuple(unit for unit in self.units if unit.day <= last_day)

    @property
    def source(self) -> str:
        """Origin of the bars: cache, cache+ticks or ticks."""
        if not self.units:
            return "ticks"
        return "cache" if self.ticks is None else "cache+ticks"

    def builder(self, columns: Sequence[str] = ()) -> BarBuilder:
        """Return a builder in the state from which the computation resumes.

        Of the optional feature groups, it computes only the given columns.

        Raises
        ------
        ReplayError
            The ticks before do not give the bar that was forming in that state.
        """
        features, names = NO_FEATURES, []
        if self.features.groups:
            found = [column for column in self.features.columns if column.bar_name in columns]
            names = [column.bar_name for column in found]
            features = FeatureSet.of({column.group for column in found}, self.features.window)
        if self.state is None:
            return new_builder(self.series.spec, features, names)
        replay = Replay(self._days_before, self.replay)
        return resumed(self.series, self.state, self._frontier, features, replay, names)

    def _days_before(self, _day: date) -> TickSnapshot:
        """Return the snapshot, which has all days that a computation needs."""
        assert self.snapshot is not None  # noqa: S101
        return self.snapshot

    def cut(self, end: datetime) -> SegmentRead | None:
        """Return the read up to an instant, or None if it has to compute bars and starts later."""
        if self.ticks is None or self.ticks.end <= end:
            return self
        if self.span.start >= end:
            return None
        return replace(self, span=Span(self.span.start, min(self.span.end, end)))

    def described(self) -> dict[str, object]:
        """Return the entry of the segment in `attrs["rangebar"]`, fit for JSON."""
        return {
            "series": str(self.series),
            "anchor": self.series.anchor.isoformat(),
            "source": self.source,
            "end": self.span.end.isoformat(),
            "features": list(self._groups),
            "lookback": None if self.features.window is None else str(self.features.window),
        }

    @property
    def _groups(self) -> tuple[str, ...]:
        """The feature groups of the stored bars of the segment, or of its computed bars."""
        return groups_of(self.units) if self.units else self.features.all_groups


def visible_chains(cache: Cache | None, request: ReadRequest) -> Mapping[BarSeries, Chain]:
    """Return the stored series that may answer a request."""
    if cache is None:
        return {}
    return cached_chains(cache, request.spec, request.segment_starts)


def plan_read(cache: Cache | None, request: ReadRequest) -> list[SegmentRead]:
    """Plan a read from what is visible in the cache now.

    Raises
    ------
    CoverageError
        Too many days would have to be computed, or stored bars do not have a requested feature
        group.
    """
    chains = visible_chains(cache, request)
    reads = [SegmentRead.of(selection) for selection in _selections(request, chains)]
    if request.include_incomplete:
        reads[-1] = _with_forming_bar(reads[-1])
    if request.features.groups:
        reads = _plan_features(cache, request, reads)
    if cache is not None:
        reads = [_with_replay(cache, read) for read in _with_states(cache, reads)]
    days = days_from_ticks(reads)
    if len(days) > MAX_COMPUTED_DAYS:
        others = {} if cache is None else other_semantics(cache, request.spec)
        raise too_many_days(request, days, others)
    return reads


def _plan_features(
    cache: Cache | None, request: ReadRequest, reads: Sequence[SegmentRead]
) -> list[SegmentRead]:
    """Return reads with the optional groups that they compute.

    A series without the groups that begins at a requested anchor is computed from ticks.

    Raises
    ------
    CoverageError
        Stored bars do not have a requested group, or the windows differ.
    """
    if request.anchor is not None:
        reads = [
            replace(read, units=()) if lacking(request, _used(request, [read])) else read
            for read in reads
        ]
    used = _used(request, reads)
    check_units(request, used)
    own = {window for window in map(window_of, used) if window is not None}
    default = request.features.window
    is_new = any(read.computes_bars and not read.units for read in reads)
    if request.features.has_window and default is None and is_new:
        families = {} if cache is None else read_families(cache, [request.spec])
        default = family_features(families.get(request.spec, ())).window or DEFAULT_WINDOW
        check_windows(request, {*own, default})
    return [
        replace(read, features=FeatureSet.of(request.features.groups, _of_read(read, default, own)))
        for read in reads
    ]


def _of_read(read: SegmentRead, default: Window | None, own: set[Window]) -> Window | None:
    if read.units:
        return window_of(read.units[-1]) or next(iter(own), default)
    return default


def _used(request: ReadRequest, reads: Sequence[SegmentRead]) -> list[Unit]:
    """Return the units whose bars a read returns, or that it continues from."""
    if request.count is not None:
        end_us = None if request.end is None else microseconds(request.end)
        used = newest_units([unit for read in reads for unit in read.units], request.count, end_us)
    else:
        used = [
            unit
            for read in reads
            for unit in read.units
            if read.span.first_day <= unit.day <= read.span.last_day
        ]
    last = [read.units[-1] for read in reads if read.units and read.computes_bars]
    return list(dict.fromkeys([*used, *last]))


def days_from_ticks(reads: Iterable[SegmentRead]) -> list[date]:
    """Return the UTC days whose bars are computed from ticks."""
    return [day for read in reads if read.ticks is not None for day in read.ticks.days()]


def _with_forming_bar(read: SegmentRead) -> SegmentRead:
    """Return the last read with the bar that is forming at its end.

    Only states after whole days are stored, so that the rest of the last day is computed.
    """
    if read.ends_segment:
        return replace(read, is_last=True)
    whole_days = (read.span.end.date() - read.series.first_day).days
    return replace(read, units=read.units[: max(0, whole_days)], is_last=True)


def _with_states(cache: Cache, reads: Sequence[SegmentRead]) -> list[SegmentRead]:
    """Return the reads with the states that they resume from.

    A read whose state this version cannot load is computed from its anchor.
    """
    last_units = [read.units[-1] if read.units and read.computes_bars else None for read in reads]
    states = states_of(cache, [unit for unit in last_units if unit is not None])
    return [
        read if unit is None else _resumed(read, states[unit])
        for read, unit in zip(reads, last_units, strict=True)
    ]


def _with_replay(cache: Cache, read: SegmentRead) -> SegmentRead:
    """Return a read with the ticks that its optional feature groups need to resume."""
    if not read.features.groups or not read.units or not read.computes_bars:
        return read
    count = replays_of(cache, read.units[-1:])[read.units[-1]]
    if not count:
        return read
    return replace(read, replay=count, replay_from=replay_day(cache, read.units, count))


def _resumed(read: SegmentRead, state: bytes) -> SegmentRead:
    return replace(read, state=state) if is_readable(state) else replace(read, units=())


def _selections(
    request: ReadRequest, chains: Mapping[BarSeries, Chain]
) -> Sequence[SegmentSelection]:
    """Select the series of each segment."""
    if request.span is None:
        end = request.end
        if end is None:
            newest = newest_end(request, chains)
            if newest is None:
                raise _nothing_stored(request)
            end = _within_reach(request, chains, newest)
        return _newest(request, end, chains) or _window(request, end)
    return select_series(
        request.spec, request.span, chains, anchor=request.anchor, first_day=request.first_day
    )


def _within_reach(
    request: ReadRequest, chains: Mapping[BarSeries, Chain], end: datetime
) -> datetime:
    """Return the end of the stored bars if a read cannot compute all days from there to an end."""
    newest = next(request.newest(chains, end), None)
    if newest is None:
        return end
    frontier = day_start(newest.frontier)
    is_far = frontier < end and len(Span(frontier, end).days()) > MAX_COMPUTED_DAYS
    return frontier if is_far else end


def newest_end(
    request: ReadRequest, chains: Mapping[BarSeries, Chain] = MappingProxyType({})
) -> datetime | None:
    """Return the end of a read without one: now, or the end of what is stored without a fetch."""
    spec = request.spec
    if request.fetch and not is_user_source(spec.source):
        return clock.utc_now()
    days = TickStorage(request.cache_dir).list_days(
        spec.symbol, source=spec.source, market=spec.market
    )
    ends = [day_start(day + ONE_DAY) for day in days]
    ends += [day_start(chain.frontier) for chain in request.matching(chains) if chain.units]
    return min(max(ends), clock.utc_now()) if ends else None


def _nothing_stored(request: ReadRequest) -> CoverageError:
    spec = request.spec
    is_of_user = is_user_source(spec.source)
    hint = f"write its ticks with source={spec.source!r}" if is_of_user else "fetch_if_missing=True"
    sentence = f"neither ticks nor bars of `{spec.symbol}` are stored"
    return CoverageError(with_hint(sentence, hint), symbol=spec.symbol)


def _newest(
    request: ReadRequest, end: datetime, chains: Mapping[BarSeries, Chain]
) -> list[SegmentSelection]:
    """Select the series that hold the newest bars; an empty list if none is stored.

    The newest series is continued to the end. Those of older segments answer with their units, as
    in `get_n_bars`.
    """
    count = request.count or 0
    walk = request.newest(chains, end)
    newest = next(walk, None)
    if newest is None:
        return []
    spec = request.spec
    found = [
        SegmentSelection(segment, part, Chain(spec.series(part.start), ()))
        for segment, part in parts(Span(newest.series.anchor, end), spec.reset)
    ]
    found[0] = SegmentSelection(found[0].segment, found[0].part, newest)
    bars = closed_before(newest.units, microseconds(end))
    for chain in walk:
        if bars >= count:
            break
        part = Span(chain.series.anchor, day_start(chain.frontier))
        found.insert(0, SegmentSelection(chain.series.segment, part, chain))
        bars += closed_before(chain.units, None)
    return found


def _window(request: ReadRequest, end: datetime) -> list[SegmentSelection]:
    """Select new series for the 30 days before an instant.

    Each segment starts at its own start, or at that of the window.
    """
    start = day_start((end - _ONE_MICROSECOND).date() - _WINDOW)
    if request.first_day is not None:
        start = max(start, day_start(request.first_day))
    if isinstance(request.anchor, datetime):
        start = max(start, request.anchor)
    if start >= end:
        raise ValueError(
            with_hint(
                f"`end_date` ({end:%Y-%m-%d %H:%M} UTC) lies before the first possible bar",
                f"bars begin on {start:%Y-%m-%d %H:%M} UTC",
            )
        )
    found = [
        SegmentSelection(
            selection.segment, Span(selection.series.anchor, selection.part.end), selection.chain
        )
        for selection in select_series(
            request.spec,
            Span(start, end),
            {},
            anchor=request.anchor,
            first_day=request.first_day,
        )
    ]
    # An anchor may lie far before the window.
    while len(found) > 1 and len(_days(found)) > MAX_COMPUTED_DAYS:
        del found[0]
    return found


def _days(selections: Iterable[SegmentSelection]) -> list[date]:
    return days_from_ticks(SegmentRead.of(selection) for selection in selections)
