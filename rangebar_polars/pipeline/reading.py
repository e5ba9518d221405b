"""Bars from what is kept and, where that ends, from ticks: what is read of which series.

In each segment one series answers. The cache is open only while stored bars and states are read.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from rangebar_polars._fork import raise_if_forked
from rangebar_polars._judge import must_be_bool
from rangebar_polars._span import microseconds
from rangebar_polars.catalogue import MICROSTRUCTURE_COLUMNS, column_names
from rangebar_polars.clickhouse import rows
from rangebar_polars.clickhouse.choice import choose
from rangebar_polars.clickhouse.client import reading
from rangebar_polars.clickhouse.recall import recall_chains
from rangebar_polars.clickhouse.series import segments
from rangebar_polars.clickhouse.units import Chain, states_of
from rangebar_polars.exceptions import (
    CacheForkedError,
    CacheUnavailableError,
    MissingExtraError,
    ParquetCorruptionError,
    SnapshotExpiredError,
    with_hint,
)
from rangebar_polars.pipeline.compute import (
    Track,
    compute_days,
    forming,
    is_readable,
    new_builder,
    orphan,
    restored,
)
from rangebar_polars.pipeline.shortfall import judge_length, stale_notes_of
from rangebar_polars.pipeline.supply import supplied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from rangebar_polars._span import Span
    from rangebar_polars.builder import RangeBarBuilder
    from rangebar_polars.clickhouse.asked import Asked
    from rangebar_polars.clickhouse.choice import Choice
    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.clickhouse.units import Unit
    from rangebar_polars.storage.held import HeldDays

__all__ = [
    "Access",
    "Found",
    "Piece",
    "Plan",
    "Wanted",
    "computed",
    "found",
    "groups_of",
    "in_order",
    "microstructure_of",
    "opened",
    "plan_of_span",
    "settled",
]

_Read = TypeVar("_Read")

#: How often a read starts again because the bars it was planned with were replaced meanwhile.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Access:
    """Where bars and ticks are, and what may be done to have them."""

    use_cache: bool = True
    fetch: bool = True
    cache_dir: Path | str | None = None
    dsn: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        must_be_bool(use_cache=self.use_cache, fetch_if_missing=self.fetch)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a read asks for."""

    asked: Asked
    access: Access
    #: Of a bar, by the names and in the order of the catalogue.
    columns: tuple[str, ...]
    #: Whether bars that a reset ended are given too.
    orphans: bool = False
    #: Whether the bar that is forming at the end is given too.
    incomplete: bool = False
    #: Whether the read ends with the newest tick there is.
    is_open: bool = False

    def __post_init__(self) -> None:
        must_be_bool(include_orphaned_bars=self.orphans, include_incomplete=self.incomplete)


def microstructure_of(include_microstructure: bool) -> tuple[str, ...]:  # noqa: FBT001
    """The columns beyond the core that this flag of a door stands for."""
    must_be_bool(include_microstructure=include_microstructure)
    return MICROSTRUCTURE_COLUMNS if include_microstructure else ()


