"""From sources into the tick store: every day of a span that is not there yet."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypedDict

import polars as pl

from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.progress import progress
from rangebar_polars._utils.span import Span, parse_span
from rangebar_polars.config import settings
from rangebar_polars.events import CoverageGap, emit
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.fetch.registry import day_source
from rangebar_polars.fetch.source import ARCHIVE_PATIENCE
from rangebar_polars.ingest.editions import Editions, HeldIds
from rangebar_polars.ingest.report import FetchReport
from rangebar_polars.sources import DEFAULT_SOURCE, canonical_market
from rangebar_polars.storage.coverage import Gap
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import (
    get_symbol_entries,
    past_gate,
    validate_and_clamp_start_date,
    validate_symbol_registered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars._utils.span import When
    from rangebar_polars.fetch.source import DaySource, IdSource
    from rangebar_polars.sources import DayTicks

__all__ = ["Venue", "fetch_again", "fetch_ticks", "span_of_symbol", "span_to_now", "wanted_days"]


# More missing ids than the busiest days have are no gap of a day: the numbers are of two kinds, as
# where a user's own lie beside those of the exchange.
_MOST_MISSING = 20_000_000


class Venue(TypedDict):
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
    refresh: bool = False,
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
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them.
    cache_dir
        Folder of the store; else `RANGEBAR_CACHE_DIR`, else the platform's cache folder.
    refresh
        Fetch days again that the store holds, but those that the user wrote: an archive may have
        been published anew. What differs takes the place of what was stored.
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
    ValueError
        No span of time up to now, or a symbol that is traded elsewhere.
    SourceError
        A day could not be had: no answer (`TransientSourceError`), or bytes that are not what the
        source says they are (`CorruptSourceError`).
    TickDataError, TickOrderError
        What was fetched holds a row that is no tick.
    ForkedProcessError
        The process was forked from one that had used Polars.
    MissingExtraError
        Something is to be fetched, and the extra `fetch` is not installed.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> written = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> print(rb.fetch_ticks("ETHUSDT", "2024-08-08", "2024-08-08", cache_dir=folder))
    ETHUSDT: 0 days fetched (0 ticks), 1 kept
    """
    raise_if_forked("fetch_ticks")
    options = settings(verbose=verbose)
    origin, place = canonical_market(source, market)
    name = validate_symbol_registered(symbol, operation="fetch_ticks")
    span = span_of_symbol(name, start, end)
    where: Venue = {"source": origin, "market": place}
    work = _Fetch(TickStorage(cache_dir), where, span, FetchReport(name))
    with past_gate(name):
        work.judge_days(refresh=refresh)
        if work.is_needed():
            _judge_source(name, origin)
            with closing(day_source(name, **where)) as days:
                work.extend_tails(days)
                work.fetch_days(days, verbose=options.verbose)
                work.fill_ids(days, verbose=options.verbose)
    return work.report


def fetch_again(storage: TickStorage, symbol: str, day: date, place: Venue) -> DayTicks | None:
    """Fetch a day that the store held, with every id that it had.

    Days beside it whose ids have moved are fetched and stored with it.

    Returns
    -------
    DayTicks or None
        None if the source has no such day now.
    """
    with past_gate(symbol), closing(day_source(symbol, **place)) as source:
        found = _one_day(source, day)
        if found is None or source.by_id is None:
            return found
        held = partial(_held_ids, storage, symbol, place)
        run = Editions(held, partial(_one_day, source), source.by_id).of_day(found)
        if len(run) > 1:
            storage.put_days(symbol, run, **place)
        return next(one for one in run if one.day == day)


def _one_day(source: DaySource, day: date) -> DayTicks | None:
    with closing(source.days([day])) as batches:
        return next((one for batch in batches for one in batch if one.day == day), None)


def _held_ids(storage: TickStorage, symbol: str, place: Venue, day: date) -> HeldIds | None:
    """Return the ids that the store holds of a day."""
    return _ids_of(storage.coverage(symbol, day, day, **place).row(0, named=True))


