"""Compute and store bars for whole UTC days; an interrupted run resumes where it stopped."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.names import REQUIRED, both_names
from rangebar_polars.bar_series.identity import BarRules
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.events import PopulationCompleted, PopulationFailed, emit
from rangebar_polars.exceptions import PopulationError, RangeBarError, with_hint
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.populate.arguments import (
    build_request,
    requested_days,
    requested_features,
)
from rangebar_polars.populate.interrupted import note_stored
from rangebar_polars.populate.report import PopulateReport
from rangebar_polars.populate.run import PopulationRun
from rangebar_polars.populate.state import PopulationOptions
from rangebar_polars.sources import canonical_market
from rangebar_polars.symbol_registry import past_gate, validate_symbols_registered
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold
from rangebar_polars.threshold import parse_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path
    from typing import Unpack

    from rangebar_polars._typing import Features, Lookback, PopulateNames
    from rangebar_polars._utils.span import When
    from rangebar_polars.populate.plan import Request
    from rangebar_polars.populate.workers.publish import OnPublished
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["populate_cache_resumable", "populate_requests"]

_MOST_LISTED = 5


@both_names
def populate_cache_resumable(
    symbol: str | Sequence[str],
    start_date: When = REQUIRED,
    end_date: When | None = None,
    *,
    threshold_decimal_bps: ThresholdLike | Sequence[ThresholdLike] = 250,
    force_refresh: bool = False,
    refresh_stale: bool = False,
    include_microstructure: bool = False,
    features: Features = "microstructure",
    lookback: Lookback | None = None,
    ouroboros: str | None = "year",
    prevent_same_timestamp_close: bool = True,
    notify: bool = True,
    verbose: bool = True,
    executor: Executor | Callable[[], Executor] | None = None,
    source: str = "binance",
    market: str = "spot",
    cache_dir: str | Path | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[PopulateNames],
) -> PopulateReport:
    """Compute and store bars for whole UTC days. An interrupted run resumes where it stopped.

    Missing ticks are fetched a month at a time, and the bars of a month are stored before the next
    one is fetched. Days are published in groups, each day together with the processor state after
    it. The same call, or one with a later end, therefore resumes from the last published day, on any
    machine; once everything is stored, it writes nothing. Several thresholds share one pass over the
    ticks. The notes of a `KeyboardInterrupt` say which days of ticks and bars are stored.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case, or several.
    start_date
        The first day. Days before the symbol's effective start are skipped, with a warning.
    end_date
        The last day; None for the newest whole day.
    threshold_decimal_bps
        250, "0.25%", the name of a preset, or a list of those.
    force_refresh
        Rebuild every day. The stored bars stay visible, whole, until the new ones are complete.
    refresh_stale
        Rebuild from the first day whose ticks have changed since its bars were stored.
    include_microstructure, features
        Feature groups. Core and microstructure are stored in any case. "lookback", "intrabar" and
        "extended", or a column of one, are stored too if they are requested. A stored series without
        them is rebuilt with them from its anchor; readers see it as it is until that is complete.
        A new series begins with the groups of the newest series of the same kind.
    lookback
        The window of the look-back columns: records, bars (`"3bars"`) or time (`"5m"`). By default
        that of the stored series, else 200 records.
    ouroboros, ouroboros_mode
        The reset mode: "year", "month", "week", "day" or "none". The two are aliases; pass one.
    prevent_same_timestamp_close
        Whether a bar may close only at a later time than it opened.
    notify
        Whether to send events (`rangebar_polars.events`).
    verbose
        Show a progress bar on a terminal.
    executor
        A `concurrent.futures.Executor`, or a function that makes one; None for this process. Work
        is split by symbol and reset segment.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them. Volumes of coin-margined futures (`"cm"`) are in coins, not in contracts.
    cache_dir
        Folder of the tick store and of an embedded cache.
    dsn
        Address of the cache, `http://host:8123` or `chdb:///folder`; by default the setting
        `RANGEBAR_CLICKHOUSE_DSN`, else a folder in the cache folder.

    Returns
    -------
    PopulateReport
        The outcome for each series; `int(report)` is the number of bars written.

    Raises
    ------
    SymbolNotRegisteredError
        A symbol is not registered or not enabled.
    ThresholdError
        A threshold is malformed, out of range, or below a symbol's minimum.
    ValueError
        The span is not valid, is not made of whole days, or has no whole day yet; or `lookback` is
        not the window of the stored series. `force_refresh=True` rebuilds them with it.
    PopulationError
        A day is unavailable, or the ticks of stored days have changed. All other work is done
        first; `report` lists what is missing, and why.
    CacheSchemaError
        The tables have no columns for the groups, and the user may not add them.
    LeaseError
        Another population is writing one of the series; nothing was done.
    CacheUnavailableError, CacheWriteError
        The cache cannot be reached, or did not accept a write. Bars stored before are intact.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.populate.populate import populate_cache_resumable
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> written = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> day = ("ETHUSDT", "2024-08-08", "2024-08-08")
    >>> report = populate_cache_resumable(*day, threshold_decimal_bps=250, cache_dir=folder)
    >>> int(report) == rb.sample_ticks().rangebar.bars(250).height
    True
    >>> int(populate_cache_resumable(*day, threshold_decimal_bps=250, cache_dir=folder))
    0
    """
    venue = canonical_market(source, market)
    operation = "populate_cache_resumable"
    names = validate_symbols_registered(_listed(symbol), operation=operation)
    options = PopulationOptions(
        cache_dir, dsn, force_refresh, refresh_stale, notify, verbose, executor
    )
    groups = requested_features(features, lookback, include_microstructure=include_microstructure)
    reset = reset_of(ouroboros, ouroboros_mode)
    rules = BarRules(prevent_same_timestamp_close=prevent_same_timestamp_close)
    requests = []
    with ExitStack() as passed:
        for name in dict.fromkeys(names):
            passed.enter_context(past_gate(name))
            days = requested_days(name, start_date, end_date)
            thresholds = _thresholds(name, threshold_decimal_bps)
            requests.append(
                build_request(
                    name,
                    days,
                    thresholds,
                    venue=venue,
                    reset=reset,
                    rules=rules,
                    features=groups,
                    cache_dir=cache_dir,
                )
            )
        return populate_requests(requests, options)


def _listed(symbol: str | Sequence[str]) -> list[str]:
    """Return the symbols as a list that is not empty."""
    if isinstance(symbol, str):
        return [symbol]
    try:
        symbols = list(symbol)
    except TypeError as error:
        kind = type(symbol).__name__
        sentence = f"`symbol` must be a text or a list of texts; it is of type `{kind}`"
        raise TypeError(with_hint(sentence, '"BTCUSDT", or ["BTCUSDT", "ETHUSDT"]')) from error
    if not symbols:
        sentence = f"`symbol` is `{symbol!r}`; at least one symbol is required"
        raise ValueError(with_hint(sentence, '"BTCUSDT", or ["BTCUSDT", "ETHUSDT"]'))
    return symbols


def _thresholds(symbol: str, thresholds: ThresholdLike | Sequence[ThresholdLike]) -> list[int]:
    """Parse thresholds and check them against the symbol's minimum."""
    parsed, _ = parse_thresholds(thresholds)
    return [resolve_and_validate_threshold(symbol, threshold) for threshold in parsed]


