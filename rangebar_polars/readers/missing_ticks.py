"""Ticks for what has to be computed: fetched where that is allowed, and judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds, words_of_days
from rangebar_polars.exceptions import (
    CoverageError,
    NoAnswerError,
    NotYetPublishedError,
    TicksNotCachedError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch.http_probe import ProbingTransport
from rangebar_polars.fetch.source import ARCHIVE_PATIENCE
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.ingest.id_gap import gap_before
from rangebar_polars.sources import DEFAULT_MARKET, DEFAULT_SOURCE
from rangebar_polars.storage.coverage import MISSING
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.ingest.report import FetchReport
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["with_ticks"]


def with_ticks(
    wanted: ReadRequest, pieces: Sequence[SegmentRead]
) -> tuple[list[SegmentRead], list[str]]:
    """The pieces with the days of their ticks, and what is to be said of them.

    Past the newest tick that is to be had, they end. So they do past the newest tick that is kept,
    if the source gives no answer and only days lack that may not be there yet.

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
        try:
            end = _fetched(wanted, pieces)
        except TransientSourceError as error:
            kept = _without_answer(wanted, pieces, error)
            if kept is None:
                raise
            return kept
        if end is not None:
            pieces = _up_to(end, pieces, wanted.asked.spec.symbol)
            notes += [] if wanted.is_open else [_note(wanted, end)]
    return [_with_ticks(wanted, piece, is_asked=wanted.access.fetch) for piece in pieces], notes


