"""Range bars of Exness instruments, from a frame, the tick store or the archive."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import polars as pl

from rangebar_polars._utils.io_source import batches
from rangebar_polars._utils.progress import progress
from rangebar_polars._utils.span import parse_span
from rangebar_polars.config import settings
from rangebar_polars.exness._builder import SPREAD_COLUMNS, WEEKEND, QuoteBars
from rangebar_polars.exness._instruments import ValidationStrictness
from rangebar_polars.fetch.exness.archive import Exness
from rangebar_polars.interop.pandas_frames import bars_to_pandas, import_pandas
from rangebar_polars.sources import QUOTES_SCHEMA
from rangebar_polars.symbol_registry import (
    validate_and_clamp_start_date,
    validate_symbol_registered,
)
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from rangebar_polars._typing import MaxGap
    from rangebar_polars._utils.span import When
    from rangebar_polars.exness._builder import Instrument
    from rangebar_polars.exness._quotes import Quotes
    from rangebar_polars.threshold import ThresholdLike

__all__ = [
    "fetch_exness_ticks",
    "get_range_bars_exness",
    "is_exness_available",
    "process_exness_ticks_to_dataframe",
]


def process_exness_ticks_to_dataframe(
    ticks: Quotes,
    instrument: Instrument,
    threshold_decimal_bps: ThresholdLike = 250,
    strictness: ValidationStrictness | str = ValidationStrictness.Strict,
    *,
    include_incomplete: bool = False,
    max_gap: MaxGap | None = None,
) -> pd.DataFrame:
    """Compute range bars of a frame of quotes, ready for backtesting.py.

    Parameters
    ----------
    ticks
        A pandas or Polars frame with `bid`, `ask` and `timestamp_ms` (whole milliseconds since
        1970) or `timestamp` (the same, or Datetime), ordered by time.
    instrument, threshold_decimal_bps, strictness, max_gap
        As for `ExnessRangeBarBuilder`.
    include_incomplete
        Whether to add the forming bar as the last one.

    Returns
    -------
    pandas.DataFrame
        Open, High, Low, Close, Volume (always 0), spread_avg, spread_min, spread_max. The index
        `timestamp` is the close time in UTC, without a zone.

    Raises
    ------
    SymbolNotRegisteredError
        The gate rejects the instrument.
    ThresholdError
        The threshold is not valid, or below the instrument's minimum.
    TickDataError, TickOrderError
        A quote is rejected, with its row, or is out of order.

    Examples
    --------
    >>> import pandas as pd
    >>> from rangebar_polars.exness import process_exness_ticks_to_dataframe
    >>> ticks = pd.DataFrame(
    ...     {
    ...         "timestamp_ms": [1704067200000, 1704067201000, 1704067202000],
    ...         "bid": [1.0000, 1.0010, 1.0030],
    ...         "ask": [1.0002, 1.0010, 1.0031],
    ...     }
    ... )
    >>> bars = process_exness_ticks_to_dataframe(ticks, "EURUSD")
    >>> bars[["Open", "Close", "Volume", "spread_avg"]].to_dict("records")
    [{'Open': 1.0001, 'Close': 1.00305, 'Volume': 0.0, 'spread_avg': 0.0001}]
    """
    name = validate_symbol_registered(instrument, operation="process_exness_ticks_to_dataframe")
    threshold = resolve_and_validate_threshold(name, threshold_decimal_bps)
    builder = QuoteBars(name, threshold, strictness, max_gap)
    import_pandas()
    return to_pandas(builder, [builder.push(ticks)], include_incomplete=include_incomplete)


def get_range_bars_exness(
    instrument: Instrument,
    start: When,
    end: When,
    threshold_decimal_bps: ThresholdLike = 250,
    strictness: ValidationStrictness | str = ValidationStrictness.Strict,
    *,
    include_incomplete: bool = False,
    max_gap: MaxGap | None = WEEKEND,
    fetch: bool = True,
    on_gap: Literal["raise", "report"] = "raise",
    cache_dir: Path | str | None = None,
) -> pd.DataFrame:
    """Compute range bars of an instrument from the tick store, fetching missing months from Exness.

    No bar spans a weekend. The bar that is forming when the market closes is dropped.

    Parameters
    ----------
    instrument, threshold_decimal_bps, strictness, max_gap
        As for `ExnessRangeBarBuilder`; `max_gap=None` lets bars span a weekend.
    start, end, fetch, on_gap, cache_dir
        As for `rb.scan_ticks`.
    include_incomplete
        Whether to add the forming bar as the last one.

    Returns
    -------
    pandas.DataFrame
        The columns of `process_exness_ticks_to_dataframe`.

    Raises
    ------
    SymbolNotRegisteredError, ThresholdError
        The gate rejects the instrument, or the threshold is below its minimum.
    TicksNotCachedError, CoverageError, SourceError
        Quotes are missing, and fetching them is not allowed or failed.
    """
    from rangebar_polars.readers.ticks import scan_ticks

    name = validate_symbol_registered(instrument, operation="get_range_bars_exness")
    begin = validate_and_clamp_start_date(name, start)
    threshold = resolve_and_validate_threshold(name, threshold_decimal_bps)
    builder = QuoteBars(name, threshold, strictness, max_gap)
    import_pandas()
    plan = scan_ticks(
        name, begin, end, source="exness", fetch=fetch, on_gap=on_gap, cache_dir=cache_dir
    )
    names = ["timestamp", "bid", "ask", "agg_trade_id"]
    # An empty push defines the columns, in case there are no quotes.
    bars = [builder.push(QUOTES_SCHEMA.to_frame().select(names))]
    for frame in batches(plan, names):
        frame.columns = names
        bars.append(builder.push(frame))
    return to_pandas(builder, bars, include_incomplete=include_incomplete)


def fetch_exness_ticks(
    instrument: Instrument, start: When, end: When, *, url: str | None = None
) -> pl.DataFrame:
    """Download quotes of an instrument from the archive of Exness into memory.

    Every call downloads each month of the span. `rb.scan_ticks(..., source="exness")` stores what it
    downloads. For the running month, the archive has the quotes published so far.

    Parameters
    ----------
    instrument
        An `ExnessInstrument`, or any registered symbol.
    start, end
        Dates (the end's day included) or datetimes (the end excluded).
    url
        Host of the archive, before `/ticks/`; else the setting `exness_url`.

    Returns
    -------
    DataFrame
        timestamp (Datetime in µs, UTC), price (the mid), bid, ask, agg_trade_id.

    Raises
    ------
    SymbolNotRegisteredError
        The gate rejects the instrument.
    NotYetPublishedError, ArchiveMissingError, TransientSourceError, CorruptSourceError
        The file of a month does not exist, or its download failed.
    """
    name = validate_symbol_registered(instrument, operation="fetch_exness_ticks")
    span = parse_span(validate_and_clamp_start_date(name, start), end)
    source = Exness(url=url)
    months = [month for month, _ in groupby(span.days(), key=lambda day: (day.year, day.month))]
    frames = [QUOTES_SCHEMA.to_frame()]
    with progress(len(months), f"fetch {name}", "month", verbose=settings().verbose) as advance:
        for year, month in months:
            frames += [day.ticks for day in source.fetch_month(name, year, month)]
            advance(1)
    inside = pl.col("timestamp").is_between(span.start, span.end, closed="left")
    return pl.concat(frames).filter(inside)


def is_exness_available() -> bool:
    """Return whether the libraries of the extra `fetch`, which download quotes, are installed.

    Examples
    --------
    >>> from rangebar_polars.exness import is_exness_available
    >>> is_exness_available()
    True
    """
    return all(find_spec(library) is not None for library in ("httpcore2", "stamina"))


def to_pandas(
    builder: QuoteBars, bars: list[pl.DataFrame], *, include_incomplete: bool
) -> pd.DataFrame:
    """Convert bars to pandas, with the forming bar if it is requested."""
    forming = builder.partial()
    if include_incomplete and forming.height:
        bars.append(forming.select(bars[0].columns))
    return bars_to_pandas(pl.concat(bars), SPREAD_COLUMNS)
