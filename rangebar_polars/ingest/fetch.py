"""Fetch days of ticks from their source into the tick store."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.names import both_names
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.progress import progress
from rangebar_polars.config import settings
from rangebar_polars.events import CoverageGap, emit
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.fetch.registry import day_source
from rangebar_polars.fetch.source import ARCHIVE_PATIENCE, request_context
from rangebar_polars.ingest.editions import Editions, StoredIds
from rangebar_polars.ingest.report import FetchReport
from rangebar_polars.ingest.spans import days_to_fetch, span_of_symbol
from rangebar_polars.ingest.user_source import check_user_days
from rangebar_polars.ingest.writer_days import WriterDays
from rangebar_polars.sources import DEFAULT_SOURCE, canonical_market, is_user_source, market_of_kind
from rangebar_polars.storage.coverage import MISSING, Gap
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import (
    get_symbol_entries,
    past_gate,
    validate_symbol_registered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars._utils.span import Span, When
    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.fetch.source import DaySource, IdSource
    from rangebar_polars.sources import Venue

__all__ = ["ensure_days", "fetch_again", "fetch_ticks"]


# Even the busiest days have fewer ids. A wider jump means ids of another kind, as where the user's
# own numbers stand beside those of the exchange.
_WIDEST_GAP = 20_000_000


@both_names
def fetch_ticks(
    symbol: str,
    start: When,
    end: When,
    *,
    source: str = "binance",
    market: str = "spot",
    kind: str = "agg_trades",
    cache_dir: Path | str | None = None,
    refresh: bool = False,
    verbose: bool | None = None,
) -> FetchReport:
    """Fetch the days of a span that the tick store does not hold yet.

    Each day is stored as it arrives, so an error loses nothing that was fetched before it. Days
    that the archive has not published yet come from the exchange's REST interface, as do ids that
    are missing from an archive.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case.
    start, end
        Dates (the end's day included) or datetimes (the end excluded). Days before the
        symbol's effective start are skipped, with a warning.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them.
    kind
        `"agg_trades"`, or `"trades"` for the single trades of Binance's archive, which the store
        holds beside the others, as the market `"spot.trades"`, `"um.trades"` or `"cm.trades"`.
    cache_dir
        Folder of the store; by default `RANGEBAR_CACHE_DIR`, else the platform's cache folder.
        Coin-margined futures (`"cm"`) are stored with a quantity in coins, and with the contracts
        that the exchange publishes in the column `contracts`; the registry has the contract size.
    refresh
        Fetch stored days again, in case their archive was republished, and replace those whose
        ticks differ. Days that the user wrote are left alone.
    verbose
        Show a progress bar on a terminal; by default the setting `verbose`.

    Returns
    -------
    FetchReport
        Days fetched, already stored, still growing and absent; ids filled in, and ids that the
        source does not have.

    Raises
    ------
    SymbolNotRegisteredError
        The symbol is not registered or not enabled.
    ValueError
        The span is empty or lies in the future, or the symbol is traded at another source.
    TicksNotCachedError
        Days are missing, and their source is one of your own, whose ticks come from
        `TickStorage.write_ticks` only.
    SourceError
        A day could not be fetched: the source did not answer (`TransientSourceError`), or sent
        damaged data (`CorruptSourceError`).
    TickDataError, TickOrderError
        A fetched row is not a valid tick, or is out of order.
    ForkedProcessError
        The process was forked from one that had used Polars.
    MissingExtraError
        Something has to be fetched, and the extra `fetch` is not installed.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> written = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> print(rb.fetch_ticks("ETHUSDT", "2024-08-08", "2024-08-08", cache_dir=folder))
    ETHUSDT: 0 days fetched (0 ticks), 1 already stored
    """
    raise_if_forked("fetch_ticks")
    show_progress = settings(verbose=verbose).verbose
    venue = market_of_kind(canonical_market(source, market), kind)
    name = validate_symbol_registered(symbol, operation="fetch_ticks")
    span = span_of_symbol(name, start, end)
    return ensure_days(
        venue, name, span, cache_dir=cache_dir, refresh=refresh, verbose=show_progress
    )


def ensure_days(
    venue: Venue,
    symbol: str,
    span: Span,
    *,
    cache_dir: Path | str | None = None,
    refresh: bool = False,
    verbose: bool | None = None,
    is_read: bool = False,
    archives_only: bool = False,
) -> FetchReport:
    """Fetch missing days of a symbol that has passed the gate.

    The arguments are those of `fetch_ticks` after validation; they are not checked again. Of days
    that a process streams into the store at the moment, only the archive is requested; nothing at
    all for a read. With `archives_only`, this is so for all days.

    Raises
    ------
    ValueError
        Something has to be fetched, and the registry names another source for the symbol.
    SourceError, TickDataError, TickOrderError, MissingExtraError
        As for `fetch_ticks`.
    """
    show_progress = settings(verbose=verbose).verbose
    storage = TickStorage(cache_dir)
    writer = WriterDays(
        storage.symbol_dir(symbol, venue.source, venue.market), is_read, archives_only
    )
    fetch = _Fetch(storage, venue, span, FetchReport(symbol), writer)
    with past_gate(symbol):
        fetch.sort_days(refresh=refresh)
        fetch.leave_to_writer()
        if is_user_source(venue.source):
            check_user_days(fetch.storage, symbol, venue, fetch.missing)
        elif fetch.is_needed():
            _check_source(symbol, venue.source)
            with (
                request_context(cache_dir=fetch.storage.root.parent.parent),
                closing(day_source(symbol, venue.source, venue.market)) as days,
            ):
                fetch.leave_to_writer(days)
                fetch.extend_tails(days)
                fetch.fetch_days(days, verbose=show_progress)
                fetch.fill_ids(days, verbose=show_progress)
    return fetch.report


def fetch_again(storage: TickStorage, symbol: str, day: date, venue: Venue) -> DayTicks | None:
    """Fetch a day that the store held before, with every id that it had.

    If ids have moved between the day and its neighbours, the neighbours are fetched and stored too.

    Returns
    -------
    DayTicks or None
        None if the source does not have the day now.
    """
    if is_user_source(venue.source):
        return None
    with (
        past_gate(symbol),
        request_context(cache_dir=storage.root.parent.parent),
        closing(day_source(symbol, venue.source, venue.market)) as source,
    ):
        writer = WriterDays(storage.symbol_dir(symbol, venue.source, venue.market))
        writer.note([day])
        if writer.unpublished(source):
            return None
        fetched = _fetch_day(source, day)
        if fetched is None or source.by_id is None:
            return fetched
        stored_ids = partial(_read_ids, storage, symbol, venue)
        run = Editions(stored_ids, partial(_fetch_day, source), source.by_id).of_day(fetched)
        if len(run) > 1:
            storage.put_days(symbol, run, source=venue.source, market=venue.market)
        return next(ticks for ticks in run if ticks.day == day)


def _fetch_day(source: DaySource, day: date) -> DayTicks | None:
    with closing(source.days([day])) as batches:
        return next((ticks for batch in batches for ticks in batch if ticks.day == day), None)


def _read_ids(storage: TickStorage, symbol: str, venue: Venue, day: date) -> StoredIds | None:
    """Return the ids that the store holds of a day."""
    coverage = storage.coverage(symbol, day, day, source=venue.source, market=venue.market)
    return _ids_of(coverage.row(0, named=True))


def _ids_of(coverage: Mapping[str, Any]) -> StoredIds | None:
    """Return the ids that a row of coverage names."""
    if coverage["first_id"] is None:
        return None
    return StoredIds(coverage["first_id"], coverage["last_id"], coverage["state"] == "given")


def _check_source(symbol: str, source: str) -> None:
    """Refuse to ask a source for a symbol that the registry lists under another one."""
    entry = get_symbol_entries().get(symbol)
    # An entry that names no exchange has the default one.
    if entry is not None and entry.exchange not in (DEFAULT_SOURCE, source):
        raise ValueError(
            with_hint(
                f"`{symbol}` is a symbol of `{entry.exchange}`, not of `{source}`",
                f'source="{entry.exchange}"',
            )
        )


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One fetch of a symbol: the days to fetch, and the report in the making."""

    storage: TickStorage
    venue: Venue
    span: Span
    report: FetchReport
    #: Days that are left to the process that streams them.
    writer: WriterDays
    #: Days to fetch whole, in order.
    missing: list[date] = field(default_factory=list)
    #: The last stored id of each day that is still growing.
    tails: dict[date, int] = field(default_factory=dict)
    #: Ids that the store holds of days in the span and around it.
    stored_ids: dict[date, StoredIds | None] = field(default_factory=dict)
    #: Days with missing ids before the fetch.
    with_gaps: list[date] = field(default_factory=list)
    #: The state of each day of the span before the fetch.
    states: dict[date, str] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        return self.report.symbol

    def sort_days(self, *, refresh: bool) -> None:
        """Sort the days of the span into stored days and days to fetch."""
        today = clock.utc_now().date()
        coverage = self.storage.coverage(
            self.symbol,
            self.span.start,
            self.span.end,
            source=self.venue.source,
            market=self.venue.market,
        )
        days = {row["day"]: row for row in coverage.iter_rows(named=True)}
        self.with_gaps.extend(day for day, row in days.items() if row["missing_before"])
        states = {day: row["state"] for day, row in days.items()}
        self.missing[:] = days_to_fetch(days, states, today, refresh=refresh)
        for day, row in days.items():
            if day not in self.missing:
                is_absent = row["state"] == "absent_confirmed"
                (self.report.absent if is_absent else self.report.kept).append(day)
            self.stored_ids[day] = _ids_of(row)
            is_growing = row["state"] == "tail" and today - day <= ARCHIVE_PATIENCE
            if is_growing and not refresh and row["last_id"] is not None:
                self.tails[day] = row["last_id"]
        self.writer.note(day for day in self.missing if states[day] not in SETTLED)
        self.states.update(states)

    def leave_to_writer(self, source: DaySource | None = None) -> None:
        """Leave out streamed days that the archive does not have, and report them as they are.

        Without a source, only a read does so, which does not ask the archive either.
        """
        days = self.writer.days if source is None else self.writer.unpublished(source)
        for day in sorted(days) if source is not None or self.writer.is_read else ():
            if day in self.missing:
                self.missing.remove(day)
                self.tails.pop(day, None)
                is_to_come = self.states[day] == MISSING
                (self.report.to_come if is_to_come else self.report.tail).append(day)

    def is_needed(self) -> bool:
        """Return whether the source has to be asked at all."""
        return bool(self.missing or (self.with_gaps and self._gaps()))

    def _gaps(self) -> list[Gap]:
        """Return the gaps whose ids may be requested."""
        gaps = self.storage.gaps(
            self.symbol,
            self.span.start,
            self.span.end,
            source=self.venue.source,
            market=self.venue.market,
        )
        return self.writer.without(gaps)

    def extend_tails(self, source: DaySource) -> None:
        """Append new ticks to growing days whose archive is not published yet."""
        if source.by_id is None:
            return
        for day, last in self.tails.items():
            if not source.by_id.is_published(day):
                rows, absent = source.by_id.after(day, last)
                self._fill(rows, [Gap(day, *span) for span in absent])
                self.report.rows += rows.height
                self.report.tail.append(day)
                self.missing.remove(day)

    def _fill(self, rows: pl.DataFrame, absent: Sequence[Gap]) -> None:
        """Store late ticks, and the ids that the exchange does not have."""
        if rows.height or absent:
            self.storage.fill_gaps(
                self.symbol, rows, absent, source=self.venue.source, market=self.venue.market
            )

    def fetch_days(self, source: DaySource, *, verbose: bool) -> None:
        """Fetch the missing days, and store each as it arrives."""
        remaining = dict.fromkeys(self.missing)
        with (
            progress(len(remaining), f"fetch {self.symbol}", "day", verbose=verbose) as advance,
            self._noting_where_it_stopped(),
            closing(source.days(self.missing)) as batches,
        ):
            for batch in self._with_neighbours(batches, source):
                self._put(batch)
                requested = [ticks for ticks in batch if ticks.day in remaining]
                for ticks in requested:
                    del remaining[ticks.day]
                    self.report.rows += ticks.ticks.height
                    self._list_of(ticks).append(ticks.day)
                advance(len(requested))
        self.report.to_come.extend(remaining)

    def _with_neighbours(
        self, batches: Iterable[list[DayTicks]], source: DaySource
    ) -> Iterable[list[DayTicks]]:
        """Yield days as they arrive, together with neighbours that ids have moved to or from."""
        if source.by_id is None:
            return batches

        def neighbour(day: date) -> DayTicks | None:
            return None if self.writer.leaves(day) else _fetch_day(source, day)

        return Editions(self._ids_of_day, neighbour, source.by_id).runs(batches)

    def _ids_of_day(self, day: date) -> StoredIds | None:
        if day not in self.stored_ids:
            self.stored_ids[day] = _read_ids(self.storage, self.symbol, self.venue, day)
        return self.stored_ids[day]

    def _put(self, batch: Sequence[DayTicks]) -> None:
        written = self.storage.put_days(
            self.symbol, batch, source=self.venue.source, market=self.venue.market
        )
        self.report.replaced.extend(written.replaced)
        for ticks in batch:
            self.stored_ids.pop(ticks.day, None)

    def _list_of(self, ticks: DayTicks) -> list[date]:
        """Return the list of the report that a fetched day belongs to."""
        if ticks.is_tail:
            return self.report.tail
        return self.report.fetched if ticks.ticks.height else self.report.absent

    @contextmanager
    def _noting_where_it_stopped(self) -> Iterator[None]:
        """Add a note to an error: where the fetch stopped, and how much is stored."""
        try:
            yield
        except RangeBarError as error:
            report = self.report
            days = sum(map(len, (report.kept, report.fetched, report.tail, report.absent)))
            at = getattr(error, "day", None)
            where = f" at {at}" if at else ""
            error.add_note(
                f"fetching {self.symbol} stopped{where}; {days:,} days of the span are in the "
                "store, and the same call resumes from there"
            )
            raise

    def fill_ids(self, source: DaySource, *, verbose: bool) -> None:
        """Fetch missing ids, and record those that the exchange does not have either."""
        if source.by_id is None:
            return
        gaps = [gap for gap in self._gaps() if gap.last_id - gap.first_id < _WIDEST_GAP]
        with progress(len(gaps), f"fetch {self.symbol} ids", "gap", verbose=verbose) as advance:
            for _, of_day in groupby(gaps, key=attrgetter("day")):
                advance(self._fill_day(list(of_day), source.by_id))

    def _fill_day(self, gaps: Sequence[Gap], source: IdSource) -> int:
        """Fill all gaps of a day with one write of its file; return their number."""
        frames, absent = [], []
        for gap in gaps:
            emit(CoverageGap(self.symbol, gap.day, gap.first_id, gap.last_id))
            rows, missing = source.ids(gap.first_id, gap.last_id)
            frames.append(rows)
            absent += [Gap(gap.day, *span) for span in missing]
        rows = pl.concat(frames)
        self._fill(rows, absent)
        self.report.filled_ids += rows.height
        self.report.absent_ids += sum(span.last_id - span.first_id + 1 for span in absent)
        return len(gaps)