def _fetched(wanted: ReadRequest, pieces: Sequence[SegmentRead]) -> datetime | None:
    """Fetch what the pieces lack; the first day of which there is no tick yet, if one is met."""
    spec = wanted.asked.spec
    for span in _joined([piece.ticks for piece in pieces if piece.ticks is not None]):
        report = fetch_ticks(
            spec.symbol,
            span.start,
            span.end,
            source=spec.source,
            market=spec.market,
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


def _cut(end: datetime, pieces: Sequence[SegmentRead]) -> list[SegmentRead]:
    """The pieces up to an instant; none if they begin after it."""
    kept = []
    for piece in pieces:
        part = Span(piece.part.start, min(piece.part.end, end))
        if piece.ticks is None or piece.ticks.end <= end:
            kept.append(piece)
        elif part.start < part.end:
            kept.append(replace(piece, choice=replace(piece.choice, part=part)))
    return kept


def _up_to(end: datetime, pieces: Sequence[SegmentRead], symbol: str) -> list[SegmentRead]:
    """The pieces up to the first day of which there is no tick yet."""
    kept = _cut(end, pieces)
    if not kept:
        raise NotYetPublishedError(
            with_hint(f"`{symbol}` has no tick of {end.date()} yet", "end on an earlier day"),
            symbol=symbol,
            day=end.date(),
        )
    return kept


def _note(wanted: ReadRequest, end: datetime) -> str:
    symbol, day = wanted.asked.spec.symbol, end.date()
    return f"bars of {symbol} end with {day - ONE_DAY}: there is no tick of {day} yet"


def _without_answer(
    wanted: ReadRequest, pieces: Sequence[SegmentRead], error: TransientSourceError
) -> tuple[list[SegmentRead], list[str]] | None:
    """The pieces up to the newest tick that is kept, and the note that says so.

    None if the error has to be raised: a source answers, days lack that are sure to be there, or
    nothing would be left.
    """
    end = _end_of_kept(wanted, pieces)
    silence = None if end is None else _silence_of(error)
    if end is None or silence is None:
        return None
    kept = [_with_ticks(wanted, piece, is_asked=False) for piece in _cut(end, pieces)]
    if not any(_holds_any(piece) for piece in kept):
        return None
    last_day = Span(end, end).last_day
    sentence = (
        f"bars of {wanted.asked.spec.symbol} end with the newest tick that is kept, of "
        f"{last_day}: {silence}"
    )
    return kept, [with_hint(sentence, "read them again with a connection for what has come since")]


def _end_of_kept(wanted: ReadRequest, pieces: Sequence[SegmentRead]) -> datetime | None:
    """Where the ticks that are kept end, if those after them may not be there yet.

    None if what lacks has a kept day after it, lies longer ago than an archive is waited for, or
    is a part of a day to which nothing is to come.
    """
    spans = _joined([piece.ticks for piece in pieces if piece.ticks is not None])
    days = [day for span in spans for day in _held(wanted, span).days]
    count = next((place for place, day in enumerate(days) if not day.is_kept), len(days))
    lacking = days[count:]
    # The last day that is kept may have grown since.
    open_days = [one.day for one in days[max(0, count - 1) :] if not one.is_final]
    if not open_days or any(one.coverage.state != MISSING for one in lacking):
        return None
    oldest = datetime.now(UTC).date() - ONE_DAY - ARCHIVE_PATIENCE
    if open_days[0] < oldest or open_days[0] < _newest_kept(wanted, pieces):
        return None
    return day_start(lacking[0].day) if lacking else spans[-1].end


def _newest_kept(wanted: ReadRequest, pieces: Sequence[SegmentRead]) -> date:
    """The newest day of which ticks, or bars of the pieces, are kept."""
    spec = wanted.asked.spec
    days = TickStorage(wanted.access.cache_dir).list_days(
        spec.symbol, source=spec.source, market=spec.market
    )
    days += [unit.day for piece in pieces for unit in piece.choice.units]
    return max(days, default=date.min)


def _silence_of(error: TransientSourceError) -> str | None:
    """How the address of an error gives no answer; None if it gives one, whatever it says.

    It is asked once more, since of a file that could not be fetched the error does not tell.
    """
    # A refusal is an answer: no failed connection has caused it.
    if error.__cause__ is None or not error.url.startswith(("http://", "https://")):
        return None
    base, _, name = error.url.rpartition("/")
    probe = ProbingTransport(base)
    probe.tries = 1
    try:
        probe.exists(name)
    except NoAnswerError as silence:
        return f"{silence}".partition("\n")[0]
    except TransientSourceError:
        return None
    return None


def _holds_any(piece: SegmentRead) -> bool:
    """Whether a kept day of bars, or a kept tick, lies in the part."""
    if any(unit.day >= piece.part.first_day for unit in piece.units):
        return True
    start_us = microseconds(piece.part.start)
    entries = [one.coverage.entry for one in piece.held.days] if piece.held is not None else []
    newest = [one.max_ts_us for one in entries if one is not None and one.max_ts_us is not None]
    return max(newest, default=-1) >= start_us


def _with_ticks(wanted: ReadRequest, piece: SegmentRead, *, is_asked: bool) -> SegmentRead:
    """The piece with the days of its ticks; `is_asked` if the source has been asked for them."""
    ticks = piece.ticks
    if ticks is None:
        return piece
    held = _held(wanted, ticks)
    _judge(held, wanted.asked.spec)
    _judge_join(wanted, piece, ticks.first_day)
    # A day that has not been asked for again may have grown since.
    return replace(piece, held=held, is_whole=is_asked or held.days[-1].is_final)


def _held(wanted: ReadRequest, span: Span) -> TickSnapshot:
    spec = wanted.asked.spec
    return snapshot(
        TickStorage(wanted.access.cache_dir),
        spec.symbol,
        span.start,
        span.end,
        source=spec.source,
        market=spec.market,
        # As of a population: what is said of a day does not depend on where the span ends.
        judge_end=False,
    )


def _judge(held: TickSnapshot, spec: BarSpec) -> None:
    """Refuse days that are not there, and days of which ids are missing."""
    missing = [one for one in held.days if not one.coverage.is_kept]
    broken = [one for one in held.days if one.coverage.is_kept and not one.is_kept]
    bad = missing or broken
    if not bad:
        return
    days = [one.day for one in bad]
    what = "are not in the tick store" if missing else "lack ticks"
    sentence = f"{len(days):,} days of {spec.symbol} {what}: {words_of_days(days)}{_why(bad)}"
    remedy = f"fetch them: rangebar fetch {spec.symbol} {days[0]} {days[-1]}"
    message = with_hint(sentence, remedy + _place(spec))
    if missing:
        raise TicksNotCachedError(message, symbol=spec.symbol, days=days)
    raise CoverageError(message, symbol=spec.symbol, days=days)


def _judge_join(wanted: ReadRequest, piece: SegmentRead, day: date) -> None:
    """Refuse ticks whose ids do not follow those of the units that they continue."""
    spec, chain = wanted.asked.spec, piece.choice.chain
    storage = TickStorage(wanted.access.cache_dir)
    place = {"source": spec.source, "market": spec.market}
    held = snapshot(storage, spec.symbol, day - ONE_DAY, day, judge_end=False, **place)
    gap = gap_before(held, chain, day)
    if gap is None:
        return
    raise CoverageError(
        with_hint(
            f"ticks of {spec.symbol} do not follow the bars that are kept up to {day}: "
            f"{gap.reason}",
            f"fetch the day before, too: rangebar fetch {spec.symbol} {day - ONE_DAY} {day}"
            f"{_place(spec)}",
        ),
        symbol=spec.symbol,
        days=[gap.day],
    )


def _why(days: Sequence[SnapshotDay]) -> str:
    reason = next((one.coverage.reason for one in days if one.coverage.reason), "")
    return f" ({reason})" if reason else ""


def _place(spec: BarSpec) -> str:
    is_default = (spec.source, spec.market) == (DEFAULT_SOURCE, DEFAULT_MARKET)
    return "" if is_default else f" --source {spec.source} --market {spec.market}"
