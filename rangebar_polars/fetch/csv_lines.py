"""What is wrong with a line of a trade file, said in words; used once a block could not be read."""

from __future__ import annotations

import math
import re
from decimal import MAX_PREC, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["first_fault", "is_exact"]

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
DECIMAL_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
TRUTH = ("true", "false")
LARGEST_INT64 = 2**63 - 1
PLACES = 8
EXACT = Context(prec=MAX_PREC)  # rounds nothing


def first_fault(block: bytes, columns: Sequence[str], line: int) -> str | None:
    r"""The first line of a block that is no trade, and why; None if each is one.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import first_fault
    >>> first_fault(b"7,0.5\n8,abc\n", ["agg_trade_id", "price"], 3)
    'line 4: `price` is `abc`, not a number'
    """
    lines = block.removesuffix(b"\n").split(b"\n")
    for number, raw in enumerate(lines, start=line):
        fault = fault_of(raw.decode("utf-8", "replace").rstrip("\r"), columns)
        if fault:
            return f"line {number}: {fault}"
    return None


def fault_of(text: str, columns: Sequence[str]) -> str | None:
    """Why a line is no trade, if it is none."""
    if not text.strip():
        return "the line is empty"
    fields = [field.strip(" ") for field in text.split(",")]
    if len(fields) != len(columns):
        return f"{len(fields)} fields instead of {len(columns)}: `{text[:80]}`"
    row = dict(zip(columns, fields, strict=True))
    for column, value in row.items():
        kind = wrong_kind(column, value)
        if kind:
            return f"`{column}` is `{value[:40]}`, {kind}"
    return wrong_value(row)


def wrong_kind(column: str, value: str) -> str | None:
    """What a field is not, if it is not what its column holds."""
    if column.startswith("is_"):
        return None if value.lower() in TRUTH else "neither true nor false"
    if column in ("price", "quantity"):
        return wrong_decimal(value)
    if not WHOLE_NUMBER.fullmatch(value) or abs(int(value)) > LARGEST_INT64:
        return "not a whole number"
    return None


def wrong_decimal(value: str) -> str | None:
    """What the text of a decimal number is not, if it is not one that a Float64 can hold."""
    if not DECIMAL_NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        return "not a number"
    if places(value) > PLACES:
        return f"more than {PLACES} decimals"
    return None if is_exact(value) else "more digits than a Float64 holds"


def places(value: str) -> int:
    """Digits behind the point of a number, up to the last that is not 0."""
    _, digits, exponent = Decimal(value).normalize(context=EXACT).as_tuple()
    return -exponent if isinstance(exponent, int) and any(digits) else 0


def is_exact(value: str) -> bool:
    """Whether the Float64 nearest to a number, written with eight places, is that number.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import is_exact
    >>> is_exact("61837.63000000"), is_exact("99999999999.1234567")
    (True, False)
    """
    return Decimal(f"{float(value):.{PLACES}f}") == Decimal(value)


def wrong_value(row: Mapping[str, str]) -> str | None:
    """Which value of a trade is out of range, if one is."""
    price, quantity = float(row.get("price", 1)), float(row.get("quantity", 0))
    number, first, last = (
        int(row.get(name, 0)) for name in ("agg_trade_id", "first_trade_id", "last_trade_id")
    )
    if price == 0 and first == last == -1:
        return None  # a sentinel
    if price <= 0:
        return f"`price` is `{row['price']}`, not above 0"
    if quantity < 0:
        return f"`quantity` is `{row['quantity']}`, below 0"
    if min(number, first) < 0:
        return f"a negative id: agg_trade_id `{number}`, first_trade_id `{first}`"
    if last < first:
        return f"last_trade_id `{last}` is below first_trade_id `{first}`"
    return None
