"""Import of ticks from a plan, such as one over files, in bounded memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.io_source import batches
from rangebar_polars._utils.span import day_start
from rangebar_polars.storage.days.write import WriteReport
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from pathlib import Path

__all__ = ["import_ticks"]

TIME = "timestamp"


def import_ticks(
    symbol: str,
    ticks: pl.LazyFrame | pl.DataFrame,
    *,
    source: str,
    market: str = "spot",
    kind: str = "agg_trades",
    cache_dir: Path | str | None = None,
    on_rows: Callable[[int], object] = lambda _: None,
) -> WriteReport:
    """Write the ticks of a plan to the store, a few days at a time.

    Days that are over are written as soon as a later one begins, so a plan whose times are in order
    needs memory for little more than a day. If it is interrupted, the days before are in the store,
    and the same call adds the rest.

    Parameters
    ----------
    symbol, source, market, kind
        As for `TickStorage.write_ticks`.
    ticks
        A plan, such as that of `rb.scan_trades`, with a column `timestamp`.
    cache_dir
        Folder of the store.
    on_rows
        Called with the number of rows that were read, for a progress bar.

    Returns
    -------
    WriteReport
        The sum of the reports of all writes.

    Raises
    ------
    TickDataError, TickOrderError, StorageError
        As for `TickStorage.write_ticks`. What was written before stays in the store.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.storage.importing import import_ticks
    >>> ticks = rb.sample_ticks().lazy()
    >>> import_ticks("ETHUSDT", ticks, source="kraken", cache_dir=mkdtemp()).rows_added
    49505
    """
    storage = TickStorage(cache_dir)
    storage.symbol_dir(symbol, source, market, operation="import_ticks")
    plan = ticks.lazy()
    names = plan.collect_schema().names()
    reports: list[WriteReport] = []
    pending: list[pl.DataFrame] = []

    def write(frame: pl.DataFrame) -> None:
        if frame.height:
            report = storage.write_ticks(symbol, frame, source=source, market=market, kind=kind)
            reports.append(report)

    for batch in batches(plan, names):
        batch.columns = names
        on_rows(batch.height)
        pending.append(batch)
        first_day, last_day = _first_day(pending[0]), _last_day(batch)
        if first_day is not None and last_day is not None and first_day < last_day:
            together = pl.concat(pending)
            # Rows of the same time stay together. The store refuses a row without a time.
            start = _start_of(last_day, together.schema[TIME])
            is_over = (together.get_column(TIME) < start).fill_null(value=True)
            write(together.filter(is_over))
            pending = [together.filter(~is_over)]
    write(pl.concat(pending) if pending else pl.DataFrame())
    return _sum(symbol, reports)


def _first_day(frame: pl.DataFrame) -> date | None:
    return _day_of(frame, 0)


def _last_day(frame: pl.DataFrame) -> date | None:
    return _day_of(frame, -1)


def _day_of(frame: pl.DataFrame, row: int) -> date | None:
    """Return the UTC day of a row; None without a time, which the store refuses later."""
    if TIME not in frame.columns or not isinstance(frame.schema[TIME], pl.Datetime):
        return None
    times = frame.get_column(TIME)
    value = times.dt.convert_time_zone("UTC")[row] if frame.height else None
    return None if value is None else value.date()


def _start_of(day: date, dtype: pl.DataType) -> pl.Series:
    """Return the start of a UTC day as a value of a data type of times."""
    start = pl.Series([day_start(day)])
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        start = start.dt.replace_time_zone(None)
    return start.cast(dtype)


def _sum(symbol: str, reports: Sequence[WriteReport]) -> WriteReport:
    """Add up the reports of several writes."""
    total = WriteReport(symbol if not reports else reports[0].symbol)
    for report in reports:
        total = replace(
            total,
            days=tuple(sorted({*total.days, *report.days})),
            months=tuple(sorted({*total.months, *report.months})),
            rows_added=total.rows_added + report.rows_added,
            duplicates=total.duplicates + report.duplicates,
            moved=total.moved + report.moved,
            raised=total.raised + report.raised,
            replaced=tuple(sorted({*total.replaced, *report.replaced})),
            unchanged=tuple(sorted({*total.unchanged, *report.unchanged})),
        )
    return total
