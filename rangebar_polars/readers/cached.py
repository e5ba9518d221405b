"""Cached bars, read without computing any."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars._utils.arguments.checks import count_of, require_bool
from rangebar_polars._utils.arguments.names import both_names
from rangebar_polars._utils.span import microseconds, parse_span
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.bar_series.columns import OPTIONAL_GROUPS, stored_groups
from rangebar_polars.bar_series.features import named_features, stored_features
from rangebar_polars.bar_series.query import SeriesQuery, instant, span_of
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query import bars as query
from rangebar_polars.clickhouse.query.bars import READ_TRIES, DamagedBarsError
from rangebar_polars.readers.cached_plan import plan_cached
from rangebar_polars.readers.coverage import coverage_rows, stale_warnings
from rangebar_polars.readers.execute import read_stored
from rangebar_polars.readers.features import cut_windows
from rangebar_polars.readers.hints import missing_days_warning
from rangebar_polars.readers.plugins import with_needed_columns, with_plugin_columns
from rangebar_polars.readers.request import (
    ReadRequest,
    frame_columns,
    in_order,
    optional_columns,
    plugins_of,
    require_one,
    watched,
)
from rangebar_polars.symbol_registry import validate_symbol_registered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import SupportsIndex, Unpack

    import polars as pl

    from rangebar_polars._typing import (
        CachedNames,
        CountNames,
        CoverageNames,
        Features,
        Lookback,
        NewestCachedNames,
        Plugins,
    )
    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.query import Anchor
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.readers.cached_plan import CachedPlan
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["cached_groups", "count_bars", "coverage", "get_cached_bars", "get_n_bars"]

_Result = TypeVar("_Result")


@both_names
def get_cached_bars(
    symbol: str,
    threshold: ThresholdLike = 250,
    start: When | None = None,
    end: When | None = None,
    *,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    features: Features = "core",
    lookback: Lookback | None = None,
    include_plugin_features: Plugins = False,
    include_orphaned_bars: bool = False,
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[CachedNames],
) -> pl.DataFrame:
    """Return the cached bars of a span. Nothing is computed or fetched.

    Each segment between two resets comes from one series: of the series that cover the requested
    part, the one with the earliest anchor; else the one that reaches furthest. Without a start,
    return all cached bars before the end, back to the first incomplete segment.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case.
    threshold
        250, "0.25%", "25bp" or the name of a preset.
    start, end
        Dates (the last day included) or datetimes (the end excluded). Default for the
        end: the newest cached bar.
    ouroboros, ouroboros_mode
        When bars are reset: "year", "month", "week", "day" or None. Two names for one argument.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them.
    features
        Groups or names of columns beyond the core, which the bars must have been stored with.
    lookback
        The window that the look-back columns must have; by default that of the bars.
    include_plugin_features
        Add the columns of feature plugins: True for all that are installed, or a list of their
        names. They are computed from the bars and the `min_bars` bars before them.
    include_orphaned_bars
        Include bars that a reset or a gap ended, and add the columns `is_closed` and `ended_by`. A
        bar that a reset ended is included if the end of the read reaches the reset.
    prevent_same_timestamp_close
        As for `bars`.
    anchor
        Read only the series that begins at this instant or, with "segment", at the start of the
        segment.
    cache_dir, dsn
        The cache to read. Default: `RANGEBAR_CLICKHOUSE_DSN`, else a folder in the cache folder.

    Returns
    -------
    DataFrame
        Columns of a bar frame without `bar_id`, and those of plugins, ordered by close time.

    Warns
    -----
    CoverageWarning
        Days of the span are not cached, or their ticks have changed.
    PluginWarning
        A plugin could not be loaded, or failed: its columns are null.

    Raises
    ------
    SymbolNotRegisteredError
        The symbol is not registered, or not enabled.
    CacheUnavailableError
        The cache cannot be reached.
    CoverageError
        Cached bars are damaged, or do not have a requested feature group or window.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.readers.cached import get_cached_bars
    >>> get_cached_bars("BTCUSDT", threshold=250, cache_dir=mkdtemp()).height
    0
    """
    require_bool(include_orphaned_bars=include_orphaned_bars)
    require_one("get_cached_bars", symbol, threshold, start=start, end=end)
    name = validate_symbol_registered(symbol, operation="get_cached_bars")
    call = plugins_of(include_plugin_features, name)
    span = None if start is None else span_of(name, start, end)
    until = None if end is None else parse_span("1971-01-01", end).end
    extra, groups = optional_columns(features, lookback)
    columns = frame_columns(extra, endings=include_orphaned_bars)
    series = SeriesQuery.of(
        name,
        threshold,
        ouroboros=ouroboros,
        ouroboros_mode=ouroboros_mode,
        source=source,
        market=market,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        anchor=anchor,
        features=groups,
    )
    request = ReadRequest(
        series.spec,
        series.anchor,
        series.features,
        columns=in_order(watched(columns, groups)),
        span=span,
        end=until,
        include_orphans=include_orphaned_bars,
        is_open=end is None,
        plugins=call,
        cache_dir=cache_dir,
        dsn=dsn,
    )
    plan, bars = _read_bars(request)
    _warn(request, plan, bars)
    return bars.select(*columns, *request.plugin_columns)


def cached_groups(
    symbol: str,
    thresholds: Sequence[int],
    start: When | None,
    end: When | None,
    *,
    cache_dir: Path | str | None,
    dsn: str | None,
    **options: Any,  # noqa: ANN401
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the groups that all bars have which `get_cached_bars` reads, and those that some have.

    Groups are left out of the first where the windows of the bars differ. The options are those of
    `get_cached_bars`.
    """
    name = validate_symbol_registered(symbol, operation="cached_groups")
    span = None if start is None else span_of(name, start, end)
    until = None if end is None else parse_span("1971-01-01", end).end
    words: list[frozenset[str]] = []
    with reading(dsn, cache_dir=cache_dir) as cache:
        for threshold in thresholds:
            query = SeriesQuery.of(
                name,
                threshold,
                ouroboros=options["ouroboros"],
                ouroboros_mode=None,
                source=options["source"],
                market=options["market"],
                prevent_same_timestamp_close=True,
                anchor=None,
            )
            request = ReadRequest(query.spec, span=span, end=until, is_open=end is None)
            units = plan_cached(cache, request).units_of_span
            words += [unit.feature_groups for unit in units if unit.rows]
    common = stored_features(frozenset.intersection(*words) if words else frozenset())
    found = {group for one in words for group in named_features(one).groups}
    others = tuple(group for group in OPTIONAL_GROUPS if group in found - set(common.groups))
    return (*stored_groups()[1:], *common.groups), others


