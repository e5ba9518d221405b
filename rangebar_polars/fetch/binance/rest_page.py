"""Parser of a page of trades from the REST interface."""

from __future__ import annotations

import json
import re
from math import nan
from typing import Any, NamedTuple

import polars as pl

from rangebar_polars.exceptions import CorruptSourceError, RangeBarError, TickDataError, with_hint
from rangebar_polars.fetch.normalise import UNITS, FileTimes, is_sentinel
from rangebar_polars.sources import TRADES_SCHEMA

__all__ = [
    "INVALID_ID",
    "PAGE_SCHEMA",
    "LoosePage",
    "loose_page_of",
    "page_of",
    "valid_rows_of",
]

#: Columns of a page. Time is a whole number until its unit is known.
PAGE_SCHEMA = pl.Schema({**TRADES_SCHEMA, "timestamp": pl.Int64()})


class Field(NamedTuple):
    """The column, dtype and JSON type of a member of an answer."""

    column: str
    dtype: type[pl.DataType]
    kind: type
    description: str


# Other members, such as `M` and `nq`, are ignored.
FIELDS = {
    "T": Field("timestamp", pl.Int64, int, "a whole number"),
    "p": Field("price", pl.String, str, "a decimal text"),
    "q": Field("quantity", pl.String, str, "a decimal text"),
    "a": Field("agg_trade_id", pl.Int64, int, "a whole number"),
    "f": Field("first_trade_id", pl.Int64, int, "a whole number"),
    "l": Field("last_trade_id", pl.Int64, int, "a whole number"),
    "m": Field("is_buyer_maker", pl.Boolean, bool, "true or false"),
}
#: Stands for a trade id that is not valid. It is not that of a sentinel.
INVALID_ID = -2
_INT64 = 1 << 63
_AGAIN = "fetch the day again; if the error persists, the answer of the exchange is wrong"
_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,8})?"
_AMOUNT = re.compile(_DECIMAL, re.ASCII)
#: Times in microseconds, and in milliseconds.
_TIMES_MS, _TIMES = FileTimes.of_value(0), FileTimes.of_value(1 << 62)
_TOO_FINE = re.compile(r"[0-9]{1,20}\.[0-9]{9,}")


def page_of(body: bytes, url: str) -> pl.DataFrame:
    """Parse the trades of one answer, in its order.

    Raises
    ------
    CorruptSourceError
        The bytes are not a list of trades.
    TickDataError
        A value is not valid, such as a price below 0 or one with more than 8 decimals.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rest_page import page_of
    >>> body = (
    ...     b'[{"a":7,"p":"0.10","q":"2.5","f":9,"l":9,"T":1723161255342,"m":true,"M":true,"nq":"2"}]'
    ... )
    >>> page_of(body, "https://example.com").row(0)
    (1723161255342, 0.1, 2.5, 7, 9, 9, True)
    """
    try:
        return _page_of(_rows_of(body, url), url)
    except (RangeBarError, MemoryError):
        raise
    # JSON and Polars raise errors of their own for numbers, characters and depths they do not support.
    except Exception as error:
        what = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise _invalid_answer(f"cannot be read: {what}", url) from error


