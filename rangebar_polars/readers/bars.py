"""Range bars of a symbol: stored bars, and the rest computed from ticks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.checks import count_of, require_bool
from rangebar_polars._utils.arguments.names import REQUIRED, both_names
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.bar_series.query import SeriesQuery, span_of
from rangebar_polars.interop.pandas_frames import bars_to_pandas, import_pandas
from rangebar_polars.readers.execute import execute
from rangebar_polars.readers.lazy import planned_frame
from rangebar_polars.readers.newest import end_of, newest_warnings
from rangebar_polars.readers.request import (
    ENDING,
    Fetches,
    ReadRequest,
    extra_columns,
    frame_columns,
    in_order,
    optional_columns,
    past_gates,
    plugins_of,
    registered_symbols,
    requests_of,
    require_one,
    watched,
)
from rangebar_polars.symbol_registry import past_gate, validate_symbol_registered
from rangebar_polars.threshold import parse_thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import SupportsIndex, Unpack

    import pandas as pd
    import polars as pl

    from rangebar_polars._typing import (
        Features,
        Lookback,
        NewestNames,
        Plugins,
        RangeBarNames,
        ScanNames,
    )
    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.query import Anchor
    from rangebar_polars.readers.execute import ReadResult
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["get_n_range_bars", "get_range_bars", "scan_range_bars"]

_CHART_COLUMNS = {"close_time", "open", "high", "low", "close", "volume", *ENDING}


@both_names
def get_range_bars(
    symbol: str,
    start_date: When = REQUIRED,
    end_date: When = REQUIRED,
    threshold_decimal_bps: ThresholdLike = 250,
    *,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    include_microstructure: bool = False,
    features: Features = "core",
    lookback: Lookback | None = None,
    include_plugin_features: Plugins = False,
    include_orphaned_bars: bool = False,
    include_incomplete: bool = False,
    use_cache: bool = True,
    fetch_if_missing: bool = True,
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[RangeBarNames],
) -> pd.DataFrame:
    """Return the range bars of a symbol between two dates, ready for backtesting.py.

    Cached bars are read. Bars that are not cached are computed from ticks, at most 31 days;
    missing ticks are fetched. Each segment between two resets comes from one series of bars: of
    the series that cover the requested part, the one with the earliest anchor.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case.
    start_date, end_date
        Dates (the last day included) or datetimes (the end excluded; without a zone they are UTC):
        the bars that close in between. The index of a result can be passed back. The end is cut to
        now and, with a warning, to the newest available tick. Days before the symbol's effective
        start are left out, with a warning.
    threshold_decimal_bps
        250 is 0.25 %; also `"0.25%"`, `"25bp"` or the name of a preset.
    ouroboros, ouroboros_mode
        When bars are reset: "year", "month", "week", "day" or None. Two names for one argument.
    source, market
        Where the symbol is traded, such as `"binance"` and `"um"`; `docs/reference/sources.md` lists
        them. Volumes of coin-margined futures (`"cm"`) are in coins, not in contracts.
    include_microstructure
        Add the columns of `rb.REFERENCE_COLUMNS`. An undefined value is NaN.
    features
        Groups or names of columns to add. "lookback", "intrabar" and "extended" must be stored with
        the cached bars: `populate_cache_resumable` takes the same argument.
    lookback
        The window of the look-back columns, as for `bars`. By default that of the cached bars, else
        200 records.
    include_plugin_features
        Add the columns of feature plugins: True for all that are installed, or a list of their
        names. They are computed at each read, from the bars and the `min_bars` bars before them.
    include_orphaned_bars
        Include bars that a reset ended, and add the columns `is_closed` and `is_orphan`. The last
        orphan is included if the end of the read reaches the reset.
    include_incomplete
        Include the bar that is forming at the end, and add the column `is_closed`.
    use_cache
        Whether to read cached bars.
    fetch_if_missing
        Whether to fetch missing ticks.
    prevent_same_timestamp_close
        Whether a bar may not close at the timestamp at which it opened.
    anchor
        Where the computation begins: an instant, or "segment" for the start of each segment. The
        bars then do not depend on the content of the cache.
    cache_dir
        Folder of ticks and bars. Default: `RANGEBAR_CACHE_DIR`, else the platform's cache folder.
    dsn
        Address of the bar cache. Default: `RANGEBAR_CLICKHOUSE_DSN`, else a folder in `cache_dir`.

    Returns
    -------
    pandas.DataFrame
        Columns Open, High, Low, Close, Volume (0 for quotes), and those that are added, plugins
        last. The index `timestamp` is the time at which a bar closed, in UTC without a zone,
        ascending. `attrs["rangebar"]` lists for each segment the series, its anchor, the source
        (`cache`, `cache+ticks`, `ticks`), the end, the feature groups and the look-back window.

    Warns
    -----
    CoverageWarning
        The bars end early (no tick yet, or no connection), or the ticks of cached bars have
        changed.
    FeatureWarning
        Look-back windows of bars or of time were cut to 10,000 records.
    PluginWarning
        A plugin could not be loaded, or failed: its columns are NaN.

    Raises
    ------
    SymbolNotRegisteredError
        The symbol is not registered, or not enabled.
    ThresholdError
        The threshold is malformed, out of range, or below the symbol's minimum.
    CoverageError
        More than 31 days would have to be computed, trade ids are missing among the ticks, or cached
        bars do not have a requested feature group or window.
    TicksNotCachedError
        Days are missing and `fetch_if_missing` is False.
    CacheUnavailableError
        The cache cannot be reached. `use_cache=False` reads without it.
    SourceError
        A day could not be fetched, or the span has no tick yet.
    SnapshotExpiredError
        Cached bars were replaced while they were read, several times in a row.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> bars = rb.get_range_bars("ETHUSDT", "2024-08-08", "2024-08-08", 250, cache_dir=folder)
    >>> len(bars) == rb.sample_ticks().rangebar.bars(250).height
    True
    """
    import_pandas()
    require_one("get_range_bars", symbol, threshold_decimal_bps, start=start_date, end=end_date)
    name = validate_symbol_registered(symbol, operation="get_range_bars")
    with past_gate(name):
        span = span_of(name, start_date, end_date)
        call = plugins_of(include_plugin_features, name)
        extra, groups = extra_columns(features, lookback, microstructure=include_microstructure)
        series = SeriesQuery.of(
            name,
            threshold_decimal_bps,
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
            columns=in_order(_CHART_COLUMNS | watched(extra, groups)),
            span=span,
            end=span.end,
            plugins=call,
            include_orphans=include_orphaned_bars,
            include_incomplete=include_incomplete,
            use_cache=use_cache,
            fetch=fetch_if_missing,
            cache_dir=cache_dir,
            dsn=dsn,
        )
        result = execute(request)
    return _to_pandas(request, result, extra)


@both_names
def get_n_range_bars(
    symbol: str,
    n_bars: SupportsIndex,
    threshold_decimal_bps: ThresholdLike = 250,
    *,
    end_date: When | None = None,
    allow_fewer: bool = False,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    include_microstructure: bool = False,
    features: Features = "core",
    lookback: Lookback | None = None,
    include_plugin_features: Plugins = False,
    use_cache: bool = True,
    fetch_if_missing: bool = True,
    prevent_same_timestamp_close: bool = True,
    anchor: Anchor | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[NewestNames],
) -> pd.DataFrame:
    """Return the newest range bars of a symbol, ready for backtesting.py.

    The newest cached series is continued with ticks up to the end, at most 31 days. Without
    `end_date`, the bars end with the cached ones, with a warning, if more days would follow. Older
    bars are cached ones, as in `get_n_bars`. If no bars are cached, the 30 days before the end are
    computed.

    Parameters
    ----------
    n_bars
        Number of bars, at least 1.
    end_date
        A date (that day included) or a datetime (excluded). Default: the newest tick.
    allow_fewer
        If fewer bars are available, return them with a warning instead of raising.
    symbol, threshold_decimal_bps, ouroboros, ouroboros_mode, source, market, \