@both_names
def get_n_bars(
    symbol: str,
    n_bars: SupportsIndex,
    threshold: ThresholdLike = 250,
    *,
    before: When | None = None,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    features: Features = "core",
    lookback: Lookback | None = None,
    include_plugin_features: Plugins = False,
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[NewestCachedNames],
) -> pl.DataFrame:
    """Return the newest cached bars in order, at most `n_bars`.

    They are taken from the newest segment back, as long as each segment is cached from its start.
    Bars that a reset or a gap ended are not included.

    Parameters
    ----------
    n_bars
        Number of bars, at least 1.
    before
        Only bars that close before this instant, or before this day.
    symbol, threshold, ouroboros, source, market, features, lookback, include_plugin_features, \
prevent_same_timestamp_close, anchor, cache_dir, dsn, ouroboros_mode
        As for `get_cached_bars`.

    Warns
    -----
    CoverageWarning
        Days between the bars, or whole days between them and `before`, are not cached.

    Raises
    ------
    ValueError
        `n_bars` is below 1.
    SymbolNotRegisteredError, CacheUnavailableError, CoverageError
        As for `get_cached_bars`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.readers.cached import get_n_bars
    >>> get_n_bars("BTCUSDT", 1_000, threshold=250, cache_dir=mkdtemp()).height
    0
    """
    require_one("get_n_bars", symbol, threshold, n_bars)
    name = validate_symbol_registered(symbol, operation="get_n_bars")
    call = plugins_of(include_plugin_features, name)
    count = count_of(n_bars)
    until = None if before is None else instant(before, "before")
    extra, groups = optional_columns(features, lookback)
    columns = frame_columns(extra, endings=False)
    series = SeriesQuery.of(
        name,
        threshold,
        ouroboros=ouroboros,
        ouroboros_mode=ouroboros_mode,
        source=source,
        market=market,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        anchor=anchor,
        features=groups,
    )
    request = ReadRequest(
        series.spec,
        series.anchor,
        series.features,
        columns=in_order(watched(columns, groups)),
        end=until,
        count=count,
        plugins=call,
        cache_dir=cache_dir,
        dsn=dsn,
    )
    plan, bars = _read_bars(request)
    _warn(request, plan, bars)
    return bars.select(*columns, *request.plugin_columns)


