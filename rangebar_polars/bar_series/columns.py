"""Columns of a stored bar, derived from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.catalogue import columns
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BAR_DTYPES",
    "ENDINGS",
    "RISING_CODEC",
    "StoredColumn",
    "feature_groups",
    "require_stored",
    "value_columns",
]


#: Why a bar ended, in the order of the codes in the row hash.
ENDINGS = ("threshold", "reset", "gap")


# Keys, and columns that depend on the frame rather than on the bar.
_NOT_STORED = {"threshold", "bar_id"}

# Other groups are computed from trades only.
_STORED_GROUPS = {"core", "microstructure"}


_TYPES: dict[str, tuple[pl.DataType, str]] = {
    "Datetime": (pl.Int64(), "Int64"),
    "Float64": (pl.Float64(), "Float64"),
    "Int64": (pl.Int64(), "Int64"),
    "UInt32": (pl.UInt32(), "UInt32"),
    "Boolean": (pl.Boolean(), "Bool"),
    "Enum": (pl.String(), "LowCardinality(String)"),
}


# Data types of a bar frame that differ from those of the database.
BAR_DTYPES: dict[str, pl.DataType] = {
    "Datetime": pl.Datetime("us", "UTC"),
    "Enum": pl.Enum(ENDINGS),
}


#: Codec for values that differ little from the one before.
RISING_CODEC = "Delta, ZSTD(1)"


_PRICES = ("open", "high", "low", "close")


# Whole numbers are small, and the digits of doubles repeat over long distances.
_CODECS = {"Float64": "ZSTD(3)", "Int64": "T64, ZSTD(1)"}


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of bars in the database."""

    #: Name in a bar frame.
    bar_name: str
    #: Name in the database.
    name: str
    kind: str
    nullable: bool
    group: str
    meaning: str
    unit: str

    @property
    def dtype(self) -> pl.DataType:
        """Data type of the column in an insert."""
        return _TYPES[self.kind][0]

    @property
    def codec(self) -> str:
        """Compression codec of the column in the database; empty for the default."""
        if self.kind == "Datetime" or self.unit == "id" or self.bar_name in _PRICES:
            return RISING_CODEC
        return _CODECS.get(self.kind, "")

    @property
    def sql_type(self) -> str:
        """Data type in the database."""
        sql_type = _TYPES[self.kind][1]
        return f"Nullable({sql_type})" if self.nullable else sql_type


@cache
def value_columns() -> tuple[StoredColumn, ...]:
    """Return the columns of a stored bar outside its key, in the order of the catalogue."""
    return tuple(
        StoredColumn(
            name,
            f"{name}_us" if kind == "Datetime" else name,
            kind,
            # Only a forming bar has no ending, and forming bars are not stored.
            nullable and kind != "Enum",
            group,
            meaning,
            unit,
        )
        for name, kind, group, nullable, meaning, unit in columns()
        .select("name", "dtype", "group", "nullable", "meaning", "unit")
        .iter_rows()
        if name not in _NOT_STORED and group in _STORED_GROUPS
    )


def require_stored(features: Iterable[str]) -> tuple[str, ...]:
    """Return columns, all of which must be stored in a cache.

    Raises
    ------
    ValueError
        A column is computed from trades only.
    """
    stored = {column.bar_name for column in value_columns()}
    names = tuple(features)
    for name in names:
        if name not in stored:
            raise ValueError(
                with_hint(
                    f"`features` has `{name}`, which a cache of bars does not store",
                    f'compute it from trades: trades.rangebar.bars(250, features="{name}")',
                )
            )
    return names


def feature_groups() -> tuple[str, ...]:
    """Return the feature groups that are stored."""
    return tuple(dict.fromkeys(column.group for column in value_columns()))
