"""From sources into the tick store: every day of a span that is not there yet."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

import polars as pl

from rangebar_polars._market import canonical_market
from rangebar_polars._progress import progress
from rangebar_polars._span import Span, parse_span
from rangebar_polars.config import settings
from rangebar_polars.events import CoverageGap, emit
from rangebar_polars.pipeline.plan import wanted_days
from rangebar_polars.pipeline.report import FetchReport
from rangebar_polars.pipeline.sources import day_source
from rangebar_polars.storage.coverage import Gap, subtract
from rangebar_polars.storage.merge import id_gaps, merge
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import (
    validate_and_clamp_start_date,
    validate_symbol_registered,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars._span import When
    from rangebar_polars._ticks import DayTicks
    from rangebar_polars.pipeline.sources import DaySource, IdSource

__all__ = ["fetch_again", "fetch_ticks", "span_to_now"]


class Place(TypedDict):
    """Where ticks are traded."""

    source: str
    market: str


def fetch_ticks(
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
    cache_dir: Path | str | None = None,
    verbose: bool | None = None,
) -> FetchReport:
    """Fetch every day of the span that the tick store does not hold yet.

    Days are stored one by one as they arrive, so that what was fetched before an error is kept. A
    day whose archive is not published is taken from the exchange's interface, and ids that an
    archive lacks are asked for there.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case.
    start, end
        Dates (the end's day included) or datetimes with a zone (the end excluded). Days before the
        symbol's effective start are left out, with a warning.
    source, market
        `"binance"` with `"spot"`, `"um"` or `"cm"`; `"exness"`.
    cache_dir
        Folder of the store; else `RANGEBAR_CACHE_DIR`, else the platform's cache folder.
    verbose
        Show a progress bar on a terminal; else the setting `verbose`.

    Returns
    -------
    FetchReport
        Days fetched, kept, still growing and absent; ids filled in, and lacking at the source.

    Raises
    ------
    SymbolNotRegisteredError
        The gate does not let the symbol through.
    SourceError
        A day could not be had: no answer (`TransientSourceError`), or bytes that are not what the
        source says they are (`CorruptSourceError`).
    TickDataError, TickOrderError
        What was fetched holds a row that is no tick.
    MissingExtraError
        The extra `fetch` is not installed.
    """
    options = settings(verbose=verbose)
    origin, place = canonical_market(source, market)
    name = validate_symbol_registered(symbol, operation="fetch_ticks")
    span = span_to_now(validate_and_clamp_start_date(name, start), end)
    storage = TickStorage(cache_dir)
    report = FetchReport(name)
    with closing(day_source(name, origin, place)) as days:
        work = _Fetch(storage, days, {"source": origin, "market": place}, span, report)
        missing = work.judge_days()
        with progress(len(missing), name, "day", verbose=options.verbose) as advance:
            work.fetch_days(missing, advance)
        work.fill_ids()
    return report


def fetch_again(storage: TickStorage, symbol: str, day: date, place: Place) -> DayTicks | None:
    """A day that the store held, with every id that it had; None where the source has none now."""
    with closing(day_source(symbol, place["source"], place["market"])) as source:
        found = [one for batch in source.days([day]) for one in batch if one.day == day]
        if not found or source.by_id is None:
            return found[0] if found else None
        held = storage.coverage(symbol, day, day, **place).row(0, named=True)
        return _completed(found[0], (held["first_id"], held["last_id"]), source.by_id)


def _completed(found: DayTicks, held: tuple[int | None, int | None], source: IdSource) -> DayTicks:
    """A day with the ids that its archive lacks, between the outermost that are known."""
    ids = found.ticks.get_column("agg_trade_id")
    known = [*ids.head(1), *ids.tail(1), *(end for end in held if end is not None)]
    if not known:
        return found
    ends = pl.Series([min(known) - 1, max(known) + 1])
    absent = sorted(found.source_absent)
    ticks = found.ticks
    for gap in id_gaps(pl.concat([ends[:1], ids, ends[1:]])):
        for first, last in subtract(gap, absent):
            rows, lacking = source.ids(first, last)
            ticks = merge(ticks, rows).ticks
            absent += lacking
    return replace(found, ticks=ticks, source_absent=tuple(sorted(absent)))


def span_to_now(start: When, end: When) -> Span:
    """Span of the arguments, its end cut to now.

    Raises
    ------
    ValueError
        The span lies in the future.
    """
    span = parse_span(start, end)
    now = datetime.now(UTC)
    if span.start >= now:
        raise ValueError(
            f"`start` ({start}) lies in the future; it is now {now:%Y-%m-%d %H:%M} UTC"
        )
    return Span(span.start, min(span.end, now))


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One symbol's store and sources, and the report that grows."""

    storage: TickStorage
    source: DaySource
    place: Place
    span: Span
    report: FetchReport

    @property
    def symbol(self) -> str:
        return self.report.symbol

    def judge_days(self) -> list[date]:
        """Sort the days into those that are kept and those to be fetched, which are returned."""
        days = self.storage.coverage(self.symbol, self.span.start, self.span.end, **self.place)
        today = datetime.now(UTC).date()
        held = {row["day"]: row for row in days.iter_rows(named=True)}
        wanted = wanted_days(held, {day: row["state"] for day, row in held.items()}, today)
        for day in held.keys() - set(wanted):
            state = held[day]["state"]
            (self.report.absent if state == "absent_confirmed" else self.report.kept).append(day)
        asked, last = self.source.by_id, held[today]["last_id"] if today in held else None
        if asked is not None and held.get(today, {}).get("state") == "tail" and last is not None:
            wanted.remove(today)
            self.extend_tail(today, *asked.after(today, last))
        return wanted

    def extend_tail(self, day: date, rows: pl.DataFrame, absent: Sequence[tuple[int, int]]) -> None:
        """Add what has come since to the running day."""
        if rows.height or absent:
            self.fill(day, rows, absent)
        self.report.rows += rows.height
        self.report.tail.append(day)

    def fill(self, day: date, rows: pl.DataFrame, absent: Sequence[tuple[int, int]]) -> None:
        """Store ticks that come late, and the ids near a day that the exchange lacks."""
        lacking = [Gap(day, first, last) for first, last in absent]
        self.storage.fill_gaps(self.symbol, rows, lacking, **self.place)

    def fetch_days(self, wanted: Sequence[date], advance: Callable[[int], None]) -> None:
        """Store each day as it comes."""
        for batch in self.source.days(wanted):
            self.storage.put_days(self.symbol, batch, **self.place)
            asked = [found for found in batch if found.day in wanted]
            for found in asked:
                self.report.rows += found.ticks.height
                self._list_of(found).append(found.day)
            advance(len(asked))

    def _list_of(self, found: DayTicks) -> list[date]:
        if found.is_tail:
            return self.report.tail
        return self.report.fetched if found.ticks.height else self.report.absent

    def fill_ids(self) -> None:
        """Ask for the ids that are missing, and note those that the exchange lacks too."""
        if self.source.by_id is None:
            return
        for gap in self.storage.gaps(self.symbol, self.span.start, self.span.end, **self.place):
            emit(CoverageGap(self.symbol, gap.day, gap.first_id, gap.last_id))
            rows, absent = self.source.by_id.ids(gap.first_id, gap.last_id)
            self.fill(gap.day, rows, absent)
            self.report.filled_ids += rows.height
            self.report.absent_ids += sum(last - first + 1 for first, last in absent)
