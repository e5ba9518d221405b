"""The tick store: immutable Parquet files of ticks, and the manifests that name them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import polars as pl

from rangebar_polars._files.disk import Disk
from rangebar_polars._utils.arguments.checks import require_folder
from rangebar_polars._utils.arguments.keywords import checked_methods
from rangebar_polars._utils.arguments.public_names import unknown_method
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import parse_day, parse_span
from rangebar_polars.config import settings
from rangebar_polars.exceptions import SnapshotExpiredError
from rangebar_polars.sources import Venue, canonical_market, canonical_symbol, market_of_kind
from rangebar_polars.storage import gc
from rangebar_polars.storage import verify as verification
from rangebar_polars.storage.coverage import coverage_frame
from rangebar_polars.storage.days.write import (
    WriteReport,
    fill_days,
    put_days,
    remove_days,
    write_user_ticks,
)
from rangebar_polars.storage.layout import LAYOUT, SymbolDir, symbol_dirs
from rangebar_polars.storage.reading.lazy import PlannedTicks, tick_frame
from rangebar_polars.storage.reading.plan import (
    check_coverage,
    covered_days,
    current_entries,
    make_plan,
)
from rangebar_polars.storage.reading.read import read_plan, refetch_quarantined
from rangebar_polars.storage.user_ticks import user_ticks
from rangebar_polars.symbol_registry import validate_symbol_registered

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rangebar_polars._utils.span import Span, When
    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.storage.coverage import DayCoverage, Gap
    from rangebar_polars.storage.reading.plan import OnGap, Plan
    from rangebar_polars.storage.reading.read import Refetch

__all__ = ["TickStorage", "WriteReport"]

_TRIES = 3


#: Methods of the reference library, and what to write here.
_REPLACED = {
    "read_ticks": "storage.get_ticks(symbol, start, end)",
    "read_ticks_streaming": "storage.scan_ticks(symbol, start, end)",
    "fetch_month": "rb.fetch_ticks(symbol, start, end)",
    "list_months": "storage.list_days(symbol)",
    "get_stats": "storage.stats(symbol)",
}


@checked_methods
class TickStorage:
    """The ticks of all symbols in one folder.

    Each day is one Parquet file, named by its own SHA-256 and never changed. The manifest of a month
    lists its days, so a reader sees a month either before a write or after it. One process at a
    time writes a symbol. Readers never wait.

    Parameters
    ----------
    cache_dir
        Folder of the store. The default is the setting `cache_dir` (`RANGEBAR_CACHE_DIR`), or the
        platform's cache folder.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> storage = TickStorage(mkdtemp())
    >>> ticks = rb.sample_ticks()
    >>> storage.write_ticks("BTCUSDT", ticks).rows_added == ticks.height
    True
    >>> day = ticks["timestamp"][0].date()
    >>> storage.get_ticks("BTCUSDT", day, day).equals(ticks)
    True
    """

    def __init__(self, cache_dir: Path | str | None = None) -> None:
        folder = settings(cache_dir=cache_dir).cache_dir
        self._root = Path(folder).absolute() / "ticks" / LAYOUT
        require_folder(self._root.parent.parent)
        self._disk = Disk()

    def __repr__(self) -> str:
        return f"TickStorage({str(self._root.parent.parent)!r})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Name the method that replaces one of the reference library, or the nearest one."""
            raise AttributeError(unknown_method(self, name, _REPLACED))

    @property
    def root(self) -> Path:
        """The folder of the tick files, inside `cache_dir`."""
        return self._root

    def write_ticks(
        self,
        symbol: str,
        ticks: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
        *,
        source: str = "binance",
        market: str = "spot",
        kind: str = "agg_trades",
    ) -> WriteReport:
        """Add ticks to the store, skipping those already present.

        Each month is written as a whole or not at all. Writers of the same symbol take turns, so
        concurrent writes lose nothing.

        Parameters
        ----------
        symbol
            A registered symbol, in any letter case.
        ticks
            A Polars or pandas frame with `timestamp` (Datetime; without a zone it is UTC), `price`
            and `agg_trade_id`, and optionally `quantity` (or `volume`), `first_trade_id`,
            `last_trade_id` and `is_buyer_maker`. Other columns are ignored. Rows may be in any
            order. In the order of the ids, a time that runs back by at most a second is raised to
            the highest time before it.
        source, market
            Where the symbol is traded, see `docs/reference/sources.md`. Quotes have `bid`, `ask`
            and their mid as `price`. Any other source, such as `"kraken"`, is one of your own: its
            ticks come from this method only, and its market has any name of a-z, 0-9, `_` and `-`.
            Its ids may also be texts, such as UUIDs, or be absent. Such days are complete as
            written, and without ids, rows that overlap stored ones must be equal to them.
            The quantity of coin-margined futures (`market="cm"`) is in contracts, as the exchange
            publishes it, and is stored as coins; the contracts stay in the column `contracts`. A
            frame that has this column has coins as its quantity.
        kind
            `"agg_trades"`, or `"trades"` for single trades of Binance, which the store holds
            beside the others as the market `"spot.trades"`, `"um.trades"` or `"cm.trades"`.

        Returns
        -------
        WriteReport
            The days and months written, and the numbers of rows added and of duplicates.

        Raises
        ------
        TickDataError
            A row is not a valid tick, two ticks with the same id differ, a final day does not
            contain a row, or rows without ids differ from stored ones of the same time. Nothing of
            that month is written.
        TickOrderError
            In the order of the ids, time runs back by more than a second.
        StorageError
            The files could not be written, or a process streams one of the days into the store at
            the moment. The stored ticks are unchanged.
        """
        market = market_of_kind(canonical_market(source, market), kind).market
        symbol_dir = self.symbol_dir(symbol, source, market, operation="write_ticks")
        return write_user_ticks(symbol_dir, user_ticks(ticks, symbol_dir))

    def get_ticks(
        self,
        symbol: str,
        start: When,
        end: When,
        *,
        on_gap: OnGap = "raise",
        source: str = "binance",
        market: str = "spot",
    ) -> pl.DataFrame:
        """Return the ticks of a span, after checking the SHA-256 of every file.

        Parameters
        ----------
        symbol
            A registered symbol, in any letter case.
        start, end
            Dates (the day of `end` included) or datetimes (`end` excluded).
        on_gap
            `"raise"`, or `"report"` to return the available ticks with a warning.
        source, market
            As for `write_ticks`.

        Raises
        ------
        TicksNotCachedError
            Some days are not in the store.
        CoverageError
            Some ids are missing.
        ParquetCorruptionError
            A file does not contain the bytes that were written. It is in quarantine now.
        """
        span = parse_span(start, end)
        symbol_dir = self.symbol_dir(symbol, source, market, operation="get_ticks")
        for tries_left in reversed(range(_TRIES)):
            plan = self._plan(symbol_dir, span, on_gap)
            try:
                return pl.concat([plan.schema.to_frame(), *read_plan(plan, None, whole_days=True)])
            except SnapshotExpiredError:
                if not tries_left:
                    raise
        raise AssertionError

    def scan_ticks(
        self,
        symbol: str,
        start: When,
        end: When,
        *,
        on_gap: OnGap = "raise",
        source: str = "binance",
        market: str = "spot",
        kind: str = "agg_trades",
        refetch: Refetch | None = None,
    ) -> pl.LazyFrame:
        """Return the ticks of a span as a lazy frame that reads part of a day at a time.

        The frame is a snapshot: it returns what the store holds at this call, whatever is written
        before the frame is collected. Only the columns and the days that the query needs are read,
        and the SHA-256 of every file is checked.

        Parameters
        ----------
        symbol, start, end, on_gap, source, market
            As for `get_ticks`.
        kind
            As for `write_ticks`.
        refetch
            A function that fetches the ticks of a day whose file is corrupt.

        Raises
        ------
        TicksNotCachedError, CoverageError
            As for `get_ticks`, at this call.
        ParquetCorruptionError
            When the frame is collected: a file does not contain the bytes that were written.
        SnapshotExpiredError
            When the frame is collected: a file was replaced at least a week ago, and removed.
        """
        planned = self.plan_ticks(
            symbol,
            start,
            end,
            on_gap=on_gap,
            source=source,
            market=market,
            kind=kind,
            refetch=refetch,
        )
        return tick_frame([planned])

    def plan_ticks(
        self,
        symbol: str,
        start: When,
        end: When,
        *,
        on_gap: OnGap = "raise",
        source: str = "binance",
        market: str = "spot",
        kind: str = "agg_trades",
        refetch: Refetch | None = None,
    ) -> PlannedTicks:
        """Plan what `scan_ticks` reads, so that plans of several symbols can be one frame.

        The parameters and errors are those of `scan_ticks`.
        """
        span = parse_span(start, end)
        market = market_of_kind(canonical_market(source, market), kind).market
        symbol_dir = self.symbol_dir(symbol, source, market, operation="scan_ticks")
        return PlannedTicks(self._plan(symbol_dir, span, on_gap, refetch), refetch)

    def coverage(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> pl.DataFrame:
        """Report what the store holds of each day of a span, and what is missing.

        Returns
        -------
        DataFrame
            Columns day, state (`final`, `tail`, `given`, `absent_confirmed`, `quarantined`,
            `missing`), rows, first_id, last_id, missing_before (the number of ids missing between
            the end of the day before and the end of this one) and reason.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="coverage")
        return coverage_frame(self._covered(symbol_dir, parse_span(start, end)))

    def gaps(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> list[Gap]:
        """Return the spans of ids that are missing from stored days."""
        symbol_dir = self.symbol_dir(symbol, source, market, operation="coverage")
        days = self._covered(symbol_dir, parse_span(start, end))
        return [gap for day in days for gap in day.gaps]

    def has_ticks(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> bool:
        """Return whether every day of a span is in the store and no id is missing."""
        symbol_dir = self.symbol_dir(symbol, source, market, operation="has_ticks")
        days = self._covered(symbol_dir, parse_span(start, end))
        return all(day.is_stored and not day.gaps for day in days)

    def put_days(
        self,
        symbol: str,
        days: Sequence[DayTicks],
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> WriteReport:
        """Store whole days from a source, replacing what the store holds of them.

        A day that may still grow is stored as `tail`, a day without ticks and with a reason as
        `absent_confirmed`, any other day as `final`. A tail never replaces a final day.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="put_days")
        return put_days(symbol_dir, days)

    def fill_gaps(
        self,
        symbol: str,
        ticks: pl.DataFrame,
        absent: Sequence[Gap] = (),
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> WriteReport:
        """Add missing ticks to days in the store, whatever the state of the days.

        Parameters
        ----------
        symbol, source, market
            As for `write_ticks`.
        ticks
            The ticks to add.
        absent
            The ids that the source says it does not have, each with the day of its gap.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="fill_gaps")
        spans: dict[date, list[tuple[int, int]]] = {}
        for gap in absent:
            spans.setdefault(gap.day, []).append((gap.first_id, gap.last_id))
        return fill_days(symbol_dir, user_ticks(ticks, symbol_dir).ticks, spans)

    def delete_ticks(
        self,
        symbol: str,
        start: When | None = None,
        end: When | None = None,
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> list[date]:
        """Delete days from the store: all of them, or those from `start` to `end`, both included.

        Lazy frames made before can still be collected. `gc` removes the files after a week. Journals
        are removed at once.

        Returns
        -------
        list of date
            The deleted days.

        Raises
        ------
        StorageError
            A process streams one of the days into the store at the moment; the message names it.
        """
        symbol_dir = self.symbol_dir(symbol, source, market)
        first = date.min if start is None else parse_day(start, "start")
        last = date.max if end is None else parse_day(end, "end")
        return remove_days(symbol_dir, first, last)

    def list_symbols(self, *, source: str = "binance", market: str = "spot") -> list[str]:
        """Return the symbols of a market that have days in the store."""
        raise_if_forked("list_symbols")
        dirs = symbol_dirs(self._root, *canonical_market(source, market), None, self._disk)
        return [symbol_dir.symbol for symbol_dir in dirs if verification.listed_days(symbol_dir)]

    def list_venues(self) -> list[Venue]:
        """Return the sources and markets that have symbols in the store, with those of the user.

        Examples
        --------
        >>> from tempfile import mkdtemp
        >>> import rangebar_polars as rb
        >>> from rangebar_polars.storage.parquet import TickStorage
        >>> storage = TickStorage(mkdtemp())
        >>> report = storage.write_ticks("ETHUSDT", rb.sample_ticks(), source="kraken")
        >>> storage.list_venues()
        [Venue(source='kraken', market='spot')]
        """
        raise_if_forked("list_venues")
        dirs = symbol_dirs(self._root, None, None, None, self._disk)
        return list(dict.fromkeys(Venue(found.source, found.market) for found in dirs))

    def list_days(
        self, symbol: str, *, source: str = "binance", market: str = "spot"
    ) -> list[date]:
        """Return the stored days of a symbol, in order."""
        return verification.listed_days(self.symbol_dir(symbol, source, market))

    def stats(
        self, symbol: str, *, source: str = "binance", market: str = "spot"
    ) -> dict[str, object]:
        """Count the days, rows and bytes of a symbol, and the days in each state."""
        return verification.stats(self.symbol_dir(symbol, source, market))

    def verify(
        self, symbol: str | None = None, *, source: str | None = None, market: str | None = None
    ) -> pl.DataFrame:
        """Read every file of the store and compare it with its SHA-256.

        A quarantined day is restored if its original bytes are in its place or in the quarantine.
        Nothing else is changed.

        Returns
        -------
        DataFrame
            Columns source, market, symbol, day, file, state (`ok`, `corrupt`, `missing`,
            `unreadable`, `quarantined`, `unreferenced`, `manifest unreadable`) and reason.
        """
        return verification.verify(self._symbol_dirs(symbol, source, market))

    def gc(
        self,
        dry_run: bool = True,  # noqa: FBT001, FBT002
        *,
        symbol: str | None = None,
        source: str | None = None,
        market: str | None = None,
    ) -> pl.DataFrame:
        """Remove the files that no manifest has referenced for a week. By default, only list them.

        Journals are removed a week after all of their day was written to its file. Quarantined files
        stay.

        Returns
        -------
        DataFrame
            Columns symbol, file and bytes.
        """
        return gc.sweep(self._symbol_dirs(symbol, source, market), dry_run=dry_run)

    def symbol_dir(
        self, symbol: str, source: str, market: str, *, operation: str | None = None
    ) -> SymbolDir:
        """Return the folder of a symbol. If an operation is named, apply the symbol gate.

        Raises
        ------
        ForkedProcessError
            The process was forked from one that had used Polars.
        """
        raise_if_forked(operation or "TickStorage")
        name = canonical_symbol(symbol)
        if operation is not None:
            name = validate_symbol_registered(name, operation=operation)
        return SymbolDir(self._root, *canonical_market(source, market), name, self._disk)

    def _symbol_dirs(
        self, symbol: str | None, source: str | None, market: str | None
    ) -> list[SymbolDir]:
        raise_if_forked("TickStorage")
        if source is not None and market is not None:
            source, market = canonical_market(source, market)
        name = None if symbol is None else canonical_symbol(symbol)
        return list(symbol_dirs(self._root, source, market, name, self._disk))

    def _covered(self, symbol_dir: SymbolDir, span: Span) -> list[DayCoverage]:
        return covered_days(symbol_dir, span, current_entries(symbol_dir, span))

    def _plan(
        self, symbol_dir: SymbolDir, span: Span, on_gap: OnGap, refetch: Refetch | None = None
    ) -> Plan:
        """Check the coverage of a span, and return the plan of its files."""
        entries = current_entries(symbol_dir, span)
        if refetch is not None and refetch_quarantined(symbol_dir, span, entries, refetch):
            entries = current_entries(symbol_dir, span)
        check_coverage(symbol_dir, covered_days(symbol_dir, span, entries), on_gap)
        return make_plan(symbol_dir, span, entries)
