"""Data types as JSON, for checkpoints."""

from __future__ import annotations

from typing import Any

import polars as pl

__all__ = ["decode_dtype", "encode_dtype"]

_PLAIN = (
    *("Binary", "Boolean", "Date", "Float32", "Float64", "String", "Time"),
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128)),
)
_PHYSICAL = ("UInt8", "UInt16", "UInt32")
# Attributes of each data type, which are also the arguments of its constructor.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PLAIN, ()),
    "Datetime": ("time_unit", "time_zone"),
    "Decimal": ("precision", "scale"),
    "Duration": ("time_unit",),
}


def encode_dtype(dtype: pl.DataType) -> list[Any]:
    """Convert a data type to its JSON form.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.compute._dtypes import decode_dtype, encode_dtype
    >>> encode_dtype(pl.Datetime("us", "UTC"))
    ['Datetime', 'us', 'UTC']
    >>> decode_dtype(["Decimal", 20, 8])
    Decimal(precision=20, scale=8)
    """
    name = str(dtype.base_type())
    if isinstance(dtype, pl.Enum):
        return [name, dtype.categories.to_list()]
    if isinstance(dtype, pl.Categorical):
        return [name, *_encode_categories(dtype.categories)]
    if name not in _PARAMETERS:
        raise TypeError(f"a checkpoint cannot store the data type `{dtype}`")
    return [name, *(getattr(dtype, parameter) for parameter in _PARAMETERS[name])]


def decode_dtype(encoded: list[Any]) -> pl.DataType:
    """Return the data type of a JSON form.

    Raises
    ------
    ValueError, TypeError, AttributeError
        The form is not valid.
    """
    name, *arguments = encoded
    if name == "Categorical":
        return pl.Categorical(_decode_categories(*arguments))
    if name != "Enum" and name not in _PARAMETERS:
        raise ValueError(f"`{name}` is not a data type that a checkpoint stores")
    dtype: pl.DataType = getattr(pl, name)(*arguments)
    if encode_dtype(dtype) != encoded:
        raise ValueError(f"`{encoded}` is not a data type as a checkpoint writes it")
    return dtype


def _encode_categories(categories: pl.Categories) -> list[str]:
    if categories == pl.Categories():
        return []
    return [categories.name(), categories.namespace(), str(categories.physical())]


def _decode_categories(
    name: str | None = None, namespace: str = "", physical: str = "UInt32"
) -> pl.Categories:
    if physical not in _PHYSICAL:
        raise ValueError(f"`{physical}` is not a data type of categories")
    return pl.Categories(name, namespace=namespace, physical=getattr(pl, physical))
