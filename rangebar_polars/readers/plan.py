"""Bars from what is kept and, where that ends, from ticks: what is read of which series.

In each segment one series answers. The cache is open only while stored bars and states are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import words_of_days
from rangebar_polars.bar_series.days import (
    is_readable,
    new_builder,
    restored,
)
from rangebar_polars.bar_series.identity import BAR_SEMANTICS
from rangebar_polars.bar_series.segments import segments
from rangebar_polars.bar_series.selection import select_series
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.clickhouse.query.unit_cache import cached_chains
from rangebar_polars.clickhouse.query.units import states_of
from rangebar_polars.exceptions import (
    CoverageError,
    with_hint,
)
from rangebar_polars.readers.coverage import other_semantics
from rangebar_polars.readers.hints import populate_line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date, datetime

    from rangebar_polars._utils.span import Span
    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.selection import SegmentSelection
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.compute.builder import RangeBarBuilder
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.snapshot import TickSnapshot

__all__ = ["MOST_DAYS", "Plan", "SegmentRead", "days_from_ticks", "judge_length", "plan_of_span"]


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """What is read in one segment: units of a series, and after them bars that are computed."""

    choice: SegmentSelection
    #: Of the processor after the last unit, where it goes on from there.
    state: bytes | None = None
    #: Days of the ticks that are computed.
    held: TickSnapshot | None = None
    #: Whether the forming bar at its end is given.
    is_last: bool = False
    #: Whether no tick of its last day is to come.
    is_whole: bool = True

    @property
    def series(self) -> BarSeries:
        """The series."""
        return self.choice.series

    @property
    def part(self) -> Span:
        """The part of the span that lies in the segment."""
        return self.choice.part

    @property
    def ticks(self) -> Span | None:
        """Ticks that are computed."""
        return self.choice.from_ticks

    @property
    def goes_on(self) -> bool:
        """Whether anything follows its units; the last one of a segment has its forming bar."""
        return self.ticks is not None or (self.is_last and not self.choice.ends_segment)

    @property
    def units(self) -> tuple[Unit, ...]:
        """Units up to the end of the part."""
        last_day = self.part.last_day
        return tuple(unit for unit in self.choice.units if unit.day <= last_day)

    @property
    def source(self) -> str:
        """Where its bars come from."""
        if not self.choice.units:
            return "ticks"
        return "cache" if self.ticks is None else "cache+ticks"

    def builder(self) -> RangeBarBuilder:
        """Builder that stands where the computation goes on."""
        return new_builder(self.series.spec) if self.state is None else restored(self.state)

    def described(self) -> dict[str, str]:
        """What a user is told of it, fit for JSON."""
        return {
            "series": str(self.series),
            "anchor": self.series.anchor.isoformat(),
            "source": self.source,
            "end": self.part.end.isoformat(),
        }


@dataclass(slots=True)
class Plan:
    """Which series answer a read; planned anew if units were replaced meanwhile."""

    wanted: ReadRequest
    choices: Callable[[Mapping[BarSeries, Chain]], list[SegmentSelection]]
    #: Close times of the bars, the end excluded; None for no bound.
    start: datetime | None = None
    end: datetime | None = None
    #: Segments that may answer; None for all.
    segment_starts: Sequence[date] | None = None
    pieces: list[SegmentRead] = field(default_factory=list)

    def make(self, cache: Cache | None) -> list[Unit]:
        """Plan by what is visible now; the units whose bars may be read.

        Raises
        ------
        CoverageError
            Too many days would have to be computed.
        """
        spec = self.wanted.asked.spec
        chains: Mapping[BarSeries, Chain] = {}
        if cache is not None:
            chains = cached_chains(cache, spec, self.segment_starts)
        pieces = [SegmentRead(choice) for choice in self.choices(chains)]
        pieces[-1] = _last(pieces[-1]) if self.wanted.incomplete else pieces[-1]
        self.pieces = pieces if cache is None else _with_states(cache, pieces)
        judge_length(self.wanted, self.pieces, cache)
        return [unit for piece in self.pieces for unit in piece.choice.units]


def _last(piece: SegmentRead) -> SegmentRead:
    """The piece at whose end a bar may be forming; only the state after a whole day tells of it."""
    choice, chain = piece.choice, piece.choice.chain
    if choice.ends_segment:
        return replace(piece, is_last=True)
    whole_days = (choice.part.end.date() - chain.series.first_day).days
    chain = replace(chain, units=chain.units[: max(0, whole_days)])
    return replace(piece, choice=replace(choice, chain=chain), is_last=True)


def _with_states(cache: Cache, pieces: Sequence[SegmentRead]) -> list[SegmentRead]:
    """The pieces with the states they go on from; computed from its anchor where one is no use."""
    ends = {
        place: piece.choice.units[-1]
        for place, piece in enumerate(pieces)
        if piece.choice.units and piece.goes_on
    }
    states = states_of(cache, list(ends.values()))
    made = list(pieces)
    for place, unit in ends.items():
        state = states[unit]
        choice = pieces[place].choice
        if is_readable(state):
            made[place] = replace(pieces[place], state=state)
        else:
            chain = Chain(choice.series, ())
            made[place] = replace(pieces[place], choice=replace(choice, chain=chain))
    return made


def plan_of_span(wanted: ReadRequest, span: Span) -> Plan:
    """Plan of a read from a start to an end."""
    asked = wanted.asked

    def choices(chains: Mapping[BarSeries, Chain]) -> list[SegmentSelection]:
        return select_series(
            asked.spec,
            span,
            chains,
            groups=asked.groups,
            anchor=asked.anchor,
            first_day=asked.first_day,
        )

    starts = [segment.start for segment in segments(span, asked.spec.reset)]
    return Plan(wanted, choices, span.start, span.end, starts)


#: So many UTC days a read computes from ticks.
MOST_DAYS = 31


def days_from_ticks(pieces: Sequence[SegmentRead]) -> list[date]:
    """UTC days whose ticks have to be computed."""
    return [day for piece in pieces if piece.ticks is not None for day in piece.ticks.days()]


def judge_length(wanted: ReadRequest, pieces: Sequence[SegmentRead], cache: Cache | None) -> None:
    """Refuse to compute more days than a read should.

    Raises
    ------
    CoverageError
        It names the days and the call that keeps their bars.
    """
    days = days_from_ticks(pieces)
    if len(days) <= MOST_DAYS:
        return
    spec = wanted.asked.spec
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps are not kept for `{len(days):,}` "
        f"days, and a read computes at most {MOST_DAYS}: {words_of_days(days)}"
    )
    line = populate_line_of(spec, wanted.access, days[0], days[-1])
    hint = f"keep them first: {line}"
    if not wanted.access.use_cache:
        hint += ", and read them with use_cache=True"
    raise CoverageError(
        with_hint(sentence, hint + _other_semantics(spec, cache)),
        symbol=spec.symbol,
        days=days,
    )


def _other_semantics(spec: BarSpec, cache: Cache | None) -> str:
    """What is kept as another version of the package made bars."""
    if cache is None:
        return ""
    days = other_semantics(cache, spec)
    if not days:
        return ""
    numbers = sorted(set(days.values()))
    return (
        f"; under another bar_semantics ({', '.join(map(str, numbers))}, this version has "
        f"{BAR_SEMANTICS}) are kept {words_of_days(days)}: rangebar cache upgrade"
    )