@both_names
def count_bars(
    symbol: str,
    threshold: ThresholdLike = 250,
    *,
    before: When | None = None,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[CountNames],
) -> int:
    """Return the number of bars that `get_n_bars` can return.

    `coverage` lists the days without bars between them.

    Parameters
    ----------
    before
        Only bars that close before this instant, or before this day.
    symbol, threshold, ouroboros, source, market, prevent_same_timestamp_close, anchor, cache_dir,
    dsn, ouroboros_mode
        As for `get_cached_bars`.

    Raises
    ------
    SymbolNotRegisteredError, CacheUnavailableError, CoverageError
        As for `get_cached_bars`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.readers.cached import count_bars
    >>> count_bars("BTCUSDT", threshold=250, cache_dir=mkdtemp())
    0
    """
    require_one("count_bars", symbol, threshold)
    name = validate_symbol_registered(symbol, operation="count_bars")
    until = None if before is None else instant(before, "before")
    series = SeriesQuery.of(
        name,
        threshold,
        ouroboros=ouroboros,
        ouroboros_mode=ouroboros_mode,
        source=source,
        market=market,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        anchor=anchor,
    )
    request = ReadRequest(series.spec, series.anchor, end=until, cache_dir=cache_dir, dsn=dsn)
    _, count = _read(
        request, lambda cache, units: query.count_bars(cache, units, end_us=_end_us(request))
    )
    return count or 0


@both_names
def coverage(
    symbol: str,
    threshold: ThresholdLike = 250,
    start: When | None = None,
    end: When | None = None,
    *,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[CoverageNames],
) -> pl.DataFrame:
    """Return a row for each day of a span and each series that stores it.

    A day without stored bars has one row. Series that another one covers wholly are left out
    unless `anchor` selects them.

    Parameters
    ----------
    symbol, threshold, start, end, ouroboros, source, market, prevent_same_timestamp_close, anchor,
    cache_dir, dsn, ouroboros_mode
        As for `get_cached_bars`. Default for the start: the first cached day.

    Returns
    -------
    DataFrame
        Columns unit_day, state (`final`, `given` or `absent_confirmed`, the state of the ticks;
        `stale` if the store has other ticks now; `missing` if no series stores the day), rows
        (closed bars), first_id and last_id (of the ticks), gap_before (ids missing between the day
        before and this one), reason, segment and anchor of the series, and features (the words of
        its feature groups with their versions and window, separated by spaces).

    Raises
    ------
    SymbolNotRegisteredError, CacheUnavailableError
        As for `get_cached_bars`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.readers.cached import coverage
    >>> rows = coverage("BTCUSDT", 250, "2024-03-01", "2024-03-02", cache_dir=mkdtemp())
    >>> rows["state"].to_list()
    ['missing', 'missing']
    """
    require_one("coverage", symbol, threshold)
    name = validate_symbol_registered(symbol, operation="coverage")
    first = None if start is None else span_of(name, start, end).start
    last = None if end is None else parse_span("1971-01-01", end).end
    series = SeriesQuery.of(
        name,
        threshold,
        ouroboros=ouroboros,
        ouroboros_mode=ouroboros_mode,
        source=source,
        market=market,
        prevent_same_timestamp_close=prevent_same_timestamp_close,
        anchor=anchor,
    )
    with reading(dsn, cache_dir=cache_dir) as cache:
        return coverage_rows(cache, series, first, last, cache_dir)


def _read(
    request: ReadRequest, read: Callable[[Cache, Sequence[Unit]], _Result]
) -> tuple[CachedPlan, _Result | None]:
    """Plan, read the units, and plan again if they were replaced meanwhile; None without a cache."""
    with reading(request.dsn, cache_dir=request.cache_dir) as cache:
        if cache is None:
            return plan_cached(None, request), None
        for _ in range(READ_TRIES - 1):
            plan = plan_cached(cache, request)
            with suppress(DamagedBarsError):
                return plan, read(cache, plan.units)
        plan = plan_cached(cache, request)
        return plan, read(cache, plan.units)


def _read_bars(request: ReadRequest) -> tuple[CachedPlan, pl.DataFrame]:
    """Read the bars of a request with the columns of its plugins."""
    if request.plugins is not None:
        request = with_needed_columns(request)
    plan, found = _read(request, lambda cache, units: read_stored(cache, request, units))
    earlier, bars = found or (None, query.no_bars(request.columns))
    # The cache is closed now: a plugin may read bars, too.
    return plan, with_plugin_columns(request, [] if earlier is None else [earlier], bars)


def _end_us(request: ReadRequest) -> int | None:
    return None if request.end is None else microseconds(request.end)


def _warn(request: ReadRequest, plan: CachedPlan, bars: pl.DataFrame) -> None:
    """Warn the user of days without bars, of changed ticks, and of windows that were cut."""
    found: list[Warning] = []
    found += [missing_days_warning(request, plan.missing)] if plan.missing else []
    found += stale_warnings(request.spec, plan.units_of_span, request.cache_dir)
    found += cut_windows(bars, plan.window)
    for warning in found:
        warn_caller(warning)
