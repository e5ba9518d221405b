"""Which series hold the newest bars, and what is computed to have the newest of all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start, microseconds, parse_span
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.bar_series.selection import SegmentSelection, select_series
from rangebar_polars.bar_series.units import Chain
from rangebar_polars.clickhouse.query.bars import closed_before
from rangebar_polars.exceptions import CoverageError, with_hint
from rangebar_polars.readers.hints import hole_note, populate_line_of
from rangebar_polars.readers.plan import MOST_DAYS, Plan
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.query import SeriesQuery
    from rangebar_polars.readers.execute import Found
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["end_of", "hole_notes", "plan_of_newest", "too_few"]

_ONE_MICROSECOND = timedelta(microseconds=1)
_WINDOW = timedelta(days=29)
#: More bars than any span of time has.
_MANY = 10**15


def end_of(end_date: When | None) -> datetime | None:
    """The end of the bars, up to now; None where none is given."""
    if end_date is None:
        return None
    try:
        end = parse_span("1971-01-01", end_date).end
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`end`", "`end_date`")) from error
    return min(end, datetime.now(UTC))


def plan_of_newest(wanted: ReadRequest, count: int, end: datetime | None) -> Plan:
    """Plan of a read of the newest so many bars before an instant, or of all."""

    def choices(chains: Mapping[BarSeries, Chain]) -> list[SegmentSelection]:
        until = end or _newest_end(wanted, chains)
        return _kept(wanted.asked, count, until, chains) or _window(wanted.asked, until)

    return Plan(wanted, choices, end=end)


def _newest_end(wanted: ReadRequest, chains: Mapping[BarSeries, Chain]) -> datetime:
    """Now; where nothing may be fetched, the end of what is kept."""
    if wanted.access.fetch:
        return datetime.now(UTC)
    spec = wanted.asked.spec
    days = TickStorage(wanted.access.cache_dir).list_days(
        spec.symbol, source=spec.source, market=spec.market
    )
    ends = [day_start(day + ONE_DAY) for day in days]
    ends += [day_start(chain.frontier) for chain in wanted.asked.fitting(chains) if chain.units]
    if not ends:
        message = with_hint(
            f"neither ticks nor bars of `{spec.symbol}` are kept", "fetch_if_missing=True"
        )
        raise CoverageError(message, symbol=spec.symbol)
    return min(max(ends), datetime.now(UTC))


def _kept(
    asked: SeriesQuery, count: int, end: datetime, chains: Mapping[BarSeries, Chain]
) -> list[SegmentSelection]:
    """The series that hold the newest bars, the newest of them continued; none if nothing is kept.

    Those of older segments answer as `get_n_bars` has them, with what is kept.
    """
    walk = asked.newest(chains, end)
    newest = next(walk, None)
    if newest is None:
        return []
    found = [
        SegmentSelection(segment, part, Chain(asked.spec.series(part.start), ()))
        for segment, part in parts(Span(newest.series.anchor, end), asked.spec.reset)
    ]
    found[0] = SegmentSelection(found[0].segment, found[0].part, newest)
    held = closed_before(newest.units, microseconds(end))
    for chain in walk:
        if held >= count:
            break
        part = Span(chain.series.anchor, day_start(chain.frontier))
        found.insert(0, SegmentSelection(chain.series.segment, part, chain))
        held += closed_before(chain.units, None)
    return found


def hole_notes(wanted: ReadRequest, found: Found, count: int) -> list[str]:
    """What is to be said of days that are not kept between so many newest bars."""
    closes = found.bars.get_column("close_time")
    days: list[date] = []
    for older, newer in pairwise(found.pieces):
        start = newer.part.start
        # Days before the oldest bar that was asked for are no hole.
        if older.part.end < start and int((closes >= start).sum()) < count:
            days += Span(older.part.end, start).days()
    return [hole_note(wanted, days)] if days else []


def _days(choices: list[SegmentSelection]) -> int:
    """How many UTC days have to be computed."""
    return sum(len(one.from_ticks.days()) for one in choices if one.from_ticks is not None)


def _window(asked: SeriesQuery, end: datetime) -> list[SegmentSelection]:
    """The 30 days before an instant, computed: each segment from its start, or the window's."""
    start = day_start((end - _ONE_MICROSECOND).date() - _WINDOW)
    if asked.first_day is not None:
        start = max(start, day_start(asked.first_day))
    if isinstance(asked.anchor, datetime):
        start = max(start, asked.anchor)
    if start >= end:
        raise ValueError(
            with_hint(
                f"`end_date` ({end:%Y-%m-%d %H:%M} UTC) lies before the first bar there can be",
                f"bars begin on {start:%Y-%m-%d %H:%M} UTC",
            )
        )
    span = Span(start, end)
    found = [
        SegmentSelection(one.segment, Span(one.series.anchor, one.part.end), one.chain)
        for one in select_series(
            asked.spec, span, {}, anchor=asked.anchor, first_day=asked.first_day
        )
    ]
    # An anchor may lie far before the window.
    while len(found) > 1 and _days(found) > MOST_DAYS:
        del found[0]
    return found


def too_few(wanted: ReadRequest, found: Found, count: int) -> CoverageError:
    """Error for fewer bars than were asked for; it names the call that would keep enough."""
    spec, height = wanted.asked.spec, found.bars.height
    first, end = found.pieces[0].part.start, found.pieces[-1].part.end
    per_bar = (end - first) / height if height else 30 * ONE_DAY / min(count, _MANY)
    earlier = _earlier(wanted.asked, end, per_bar, count)
    line = populate_line_of(spec, wanted.access, earlier, found.pieces[-1].part.last_day)
    sentence = (
        f"{spec.symbol} at {spec.threshold} dbps has `{height:,}` bars from {first:%Y-%m-%d} to "
        f"{end:%Y-%m-%d}, not {count:,}"
    )
    return CoverageError(
        with_hint(sentence, f"keep more: {line}; or take fewer: allow_fewer=True"),
        symbol=spec.symbol,
    )


def _earlier(asked: SeriesQuery, end: datetime, per_bar: timedelta, count: int) -> date:
    """A day so many bars and a quarter before an instant, not before the symbol's first."""
    first_day = asked.first_day
    limit = datetime(1971, 1, 1, tzinfo=UTC) if first_day is None else day_start(first_day)
    seconds = per_bar.total_seconds() * min(count, _MANY) * 1.25
    most = (end - limit).total_seconds()
    return max(limit, end - timedelta(seconds=min(seconds, most))).date()
