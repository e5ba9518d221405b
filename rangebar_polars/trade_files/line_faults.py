"""Why a line of a trade file is not valid; used once a block could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.fetch.csv_lines import places_of, without_zeros, wrong_decimal, wrong_whole
from rangebar_polars.trade_files.opening import fields_of
from rangebar_polars.trade_files.values import amounts, is_time, raw_schema
from rangebar_polars.trade_layouts.table import (
    BUY,
    EARLIEST_S,
    LATEST_S,
    NO_SIDE,
    SELL,
    TIME_UNITS,
    TRUTH,
    column_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rangebar_polars.trade_files.opening import Opened

__all__ = ["first_fault"]

UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def first_fault(lines: Iterable[tuple[int, str]], opened: Opened, symbol: str | None) -> str | None:
    """Return the first line that is not a valid trade, with the reason, or None."""
    keys = [column_key(name) for name in opened.names]
    places = {
        field: keys.index(column_key(name)) for field, (name, _) in raw_schema(opened).items()
    }
    rows = [(number, text, fields_of(text, opened.separator)) for number, text in lines]
    for (number, text, values), time_fault in zip(
        rows, time_faults([values for _, _, values in rows], places["time"], opened), strict=True
    ):
        if len(values) != len(opened.names):
            count = f"{len(values)} fields instead of {len(opened.names)}"
            return f"line {number}: {count}: `{text[:80]}`"
        row = {field: values[at] for field, at in places.items()}
        only = opened.layout.only
        if only is not None and row["only"] != only[1]:
            continue
        if symbol is not None and "symbol" in row and row["symbol"].lower() != symbol.lower():
            continue
        fault = None if is_sentinel(row) else time_fault or fault_of(row, opened)
        if fault:
            return f"line {number}: {fault}"
    return None


def time_faults(rows: Sequence[Sequence[str]], at: int, opened: Opened) -> Iterable[str | None]:
    """Return why the time of each row is not valid, or None where it is."""
    texts = [row[at] if at < len(row) else "" for row in rows]
    if opened.unit in TIME_UNITS:
        return (wrong_time(text, opened) for text in texts)
    # One query for all of them, since a query takes longer than a line.
    return wrong_text_times(texts, opened)


def is_sentinel(row: dict[str, str]) -> bool:
    """Return whether a row stands for no trade: price 0 and fills of -1."""
    fills = (row.get("first_id"), row.get("last_id"))
    return fills == ("-1", "-1") and not row.get("price", "1").strip("0.")


def fault_of(row: dict[str, str], opened: Opened) -> str | None:
    """Return why the fields of a row are not a valid trade, if they are not."""
    fault = None
    for field in amounts(opened.layout):
        fault = fault or wrong_amount(field, row[field], opened)
    if fault is None and "bid" in row and float(row["bid"]) > float(row["ask"]):
        fault = f"the quote is crossed: bid `{row['bid'][:40]}` is above ask `{row['ask'][:40]}`"
    return fault or wrong_id(row, opened) or wrong_side(row, opened)


def wrong_id(row: dict[str, str], opened: Opened) -> str | None:
    """Return which id is not valid, or None."""
    layout = opened.layout
    for field in ("id", "first_id", "last_id"):
        if field not in row or (field == "id" and layout.id_kind == "text"):
            continue
        fault = wrong_whole(row[field]) or ("below 0" if whole(row[field]) < 0 else None)
        if fault:
            return f"`{getattr(layout, field)}` is `{row[field][:40]}`, {fault}"
    if "first_id" in row and "last_id" in row and whole(row["last_id"]) < whole(row["first_id"]):
        return f"`{layout.last_id}` is below `{layout.first_id}`"
    return None


def whole(text: str) -> int:
    """Return the whole number of a text, which may have more digits of zero than `int` reads."""
    return int(without_zeros(text))


def wrong_side(row: dict[str, str], opened: Opened) -> str | None:
    """Return why the side of a row is not valid, or None."""
    layout = opened.layout
    if "buyer_maker" in row and row["buyer_maker"].lower() not in TRUTH:
        return f"`{layout.buyer_maker}` is `{row['buyer_maker'][:40]}`, neither true nor false"
    if "side" in row and row["side"].lower() not in BUY | SELL | NO_SIDE:
        return f"`{layout.side}` is `{row['side'][:40]}`, neither a purchase nor a sale"
    return None


def wrong_amount(field: str, text: str, opened: Opened) -> str | None:
    """Return why a text is not the decimal of its field, if it is not."""
    name = getattr(opened.layout, field)
    if field == "price" and opened.is_scaled:
        fault = wrong_scaled(text)
        return f"`{name}` is `{text[:40]}`, {fault}" if fault else None
    fault = wrong_decimal(text)
    if fault:
        return f"`{name}` is `{text[:40]}`, {fault}"
    value = round(float(text), 8)
    if field in ("price", "bid", "ask") and value <= 0:
        return f"`{name}` is `{text[:40]}`, not above 0"
    if value < 0:
        return (
            f"`{name}` is `{text[:40]}`, below 0. If a negative size is a sale, read the file with "
            f'`pl.scan_csv`, and bind `pl.col("{name}").abs()` and `pl.col("{name}") < 0` as '
            "`quantity` and `is_buyer_maker`"
        )
    return None


def wrong_scaled(text: str) -> str | None:
    """Return why a text is not a price in units of 1e-9."""
    if fault := wrong_whole(text):
        return f"{fault} in units of 1e-9"
    if whole(text) % 10:
        return "in units of 1e-9 it has more than 8 decimals"
    return None if whole(text) > 0 else "not above 0"


def wrong_time(text: str, opened: Opened) -> str | None:
    """Return why a text is not a number of the unit of the times, if it is not."""
    name, unit = opened.layout.time, opened.unit
    is_number = wrong_whole(text) is None if unit != "s" else places_of(text) is not None
    if not is_number:
        return f"the time `{name}` is `{text[:40]}`, not a number of {UNIT_WORDS[unit]}"
    parts = TIME_UNITS[unit]
    value = float(text) if unit == "s" else whole(text)
    if not EARLIEST_S * parts <= value < LATEST_S * parts:
        return (
            f"the time `{name}` is `{text[:40]}`, outside 2000 to 2100 taken as "
            f"{UNIT_WORDS[unit]} since 1970"
        )
    return None


def wrong_text_times(texts: Sequence[str], opened: Opened) -> list[str | None]:
    """Return why each text is not a time of the format of the file, or None where it is."""
    frame = pl.DataFrame({"time": texts}, schema={"time": pl.String()})
    is_valid = frame.select(is_time(opened.unit).fill_null(value=False)).to_series()
    form = "ISO 8601" if opened.unit == "iso" else f"`{opened.unit}`"
    name, why = opened.layout.time, f"not {form} or outside 2000 to 2100"
    return [
        None if is_one else f"the time `{name}` is `{text[:40]}`, {why}"
        for text, is_one in zip(texts, is_valid, strict=True)
    ]
