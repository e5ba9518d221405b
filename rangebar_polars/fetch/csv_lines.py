"""Diagnosis of invalid lines of a trade file, after a block could not be parsed."""

from __future__ import annotations

import io
import math
import re
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import RangeBarError, TickDataError, with_hint
from rangebar_polars.fetch.decimals import is_near_grid, point_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["first_fault", "is_exact", "lines_of", "number_of", "parsing"]
__all__ += ["without_zeros", "wrong_decimal", "wrong_whole"]

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
DECIMAL_NUMBER = re.compile(r"[+-]?([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")
TRUTH = ("true", "false")
LARGEST_INT64 = 2**63 - 1
INT64_DIGITS = 19
EXPONENT_DIGITS = 6
PLACES = 8


def first_fault(block: bytes, columns: Sequence[str], line: int) -> str | None:
    r"""Describe the first line of a block that is not a valid trade; None if all are valid.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import first_fault
    >>> first_fault(b"7,0.5\n8,abc\n", ["agg_trade_id", "price"], 3)
    'line 4: `price` is `abc`, not a number'
    """
    for number, text in enumerate(lines_of(block), start=line):
        fault = fault_of(text, columns)
        if fault:
            return f"line {number}: {fault}"
    return None


def lines_of(block: bytes) -> Iterator[str]:
    r"""Yield the lines of a block without line ends, one at a time.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import lines_of
    >>> list(lines_of(b"1,2\r\n\n3,4"))
    ['1,2', '', '3,4']
    """
    for raw in io.BytesIO(block):
        yield raw.removesuffix(b"\n").decode("utf-8", "replace").rstrip("\r")


@contextmanager
def parsing(source: str, line: int, hint: str) -> Iterator[None]:
    """Convert any error of a parser to a `TickDataError` that names the lines of the file.

    The list of such errors is open: numbers, dates, encodings and libraries each add their own.
    """
    try:
        yield
    except (RangeBarError, MemoryError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")
        sentence = f"`{source}`, lines from {line} on cannot be read: {what[:200]}"
        raise TickDataError(with_hint(sentence, hint)) from error


def fault_of(text: str, columns: Sequence[str]) -> str | None:
    """Describe why a line is not a valid trade, if it is not."""
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
    """Describe why a field is not valid for its column, if it is not."""
    if column.startswith("is_"):
        return None if value.lower() in TRUTH else "neither true nor false"
    if column in ("price", "quantity"):
        return wrong_decimal(value)
    return wrong_whole(value)


def wrong_whole(value: str) -> str | None:
    """Describe why a text is not a whole number that an Int64 holds, if it is not.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import wrong_whole
    >>> wrong_whole("9223372036854775807"), wrong_whole("9223372036854775808"), wrong_whole("1.5")
    (None, 'not a whole number of 64 bits', 'not a whole number')
    """
    if not WHOLE_NUMBER.fullmatch(value):
        return "not a whole number"
    # Count the digits first, because Python limits how many of them it parses.
    digits = without_zeros(value).lstrip("-")
    is_large = len(digits) > INT64_DIGITS or int(digits) > LARGEST_INT64
    return "not a whole number of 64 bits" if is_large else None


def without_zeros(value: str) -> str:
    """Remove the plus sign and leading zeros of a whole number."""
    sign = "-" if value.startswith("-") else ""
    return sign + (value.lstrip("+-").lstrip("0") or "0")


def wrong_decimal(value: str) -> str | None:
    """Describe why a decimal number cannot be a Float64 of 8 places, if it cannot."""
    places = places_of(value)
    if places is None or not math.isfinite(float(value)):
        return "not a number"
    if places > PLACES:
        return None if is_near_grid(value) else f"more than {PLACES} decimals"
    is_zero = float(value) == 0  # `Decimal` may not support its exponent
    is_number = is_zero or number_of(value) is not None
    return None if is_number else "more digits than a Float64 holds"


def places_of(value: str) -> int | None:
    """Count the decimal places of a number without trailing zeros; None if it is not a number.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import places_of
    >>> places_of("1.2300"), places_of("12e-3"), places_of("1e-999999999999999999999")
    (2, 3, 1000000)
    """
    found = DECIMAL_NUMBER.fullmatch(value)
    if found is None or not (found[1] or found[2]):
        return None
    digits = (found[1] + found[2]).rstrip("0")
    if not digits.strip("0"):
        return 0
    places = len(digits) - len(found[1])
    exponent = found[3] or "0"
    size = exponent.lstrip("+-").lstrip("0")
    # With a longer exponent, the number is 0 or infinite.
    shift = int(size or "0") if len(size) <= EXPONENT_DIGITS else 10**EXPONENT_DIGITS
    return max(0, places + shift if exponent.startswith("-") else places - shift)


def is_exact(value: str) -> bool:
    """Return whether the nearest Float64, formatted with eight places, equals the number.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import is_exact
    >>> is_exact("61837.63000000"), is_exact("99999999999.1234567")
    (True, False)
    """
    return Decimal(f"{float(value):.{PLACES}f}") == Decimal(value)


def number_of(value: str) -> float | None:
    """Return a number of at most eight decimals as a double, or None if it has more.

    A binary tail does not count.

    Examples
    --------
    >>> from rangebar_polars.fetch.csv_lines import number_of
    >>> number_of("61837.630000000005"), number_of("99999999999.1234567")
    (61837.63, None)
    """
    if is_exact(value):
        return float(value)
    point = point_of(value)
    return float(point) if point is not None and is_exact(str(point)) else None


def wrong_value(row: Mapping[str, str]) -> str | None:
    """Describe which value of a trade is out of range, if one is."""
    # A tail below the grid counts as zero.
    price, quantity = (
        round(float(row.get(name, default)), PLACES)
        for name, default in (("price", 1), ("quantity", 0))
    )
    number, first, last = (
        int(without_zeros(row.get(name, "0")))
        for name in ("agg_trade_id", "first_trade_id", "last_trade_id")
    )
    if price == 0 and first == last == -1:
        return None  # a sentinel
    if price <= 0:
        return f"`price` is `{row['price'][:40]}`, not above 0"
    if quantity < 0:
        return f"`quantity` is `{row['quantity'][:40]}`, below 0"
    if min(number, first) < 0:
        return f"a negative id: agg_trade_id `{number}`, first_trade_id `{first}`"
    if last < first:
        return f"last_trade_id `{last}` is below first_trade_id `{first}`"
    return None
