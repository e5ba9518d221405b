"""Trades given as dictionaries, turned into frames; nothing is coerced in silence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from itertools import chain
from numbers import Integral
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import polars as pl

from rangebar_polars._fields import fields_of
from rangebar_polars.exceptions import TickDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Record", "RecordReader"]

Record: TypeAlias = Mapping[str, Any]

# Decimals are put on the kernel's grid as decimals, without a double in between.
GRID = Decimal("0.00000001")
UNFIT = (InvalidOperation, OverflowError, TypeError, ValueError)


class RecordReader:
    """Turns runs of dictionaries into frames, counting the trades through all of them.

    Examples
    --------
    >>> from rangebar_polars._records import RecordReader
    >>> reader = RecordReader()
    >>> reader.frame([{"timestamp": 1704067200000, "price": 100.0, "volume": 1}]).row(0)
    (1704067200000, 100.0, 1.0)
    >>> reader.frame([{"timestamp": 1704067201000, "price": "100", "volume": 1}])
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.TickDataError: trade 1: `price` is `'100'`, of type `str`; ...
    """

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.count = 0

    def frame(self, records: Sequence[Record]) -> pl.DataFrame:
        """Frame of the next trades."""
        self._find_fields(records)
        columns = [self._column(records, *pair) for pair in self.fields.items()]
        self.count += len(records)
        return pl.DataFrame(columns)

    def _find_fields(self, records: Sequence[Record]) -> None:
        for kind in set(map(type, records)):
            if not issubclass(kind, Mapping):
                index = next(i for i, record in enumerate(records) if type(record) is kind)
                raise self._error(index, f"it is of type `{kind.__name__}`, not a dict")
        fields = fields_of(dict.fromkeys(chain.from_iterable(records)))
        if not self.fields:
            self.fields = fields
        for name in fields.values():
            if name not in self.fields.values():
                index = next(i for i, record in enumerate(records) if name in record)
                raise self._error(index, f"it has a key `{name}`, which earlier trades lack")

    def _column(self, records: Sequence[Record], field: str, name: str) -> pl.Series:
        try:
            values = list(map(itemgetter(name), records))
        except KeyError:
            index = next(i for i, record in enumerate(records) if name not in record)
            listed = ", ".join(f"`{key}`" for key in records[index])
            raise self._error(index, f"it has no key `{name}`; it has {listed}") from None
        kind = KINDS[field]
        try:
            return kind.series(values).alias(name)
        except UNFIT as error:
            raise self._unfit(values, name, kind) from error

    def _unfit(self, values: list[Any], name: str, kind: Kind) -> TickDataError:
        """Error for the first value that is not of its kind, or of another kind than the first."""
        for index, value in enumerate(values):
            try:
                kind.series([values[0], value])
            except UNFIT:
                found = f"`{name}` is `{repr(value)[:40]}`, of type `{type(value).__name__}`"
                return self._error(index, f"{found}; wanted is {kind.wanted}")
        return self._error(0, f"`{name}` cannot be read")

    def _error(self, index: int, sentence: str) -> TickDataError:
        return TickDataError(f"trade {self.count + index}: {sentence}")


class Kind(NamedTuple):
    """What the values of a field are, and how they become a column."""

    wanted: str
    series: Callable[[list[Any]], pl.Series]


def numbers(values: list[Any]) -> pl.Series:
    """Column of amounts: doubles, or decimals where those are given."""
    if all_of(values, lambda kind: issubclass(kind, Decimal) or is_whole(kind)):
        if any(issubclass(kind, Decimal) for kind in set(map(type, values))):
            return pl.Series([on_grid(value) for value in values], dtype=pl.Decimal(38, 8))
    elif not all_of(values, lambda kind: issubclass(kind, float) or is_whole(kind)):
        raise TypeError
    return pl.Series(list(map(float, values)), dtype=pl.Float64)


def on_grid(value: Decimal | int) -> Decimal:
    """The value rounded to eight places, half away from zero."""
    rounded = Decimal(value).quantize(GRID, ROUND_HALF_UP)
    if not rounded.is_finite():
        raise ValueError
    return rounded


def whole_numbers(values: list[Any]) -> pl.Series:
    """Column of ids."""
    if not all_of(values, is_whole):
        raise TypeError
    return pl.Series(list(map(int, values)), dtype=pl.Int64)


def times(values: list[Any]) -> pl.Series:
    """Column of times: whole numbers as they are, datetimes with what precision they have."""
    if not all_of(values, lambda kind: issubclass(kind, datetime)):
        return whole_numbers(values)
    kinds = {hasattr(value, "as_unit") for value in values}
    if kinds == {True}:  # of pandas, whose times have nanoseconds
        return nanoseconds(values)
    if kinds == {True, False}:
        raise TypeError
    aware = [
        value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC) for value in values
    ]
    return pl.Series(aware, dtype=pl.Datetime("us", "UTC"))


def nanoseconds(values: list[Any]) -> pl.Series:
    """Column of the times of pandas; NaT, whose year is not a number, is none."""
    if any(math.isnan(value.year) for value in values):
        raise ValueError
    since_1970 = [value.as_unit("ns").value for value in values]
    return pl.Series(since_1970, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))


def truths(values: list[Any]) -> pl.Series:
    """Column of true and false."""
    if not all_of(values, lambda kind: kind.__name__ in ("bool", "bool_")):
        raise TypeError
    return pl.Series(list(map(bool, values)), dtype=pl.Boolean)


def texts(values: list[Any]) -> pl.Series:
    """Column of text."""
    if not all_of(values, lambda kind: issubclass(kind, str)):
        raise TypeError
    return pl.Series(values, dtype=pl.String)


def all_of(values: list[Any], accepts: Callable[[type], bool]) -> bool:
    """Whether the types of all values are accepted."""
    return all(map(accepts, set(map(type, values))))


def is_whole(kind: type) -> bool:
    """Whether it is an integer type, that of numpy included; a bool is none."""
    return issubclass(kind, Integral) and not issubclass(kind, bool)


NUMBER = Kind("a float, an int or a Decimal", numbers)
ID = Kind("an int", whole_numbers)
KINDS = {
    "timestamp": Kind("an int of milliseconds, or a datetime", times),
    "price": NUMBER,
    "quantity": NUMBER,
    "is_buyer_maker": Kind("a bool", truths),
    "side": Kind("text", texts),
    "agg_trade_id": ID,
    "first_trade_id": ID,
    "last_trade_id": ID,
}
