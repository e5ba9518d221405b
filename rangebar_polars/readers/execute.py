"""Execute the plan of a read."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import microseconds
from rangebar_polars.bar_series.days import Track, compute_days, forming, orphan
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query import bars as rows
from rangebar_polars.exceptions import (
    CacheForkedError,
    CacheUnavailableError,
    MissingExtraError,
    ParquetCorruptionError,
    SnapshotExpiredError,
    with_hint,
)
from rangebar_polars.readers.hints import stale_notes_of
from rangebar_polars.readers.missing_ticks import with_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.compute.builder import RangeBarBuilder
    from rangebar_polars.readers.plan import Plan, SegmentRead
    from rangebar_polars.readers.request import ReadOptions, ReadRequest

__all__ = ["Found", "computed", "found", "opened", "settled"]


_Read = TypeVar("_Read")


#: How often a read starts again because the bars it was planned with were replaced meanwhile.
_TRIES = 5


@contextmanager
def opened(access: ReadOptions) -> Iterator[Cache | None]:
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
    pieces: tuple[SegmentRead, ...]
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


def settled(plan: Plan, read: Callable[[], _Read]) -> tuple[_Read, list[SegmentRead], list[str]]:
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
        pieces, notes = with_ticks(plan.wanted, plan.pieces)
        # After the ticks are held: a day that was replaced before that is noticed here.
        stale = stale_notes_of(plan.wanted, [unit for piece in plan.pieces for unit in piece.units])
        is_continued = any(piece.units and piece.goes_on for piece in pieces)
        if not (stale and is_continued) or _is_current(plan):
            return result, pieces, [*stale, *notes]
    symbol = plan.wanted.asked.spec.symbol
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


def _fresh(plan: Plan, pieces: Sequence[SegmentRead]) -> list[pl.DataFrame]:
    return [bars for piece in pieces for bars in computed(plan.wanted, piece)]


def computed(wanted: ReadRequest, piece: SegmentRead) -> Iterator[pl.DataFrame]:
    """Bars of a piece that are not kept, a day at a time."""
    if not piece.goes_on:
        return
    builder = piece.builder()
    yield from (_cut(wanted, piece, bars) for bars in _of_ticks(piece, builder))
    if piece.choice.ends_segment and piece.is_whole:
        yield _cut(wanted, piece, orphan(builder))
    elif piece.is_last:
        yield _cut(wanted, piece, forming(builder))


def _of_ticks(piece: SegmentRead, builder: RangeBarBuilder) -> Iterator[pl.DataFrame]:
    ticks = piece.ticks
    if ticks is None or piece.held is None:
        return
    track = Track(piece.series, builder, ticks.first_day)
    for day in compute_days(piece.held, [track], ticks.last_day, end=ticks.end):
        yield from (bars for bars in day.bars if bars is not None)


def _cut(wanted: ReadRequest, piece: SegmentRead, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars that close in the part, of them those that are wanted."""
    start, end = piece.part.start, piece.part.end
    passes = pl.col("close_time").is_between(start, end, closed="left")
    is_forming = pl.col("ended_by").is_null()
    passes &= pl.col("is_closed") | pl.lit(wanted.orphans) | is_forming
    return bars.filter(passes).select(wanted.columns)
