"""Conversion of Python objects to columns of trades, without silent coercion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from itertools import chain
from numbers import Integral
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import polars as pl

from rangebar_polars.exceptions import TickDataError
from rangebar_polars.interop.fields import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["GRID_DTYPE", "ColumnReader", "Record", "RecordReader"]

Record: TypeAlias = Mapping[str, Any]

#: Data type of amounts given as decimals. It has the grid of the kernel, so no double is involved.
GRID_DTYPE = pl.Decimal(38, 8)
GRID = Decimal("0.00000001")
# A context of our own, because that of the caller may have a lower precision.
GRID_CONTEXT = Context(prec=38, rounding=ROUND_HALF_UP)
UNFIT = (InvalidOperation, OverflowError, TypeError, ValueError)


class RecordReader:
    """Reader of dictionaries that arrive in several runs, counting trades over all of them.

    `columns` holds a reader per field. It can be shared with readers of frames of the same trades.

    Examples
    --------
    >>> from rangebar_polars.interop.records import RecordReader
    >>> reader = RecordReader()
    >>> reader.frame([{"timestamp": 1704067200000, "price": 100.0, "volume": 1}]).row(0)
    (1704067200000, 100.0, 1.0)
    >>> reader.frame([{"timestamp": 1704067201000, "price": "100", "volume": 1}])
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.TickDataError: trade 1: `price` is `'100'`, of type `str`; ...
    """

    def __init__(self, columns: dict[str, ColumnReader] | None = None) -> None:
        self.fields: dict[str, str] = {}
        self.columns = {} if columns is None else columns
        self.count = 0

    def frame(self, records: Sequence[Record]) -> pl.DataFrame:
        """Convert the next trades to a frame."""
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
                raise self._error(index, f"it has a key `{name}`, which earlier trades do not have")

    def _column(self, records: Sequence[Record], field: str, name: str) -> pl.Series:
        try:
            values = list(map(itemgetter(name), records))
        except KeyError:
            index = next(i for i, record in enumerate(records) if name not in record)
            listed = ", ".join(f"`{key}`" for key in records[index])
            raise self._error(index, f"it has no key `{name}`; it has {listed}") from None
        reader = self.columns.setdefault(field, ColumnReader(field))
        return reader.read(name, values, self.count)

    def _error(self, index: int, sentence: str) -> TickDataError:
        return TickDataError(f"trade {self.count + index}: {sentence}")


class ColumnReader:
    """Reader of one field of trades, whose values may arrive in several runs.

    The data type of a run depends on the field and on the types of the values, never on their size
    or precision. Integer prices and quantities become decimals if decimals came before them, else
    doubles.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from rangebar_polars.interop.records import ColumnReader
    >>> reader = ColumnReader("price")
    >>> [reader.read("price", [value]).dtype for value in (1, Decimal("1.5"), 2)]
    [Float64, Decimal(precision=38, scale=8), Decimal(precision=38, scale=8)]
    """

    def __init__(self, field: str) -> None:
        self.kind = KINDS.get(field, ANY)
        self.amount_type: type | None = None

    def read(self, name: str, values: list[Any], first_row: int = 0) -> pl.Series:
        """Convert the next values to a column.

        Raises
        ------
        TickDataError
            A value does not suit the field, or its type differs from that of earlier values.
        """
        try:
            series = self._series(values)
        except UNFIT as error:
            raise self._unfit(name, values, range(len(values)), first_row) from error
        if self.kind is NUMBER:
            self.amount_type = self.amount_type or amount_type(values)
        return series.alias(name)

    def read_with_nulls(self, name: str, values: list[Any], first_row: int = 0) -> pl.Series:
        """Convert the next values to a column, with a null for each None."""
        rows = [row for row, value in enumerate(values) if value is not None]
        present = [values[row] for row in rows]
        try:
            series = self.read(name, present)
        except TickDataError as error:
            raise self._unfit(name, present, rows, first_row) from error
        positions = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
        return series.gather(positions.scatter(rows, range(len(rows))))

    def read_numbers(self, series: pl.Series, first_row: int = 0) -> pl.Series:
        """Convert the next prices or quantities, which are numbers of one data type."""
        if series.dtype.is_integer():
            return series.cast(GRID_DTYPE if self.amount_type is Decimal else pl.Float64)
        if series.len() and series.dtype == pl.Float64:
            if self.amount_type is Decimal:
                raise self._refused(series.name, series[0], first_row)
            self.amount_type = float
        return series

    def _series(self, values: list[Any]) -> pl.Series:
        if self.kind is NUMBER:
            return numbers(values, self.amount_type)
        return self.kind.series(values)

    def _fits(self, *values: object) -> bool:
        try:
            self._series([*values])
        except UNFIT:
            return False
        return True

    def _unfit(
        self, name: str, values: list[Any], rows: Sequence[int], first_row: int
    ) -> TickDataError:
        """Describe the first value that does not suit the field or the values before it."""
        examples: dict[type, object] = {}
        for row, value in zip(rows, values, strict=True):
            if not self._fits(*examples.values(), value):
                return self._refused(name, value, first_row + row)
            examples.setdefault(type(value), value)
        return TickDataError(f"trade {first_row}: `{name}` cannot be read")

    def _refused(self, name: str, value: object, row: int) -> TickDataError:
        found = f"`{name}` is `{repr(value)[:40]}`, of type `{type(value).__name__}`"
        before = f", as in earlier trades `{self.amount_type.__name__}`" if self.amount_type else ""
        return TickDataError(f"trade {row}: {found}; it must be {self.kind.expected}{before}")


class Kind(NamedTuple):
    """Types that the values of a field may have, and their conversion to a column."""

    expected: str
    series: Callable[[list[Any]], pl.Series]


def amount_type(values: list[Any]) -> type | None:
    """Return the type of amounts: Decimal or float, or None if all are integers."""
    found = {
        next((base for base in (Decimal, float) if issubclass(kind, base)), None)
        for kind in set(map(type, values))
        if not is_whole(kind)
    }
    if None in found or len(found) > 1:
        raise TypeError
    return found.pop() if found else None


def numbers(values: list[Any], before: type | None = None) -> pl.Series:
    """Convert amounts to doubles, or to decimals if these or earlier amounts are decimals."""
    own = amount_type(values)
    if own is not None and before is not None and own is not before:
        raise TypeError
    if Decimal in (own, before):
        return pl.Series([on_grid(value) for value in values], dtype=GRID_DTYPE)
    return pl.Series(list(map(float, values)), dtype=pl.Float64)


def on_grid(value: Decimal | int) -> Decimal:
    """Round a value to eight places, half away from zero."""
    # Integers of NumPy are not of type int.
    exact = value if isinstance(value, Decimal) else Decimal(int(value))
    rounded = exact.quantize(GRID, context=GRID_CONTEXT)
    if not rounded.is_finite():
        raise ValueError
    return rounded


def whole_numbers(values: list[Any]) -> pl.Series:
    """Convert ids."""
    if not all_of(values, is_whole):
        raise TypeError
    return pl.Series(list(map(int, values)), dtype=pl.Int64)


def times(values: list[Any]) -> pl.Series:
    """Convert times: integers as they are, datetimes with their own precision."""
    if not all_of(values, lambda kind: issubclass(kind, datetime)):
        return whole_numbers(values)
    kinds = {hasattr(value, "as_unit") for value in values}
    if kinds == {True}:  # times of pandas have nanoseconds
        return nanoseconds(values)
    if kinds == {True, False}:
        raise TypeError
    aware = [
        value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC) for value in values
    ]
    return pl.Series(aware, dtype=pl.Datetime("us", "UTC"))


def nanoseconds(values: list[Any]) -> pl.Series:
    """Convert times of pandas. NaT, whose year is NaN, is rejected."""
    if any(math.isnan(value.year) for value in values):
        raise ValueError
    since_1970 = [value.as_unit("ns").value for value in values]
    return pl.Series(since_1970, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))


def truths(values: list[Any]) -> pl.Series:
    """Convert booleans; None means that there was no aggressor."""
    flags = without_na(values)
    if not all_of(present(flags), lambda kind: kind.__name__ in ("bool", "bool_")):
        raise TypeError
    return pl.Series([None if v is None else bool(v) for v in flags], dtype=pl.Boolean)


def sides(values: list[Any]) -> pl.Series:
    """Convert sides: text or the integers 1, -1, 0; None means that there was no aggressor."""
    words = without_na(values)
    if (found := present(words)) and all_of(found, is_whole):
        return pl.Series([None if v is None else int(v) for v in words], dtype=pl.Int64)
    if not all_of(found, lambda kind: issubclass(kind, str)):
        raise TypeError
    return pl.Series(words, dtype=pl.String)


def without_na(values: list[Any]) -> list[Any]:
    """Replace the NA of pandas, which has no truth value, by None."""
    return [None if type(value).__name__ == "NAType" else value for value in values]


def present(values: list[Any]) -> list[Any]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


def all_of(values: list[Any], accepts: Callable[[type], bool]) -> bool:
    """Return whether the types of all values are accepted."""
    return all(map(accepts, set(map(type, values))))


def is_whole(kind: type) -> bool:
    """Return whether a type is an integer type, including those of NumPy, but not bool."""
    return issubclass(kind, Integral) and not issubclass(kind, bool)


def any_values(values: list[Any]) -> pl.Series:
    """Convert values of a column that is not a field of a trade, such as a symbol or a note."""
    try:
        series = pl.Series(values, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        series = pl.Series(dtype=pl.Object)
    texts = (None if value is None else str(value) for value in values)
    return pl.Series(texts, dtype=pl.String) if series.dtype == pl.Object else series


NUMBER = Kind("a float, an int or a Decimal", numbers)
ID = Kind("an int", whole_numbers)
ANY = Kind("any value", any_values)
KINDS = {
    "timestamp": Kind("an int of milliseconds, or a datetime", times),
    "price": NUMBER,
    "quantity": NUMBER,
    "bid": NUMBER,
    "ask": NUMBER,
    "is_buyer_maker": Kind("a bool or None", truths),
    "side": Kind("text, or 1, -1 or 0", sides),
    "agg_trade_id": ID,
    "first_trade_id": ID,
    "last_trade_id": ID,
}
