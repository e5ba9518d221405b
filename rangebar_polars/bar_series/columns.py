"""Columns of a stored bar, derived from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import polars as pl

from rangebar_polars.catalogue import column_names, columns

__all__ = [
    "BAR_DTYPES",
    "ENDINGS",
    "OPTIONAL_GROUPS",
    "RISING_CODEC",
    "StoredColumn",
    "all_columns",
    "group_columns",
    "stored_groups",
    "value_columns",
]


#: Why a bar ended, in the order of the codes in the row hash.
ENDINGS = ("threshold", "reset", "gap")


# Keys, and columns that depend on the frame rather than on the bar.
_NOT_STORED = {"threshold", "bar_id"}

# Groups that every stored bar has.
_STORED_GROUPS = ("core", "microstructure")

#: Groups that a series may have, in the order of the catalogue.
OPTIONAL_GROUPS = tuple(group for group in column_names().groups if group not in _STORED_GROUPS)


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
    #: Whether the database may hold a null, as it does in a row that was stored without the group.
    nullable: bool
    #: Whether a bar that has the group has a value.
    is_required: bool
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
def all_columns() -> tuple[StoredColumn, ...]:
    """Return the columns that a stored bar may have outside its key, in catalogue order."""
    return tuple(
        StoredColumn(
            name,
            f"{name}_us" if kind == "Datetime" else name,
            kind,
            # Only a forming bar has no ending, and forming bars are not stored.
            (nullable and kind != "Enum") or group in OPTIONAL_GROUPS,
            not nullable or kind == "Enum",
            group,
            meaning,
            unit,
        )
        for name, kind, group, nullable, meaning, unit in columns()
        .select("name", "dtype", "group", "nullable", "meaning", "unit")
        .iter_rows()
        if name not in _NOT_STORED
    )


@cache
def value_columns() -> tuple[StoredColumn, ...]:
    """Return the columns that every stored bar has outside its key, in catalogue order."""
    return group_columns(_STORED_GROUPS)


@cache
def group_columns(groups: tuple[str, ...]) -> tuple[StoredColumn, ...]:
    """Return the columns of some groups, in catalogue order."""
    return tuple(column for column in all_columns() if column.group in groups)


def stored_groups() -> tuple[str, ...]:
    """Return the feature groups that every stored bar has."""
    return _STORED_GROUPS
