"""Ticks for the bars that a read computes: fetched where allowed, and checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start, describe_days, microseconds
from rangebar_polars.bar_series.units import Chain
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
from rangebar_polars.ingest.id_gap import gap_before
from rangebar_polars.readers.hints import MissingTicks, python_call, with_remedy
from rangebar_polars.sources import is_user_source
from rangebar_polars.storage.coverage import MISSING, CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot, state_of_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.ingest.report import FetchReport
    from rangebar_polars.readers.plan import SegmentRead
    from rangebar_polars.readers.request import ReadRequest
    from rangebar_polars.storage.live.writer_state import WriterState
    from rangebar_polars.storage.snapshot import SnapshotDay, TickSnapshot

__all__ = ["early_end_warning", "with_ticks"]


def with_ticks(
    request: ReadRequest, reads: Sequence[SegmentRead]
) -> tuple[list[SegmentRead], list[CoverageWarning]]:
    """Return the reads with snapshots of the ticks that they compute bars from, and warnings.

    The reads end at the newest available tick. If the source gives no answer and only days are
    missing that it may not have yet, they end at the newest stored tick.

    Raises
    ------
    TicksNotCachedError
        Days are missing, and the request does not allow a fetch.
    CoverageError
        Ids are missing.
    SourceError
        A day could not be fetched, or the span has no tick yet.
    """
    warnings: list[CoverageWarning] = []
    # Before the ticks are read: what a writer has applied until now is among them.
    writer = _writer(request)
    whole = reads
    if request.fetch:
        try:
            end = _fetch(request, reads)
        except TransientSourceError as error:
            stored = _without_answer(request, reads, error)
            if stored is None:
                raise
            return stored
        if end is not None:
            reads = _up_to(end, reads, request.spec.symbol)
            is_expected = request.is_open or (writer is not None and writer.is_running)
            warnings += [] if is_expected else [_early_end_warning(request, end)]
    elif writer is not None and writer.is_running:
        reads = _up_to(_streamed_end(request, reads), reads, request.spec.symbol)
    is_fetched = request.fetch
    found = [_with_snapshot(request, read, writer, is_fetched=is_fetched) for read in reads]
    if writer is not None and not writer.is_live:
        warnings += _writer_warnings(request, writer, whole, found)
    return found, warnings


def _writer(request: ReadRequest) -> WriterState | None:
    spec = request.spec
    storage = TickStorage(request.cache_dir)
    return state_of_writer(storage, spec.symbol, source=spec.source, market=spec.market)


def _streamed_end(request: ReadRequest, reads: Sequence[SegmentRead]) -> datetime:
    """Return the end of reads without the days at their end of which nothing is streamed yet."""
    end = reads[-1].span.end
    if reads[-1].ticks is None:
        return end
    first = clock.utc_now().date() - ONE_DAY
    for day in reversed(_snapshot(request, reads[-1].ticks).days):
        if day.coverage.state != MISSING or day.day < first:
            break
        end = max(day_start(day.day), reads[-1].span.start)
    return end


def _writer_warnings(
    request: ReadRequest,
    writer: WriterState,
    whole: Sequence[SegmentRead],
    reads: Sequence[SegmentRead],
) -> list[CoverageWarning]:
    """Return a warning if bars end with what a writer has applied, and there may be later trades.

    Without a writer, a fetch has added them.
    """
    snapshot_of = reads[-1].snapshot
    if snapshot_of is None or (request.fetch and not writer.is_running):
        return []
    entries = [day.coverage.entry for day in snapshot_of.days if day.coverage.entry is not None]
    times = [entry.max_ts_us for entry in entries if entry.max_ts_us is not None]
    if not times or not entries[-1].may_grow or max(times) >= microseconds(whole[-1].span.end):
        return []
    if not (entries[-1].is_live or writer.is_running):
        return []
    return [early_end_warning("bars", request.spec.symbol, writer, max(times))]


def early_end_warning(what: str, symbol: str, writer: WriterState, last_us: int) -> CoverageWarning:
    """Return the warning that bars or ticks end with the last trade that a writer has applied."""
    at = datetime.fromtimestamp(last_us / 10**6, UTC)
    sentence = (
        f"{what} of {symbol} end with the last trade that its writer has applied, of "
        f"{at:%Y-%m-%d %H:%M:%S} UTC: its state is `{writer}`"
    )
    hint = "`rangebar status` shows the state; read again when it is `live`"
    if not writer.is_running:
        hint = "start `rangebar sidecar` again, or fetch later trades: fetch_if_missing=True"
    return CoverageWarning(with_hint(sentence, hint))


def _fetch(request: ReadRequest, reads: Sequence[SegmentRead]) -> datetime | None:
    """Fetch the missing days, and return the first day without a tick yet; None without one."""
    spec = request.spec
    for span in _joined([span for read in reads if (span := read.needed_ticks) is not None]):
        report = request.fetches.ensure(spec.venue, spec.symbol, span, request.cache_dir)
        end = _newest_end(span, report)
        if end < span.end:
            return end
    return None


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Join adjacent spans; the spans are in order."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end == span.start:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined


def _newest_end(span: Span, report: FetchReport) -> datetime:
    """Return the end of a span without the days at its end that have no tick yet."""
    end, to_come = span.end, set(report.to_come)
    for day in reversed(span.days()):
        if day not in to_come:
            break
        end = max(day_start(day), span.start)
    return end


def _cut(end: datetime, reads: Sequence[SegmentRead]) -> list[SegmentRead]:
    """Return the reads up to an instant."""
    return [cut for read in reads if (cut := read.cut(end)) is not None]


def _up_to(end: datetime, reads: Sequence[SegmentRead], symbol: str) -> list[SegmentRead]:
    """Return the reads up to the first day without a tick yet."""
    cut = _cut(end, reads)
    if not cut:
        raise NotYetPublishedError(
            with_hint(f"`{symbol}` has no tick of {end.date()} yet", "end on an earlier day"),
            symbol=symbol,
            day=end.date(),
        )
    return cut


def _early_end_warning(request: ReadRequest, end: datetime) -> CoverageWarning:
    symbol, day = request.spec.symbol, end.date()
    return CoverageWarning(
        f"bars of {symbol} end with {day - ONE_DAY}: there is no tick of {day} yet"
    )


def _without_answer(
    request: ReadRequest, reads: Sequence[SegmentRead], error: TransientSourceError
) -> tuple[list[SegmentRead], list[CoverageWarning]] | None:
    """Return the reads up to the newest stored tick, and the warning.

    None if the error has to be raised: the source answers, it has to have the missing days, or
    nothing would be left.
    """
    end = _end_of_stored(request, reads)
    reason = None if end is None else _unreachable_reason(error)
    if end is None or reason is None:
        return None
    cut = [_with_snapshot(request, read, None, is_fetched=False) for read in _cut(end, reads)]
    if not any(_has_data(read) for read in cut):
        return None
    last_day = Span(end, end).last_day
    sentence = (
        f"bars of {request.spec.symbol} end with the newest stored tick, of {last_day}: {reason}"
    )
    hint = "read them again with a connection for later ticks"
    return cut, [CoverageWarning(with_hint(sentence, hint))]


def _end_of_stored(request: ReadRequest, reads: Sequence[SegmentRead]) -> datetime | None:
    """Return the end of the stored ticks, if the source may not have later ones yet.

    None if a stored day follows a missing one, if the missing days are older than the delay of an
    archive, or if part of a day is missing that cannot grow.
    """
    spans = _joined([read.ticks for read in reads if read.ticks is not None])
    days = [day for span in spans for day in _snapshot(request, span).days]
    count = next((index for index, day in enumerate(days) if not day.is_stored), len(days))
    missing = days[count:]
    # The last stored day may have grown since.
    open_days = [day.day for day in days[max(0, count - 1) :] if not day.is_final]
    if not open_days or any(day.coverage.state != MISSING for day in missing):
        return None
    oldest = clock.utc_now().date() - ONE_DAY - ARCHIVE_PATIENCE
    if open_days[0] < oldest or open_days[0] < _newest_stored(request, reads):
        return None
    return day_start(missing[0].day) if missing else spans[-1].end


def _newest_stored(request: ReadRequest, reads: Sequence[SegmentRead]) -> date:
    """Return the newest day with stored ticks, or with stored bars of the reads."""
    spec = request.spec
    days = TickStorage(request.cache_dir).list_days(
        spec.symbol, source=spec.source, market=spec.market
    )
    days += [unit.day for read in reads for unit in read.units]
    return max(days, default=date.min)


def _unreachable_reason(error: TransientSourceError) -> str | None:
    """Return how the address of an error fails to answer, or None if it answers anything.

    Ask it once more: the error about a file does not tell the two apart.
    """
    # A refusal is an answer: no failed connection has caused it.
    has_failed = isinstance(error, NoAnswerError) or error.__cause__ is not None
    if not has_failed or not error.url.startswith(("http://", "https://")):
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


def _has_data(read: SegmentRead) -> bool:
    """Return whether a day of stored bars, or a stored tick, lies in the span."""
    if any(unit.day >= read.span.first_day for unit in read.units_of_span):
        return True
    start_us = microseconds(read.span.start)
    days = read.snapshot.days if read.snapshot is not None else ()
    entries = [day.coverage.entry for day in days if day.coverage.entry is not None]
    newest = [entry.max_ts_us for entry in entries if entry.max_ts_us is not None]
    return max(newest, default=-1) >= start_us


def _with_snapshot(
    request: ReadRequest, read: SegmentRead, writer: WriterState | None, *, is_fetched: bool
) -> SegmentRead:
    """Return the read with a snapshot of its ticks, which are checked.

    `is_fetched` says whether the source has just been asked for them, except for days that are left
    to a writer.
    """
    needed = read.needed_ticks
    if needed is None:
        return read
    days = _snapshot(request, needed)
    _check_days(request, days)
    if read.ticks is not None:
        _check_join(request, read, read.ticks.first_day)
    last = days.days[-1].coverage.entry
    if writer is not None and writer.is_running and last is not None and last.is_live:
        is_fetched = not last.may_grow
    # Without a fetch, the last day may have grown since.
    return replace(read, snapshot=days, is_complete=is_fetched or days.days[-1].is_final)


def _snapshot(request: ReadRequest, span: Span) -> TickSnapshot:
    spec = request.spec
    return snapshot(
        TickStorage(request.cache_dir),
        spec.symbol,
        span.start,
        span.end,
        source=spec.source,
        market=spec.market,
        # As in a population, the state of a day does not depend on the end of the span.
        check_end=False,
    )


def _check_days(request: ReadRequest, ticks: TickSnapshot) -> None:
    """Refuse missing days, and days with missing ids."""
    bad = [day for day in ticks.days if not day.is_stored]
    if not bad:
        return
    missing = [day for day in bad if not day.coverage.is_stored]
    bad = missing or bad
    symbol, days = request.spec.symbol, [day.day for day in bad]
    is_one = len(days) == 1
    if missing:
        fault = f"{'is' if is_one else 'are'} not in the tick store"
    else:
        fault = f"{'has' if is_one else 'have'} missing ticks"
    count = count_text(len(days), "day")
    sentence = f"{count} of {symbol} {fault}: {describe_days(days)}{_reason(bad)}"
    remedy = _missing_ticks(request, days[0], days[-1])
    verb = "write" if is_user_source(request.spec.source) else "fetch"
    message = with_hint(sentence, f"{verb} them: {python_call(remedy)}")
    if missing:
        raise with_remedy(TicksNotCachedError(message, symbol=symbol, days=days), remedy)
    raise with_remedy(CoverageError(message, symbol=symbol, days=days), remedy)


def _check_join(request: ReadRequest, read: SegmentRead, day: date) -> None:
    """Refuse ticks whose ids do not follow those of the units that they continue."""
    before = _snapshot(request, Span(day_start(day - ONE_DAY), day_start(day + ONE_DAY)))
    gap = gap_before(before, Chain(read.series, read.units), day)
    if gap is None:
        return
    symbol = request.spec.symbol
    remedy = _missing_ticks(request, day - ONE_DAY, day)
    error = CoverageError(
        with_hint(
            f"ticks of {symbol} do not follow the stored bars up to {day}: {gap.reason}",
            f"fetch the day before, too: {python_call(remedy)}",
        ),
        symbol=symbol,
        days=[gap.day],
    )
    raise with_remedy(error, remedy)


def _missing_ticks(request: ReadRequest, first_day: date, last_day: date) -> MissingTicks:
    spec = request.spec
    folder = None if request.cache_dir is None else str(request.cache_dir)
    return MissingTicks(spec.symbol, spec.source, spec.market, first_day, last_day, folder)


def _reason(days: Sequence[SnapshotDay]) -> str:
    reason = next((day.coverage.reason for day in days if day.coverage.reason), "")
    return f" ({reason})" if reason else ""
