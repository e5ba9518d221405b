"""Ticks on disk, in files that are never changed, and what is known about them."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._files.disk import Disk
from rangebar_polars._utils.checks import require_folder
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars._utils.span import parse_day, parse_span
from rangebar_polars.config import settings
from rangebar_polars.exceptions import SnapshotExpiredError
from rangebar_polars.sources import canonical_market, canonical_symbol
from rangebar_polars.storage import gc as collect
from rangebar_polars.storage import pruning
from rangebar_polars.storage import verify as audit
from rangebar_polars.storage.coverage import coverage_frame
from rangebar_polars.storage.layout import LAYOUT, SymbolDir, symbol_dirs
from rangebar_polars.storage.read import mend, read_plan
from rangebar_polars.storage.read_plan import (
    covered_days,
    current_entries,
    judge,
    make_plan,
)
from rangebar_polars.storage.user_ticks import TIME, user_ticks
from rangebar_polars.storage.write import WriteReport, fill_days, put_days, remove_days, write_given
from rangebar_polars.symbol_registry import validate_symbol_registered

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rangebar_polars._utils.io_source import Frames
    from rangebar_polars._utils.span import Span, When
    from rangebar_polars.sources import DayTicks
    from rangebar_polars.storage.coverage import DayCoverage, Gap
    from rangebar_polars.storage.read import Refetch
    from rangebar_polars.storage.read_plan import OnGap, Plan

__all__ = ["TickStorage", "WriteReport"]

_TRIES = 3


class TickStorage:
    """The ticks of all symbols in one folder.

    A day is one Parquet file, named by its own SHA-256 and never changed. What is in the store is
    told by the manifests of the months, so a reader sees a month as it was before a write or after
    it. One process at a time writes a symbol; readers wait for nobody.

    Parameters
    ----------
    cache_dir
        Folder of the store; else the setting `cache_dir` (`RANGEBAR_CACHE_DIR`), else the
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

    @property
    def root(self) -> Path:
        """The folder of the files, below the one that was given."""
        return self._root

    def write_ticks(
        self,
        symbol: str,
        ticks: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> WriteReport:
        """Add ticks to the store; those that it has already are passed over.

        Each month is written as a whole or not at all, under the lock of the symbol, so that
        writers at work at the same time lose nothing.

        Parameters
        ----------
        symbol
            A registered symbol, in any letter case.
        ticks
            A Polars or pandas frame with `timestamp` (Datetime; without a zone it is UTC), `price`
            and `agg_trade_id`, and where they are known `quantity` (or `volume`),
            `first_trade_id`, `last_trade_id` and `is_buyer_maker`. Other columns are left out. Rows
            may stand in any order. A time that runs back by at most a second in the order of the
            ids is raised.
        source, market
            Where the symbol is traded, see `docs/reference/sources.md`. Quotes have `bid`, `ask`
            and their mid as `price`.

        Returns
        -------
        WriteReport
            Days and months that are in the store now, rows added, duplicates.

        Raises
        ------
        TickDataError
            A row is no tick, an id is given or stored with other values, or a day that its source
            gave whole has no such row. Nothing of the month is written.
        TickOrderError
            In the order of the ids, time runs back by more than a second.
        StorageError
            The files could not be written; what was stored is as it was.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="write_ticks")
        return write_given(symbol_dir, user_ticks(ticks, symbol_dir.source))

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
        """Ticks of a span, proved as they are read.

        Parameters
        ----------
        symbol
            A registered symbol, in any letter case.
        start, end
            Dates (the end's day included) or datetimes with a zone (the end excluded).
        on_gap
            `"raise"`, or `"report"` to give the ticks there are, with a warning.
        source, market
            As for `write_ticks`.

        Raises
        ------
        TicksNotCachedError
            Days that are not in the store.
        CoverageError
            Ids that are missing.
        ParquetCorruptionError
            A file is not what was written; it is in quarantine now.
        """
        span = parse_span(start, end)
        symbol_dir = self.symbol_dir(symbol, source, market, operation="get_ticks")
        for tries_left in reversed(range(_TRIES)):
            plan = self._plan(symbol_dir, span, on_gap)
            try:
                return pl.concat([plan.schema.to_frame(), *read_plan(plan, None, at_once=True)])
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
        refetch: Refetch | None = None,
    ) -> pl.LazyFrame:
        """Ticks of a span as a lazy frame, proved as they are read, a part of a day in memory.

        What is read is what the store holds at this call, whatever is written until the frame is
        collected. Only the columns and the days that the query needs are read.

        Parameters
        ----------
        symbol, start, end, on_gap, source, market
            As for `get_ticks`.
        refetch
            Gives the ticks of a day whose file is found corrupt.

        Raises
        ------
        TicksNotCachedError, CoverageError
            As for `get_ticks`, at this call.
        ParquetCorruptionError
            When the frame is collected: a file is not what was written.
        SnapshotExpiredError
            When the frame is collected: a file was replaced a week ago or more, and removed.
        """
        span = parse_span(start, end)
        symbol_dir = self.symbol_dir(symbol, source, market, operation="scan_ticks")
        plan = self._plan(symbol_dir, span, on_gap, refetch)

        def pruned(predicate: pl.Expr) -> Frames:
            bounds = pruning.time_bounds(predicate, TIME)
            return partial(read_plan, plan.within(bounds.low, bounds.high), refetch=refetch)

        return lazy_frame(
            partial(read_plan, plan, refetch=refetch),
            schema=plan.schema,
            name="TICKS",
            detail=f"{symbol_dir.label}, {len(plan.days)} files",
            pruned=pruned,
        )

    def coverage(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> pl.DataFrame:
        """What the store holds of each day of a span, and what is missing.

        Returns
        -------
        DataFrame
            Columns day, state (`final`, `tail`, `given`, `absent_confirmed`, `quarantined`,
            `missing`), rows, first_id, last_id, missing_before (ids that are missing between the
            end of the day before and the end of this one) and reason.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="coverage")
        return coverage_frame(self._covered(symbol_dir, parse_span(start, end)))

    def gaps(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> list[Gap]:
        """The spans of ids that are missing in days that the store holds, each with its day."""
        symbol_dir = self.symbol_dir(symbol, source, market, operation="coverage")
        days = self._covered(symbol_dir, parse_span(start, end))
        return [gap for day in days for gap in day.gaps]

    def has_ticks(
        self, symbol: str, start: When, end: When, *, source: str = "binance", market: str = "spot"
    ) -> bool:
        """Whether every day of a span is in the store and no id is missing."""
        symbol_dir = self.symbol_dir(symbol, source, market, operation="has_ticks")
        days = self._covered(symbol_dir, parse_span(start, end))
        return all(day.is_kept and not day.gaps for day in days)

    def put_days(
        self,
        symbol: str,
        days: Sequence[DayTicks],
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> WriteReport:
        """Put whole days, as a source gives them, into the place of what the store holds of them.

        A day to which more may come is stored as `tail`, one without ticks and with a reason as
        `absent_confirmed`, any other as `final`. A final day stays where a tail is given.
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
        """Add ticks that were missing to days in the store, whatever their state.

        Parameters
        ----------
        symbol, source, market
            As for `write_ticks`.
        ticks
            The ticks that were had.
        absent
            The ids that the source says it does not have, with the day of the gap they are in.
        """
        symbol_dir = self.symbol_dir(symbol, source, market, operation="fill_gaps")
        spans: dict[date, list[tuple[int, int]]] = {}
        for gap in absent:
            spans.setdefault(gap.day, []).append((gap.first_id, gap.last_id))
        return fill_days(symbol_dir, user_ticks(ticks, symbol_dir.source).ticks, spans)

    def delete_ticks(
        self,
        symbol: str,
        start: When | None = None,
        end: When | None = None,
        *,
        source: str = "binance",
        market: str = "spot",
    ) -> list[date]:
        """Take days out of the store, all of them or from `start` to `end`, both included.

        Plans made before can still be read; `gc` removes the files when they are a week old.

        Returns
        -------
        list of date
            The days that were in the store.
        """
        symbol_dir = self.symbol_dir(symbol, source, market)
        first = date.min if start is None else parse_day(start, "start")
        last = date.max if end is None else parse_day(end, "end")
        return remove_days(symbol_dir, first, last)

    def list_symbols(self, *, source: str = "binance", market: str = "spot") -> list[str]:
        """The symbols of a market of which days are in the store."""
        raise_if_forked("list_symbols")
        found = symbol_dirs(self._root, *canonical_market(source, market), None, self._disk)
        return [symbol_dir.symbol for symbol_dir in found if audit.kept_days(symbol_dir)]

    def list_days(
        self, symbol: str, *, source: str = "binance", market: str = "spot"
    ) -> list[date]:
        """The days of a symbol that are in the store, in order."""
        return list(audit.kept_days(self.symbol_dir(symbol, source, market)))

    def stats(
        self, symbol: str, *, source: str = "binance", market: str = "spot"
    ) -> dict[str, object]:
        """Days, rows, bytes, first and last day and id, and the number of days in each state."""
        return audit.stats(self.symbol_dir(symbol, source, market))

    def verify(
        self, symbol: str | None = None, *, source: str | None = None, market: str | None = None
    ) -> pl.DataFrame:
        """Read every file of the store and compare it with its SHA-256.

        A quarantined day whose right bytes are in its place or in the quarantine is taken back
        into service. Nothing else is changed.

        Returns
        -------
        DataFrame
            Columns source, market, symbol, day, file, state (`ok`, `corrupt`, `missing`,
            `unreadable`, `quarantined`, `unreferenced`, `manifest unreadable`) and reason.
        """
        return audit.verify(self._symbol_dirs(symbol, source, market))

    def gc(
        self,
        dry_run: bool = True,  # noqa: FBT001, FBT002
        *,
        symbol: str | None = None,
        source: str | None = None,
        market: str | None = None,
    ) -> pl.DataFrame:
        """Remove files that no manifest has named for a week; by default only list them.

        What is in quarantine stays.

        Returns
        -------
        DataFrame
            Columns symbol, file and bytes.
        """
        return collect.sweep(self._symbol_dirs(symbol, source, market), is_trial=dry_run)

    def symbol_dir(
        self, symbol: str, source: str, market: str, *, operation: str | None = None
    ) -> SymbolDir:
        """Return the folder of a symbol, which passes the gate where an operation is named.

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
        """The files of a span, after what is missing has been judged."""
        entries = current_entries(symbol_dir, span)
        if refetch is not None and mend(symbol_dir, span, entries, refetch):
            entries = current_entries(symbol_dir, span)
        judge(symbol_dir, covered_days(symbol_dir, span, entries), on_gap)
        return make_plan(symbol_dir, span, entries)
