"""Conversion of bars to stored rows and back, and the hash of a row.

Polars computes the hash when rows are written, and the database computes it again over the stored
values. The two agree only if every value arrived as it was sent.
"""

from __future__ import annotations

from functools import reduce
from hashlib import blake2b
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.bar_series.columns import (
    BAR_DTYPES,
    ENDINGS,
    all_columns,
    stored_groups,
    value_columns,
)
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rangebar_polars.bar_series.columns import (
        StoredColumn,
    )

__all__ = ["bars_of", "feature_rows_of", "hash_sql", "row_hash", "rows_of"]


# Odd, so that a multiplication loses no bit.
_MULTIPLIER = 0x9E3779B97F4A7C15


# Stands for a null.
_NULL = 0xD1B54A32D192ED03


_HALF = 1 << 32


def rows_of(units: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Convert the bars of units to rows: `bar_seq` within the unit, the value columns, `row_hash`.

    Parameters
    ----------
    units
        The bars of each unit in order, with all feature groups and with `incomplete="keep"`.

    Raises
    ------
    ValueError
        A column is missing or has another data type, a bar is still forming, or a value is
        null or NaN where the catalogue does not allow it.
    """
    for bars in units:
        _check_schema(bars.schema, value_columns())
    # All units at once, and sums by column: a single expression over all columns takes longer to
    # plan than to compute.
    rows = _stored_values(units, value_columns())
    lengths = pl.Series([bars.height for bars in units], dtype=pl.Int64)
    rows = rows.with_columns(row_hash(rows))
    order = pl.select(
        pl.int_ranges(0, pl.lit(lengths.filter(lengths > 0)), dtype=pl.UInt32).explode(
            empty_as_null=False
        )
    )
    rows = order.to_series().alias("bar_seq").to_frame().hstack(rows)
    return _split(rows, units)


def feature_rows_of(
    units: Sequence[pl.DataFrame], columns: Sequence[StoredColumn]
) -> list[pl.DataFrame]:
    """Convert the columns of optional groups of units to rows, with their hash.

    Parameters
    ----------
    units
        The bars of each unit in order.
    columns
        The columns of the groups, in the order of the catalogue.

    Returns
    -------
    list of DataFrame
        The columns, and `feature_hash`.

    Raises
    ------
    ValueError
        As for `rows_of`.
    """
    for bars in units:
        _check_schema(bars.schema, columns)
    rows = _stored_values(units, columns)
    return _split(rows.with_columns(row_hash(rows, columns, "feature_hash")), units)


def _split(rows: pl.DataFrame, units: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Split the rows of concatenated units."""
    ends = accumulate(bars.height for bars in units)
    return [rows[end - bars.height : end] for bars, end in zip(units, ends, strict=True)]


def _stored_values(units: Sequence[pl.DataFrame], columns: Sequence[StoredColumn]) -> pl.DataFrame:
    """Return columns of the bars of units, as they are stored, after a check of their values."""
    rows = _joined(units, columns).select(
        pl.col(column.bar_name).cast(column.dtype).alias(column.name) for column in columns
    )
    _check_values(rows, columns)
    return rows


def _joined(units: Sequence[pl.DataFrame], columns: Sequence[StoredColumn]) -> pl.DataFrame:
    """Concatenate the bars of units, whose columns may differ in order and number."""
    if all(bars.columns == units[0].columns for bars in units):
        return pl.concat(units)
    names = [column.bar_name for column in columns]
    return pl.concat([bars.select(names) for bars in units])


def _check_schema(schema: Mapping[str, pl.DataType], columns: Iterable[StoredColumn]) -> None:
    """Refuse bars with a missing column or another data type."""
    for column in columns:
        if column.bar_name not in schema:
            groups = [g for g in dict.fromkeys([*stored_groups(), column.group]) if g != "core"]
            raise ValueError(
                with_hint(
                    f"bars to be stored have no column `{column.bar_name}`",
                    f'compute them with features={groups} and incomplete="keep"',
                )
            )
        expected = BAR_DTYPES.get(column.kind, column.dtype)
        dtype = schema[column.bar_name]
        if dtype != expected:
            raise ValueError(
                f"bars to be stored have `{column.bar_name}` as `{dtype}` instead of `{expected}`"
            )


def _check_values(rows: pl.DataFrame, columns: Sequence[StoredColumn]) -> None:
    """Refuse values that the database would silently change."""
    checks: list[pl.Expr] = [
        pl.col(column.name).null_count().alias(f"{column.bar_name}: null")
        for column in columns
        if column.is_required
    ]
    checks += [
        pl.col(column.name).is_nan().sum().alias(f"{column.bar_name}: NaN")
        for column in columns
        if column.kind == "Float64"
    ]
    found = rows.select(checks).row(0, named=True)
    for check, count in found.items():
        if count:
            name, _, value = check.partition(": ")
            raise ValueError(f"{count} of the bars to be stored have `{value}` as `{name}`")


def bars_of(rows: pl.DataFrame, *extra: str) -> pl.DataFrame:
    """Convert stored rows to bars: the catalogue's names and data types, in its order.

    Columns named in `extra` follow unchanged.
    """
    present = set(rows.columns)
    found = [column for column in all_columns() if column.name in present]
    return rows.select(*(_to_bar(column) for column in found), *extra)


def _to_bar(column: StoredColumn) -> pl.Expr:
    dtype = BAR_DTYPES.get(column.kind)
    stored = pl.col(column.name)
    return stored if dtype is None else stored.cast(dtype).alias(column.bar_name)


def _seed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def _word(value: int) -> pl.Series:
    return pl.Series([value], dtype=pl.UInt64)


def _mixed(word: pl.Series) -> pl.Series:
    """Spread every bit of a word over all bits, modulo 2^64."""
    product = word * _word(_MULTIPLIER)
    return (product ^ (product // _word(_HALF))) * _word(_MULTIPLIER)


def row_hash(
    rows: pl.DataFrame, columns: Sequence[StoredColumn] | None = None, name: str = "row_hash"
) -> pl.Series:
    """Hash columns of each row as UInt64, in exact integer arithmetic modulo 2^64.

    Parameters
    ----------
    rows
        The columns, with their names in the database.
    columns
        The columns to hash; None for those that every stored bar has.
    name
        The name of the result.

    Returns
    -------
    Series
        A hash for each row.
    """
    bits = rows.select(_bits(column) for column in columns or value_columns())
    words = (_mixed(word ^ _word(_seed(word.name))) for word in bits)
    return _mixed(reduce(add, words)).alias(name)


def _bits(column: StoredColumn) -> pl.Expr:
    value = pl.col(column.name)
    match column.kind:
        case "Boolean" | "UInt32":
            word = value.cast(pl.UInt64)
        case "Enum":
            word = value.cast(pl.Enum(ENDINGS)).to_physical().cast(pl.UInt64)
        case _:
            word = value.reinterpret(dtype=pl.UInt64)
    return word.fill_null(pl.lit(_NULL, pl.UInt64)) if column.nullable else word


def hash_sql(columns: Sequence[StoredColumn] | None = None) -> str:
    """Write the same hash as an expression of the database, over the stored values.

    `columns` are those of `row_hash`.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.schema.rows import hash_sql
    >>> hash_sql().startswith("bitXor(")
    True
    """
    stored = columns or value_columns()
    words = ", ".join(_bits_sql(column) for column in stored)
    seeds = _array_sql(_seed(column.name) for column in stored)
    mixed = _mixed_sql("bitXor(w, s)")
    return _mixed_sql(f"arraySum(arrayMap((w, s) -> {mixed}, [{words}], {seeds}))")


def _mixed_sql(word: str) -> str:
    product = f"({word} * toUInt64({_MULTIPLIER}))"
    return f"bitXor({product}, bitShiftRight({product}, 32)) * toUInt64({_MULTIPLIER})"


def _bits_sql(column: StoredColumn) -> str:
    name = column.name
    if column.kind == "Enum":
        names = ", ".join(f"'{ending}'" for ending in ENDINGS)
        return f"toUInt64(indexOf([{names}], toString({name})) - 1)"
    if column.kind in {"Boolean", "UInt32"}:
        return f"toUInt64({name})"
    if not column.nullable:
        return f"reinterpretAsUInt64({name})"
    return f"if(isNull({name}), toUInt64({_NULL}), reinterpretAsUInt64(assumeNotNull({name})))"


def _array_sql(values: Iterable[int]) -> str:
    return "[" + ", ".join(f"toUInt64({value})" for value in values) + "]"
