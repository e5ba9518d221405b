"""The error for a frame without a price or a time, with the column that could be it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import MissingColumnError, nearest, with_hint
from rangebar_polars.interop.fields import mid_price, quote_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["missing_field"]

_NOUNS = {"price": "prices", "timestamp": "times"}
_PRICES_OF_BARS = {"open", "high", "low", "close"}


def missing_field(
    field: str, schema: Mapping[str, pl.DataType], taken: Collection[str | None]
) -> MissingColumnError:
    """Return the error for trades without the column of a required field.

    `taken` holds the columns that other fields are read from.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.compute._missing import missing_field
    >>> print(missing_field("price", {"time": pl.Datetime("us"), "last": pl.Float64()}, ["time"]))
    the frame has no column `price`; it has `time`, `last`
    <BLANKLINE>
    hint: name your column: columns={"price": "last"}
    """
    listed = ", ".join(f"`{name}`" for name in schema) or "none"
    sentence = f"the frame has no column `{field}`; it has {listed}"
    quotes = quote_columns(schema) if field == "price" else None
    if quotes is not None:
        sentence = f"the frame has no column `price`, but quotes, `{quotes[0]}` and `{quotes[1]}`"
        hint = (
            f"build bars of the mid price: .with_columns({mid_price(*quotes)}); for the files of "
            "Exness see rangebar_polars.exness"
        )
    elif {name.lower() for name in schema} >= _PRICES_OF_BARS:
        sentence = f"these are bars already: the frame has no column `{field}`; it has {listed}"
        hint = "pass the trades that the bars were made of"
    elif (nested := _nested(field, schema)) is not None:
        hint = f"make the fields of `{nested}` columns: .unnest({json.dumps(nested)})"
    else:
        hint = _naming(field, schema, taken)
    return MissingColumnError(with_hint(sentence, hint))


def _naming(field: str, schema: Mapping[str, pl.DataType], taken: Collection[str | None]) -> str:
    free = [name for name in schema if name not in taken]
    near = nearest(field, free)
    column = near or _by_dtype(field, schema, free)
    if column is None:
        return f"add a column of {_NOUNS[field]}, named `{field}`"
    meant = f"did you mean `{column}`? " if near else ""
    return f"{meant}name your column: columns={{{json.dumps(field)}: {json.dumps(column)}}}"


def _by_dtype(field: str, schema: Mapping[str, pl.DataType], free: list[str]) -> str | None:
    """Return the first column whose data type suits the field."""
    if field == "timestamp":
        suits = [name for name in free if isinstance(schema[name], pl.Datetime)]
        suits += [name for name in free if "time" in name.lower()]
    else:
        suits = [name for name in free if schema[name].is_float() or schema[name].is_decimal()]
        suits += [name for name in free if schema[name].is_numeric()]
    return suits[0] if suits else None


def _nested(field: str, schema: Mapping[str, pl.DataType]) -> str | None:
    """Return a Struct column that has the field."""
    for name, dtype in schema.items():
        if isinstance(dtype, pl.Struct):
            inside = [part.name for part in dtype.fields]
            if field in inside or nearest(field, inside) is not None:
                return name
    return None