def populate_requests(
    requests: Sequence[Request],
    options: PopulationOptions,
    *,
    on_published: OnPublished | None = None,
) -> PopulateReport:
    """Run one population of validated requests, and report it by events and a return value.

    Parameters
    ----------
    requests
        One for each symbol; the symbols have passed the gate.
    options
        How the population is run.
    on_published
        Called with the units of each group that this process publishes. Its errors end the
        population.

    Raises
    ------
    PopulationError
        A day is unavailable, or the ticks of stored days have changed.
    LeaseError, CacheUnavailableError, CacheWriteError
        As for `populate_cache_resumable`.
    """
    report = PopulateReport.of(requests)
    try:
        run = PopulationRun(requests, options, on_published)
        report.series = run.run()
        if run.error is not None:
            raise run.error
        if not report.is_complete:
            raise _incomplete(report) from run.source_error
    except KeyboardInterrupt as interrupt:
        note_stored(interrupt, requests, cache_dir=options.cache_dir, dsn=options.dsn)
        raise
    except RangeBarError as error:
        if options.notify:
            for request in requests:
                emit(PopulationFailed(*_event_fields(request), first_line(error)))
        raise
    if options.notify:
        for request in requests:
            bars = sum(series.bars for series in report.series if series.symbol == request.symbol)
            emit(PopulationCompleted(*_event_fields(request), bars))
    return report


def _event_fields(request: Request) -> tuple[str, list[int], date, date]:
    thresholds = [spec.threshold for spec in request.specs]
    return request.symbol, thresholds, request.first_day, request.last_day


def _incomplete(report: PopulateReport) -> PopulationError:
    """Build the error that lists holes and stale days, each with its remedy."""
    symbols = dict.fromkeys(
        series.symbol for series in report.series if series.hole or series.stale
    )
    holes, stale = report.holes, report.stale
    sentences, hints = [], []
    if holes:
        first_holes = sorted(holes.items())[:_MOST_LISTED]
        sentences.append(
            f"it stopped at {'; '.join(f'`{day}`: {reason}' for day, reason in first_holes)}"
        )
        hints.append("the days before are stored; the same call resumes once the day is available")
    if stale:
        listed = ", ".join(f"`{day}`" for day in stale[:_MOST_LISTED])
        more = f" and {len(stale) - _MOST_LISTED:,} more days" if len(stale) > _MOST_LISTED else ""
        sentences.append(f"the ticks of {listed}{more} have changed since their bars were stored")
        hints.append("refresh_stale=True rebuilds them")
    sentence = f"the population of {', '.join(symbols)} is incomplete: {', and '.join(sentences)}"
    return PopulationError(
        with_hint(sentence, "; ".join(hints)),
        report=report,
        symbol=next(iter(symbols)),
        days=sorted({*holes, *stale}),
    )