include_microstructure, features, lookback, include_plugin_features, use_cache, \
fetch_if_missing, prevent_same_timestamp_close, anchor, cache_dir, dsn
        As for `get_range_bars`.

    Returns
    -------
    pandas.DataFrame
        As for `get_range_bars`, with exactly `n_bars` rows unless `allow_fewer`.

    Warns
    -----
    CoverageWarning
        As for `get_range_bars`; also if days between the bars are not cached, or if there are
        fewer bars.

    Raises
    ------
    CoverageError
        Fewer bars are available, or as for `get_range_bars`.
    ValueError
        `n_bars` is below 1.
    SymbolNotRegisteredError, ThresholdError, TicksNotCachedError, CacheUnavailableError, \
SourceError
        As for `get_range_bars`.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> options = {"fetch_if_missing": False, "cache_dir": folder}
    >>> bars = rb.get_n_range_bars("ETHUSDT", 20, 250, anchor="2024-08-08", **options)
    >>> len(bars)
    20
    """
    import_pandas()
    require_one("get_n_range_bars", symbol, threshold_decimal_bps, n_bars)
    name = validate_symbol_registered(symbol, operation="get_n_range_bars")
    count = count_of(n_bars)
    require_bool(allow_fewer=allow_fewer)
    with past_gate(name):
        call = plugins_of(include_plugin_features, name)
        extra, groups = extra_columns(features, lookback, microstructure=include_microstructure)
        series = SeriesQuery.of(
            name,
            threshold_decimal_bps,
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
            columns=in_order(_CHART_COLUMNS | watched(extra, groups)),
            end=end_of(end_date),
            count=count,
            plugins=call,
            is_open=end_date is None,
            use_cache=use_cache,
            fetch=fetch_if_missing,
            cache_dir=cache_dir,
            dsn=dsn,
        )
        result = execute(request)
    found = newest_warnings(request, result.bars, result.segments, allow_fewer=allow_fewer)
    return _to_pandas(request, result, extra, found)


@both_names
def scan_range_bars(
    symbol: str | Sequence[str],
    start: When = REQUIRED,
    end: When = REQUIRED,
    threshold: ThresholdLike | Sequence[ThresholdLike] = 250,
    *,
    features: Features = "core",
    lookback: Lookback | None = None,
    include_plugin_features: Plugins = False,
    anchor: Anchor | None = None,
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    include_orphaned_bars: bool = False,
    include_incomplete: bool = False,
    use_cache: bool = True,
    fetch_if_missing: bool = True,
    prevent_same_timestamp_close: bool = True,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[ScanNames],
) -> pl.LazyFrame:
    """Return the range bars of symbols between two dates as a lazy frame.

    This call selects the series and fetches missing ticks. Bars are read or computed when the
    frame is collected: only the columns that the query needs and, if it filters `close_time`, only
    the cached days that may pass. The frame gives the bars of this call, even if cached bars or
    ticks are replaced before it is collected.

    Several symbols or thresholds are one plan, which reads one series after another: a filter on
    `symbol` or `threshold` skips whole series, and memory use is that of one series.

    Parameters
    ----------
    symbol
        A registered symbol, in any letter case, or a list of them, which adds the column `symbol`.
    start, end
        As `start_date` and `end_date` of `get_range_bars`.
    threshold
        250 is 0.25 %; also `"0.25%"`, `"25bp"` or the name of a preset. A list of them adds the
        column `threshold`.
    features, lookback
        Groups or names of columns beyond the core, and their window, as for `get_range_bars`.
    include_plugin_features
        As for `get_range_bars`. The plugins are called when the frame is collected, if the query
        needs a column of theirs, for one symbol and threshold after another: if one fails, its
        columns are null from there on.
    include_orphaned_bars, include_incomplete
        As for `get_range_bars`. Either adds the columns `is_closed` and `ended_by`.
    fetch_if_missing
        Whether to fetch missing ticks.
    anchor, ouroboros, ouroboros_mode, source, market, use_cache, prevent_same_timestamp_close, \