def groups_of(names: Iterable[str]) -> set[str]:
    """Groups of features that a series must have to give these columns."""
    wanted = set(names)
    groups = column_names().groups
    return {"core"} | {group for group, members in groups.items() if wanted & set(members)}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The columns in the order of the catalogue."""
    wanted, (core, optional, _) = set(names), column_names()
    return tuple(name for name in (*core, *optional) if name in wanted)


@dataclass(frozen=True, slots=True)
class Piece:
    """What is read in one segment: units of a series, and after them bars that are computed."""

    choice: Choice
    #: Of the processor after the last unit, where it goes on from there.
    state: bytes | None = None
    #: Days of the ticks that are computed.
    held: HeldDays | None = None
    #: Whether the forming bar at its end is given.
    is_last: bool = False
    #: Whether no tick of its last day is to come.
    is_whole: bool = True

    @property
    def series(self) -> Series:
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
        return new_builder(self.series.family) if self.state is None else restored(self.state)

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

    wanted: Wanted
    choices: Callable[[Mapping[Series, Chain]], list[Choice]]
    #: Close times of the bars, the end excluded; None for no bound.
    start: datetime | None = None
    end: datetime | None = None
    #: Segments that may answer; None for all.
    segment_starts: Sequence[date] | None = None
    pieces: list[Piece] = field(default_factory=list)

    def make(self, cache: Cache | None) -> list[Unit]:
        """Plan by what is visible now; the units whose bars may be read.

        Raises
        ------
        CoverageError
            Too many days would have to be computed.
        """
        family = self.wanted.asked.family
        chains: Mapping[Series, Chain] = {}
        if cache is not None:
            chains = recall_chains(cache, family, self.segment_starts)
        pieces = [Piece(choice) for choice in self.choices(chains)]
        pieces[-1] = _last(pieces[-1]) if self.wanted.incomplete else pieces[-1]
        self.pieces = pieces if cache is None else _with_states(cache, pieces)
        judge_length(self.wanted, self.pieces, cache)
        return [unit for piece in self.pieces for unit in piece.choice.units]


def _last(piece: Piece) -> Piece:
    """The piece at whose end a bar may be forming; only the state after a whole day tells of it."""
    choice, chain = piece.choice, piece.choice.chain
    if choice.ends_segment:
        return replace(piece, is_last=True)
    whole_days = (choice.part.end.date() - chain.series.first_day).days
    chain = replace(chain, units=chain.units[: max(0, whole_days)])
    return replace(piece, choice=replace(choice, chain=chain), is_last=True)


def _with_states(cache: Cache, pieces: Sequence[Piece]) -> list[Piece]:
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


def plan_of_span(wanted: Wanted, span: Span) -> Plan:
    """Plan of a read from a start to an end."""
    asked = wanted.asked

    def choices(chains: Mapping[Series, Chain]) -> list[Choice]:
        return choose(
            asked.family,
            span,
            chains,
            groups=asked.groups,
            anchor=asked.anchor,
            first_day=asked.first_day,
        )

    starts = [segment.start for segment in segments(span, asked.family.reset)]
    return Plan(wanted, choices, span.start, span.end, starts)


@contextmanager
def opened(access: Access) -> Iterator[Cache | None]:
    """The cache while it is read; None where nothing is kept, or nothing of it is wanted.

    Without the libraries of the cache, nothing is kept; an address that was given needs them.
    """
    raise_if_forked("reading bars")
    with ExitStack() as stack:
        cache = None
        if access.use_cache:
            try:
                cache = stack.enter_context(reading(access.dsn, cache_dir=access.cache_dir))
            except MissingExtraError:
                if access.dsn is not None:
                    raise
            except CacheUnavailableError as error:
                raise _with_remedy(error) from error
        yield cache


def _with_remedy(error: CacheUnavailableError) -> CacheUnavailableError:
    text = str(error)
    # Ticks cannot be read there, either.
    if "use_cache=False" not in text and not isinstance(error, CacheForkedError):
        text += "; use_cache=False computes bars from ticks instead"
    return type(error)(text, holder=error.holder)


@dataclass(frozen=True, slots=True)
class Found:
    """Bars of a read, what they are of, and what is to be said of them."""

    bars: pl.DataFrame
    pieces: tuple[Piece, ...]
    notes: tuple[str, ...]


def found(plan: Plan, *, count: int | None = None) -> Found:
    """Bars of a plan, or the newest so many of them; those that are kept are read first."""
    try:
        stored, pieces, notes = settled(plan, lambda: _stored(plan, count))
        fresh = _fresh(plan, pieces)
    except (ParquetCorruptionError, SnapshotExpiredError) as error:
        # A corrupt file has been set aside, so that its day is missing now.
        if isinstance(error, ParquetCorruptionError) and not plan.wanted.access.fetch:
            raise
        stored, pieces, notes = settled(plan, lambda: _stored(plan, count))
        fresh = _fresh(plan, pieces)
    bars = pl.concat([stored, *fresh])
    # Segments with stored and with computed bars may take turns.
    if not bars.get_column("close_time").is_sorted():
        bars = bars.sort("close_time", maintain_order=True)
    newest = bars if count is None else bars.tail(min(count, rows.MOST_ROWS))
    return Found(newest, tuple(pieces), tuple(notes))


def _stored(plan: Plan, count: int | None) -> pl.DataFrame:
    """Bars that are kept; the cache is closed again before anything is computed."""
    wanted = plan.wanted
    with opened(wanted.access) as cache:
        if cache is None:
            plan.make(None)
            return rows.no_bars(wanted.columns)
        end_us = None if plan.end is None else microseconds(plan.end)
        if count is not None:
            return rows.newest_bars(
                cache, lambda: plan.make(cache), count, columns=wanted.columns, end_us=end_us
            )
        return rows.read_bars(
            cache,
            lambda: plan.make(cache),
            columns=wanted.columns,
            start_us=None if plan.start is None else microseconds(plan.start),
            end_us=end_us,
            include_orphans=wanted.orphans,
        )


def settled(plan: Plan, read: Callable[[], _Read]) -> tuple[_Read, list[Piece], list[str]]:
    """The result of `read`, which makes the plan, with the ticks of its pieces and notes on both.

    Stored bars and the ticks that continue them belong together. If both were replaced between the
    two steps, everything is read again.

    Raises
    ------
    SnapshotExpiredError
        The bars were replaced during every try.
    """
    for _ in range(_TRIES):
        result = read()
        pieces, notes = supplied(plan.wanted, plan.pieces)
        # After the ticks are held: a day that was replaced before that is noticed here.
        stale = stale_notes_of(plan.wanted, [unit for piece in plan.pieces for unit in piece.units])
        is_continued = any(piece.units and piece.goes_on for piece in pieces)
        if not (stale and is_continued) or _is_current(plan):
            return result, pieces, [*stale, *notes]
    symbol = plan.wanted.asked.family.symbol
    sentence = (
        f"stored bars of {symbol} were replaced while they were read, {_TRIES} times in a row"
    )
    raise SnapshotExpiredError(with_hint(sentence, "read them again when the population is done"))


def _is_current(plan: Plan) -> bool:
    """Whether the plan would have the same units if it were made now."""
    before = _attempts(plan)
    with opened(plan.wanted.access) as cache:
        plan.make(cache)
    return before == _attempts(plan)


def _attempts(plan: Plan) -> list[int]:
    return [unit.attempt for piece in plan.pieces for unit in piece.choice.units]


def _fresh(plan: Plan, pieces: Sequence[Piece]) -> list[pl.DataFrame]:
    return [bars for piece in pieces for bars in computed(plan.wanted, piece)]


def computed(wanted: Wanted, piece: Piece) -> Iterator[pl.DataFrame]:
    """Bars of a piece that are not kept, a day at a time."""
    if not piece.goes_on:
        return
    builder = piece.builder()
    yield from (_cut(wanted, piece, bars) for bars in _of_ticks(piece, builder))
    if piece.choice.ends_segment and piece.is_whole:
        yield _cut(wanted, piece, orphan(builder))
    elif piece.is_last:
        yield _cut(wanted, piece, forming(builder))


def _of_ticks(piece: Piece, builder: RangeBarBuilder) -> Iterator[pl.DataFrame]:
    ticks = piece.ticks
    if ticks is None or piece.held is None:
        return
    track = Track(piece.series, builder, ticks.first_day)
    for day in compute_days(piece.held, [track], ticks.last_day, end=ticks.end):
        yield from (bars for bars in day.bars if bars is not None)


def _cut(wanted: Wanted, piece: Piece, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars that close in the part, of them those that are wanted."""
    start, end = piece.part.start, piece.part.end
    passes = pl.col("close_time").is_between(start, end, closed="left")
    is_forming = pl.col("ended_by").is_null()
    passes &= pl.col("is_closed") | pl.lit(wanted.orphans) | is_forming
    return bars.filter(passes).select(wanted.columns)
