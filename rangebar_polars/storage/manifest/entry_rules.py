"""Validation of manifest entries, which may come from anybody."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

from rangebar_polars.day_ticks import Origin
from rangebar_polars.sources import source_named
from rangebar_polars.storage.layout import day_file_name, month_of
from rangebar_polars.storage.manifest.entry import STATES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import date

    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["check_entry", "check_pruned"]

_ID = "agg_trade_id"
_HIGHEST = 2**63 - 1
_LOWEST = -(2**63)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("file", "sha256", "content", "reason", "fetched_at", "writer", "kept_reason")
_COUNTS = ("bytes", "rows")
_NUMBERS = ("first_id", "last_id", "min_ts_us", "max_ts_us")
_TEXTS_OF_ORIGIN = ("kind", "url", "sha256", "checksum", "etag", "last_modified", "unit")


def check_entry(source: str, month: str, day: date, entry: DayEntry) -> None:
    """Check that every value of an entry could have been written by this package.

    Above all, the name of the file must follow from its day and hash, so that a name in a manifest
    never leads out of the folder of the year.

    Raises
    ------
    ValueError
        A value is not valid.
    """
    if month_of(day) != month:
        raise ValueError(f"`{day}` is not a day of {month}")
    faults = (
        _type_faults(entry),
        _origin_faults(entry.origin),
        _span_faults(entry),
        _file_faults(day, entry),
        _column_faults(source, entry),
    )
    for fault in (fault for group in faults for fault in group):
        raise ValueError(f"{day}: {fault}")


def check_pruned(month: str, days: Collection[date], pruned: Collection[date]) -> None:
    """Check that pruned days belong to the month and are not stored.

    Raises
    ------
    ValueError
        One of them is stored, or of another month.
    """
    for day in pruned:
        if month_of(day) != month:
            raise ValueError(f"`{day}` is pruned, and is not a day of {month}")
        if day in days:
            raise ValueError(f"`{day}` is pruned and stored")


def _type_faults(entry: DayEntry) -> Iterable[str]:
    if entry.state not in STATES:
        yield f"`state` is `{entry.state!r}`, which is not a state of a day"
    if entry.kept_state not in ("", *STATES):
        yield f"`kept_state` is `{entry.kept_state!r}`, which is not a state of a day"
    for name in _TEXTS:
        if not isinstance(getattr(entry, name), str):
            yield f"`{name}` is not text"
    for name in _COUNTS:
        if not _is_number(value := getattr(entry, name)) or value < 0:
            yield f"`{name}` is `{value!r}`, which is not a count"
    for name in _NUMBERS:
        if not ((value := getattr(entry, name)) is None or _is_number(value)):
            yield f"`{name}` is `{value!r}`, which is not a whole number of 64 bits"


def _origin_faults(origin: Origin) -> Iterable[str]:
    for item in fields(Origin):
        value = getattr(origin, item.name)
        if item.name in _TEXTS_OF_ORIGIN:
            if not isinstance(value, str):
                yield f"`{item.name}` of its origin is not text"
        elif not _is_number(value) or value < 0:
            yield f"`{item.name}` of its origin is `{value!r}`, which is not a count"


def _span_faults(entry: DayEntry) -> Iterable[str]:
    for name in ("id_gaps", "source_absent"):
        for first, last in getattr(entry, name):
            if not (_is_number(first) and _is_number(last) and first <= last):
                yield f"`{name}` has `{first!r}` to `{last!r}`, which is not a span of ids"
    for low, high in (("first_id", "last_id"), ("min_ts_us", "max_ts_us")):
        ends = (getattr(entry, low), getattr(entry, high))
        if None in ends:
            # Ticks of a user source may have no numbers.
            may_lack = low == "first_id" and _ID not in entry.columns
            if ends != (None, None) or (entry.rows and not may_lack):
                yield f"`{low}` or `{high}` is missing"
        elif not entry.rows or ends[0] > ends[1]:
            yield f"`{low}` and `{high}` are not those of {entry.rows} rows"


def _file_faults(day: date, entry: DayEntry) -> Iterable[str]:
    if not entry.rows and not entry.file:
        return
    if not _SHA256.fullmatch(entry.sha256):
        yield "`sha256` is not a SHA-256"
    if not entry.rows or entry.file != day_file_name(day, entry.sha256):
        yield f"`file` is `{entry.file!r}`, which is not the name of its file"


def _column_faults(source: str, entry: DayEntry) -> Iterable[str]:
    # In any order: a later write may have added some.
    columns = entry.columns
    kind = source_named(source).ticks
    if not kind.stored_schema.keys() >= set(columns) or len(set(columns)) < len(columns):
        yield "`columns` are not those of its source"
    elif entry.rows and not set(kind.required).issubset(columns):
        yield "`columns` do not include all that a tick needs"


def _is_number(value: object) -> bool:
    return type(value) is int and _LOWEST <= value <= _HIGHEST