cache_dir, dsn
        As for `get_range_bars`.

    Returns
    -------
    LazyFrame
        Columns of a bar frame without `bar_id`, then those of plugins, ordered by close time. With
        lists, the bars of the first symbol come first, those of its first threshold before those
        of its second.

    Warns
    -----
    CoverageWarning
        As for `get_range_bars`.

    Raises
    ------
    SymbolNotRegisteredError, ThresholdError, CoverageError, TicksNotCachedError, \
CacheUnavailableError, SourceError
        As for `get_range_bars`, at this call. At most 31 days are computed of each series.
    ValueError
        A list is empty, or names a symbol twice.
    ParquetCorruptionError
        When the frame is collected: a tick file is corrupt. The next call fetches its day again.
    SnapshotExpiredError
        When the frame is collected: cached bars or ticks that it was planned from have been
        replaced and removed. Call `scan_range_bars` again.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> day = rb.sample_ticks()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", day)
    >>> bars = rb.scan_range_bars("ETHUSDT", "2024-08-08", "2024-08-08", cache_dir=folder)
    >>> bars.collect().equals(day.rangebar.bars(250).drop("bar_id"))
    True
    >>> both = rb.scan_range_bars(
    ...     ["ETHUSDT"], "2024-08-08", "2024-08-08", [250, 500], cache_dir=folder
    ... )
    >>> both.group_by("symbol", "threshold", maintain_order=True).len().collect().rows()
    [('ETHUSDT', 250, 244), ('ETHUSDT', 500, 63)]
    """
    names, has_symbols = registered_symbols(symbol, operation="scan_range_bars")
    thresholds, has_thresholds = parse_thresholds(threshold)
    with past_gates(names):
        call = plugins_of(include_plugin_features, "" if has_symbols else names[0])
        spans = {name: span_of(name, start, end) for name in names}
        extra, groups = optional_columns(features, lookback)
        query = partial(
            SeriesQuery.of,
            ouroboros=ouroboros,
            ouroboros_mode=ouroboros_mode,
            source=source,
            market=market,
            prevent_same_timestamp_close=prevent_same_timestamp_close,
            anchor=anchor,
            features=groups,
        )
        request = partial(
            ReadRequest,
            columns=frame_columns(extra, endings=include_orphaned_bars or include_incomplete),
            plugins=call,
            include_orphans=include_orphaned_bars,
            include_incomplete=include_incomplete,
            use_cache=use_cache,
            fetch=fetch_if_missing,
            cache_dir=cache_dir,
            dsn=dsn,
            fetches=Fetches(),
        )
        # Messages show a text as it was written.
        written = [threshold] if isinstance(threshold, str) else thresholds
        requests = requests_of(request, query, spans, written)
        frame, found = planned_frame(
            requests, with_symbol=has_symbols, with_threshold=has_thresholds
        )
    for warning in found:
        warn_caller(warning)
    return frame


def _to_pandas(
    request: ReadRequest,
    result: ReadResult,
    extra: tuple[str, ...],
    more: Sequence[Warning] = (),
) -> pd.DataFrame:
    """Issue the warnings of a read, and return its bars."""
    for warning in (*result.warnings, *more):
        warn_caller(warning)
    bars = result.bars
    frame = bars_to_pandas(bars, (*extra, *request.plugin_columns))
    if request.include_orphans or request.include_incomplete:
        closed = bars.get_column("is_closed")
        frame["is_closed"] = closed.to_numpy()
        if request.include_orphans:
            frame["is_orphan"] = (~closed & bars.get_column("ended_by").is_not_null()).to_numpy()
    frame.attrs["rangebar"] = [read.described() for read in result.segments]
    return frame