def _page_of(rows: list[dict[str, Any]], url: str) -> pl.DataFrame:
    """Convert the members of an answer to trades."""
    try:
        texts = pl.DataFrame(
            [
                pl.Series(field.column, [row[key] for row in rows], field.dtype, strict=True)
                for key, field in FIELDS.items()
            ]
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise _invalid_answer(_wrong_shape(rows), url) from error
    if texts.null_count().sum_horizontal().item():
        raise _invalid_answer(_wrong_shape(rows), url)
    amounts = pl.col("price", "quantity")
    decimal = texts.select(pl.all_horizontal(amounts.str.contains(f"^{_DECIMAL}$")))
    if not decimal.to_series().all():
        raise _invalid_trade(texts, ~decimal.to_series(), url)
    page = texts.with_columns(amounts.cast(pl.Float64))
    if page.is_empty():
        return page
    valid = page.select(_is_valid(page["timestamp"][0])).to_series()
    if not valid.all():
        raise _invalid_trade(texts, ~valid, url)
    return page


class LoosePage(NamedTuple):
    """The trades of an answer as columns, in the order of `TRADES_SCHEMA`. Times are in µs since 1970.

    Of a row with an invalid value, only the id is certain: an amount that is not valid is NaN, a
    time 0, and a trade id `INVALID_ID`. A row without a valid side has the price NaN.
    """

    times_us: list[int]
    prices: list[float]
    quantities: list[float]
    ids: list[int]
    first_ids: list[int]
    last_ids: list[int]
    is_buyer_maker: list[bool]


def loose_page_of(body: bytes, url: str) -> LoosePage:
    """Parse the trades of one answer, in its order, those with invalid values included.

    Raises
    ------
    CorruptSourceError
        The bytes are not a list of objects, one has no id, or none has the members of a trade.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rest_page import loose_page_of
    >>> body = b'[{"a":7,"p":"0.10","q":"-1","f":9,"l":9,"T":1723161255342,"m":true}]'
    >>> page = loose_page_of(body, "https://example.com")
    >>> page.ids, page.prices, page.quantities, page.times_us
    ([7], [0.1], [nan], [1723161255342000])
    """
    rows = _rows_of(body, url)
    page = _loose_columns(rows, url)
    if rows and not any(map(_has_shape, rows)):
        raise _invalid_answer(_wrong_shape(rows), url)
    return page


def valid_rows_of(body: bytes, url: str) -> pl.DataFrame:
    """Parse the trades of one answer without those that have an invalid value. Times are in µs.

    Raises
    ------
    CorruptSourceError
        The bytes are not a list of objects, or one has no id.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.rest_page import valid_rows_of
    >>> row = '{"a":%d,"p":"0.10","q":"%d","f":9,"l":9,"T":1723161255342,"m":true}'
    >>> body = f"[{row % (7, -1)},{row % (8, 1)}]".encode()
    >>> valid_rows_of(body, "https://example.com")["agg_trade_id"].to_list()
    [8]
    """
    page = _loose_columns(_rows_of(body, url), url)
    columns = dict(zip(PAGE_SCHEMA.names(), page, strict=True))
    are_amounts = pl.all_horizontal(pl.col("price", "quantity").is_finite())
    frame = pl.DataFrame(columns, schema=PAGE_SCHEMA)
    return frame.filter(are_amounts, _is_valid(_TIMES.earliest_us))


def _loose_columns(rows: list[dict[str, Any]], url: str) -> LoosePage:
    """Convert the members of an answer to columns."""
    ids = [_whole(row.get("a"), INVALID_ID) for row in rows]
    if ids and min(ids) < 0:
        raise _invalid_answer(f"has `{str(rows[ids.index(min(ids))])[:80]}`, without an id", url)
    sides = [row.get("m") for row in rows]
    return LoosePage(
        [_time_us(_whole(row.get("T"), 0)) for row in rows],
        [
            _amount(row.get("p")) if type(side) is bool else nan
            for row, side in zip(rows, sides, strict=True)
        ],
        [_amount(row.get("q")) for row in rows],
        ids,
        [_whole(row.get("f"), INVALID_ID) for row in rows],
        [_whole(row.get("l"), INVALID_ID) for row in rows],
        [side is True for side in sides],
    )


def _has_shape(row: dict[str, Any]) -> bool:
    """Return whether a row has all members of a trade, each of its type."""
    return all(type(row.get(key)) is field.kind for key, field in FIELDS.items())


def _whole(value: object, otherwise: int) -> int:
    # In Python, True is an int too.
    return value if type(value) is int and -_INT64 <= value < _INT64 else otherwise


def _amount(text: object) -> float:
    return float(text) if type(text) is str and _AMOUNT.fullmatch(text) else nan


def _time_us(time: int) -> int:
    """Return a time in microseconds, by the unit that its size tells."""
    times = _TIMES if _TIMES.latest_us > time >= _TIMES.earliest_us else _TIMES_MS
    unit_us = UNITS[times.unit][1]
    time_us = time * unit_us
    return time_us if times.earliest_us <= time_us < times.latest_us else 0


def _rows_of(body: bytes, url: str) -> list[dict[str, Any]]:
    """Parse the answer as a list of objects."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:40].decode("utf-8", "replace")
        raise _invalid_answer(f"begins with `{start}`, which is not JSON", url) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _invalid_answer(f"is not a list of trades: `{str(rows)[:80]}`", url)
    return rows


def _is_valid(first_time: int) -> pl.Expr:
    """Return the condition of rows that are a trade or a sentinel."""
    ids = pl.col("first_trade_id").is_between(0, pl.col("last_trade_id"))
    trade = (pl.col("price") > 0) & ids & (pl.col("agg_trade_id") >= 0)
    return _is_in_time(first_time) & (trade | is_sentinel())


def _is_in_time(first_time: int) -> pl.Expr:
    """Return the condition of rows with a time of this century, in the unit of the first."""
    times = FileTimes.of_value(first_time)
    unit_us = UNITS[times.unit][1]
    return pl.col("timestamp").is_between(
        times.earliest_us // unit_us, times.latest_us // unit_us, closed="left"
    )


def _wrong_shape(rows: list[dict[str, Any]]) -> str:
    """Describe what is wrong with the first row that is not a trade."""
    for number, row in enumerate(rows):
        for key, field in FIELDS.items():
            value: Any = row.get(key)
            is_huge = isinstance(value, int) and abs(value) >= 2**63
            if type(value) is not field.kind or is_huge:  # in Python, True is an int too
                name = f"row {number} (trade `{row.get('a')}`)"
                if key not in row:
                    return f"has no `{key}` in {name}"
                return f"has `{str(value)[:40]}` for `{key}` in {name}, not {field.description}"
    return "has rows that are not trades"


def _invalid_answer(what: str, url: str) -> CorruptSourceError:
    return CorruptSourceError(with_hint(f"the answer of `{url}` {what}", _AGAIN), url=url)


def _invalid_trade(texts: pl.DataFrame, bad: pl.Series, url: str) -> TickDataError:
    """Make the error for the first row that is not a valid trade."""
    row = texts.filter(bad).row(0, named=True)
    found = [row["price"], row["quantity"]]
    if any(_TOO_FINE.fullmatch(text) for text in found):
        why = "more than 8 decimals"
    elif not re.fullmatch(_DECIMAL, row["price"]) or not re.fullmatch(_DECIMAL, row["quantity"]):
        why = "an amount that is not a decimal number of 0 or more"
    elif not texts.filter(bad).head(1).select(_is_in_time(texts["timestamp"][0])).item():
        why = f"the time `{row['timestamp']}`, which is not valid, or not in the unit of the others"
    elif float(row["price"]) <= 0:
        why = "a price of 0"
    else:
        why = f"invalid ids: `{row['first_trade_id']}` to `{row['last_trade_id']}`"
    sentence = (
        f"trade `{row['agg_trade_id']}` of `{url}` (price `{row['price']}`, quantity "
        f"`{row['quantity']}`) has {why}"
    )
    return TickDataError(with_hint(sentence, _AGAIN))
