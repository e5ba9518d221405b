"""Ticks of symbols as a lazy frame: fetched if missing, verified as they are read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from rangebar_polars._utils.arguments.names import REQUIRED, both_names
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import Span, day_start, microseconds
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.exceptions import (
    CoverageWarning,
    NotYetPublishedError,
    unknown_choice,
    with_hint,
)
from rangebar_polars.ingest.fetch import ensure_days, fetch_again
from rangebar_polars.ingest.spans import span_of_symbol
from rangebar_polars.readers.missing_ticks import early_end_warning
from rangebar_polars.readers.request import past_gates, registered_symbols
from rangebar_polars.sources import canonical_market, market_of_kind
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading.lazy import tick_frame
from rangebar_polars.storage.snapshot import state_of_writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Unpack

    import polars as pl

    from rangebar_polars._typing import TickNames
    from rangebar_polars._utils.span import When
    from rangebar_polars.ingest.report import FetchReport
    from rangebar_polars.storage.live.writer_state import WriterState
    from rangebar_polars.storage.reading.lazy import PlannedTicks

__all__ = ["scan_ticks"]


@both_names
def scan_ticks(
    symbol: str | Sequence[str],
    start: When = REQUIRED,
    end: When = REQUIRED,
    *,
    source: str = "binance",
    market: str = "spot",
    kind: str = "agg_trades",
    fetch: bool = True,
    on_gap: Literal["raise", "report"] = "raise",
    cache_dir: Path | str | None = None,
    **_names: Unpack[TickNames],
) -> pl.LazyFrame:
    """Return the ticks of symbols as a lazy frame.

    This call fetches missing ticks. The frame reads the files that are in the store now, one day
    in memory at a time, whatever is written before it is collected, and verifies their content.

    Several symbols are one plan, which reads one symbol after another: a filter on `symbol` skips
    whole symbols, and `bars(250, group_by="symbol")` computes the bars of each.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case, or a list of them, which adds the column `symbol`.
    start, end
        Dates (the last day included) or datetimes (the end excluded). The end is cut
        to now and, with a warning, to the newest available day. Days before the symbol's effective
        start are left out, with a warning.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them.
    kind
        `"agg_trades"`, or `"trades"` for the single trades of Binance's archive, whose ids are those
        of the fills.
    fetch
        Whether to fetch missing days.
    on_gap
        `"raise"`, or `"report"` to return the available ticks with a warning.
    cache_dir
        Folder of the store. Default: `RANGEBAR_CACHE_DIR`, else the platform's cache folder.

    Returns
    -------
    LazyFrame
        For trades the columns timestamp (Datetime in µs, UTC), price, quantity (Float64),
        agg_trade_id, first_trade_id, last_trade_id (Int64) and is_buyer_maker; for quotes
        timestamp, price (the mid), bid, ask and agg_trade_id. The quantity of coin-margined futures
        (`market="cm"`) is in coins: contracts · contract size / price; the column `contracts` has
        the contracts that the exchange publishes. With a list, the first column is symbol
        (String), and the ticks of each symbol follow those of the one before it in the list, in
        order of time. A column that a symbol does not have is null in its rows.

    Raises
    ------
    SymbolNotRegisteredError
        A symbol is not registered, or not enabled.
    ValueError
        The list is empty, or names a symbol twice.
    TicksNotCachedError
        Days are missing and `fetch` is False.
    CoverageError
        Trade ids are missing, and neither the archive nor the exchange's REST interface has them.
    SourceError
        A day could not be fetched, or the span has no tick yet (`NotYetPublishedError`).
    ForkedProcessError
        The process was forked from one that had used Polars.
    ParquetCorruptionError, SnapshotExpiredError
        When the frame is collected: a file is corrupt and could not be fetched again, or was
        removed after this call.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> day = rb.sample_ticks()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", day)
    >>> ticks = rb.scan_ticks("ETHUSDT", "2024-08-08", "2024-08-08", fetch=False, cache_dir=folder)
    >>> ticks.rangebar.bars(250).collect().equals(day.rangebar.bars(250))
    True
    """
    raise_if_forked("scan_ticks")
    venue = market_of_kind(canonical_market(source, market), kind)
    names, has_symbols = registered_symbols(symbol, operation="scan_ticks")
    spans = {name: span_of_symbol(name, start, end) for name in names}
    if on_gap not in ("raise", "report"):
        raise ValueError(unknown_choice("on_gap", on_gap, ["raise", "report"]))
    storage = TickStorage(cache_dir)

    def planned(name: str, span: Span) -> PlannedTicks:
        writer = state_of_writer(storage, name, source=venue.source, market=venue.market)
        end = span.end
        if fetch:
            report = ensure_days(venue, name, span, cache_dir=cache_dir, is_read=True)
            span = _up_to_the_newest(span, report, writer)
        found = storage.plan_ticks(
            name,
            span.start,
            span.end,
            source=venue.source,
            market=venue.market,
            on_gap=on_gap,
            refetch=partial(fetch_again, storage, name, venue=venue) if fetch else None,
        )
        if writer is not None and writer.is_running and not writer.is_live:
            _warn_of_writer(found, writer, end)
        return found

    with past_gates(names):
        plans = [planned(name, span) for name, span in spans.items()]
        return tick_frame(plans, with_symbol=has_symbols)


def _warn_of_writer(planned: PlannedTicks, writer: WriterState, end: datetime) -> None:
    """Warn if ticks end with what a writer has applied, and there may be later ones."""
    days = planned.plan.days
    if days and days[-1].entry.may_grow and days[-1].last_us < microseconds(end):
        symbol = planned.plan.symbol_dir.symbol
        warning = early_end_warning("ticks", symbol, writer, days[-1].last_us)
        warn_caller(warning)


def _up_to_the_newest(span: Span, report: FetchReport, writer: WriterState | None) -> Span:
    """Return the span without the days at its end that have no tick yet."""
    days = span.days()
    count = len(days)
    while count and days[count - 1] in report.to_come:
        count -= 1
    if count == len(days):
        return span
    first = days[count]
    if not count:
        raise NotYetPublishedError(
            with_hint(f"`{report.symbol}` has no tick of {first} yet", "start on an earlier day"),
            symbol=report.symbol,
            day=first,
        )
    if writer is not None and writer.is_running:
        return Span(span.start, day_start(first))
    message = f"ticks of {report.symbol} end with {days[count - 1]}: {first} has no tick yet"
    warn_caller(message, CoverageWarning)
    return Span(span.start, day_start(first))
