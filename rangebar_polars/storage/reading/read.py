"""Reading the ticks of a plan: each file is read once, checked, and then decoded slice by slice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._utils.fork import fork_count, raise_if_forked, raise_if_inherited
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.days.contracts import columns_to_read, in_coins, is_in_contracts
from rangebar_polars.storage.days.day_file import FileFaultError, read_verified
from rangebar_polars.storage.days.quarantine import corruption, expired, set_aside
from rangebar_polars.storage.days.write import put_days
from rangebar_polars.storage.files.codec import SLICE_ROWS, decode_slices
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.user_ticks import TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import date

    from rangebar_polars._utils.span import Span
    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry
    from rangebar_polars.storage.reading.plan import Plan, PlannedDay

    Slices = Callable[[Mapping[str, pl.DataType]], Iterator[pl.DataFrame]]
    Refetch = Callable[[date], DayTicks | None]

__all__ = ["Refetch", "read_plan", "refetch_quarantined"]


def read_plan(
    plan: Plan,
    columns: Sequence[str] | None,
    refetch: Refetch | None = None,
    *,
    whole_days: bool = False,
) -> Generator[pl.DataFrame]:
    """Yield the ticks of a plan in order, with at least these columns, in whole days or slices.

    While the caller uses a day, the next file is read and checked.
    """
    raise_if_forked("reading ticks")
    begun = fork_count()
    names = list(plan.schema) if columns is None else _stored_names(plan, columns)
    reader = ThreadPoolExecutor(1, thread_name_prefix="rangebar-ticks")
    try:
        ahead = _submit(reader, plan, 0)
        for index, item in enumerate(plan.days):
            raise_if_inherited(begun, "reading ticks")
            read = ahead
            ahead = _submit(reader, plan, index + 1)
            entry, slices = _sliced(plan, item, read, refetch, whole=whole_days)
            del read
            yield from _rows_in_span(plan, item, entry, slices, names)
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _submit(reader: ThreadPoolExecutor, plan: Plan, index: int) -> Future[Any] | None:
    if index >= len(plan.days):
        return None
    item = plan.days[index]
    if not item.entry.is_live:
        return reader.submit(read_verified, plan.symbol_dir, item.day, item.entry)
    from rangebar_polars.storage.live.live_entries import read_live_day

    live: Any = item.entry
    return reader.submit(read_live_day, plan.symbol_dir, item.day, live)


def _sliced(
    plan: Plan,
    item: PlannedDay,
    read: Future[Any] | None,
    refetch: Refetch | None,
    *,
    whole: bool,
) -> tuple[DayEntry, Slices]:
    """Return the entry of a day that was read, and a function that gives its rows."""
    if item.entry.is_live:
        rows = _live_rows(plan, item, read, refetch)
        size = max(1, rows.height) if whole else SLICE_ROWS
        return item.entry, lambda schema: rows.select(list(schema)).iter_slices(size)
    data, entry = _verified(plan, item, read, refetch)
    path = plan.symbol_dir.day_file(item.day, entry.file)
    return entry, partial(decode_slices, data, entry.rows, path=path, whole=whole)


def _live_rows(
    plan: Plan, item: PlannedDay, read: Future[Any] | None, refetch: Refetch | None
) -> pl.DataFrame:
    """Return the rows of a day with journals. A faulty file of the day is handled like others."""
    from rangebar_polars.storage.live.live_entries import read_live_day

    try:
        rows: pl.DataFrame = read.result()  # type: ignore[union-attr]
    except FileFaultError as fault:
        live: Any = item.entry
        _, entry = _recover(plan, replace(item, entry=live.stored), fault, refetch)
        return read_live_day(plan.symbol_dir, item.day, replace(live, stored=entry))
    return rows


def _stored_names(plan: Plan, columns: Sequence[str]) -> list[str]:
    """Return the columns in the order of the store, and at least one, so that rows are counted."""
    return [name for name in plan.schema if name in columns] or [TIME]


def _verified(
    plan: Plan, item: PlannedDay, read: Future[bytes] | None, refetch: Refetch | None
) -> tuple[bytes, DayEntry]:
    try:
        return read.result(), item.entry  # type: ignore[union-attr]
    except FileFaultError as fault:
        return _recover(plan, item, fault, refetch)


def _recover(
    plan: Plan, item: PlannedDay, fault: FileFaultError, refetch: Refetch | None
) -> tuple[bytes, DayEntry]:
    """Read a day whose file is faulty from its current file, or fetch it from its source."""
    symbol_dir, day = plan.symbol_dir, item.day
    try:
        entry = set_aside(symbol_dir, day, item.entry, fault)
    except StorageError as error:
        raise corruption(symbol_dir, day, fault) from error
    if entry is None and refetch is not None:
        fetched = refetch(day)
        if fetched is not None:
            put_days(symbol_dir, [fetched])
            entry = read_manifest(symbol_dir, month_of(day)).days.get(day)
            _check_neighbours(plan, item, fault)
    if entry is None or not entry.file:
        raise corruption(symbol_dir, day, fault)
    if _has_lost_rows(entry, item.entry):
        reason = f"{fault.reason}; fetched again, it has {entry.rows:,} of {item.entry.rows:,} rows"
        raise corruption(symbol_dir, day, FileFaultError(fault.path, reason))
    try:
        return read_verified(symbol_dir, day, entry), entry
    except FileFaultError as again:
        raise corruption(symbol_dir, day, again) from again


def _check_neighbours(plan: Plan, item: PlannedDay, fault: FileFaultError) -> None:
    """Raise if a neighbour of a fetched day was replaced with it.

    Ids may have moved between them, and the plan still reads the neighbour's old file.
    """
    for other in plan.days:
        if abs(other.day - item.day) == ONE_DAY:
            now = read_manifest(plan.symbol_dir, month_of(other.day)).days.get(other.day)
            if now is None or now.content != other.entry.content:
                raise expired(plan.symbol_dir, item.day, fault)


def _has_lost_rows(entry: DayEntry, before: DayEntry) -> bool:
    """Return whether a day that was fetched again cannot hold all rows that it held before."""
    if entry.content == before.content:
        return False
    spans = (entry.first_id, entry.last_id, before.first_id, before.last_id)
    first, last, first_before, last_before = (0 if number is None else number for number in spans)
    return entry.rows < before.rows or first > first_before or last < last_before


def _rows_in_span(
    plan: Plan, item: PlannedDay, entry: DayEntry, slices: Slices, names: Sequence[str]
) -> Generator[pl.DataFrame]:
    """Yield the rows of a day that are in the span, their times not below those of the day before."""
    first_us, last_us = entry.min_ts_us or 0, entry.max_ts_us or 0
    is_raised = first_us < item.floor_us
    is_cut = first_us < plan.start_us or last_us >= plan.end_us or item.floor_us >= plan.end_us
    is_converted = is_in_contracts(plan.symbol_dir, entry.columns)
    wanted = columns_to_read(names) if is_converted else names
    stored = [name for name in wanted if name in entry.columns]
    if (is_raised or is_cut or not stored) and TIME not in stored:
        stored = [TIME, *stored]
    times = pl.col(TIME).to_physical()
    for decoded in slices({name: plan.schema[name] for name in stored}):
        rows = in_coins(plan.symbol_dir, decoded) if is_converted else decoded
        if is_raised:
            floor = pl.lit(item.floor_us, pl.Int64).cast(plan.schema[TIME])
            rows = rows.with_columns(pl.max_horizontal(TIME, floor).alias(TIME))
        if is_cut:
            rows = rows.filter(times.is_between(plan.start_us, plan.end_us, closed="left"))
        if not rows.is_empty():
            yield _complete(rows, names, plan.schema)


def _complete(rows: pl.DataFrame, names: Sequence[str], schema: pl.Schema) -> pl.DataFrame:
    """Select the columns by name. A column that the file does not have is null."""
    absent = [name for name in names if name not in rows.columns]
    return rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(
        names
    )


def refetch_quarantined(
    symbol_dir: SymbolDir, span: Span, entries: Mapping[date, DayEntry], refetch: Refetch
) -> bool:
    """Fetch the quarantined days of a span again, and return whether any was fetched."""
    days = [day for day in span.days() if day in entries and not entries[day].is_stored]
    fetched = [item for item in map(refetch, days) if item is not None]
    if fetched:
        put_days(symbol_dir, fetched)
    return bool(fetched)
