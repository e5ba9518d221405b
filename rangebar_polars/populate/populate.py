"""Bars of a span into the cache, day by day, so that a run that is cut off is gone on with."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date
from typing import TYPE_CHECKING

from rangebar_polars._utils.checks import require_bool
from rangebar_polars._utils.span import ONE_DAY, Span, day_start, parse_span
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.compute._options import parse_options
from rangebar_polars.events import PopulationCompleted, PopulationFailed, emit
from rangebar_polars.exceptions import PopulationError, RangeBarError, with_hint
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.populate.plan import Request
from rangebar_polars.populate.report import PopulateReport
from rangebar_polars.populate.run import Options, PopulationRun
from rangebar_polars.populate.workers.executors import judge_executor
from rangebar_polars.sources import canonical_market
from rangebar_polars.symbol_registry import (
    past_gate,
    validate_and_clamp_start_date,
    validate_symbols_registered,
)
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold
from rangebar_polars.threshold import parse_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from rangebar_polars._typing import Features
    from rangebar_polars._utils.span import When
    from rangebar_polars.ingest.fetch import Venue
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["populate_cache_resumable"]

_LATEST = date(2148, 12, 31)
_LISTED = 5


def populate_cache_resumable(
    symbol: str | Sequence[str],
    start_date: When,
    end_date: When | None = None,
    *,
    threshold_decimal_bps: ThresholdLike | Sequence[ThresholdLike] = 250,
    force_refresh: bool = False,
    refresh_stale: bool = False,
    include_microstructure: bool = False,
    features: Features = "microstructure",
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
) -> PopulateReport:
    """Compute the bars of whole UTC days and keep them; a run that is cut off is gone on with.

    Ticks that the store lacks are fetched first. Each day is kept as it is done, with the state
    after it, so that the same call, or one with a later end, goes on from there, on any machine; a
    second one writes nothing. Several thresholds are computed in one pass over the ticks.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case, or several.
    start_date
        The first day. Days before the symbol's effective start are left out, with a warning.
    end_date
        The last day; None for the newest whole day that there is.
    threshold_decimal_bps
        250, "0.25%", the name of a preset, or a list of those.
    force_refresh
        Build every day anew. What is kept stays visible, whole, until the new bars are complete.
    refresh_stale
        The same, from the first day on whose ticks have changed since it was kept.
    include_microstructure, features
        Groups of columns; core and microstructure are kept whatever is asked for.
    ouroboros, ouroboros_mode
        The reset: "year", "month", "week", "day" or "none"; the second is an alias.
    prevent_same_timestamp_close
        Whether a bar may close only at a later time than it opened.
    notify
        Whether events are sent (`rangebar_polars.events`).
    verbose
        Show a progress bar on a terminal.
    executor
        A `concurrent.futures.Executor`, or a function that makes one; None for this process. Work
        is split by symbol and by the spans between resets.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them.
    cache_dir
        Folder of the store and of an embedded cache.
    dsn
        Address of the cache, `http://host:8123` or `chdb:///folder`; else the setting
        `RANGEBAR_CLICKHOUSE_DSN`, else a folder in the cache folder.

    Returns
    -------
    PopulateReport
        What was done for each series; `int(report)` is the number of bars written.

    Raises
    ------
    SymbolNotRegisteredError
        The gate does not let a symbol through.
    ThresholdError
        A threshold that is none, or below a symbol's minimum.
    ValueError
        No span of whole days.
    PopulationError
        A day could not be had, or the ticks of days that are kept have changed. What lies before
        is kept, and other segments are done; `report` says what and why.
    LeaseError
        Another population is at work on one of the series; nothing was done.
    CacheUnavailableError, CacheWriteError
        The cache is away, or did not take what was sent; what was kept before is intact.

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
    origin, place = canonical_market(source, market)
    where: Venue = {"source": origin, "market": place}
    names = dict.fromkeys(validate_symbols_registered(_listed(symbol), operation=_NAME))
    require_bool(
        force_refresh=force_refresh,
        refresh_stale=refresh_stale,
        include_microstructure=include_microstructure,
        notify=notify,
        verbose=verbose,
    )
    # Those that are known are kept anyway.
    parse_options(250, features=features)
    judge_executor(executor)
    reset = reset_of(ouroboros, ouroboros_mode)
    rules = BarRules(prevent_same_timestamp_close=prevent_same_timestamp_close)
    report, requests = PopulateReport(), []
    with ExitStack() as passed:
        for name in names:
            passed.enter_context(past_gate(name))
            asked = _asked_days(name, start_date, end_date)
            specs = [
                BarSpec.of(name, threshold, reset=reset, rules=rules, **where)
                for threshold in _thresholds(name, threshold_decimal_bps)
            ]
            days = _days(report, name, asked, where, cache_dir)
            requests.append(Request(tuple(specs), *days))
        options = Options(cache_dir, dsn, force_refresh, refresh_stale, notify, verbose, executor)
        return _populate(requests, options, report)