def _ids_of(covered: Mapping[str, Any]) -> HeldIds | None:
    """Return the ids of a row of coverage."""
    if covered["first_id"] is None:
        return None
    return HeldIds(covered["first_id"], covered["last_id"], covered["state"] == "given")


def span_to_now(start: When, end: When) -> Span:
    """Span of the arguments, its end cut to now.

    Raises
    ------
    ValueError
        The span is none, or lies in the future.
    """
    span = parse_span(start, end)
    now = datetime.now(UTC)
    if span.start >= now:
        raise ValueError(
            f"`start` ({start}) lies in the future; it is now {now:%Y-%m-%d %H:%M} UTC"
        )
    return Span(span.start, min(span.end, now))


def span_of_symbol(symbol: str, start: When, end: When) -> Span:
    """Span of the arguments up to now, from the symbol's effective start on.

    Raises
    ------
    ValueError
        The span is none, or lies in the future, or before the effective start.
    """
    span = span_to_now(start, end)
    first = parse_span(validate_and_clamp_start_date(symbol, start), datetime.now(UTC)).start
    if first >= span.end:
        sentence = f"`end` ({end}) lies before the first day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"it starts on {first:%Y-%m-%d}"))
    return Span(first, span.end)


def _judge_source(symbol: str, source: str) -> None:
    """Refuse to ask a source for a symbol that the registry knows to be traded elsewhere."""
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
    """One symbol's store, what is to be fetched into it, and the report that grows."""

    storage: TickStorage
    place: Venue
    span: Span
    report: FetchReport
    #: Days to be fetched whole, in order.
    wanted: list[date] = field(default_factory=list)
    #: The last id of the days to which more may come.
    tails: dict[date, int] = field(default_factory=dict)
    #: Ids of the days of the span and around it, as the store holds them.
    held: dict[date, HeldIds | None] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        return self.report.symbol

    def judge_days(self, *, refresh: bool) -> None:
        """Sort the days into those that are kept and those to be fetched."""
        today = datetime.now(UTC).date()
        found = self.storage.coverage(self.symbol, self.span.start, self.span.end, **self.place)
        days = {row["day"]: row for row in found.iter_rows(named=True)}
        states = {day: row["state"] for day, row in days.items()}
        self.wanted[:] = wanted_days(days, states, today, refresh=refresh)
        for day, row in days.items():
            if day not in self.wanted:
                kept = row["state"] != "absent_confirmed"
                (self.report.kept if kept else self.report.absent).append(day)
            self.held[day] = _ids_of(row)
            is_growing = row["state"] == "tail" and today - day <= ARCHIVE_PATIENCE
            if is_growing and not refresh and row["last_id"] is not None:
                self.tails[day] = row["last_id"]

    def is_needed(self) -> bool:
        """Whether a source has to be asked at all."""
        return bool(self.wanted or self._gaps())

    def _gaps(self) -> list[Gap]:
        return self.storage.gaps(self.symbol, self.span.start, self.span.end, **self.place)

    def extend_tails(self, source: DaySource) -> None:
        """Add what has come since to days that the archive does not have yet."""
        if source.by_id is None:
            return
        for day, last in self.tails.items():
            if not source.by_id.is_published(day):
                rows, absent = source.by_id.after(day, last)
                self._fill(rows, [Gap(day, *span) for span in absent])
                self.report.rows += rows.height
                self.report.tail.append(day)
                self.wanted.remove(day)

    def _fill(self, rows: pl.DataFrame, absent: Sequence[Gap]) -> None:
        """Store ticks that come late, and the ids near a day that the exchange lacks."""
        if rows.height or absent:
            self.storage.fill_gaps(self.symbol, rows, absent, **self.place)

    def fetch_days(self, source: DaySource, *, verbose: bool) -> None:
        """Store each day as it comes."""
        left = dict.fromkeys(self.wanted)
        with (
            progress(len(left), self.symbol, "day", verbose=verbose) as advance,
            self._kept_so_far(),
            closing(source.days(self.wanted)) as batches,
        ):
            for batch in self._with_neighbours(batches, source):
                self._put(batch)
                asked = [one for one in batch if one.day in left]
                for found in asked:
                    del left[found.day]
                    self.report.rows += found.ticks.height
                    self._list_of(found).append(found.day)
                advance(len(asked))
        self.report.to_come.extend(left)

    def _with_neighbours(
        self, batches: Iterable[list[DayTicks]], source: DaySource
    ) -> Iterable[list[DayTicks]]:
        """Give days as they come, with those beside them that must be stored with them."""
        if source.by_id is None:
            return batches
        return Editions(self._held_ids, partial(_one_day, source), source.by_id).runs(batches)

    def _held_ids(self, day: date) -> HeldIds | None:
        if day not in self.held:
            self.held[day] = _held_ids(self.storage, self.symbol, self.place, day)
        return self.held[day]

    def _put(self, batch: Sequence[DayTicks]) -> None:
        written = self.storage.put_days(self.symbol, batch, **self.place)
        self.report.replaced.extend(written.replaced)
        for found in batch:
            self.held.pop(found.day, None)

    def _list_of(self, found: DayTicks) -> list[date]:
        if found.is_tail:
            return self.report.tail
        return self.report.fetched if found.ticks.height else self.report.absent

    @contextmanager
    def _kept_so_far(self) -> Iterator[None]:
        """Let an error say where the fetch stopped, and that nothing is lost."""
        try:
            yield
        except RangeBarError as error:
            done = self.report
            days = sum(map(len, (done.kept, done.fetched, done.tail, done.absent)))
            at = getattr(error, "day", None)
            where = f" at {at}" if at else ""
            error.add_note(
                f"fetching {self.symbol} stopped{where}; {days:,} days of the span are in the store, "
                "and the same call goes on from there"
            )
            raise

    def fill_ids(self, source: DaySource, *, verbose: bool) -> None:
        """Ask for the ids that are missing, and note those that the exchange lacks too."""
        if source.by_id is None:
            return
        gaps = [gap for gap in self._gaps() if gap.last_id - gap.first_id < _MOST_MISSING]
        with progress(len(gaps), f"{self.symbol} ids", "gap", verbose=verbose) as advance:
            for _, of_day in groupby(gaps, key=attrgetter("day")):
                advance(self._fill_day(list(of_day), source.by_id))

    def _fill_day(self, gaps: Sequence[Gap], source: IdSource) -> int:
        """Fill the gaps of a day, whose file is written once."""
        found, absent = [], []
        for gap in gaps:
            emit(CoverageGap(self.symbol, gap.day, gap.first_id, gap.last_id))
            rows, lacking = source.ids(gap.first_id, gap.last_id)
            found.append(rows)
            absent += [Gap(gap.day, *span) for span in lacking]
        rows = pl.concat(found)
        self._fill(rows, absent)
        self.report.filled_ids += rows.height
        self.report.absent_ids += sum(span.last_id - span.first_id + 1 for span in absent)
        return len(gaps)


_OF_THE_USER = frozenset({"given"})


_COMPLETE = _OF_THE_USER | {"final", "absent_confirmed"}


def wanted_days(
    days: Iterable[date], states: Mapping[date, str], today: date, *, refresh: bool = False
) -> list[date]:
    """Days that the store lacks, or holds in a form that may have grown; none after today.

    With `refresh`, all but those that the user wrote.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.ingest.fetch import wanted_days
    >>> days = [date(2024, 1, day) for day in (1, 2, 3, 4)]
    >>> states = {days[0]: "final", days[1]: "tail"}
    >>> [day.day for day in wanted_days(days, states, today=days[2])]
    [2, 3]
    """
    complete = _OF_THE_USER if refresh else _COMPLETE
    return [day for day in days if day <= today and states.get(day) not in complete]
