"""Ticks for what has to be computed: fetched where that is allowed, and judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars._span import Span, day_start
from rangebar_polars.clickhouse.covered import words_of_days
from rangebar_polars.exceptions import (
    CoverageError,
    NotYetPublishedError,
    TicksNotCachedError,
    with_hint,
)
from rangebar_polars.pipeline.download import fetch_ticks
from rangebar_polars.pipeline.stock import Stock
from rangebar_polars.storage.held import hold
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from rangebar_polars.clickhouse.series import Family
    from rangebar_polars.pipeline.reading import Piece, Wanted
    from rangebar_polars.pipeline.report import FetchReport
    from rangebar_polars.storage.held import HeldDay, HeldDays

__all__ = ["supplied"]

_ONE_DAY = timedelta(days=1)


def supplied(wanted: Wanted, pieces: Sequence[Piece]) -> tuple[list[Piece], list[str]]:
    """The pieces with the days of their ticks, and what is to be said of them.

    Past the newest tick that is to be had, they end.

    Raises
    ------
    TicksNotCachedError
        Days are missing, and nothing may be fetched.
    CoverageError
        Ids are missing.
    SourceError
        A day could not be fetched, or there is no tick of the pieces yet.
    """
    notes: list[str] = []
    if wanted.access.fetch:
        end = _fetched(wanted, pieces)
        if end is not None:
            pieces = _up_to(end, pieces, wanted.asked.family.symbol)
            notes += [] if wanted.is_open else [_note(wanted, end)]
    return [_with_ticks(wanted, piece) for piece in pieces], notes


def _fetched(wanted: Wanted, pieces: Sequence[Piece]) -> datetime | None:
    """Fetch what the pieces lack; the first day of which there is no tick yet, if one is met."""
    family = wanted.asked.family
    for span in _joined([piece.ticks for piece in pieces if piece.ticks is not None]):
        report = fetch_ticks(
            family.symbol,
            span.start,
            span.end,
            source=family.source,
            market=family.market,
            cache_dir=wanted.access.cache_dir,
        )
        end = _newest_end(span, report)
        if end < span.end:
            return end
    return None


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The spans, which are in order; those that follow one another as one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].end == span.start:
            found[-1] = Span(found[-1].start, span.end)
        else:
            found.append(span)
    return found


def _newest_end(span: Span, report: FetchReport) -> datetime:
    """The end of a span without the days at its end of which there is no tick yet."""
    end, to_come = span.end, set(report.to_come)
    for day in reversed(span.days()):
        if day not in to_come:
            break
        end = max(day_start(day), span.start)
    return end


def _up_to(end: datetime, pieces: Sequence[Piece], symbol: str) -> list[Piece]:
    """The pieces up to an instant."""
    kept = []
    for piece in pieces:
        part = Span(piece.part.start, min(piece.part.end, end))
        if piece.ticks is None or piece.ticks.end <= end:
            kept.append(piece)
        elif part.start < part.end:
            kept.append(replace(piece, choice=replace(piece.choice, part=part)))
    if not kept:
        raise NotYetPublishedError(
            with_hint(f"`{symbol}` has no tick of {end.date()} yet", "end on an earlier day"),
            symbol=symbol,
            day=end.date(),
        )
    return kept


def _note(wanted: Wanted, end: datetime) -> str:
    symbol, day = wanted.asked.family.symbol, end.date()
    return f"bars of {symbol} end with {day - _ONE_DAY}: there is no tick of {day} yet"


def _with_ticks(wanted: Wanted, piece: Piece) -> Piece:
    ticks = piece.ticks
    if ticks is None:
        return piece
    family = wanted.asked.family
    held = hold(
        TickStorage(wanted.access.cache_dir),
        family.symbol,
        ticks.start,
        ticks.end,
        source=family.source,
        market=family.market,
    )
    _judge(held, family)
    _judge_join(wanted, piece, ticks.first_day)
    # A day that has not been asked for again may have grown since.
    is_whole = wanted.access.fetch or held.days[-1].is_sealed
    return replace(piece, held=held, is_whole=is_whole)


def _judge(held: HeldDays, family: Family) -> None:
    """Refuse days that are not there, and days of which ids are missing."""
    missing = [one for one in held.days if not one.coverage.is_kept]
    broken = [one for one in held.days if one.coverage.is_kept and not one.is_kept]
    bad = missing or broken
    if not bad:
        return
    days = [one.day for one in bad]
    what = "are not in the tick store" if missing else "lack ticks"
    sentence = f"{len(days):,} days of {family.symbol} {what}: {words_of_days(days)}{_why(bad)}"
    remedy = f"fetch them: rangebar fetch {family.symbol} {days[0]} {days[-1]}"
    message = with_hint(sentence, remedy + _place(family))
    if missing:
        raise TicksNotCachedError(message, symbol=family.symbol, days=days)
    raise CoverageError(message, symbol=family.symbol, days=days)


def _judge_join(wanted: Wanted, piece: Piece, day: date) -> None:
    """Refuse ticks whose ids do not follow those of the units that they continue."""
    gap = Stock(wanted.access.cache_dir, verbose=False).gap_before(piece.choice.chain, day)
    if gap is None:
        return
    family = wanted.asked.family
    raise CoverageError(
        with_hint(
            f"ticks of {family.symbol} do not follow the bars that are kept up to {day}: "
            f"{gap.reason}",
            f"fetch the day before, too: rangebar fetch {family.symbol} {day - _ONE_DAY} {day}"
            f"{_place(family)}",
        ),
        symbol=family.symbol,
        days=[gap.day],
    )


def _why(days: Sequence[HeldDay]) -> str:
    reason = next((one.coverage.reason for one in days if one.coverage.reason), "")
    return f" ({reason})" if reason else ""


def _place(family: Family) -> str:
    is_default = (family.source, family.market) == ("binance", "spot")
    return "" if is_default else f" --source {family.source} --market {family.market}"