_NAME = "populate_cache_resumable"


def _thresholds(name: str, given: ThresholdLike | Sequence[ThresholdLike]) -> list[int]:
    """Thresholds, none of them below the symbol's minimum."""
    parsed, _ = parse_thresholds(given)
    return [resolve_and_validate_threshold(name, threshold) for threshold in parsed]


def _listed(symbol: str | Sequence[str]) -> list[str]:
    """The symbols, of which there is one at least."""
    if isinstance(symbol, str):
        return [symbol]
    try:
        listed = list(symbol)
    except TypeError as error:
        kind = type(symbol).__name__
        sentence = f"`symbol` must be a text or a list of texts; it is of type `{kind}`"
        raise TypeError(with_hint(sentence, '"BTCUSDT", or ["BTCUSDT", "ETHUSDT"]')) from error
    if not listed:
        sentence = f"`symbol` is `{symbol!r}`, without a symbol"
        raise ValueError(with_hint(sentence, '"BTCUSDT", or ["BTCUSDT", "ETHUSDT"]'))
    return listed


def _asked_days(name: str, start: When, end: When | None) -> tuple[date, date | None]:
    """First and last day that are asked for, not before the effective start."""
    given = parse_span(start, _LATEST if end is None else end)
    if given != Span(day_start(given.first_day), day_start(given.last_day + ONE_DAY)):
        asked = f"`{start}` to `{end}`" if end is not None else f"`{start}`"
        hint = 'give dates: "2024-03-01" means that whole UTC day'
        raise ValueError(with_hint(f"whole days are kept, and {asked} cuts one", hint))
    first_day = validate_and_clamp_start_date(name, given.first_day)
    last_day = None if end is None else given.last_day
    if last_day is not None and last_day < first_day:
        sentence = f"`end_date` ({end}) lies before the first day of `{name}`"
        raise ValueError(with_hint(sentence, f"it starts on {first_day}"))
    return first_day, last_day


def _days(
    report: PopulateReport,
    name: str,
    asked: tuple[date, date | None],
    where: Venue,
    cache_dir: str | Path | None,
) -> tuple[date, date]:
    """First and last day, up to the newest whole one."""
    first_day, last_day = asked
    clamp = newest_day(name, last_day, cache_dir=cache_dir, **where)
    if clamp.is_earlier:
        report.clamps[name] = clamp
    if not clamp.is_certain:
        report.unanswered[name] = clamp
    if clamp.day < first_day:
        sentence = f"`start_date` ({first_day}) lies after the newest whole day of `{name}`"
        raise ValueError(with_hint(sentence, f"that is {clamp.day} ({clamp.why})"))
    return first_day, clamp.day


def _populate(
    requests: Sequence[Request], options: Options, report: PopulateReport
) -> PopulateReport:
    try:
        course = PopulationRun(requests, options)
        report.series = course.run()
        if course.error is not None:
            raise course.error
        if not report.is_complete:
            raise _incomplete(report) from next(iter(course.stock.failures.values()), None)
    except RangeBarError as error:
        if options.notify:
            for one in requests:
                emit(PopulationFailed(*_words(one), first_line(error)))
        raise
    if options.notify:
        for one in requests:
            bars = sum(part.bars for part in report.series if part.symbol == one.symbol)
            emit(PopulationCompleted(*_words(one), bars))
    return report


def _words(request: Request) -> tuple[str, list[int], date, date]:
    thresholds = [spec.threshold for spec in request.specs]
    return request.symbol, thresholds, request.first_day, request.last_day


def _incomplete(report: PopulateReport) -> PopulationError:
    """What is lacking or has changed, with the remedy."""
    symbols = dict.fromkeys(one.symbol for one in report.series if one.hole or one.stale)
    holes, stale = report.holes, report.stale
    sentences, hints = [], []
    if holes:
        listed = "; ".join(f"`{day}`: {why}" for day, why in [*sorted(holes.items())][:_LISTED])
        sentences.append(f"stopped at {listed}")
        hints.append("what lies before is kept, and the same call goes on once the day is there")
    if stale:
        listed = ", ".join(f"`{day}`" for day in stale[:_LISTED])
        more = f" and {len(stale) - _LISTED:,} days more" if len(stale) > _LISTED else ""
        sentences.append(f"the ticks of {listed}{more} have changed since they were kept")
        hints.append("refresh_stale=True builds their bars anew")
    sentence = f"the population of {', '.join(symbols)}: {', and '.join(sentences)}"
    return PopulationError(
        with_hint(sentence, "; ".join(hints)),
        report=report,
        symbol=next(iter(symbols)),
        days=sorted({*holes, *stale}),
    )
