"""Binding of the columns of a frame to the fields of a trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import _internal
from rangebar_polars.catalogue import column_names
from rangebar_polars.compute._missing import missing_field
from rangebar_polars.exceptions import MissingColumnError, unknown_choice, with_hint

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rangebar_polars._typing import ColumnMap, GroupBy

__all__ = ["FIELDS", "SYMBOL", "Binding", "Inputs", "bind", "find_columns", "parse_columns"]
__all__ += ["parse_keys"]

SYMBOL = "symbol"

_REQUIRED = ("price", "timestamp")

#: The fields of a trade, in binding order.
FIELDS = tuple(field for field, _, _ in _internal.known_names() if field != "symbol")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns to read, each with its role: a field, `bar_id` or `key`."""

    roles: tuple[str, ...]
    names: tuple[str, ...]
    #: Columns that could tell symbols apart, for messages.
    apart: tuple[str, ...] = ()

    def of(self, role: str) -> str:
        """Return the name of the column with a role."""
        return self.names[self.roles.index(role)]


def parse_columns(columns: ColumnMap | None) -> dict[str, str | None]:
    """Check the argument `columns=`, as far as possible without a frame."""
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise TypeError(
            with_hint(
                f"`columns` must be a mapping of fields to columns; it is of type "
                f"`{type(columns).__name__}`",
                'write columns={"price": "px"}',
            )
        )
    for field, name in columns.items():
        _check_override(field, name)
    if columns.get("side") is not None and columns.get("is_buyer_maker") is not None:
        raise ValueError(
            "`columns` names both `side` and `is_buyer_maker`, which hold the same information; "
            "bind only one of them"
        )
    return dict(columns)


def _check_override(field: str, name: str | None) -> None:
    known = (*FIELDS, SYMBOL)
    if field not in known:
        message = unknown_choice("columns", str(field), known)
        if name in known and str(field).casefold() != name:
            # One hint: the order is the likelier mistake, and the nearest name would confuse.
            message = message.partition("\n\n")[0]
            message = with_hint(message, f'the field comes first: columns={{"{name}": "{field}"}}')
        raise ValueError(message)
    if name is None and field in _REQUIRED:
        sentence = f"`columns` leaves out `{field}`, which bars require"
        hint = f'name the column, as in columns={{"{field}": "{field}"}}'
        raise ValueError(with_hint(sentence, hint))
    if name is not None and not isinstance(name, str):
        sentence = (
            f"`columns` must map `{field}` to the name of a column or to None, not to a value of "
            f"type `{type(name).__name__}`"
        )
        hint = "add an expression as a column first, with `with_columns`, and pass its name"
        raise TypeError(with_hint(sentence, hint))


def parse_keys(group_by: GroupBy | None) -> tuple[str, ...]:
    """Return the names of the key columns."""
    if group_by is None:
        return ()
    keys = (group_by,) if isinstance(group_by, str) else group_by
    if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
        odd = keys if not isinstance(keys, (list, tuple)) else _first_odd(keys)
        raise TypeError(
            with_hint(
                "`group_by` of a frame must be the name of a column or a list of names; it is of "
                f"type `{type(odd).__name__}`",
                "compute a key with `with_columns` first, and pass its name, such as "
                'group_by="symbol"',
            )
        )
    if not keys:
        raise ValueError("`group_by` is an empty list; leave it out for a single series of trades")
    return tuple(keys)


def _first_odd(keys: Sequence[object]) -> object:
    return next(key for key in keys if not isinstance(key, str))


def check_keys(keys: Sequence[str]) -> None:
    """Check that no key has the name of another key or of a column of bars.

    All columns of the catalogue count, because the columns of a frame of bars depend on the other
    arguments, and `partial()` adds some.
    """
    outputs = {*column_names().core, *column_names().optional}
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise ValueError(f"`group_by` names `{key}` twice")
        if key in outputs:
            raise ValueError(
                with_hint(
                    f"`group_by` names `{key}`, which is also the name of a column of the bars",
                    f'rename it first: .rename({{"{key}": "my_{key}"}})',
                )
            )


@dataclass(frozen=True, slots=True)
class Binding:
    """Columns of one frame: of each field its candidates, and which one is taken."""

    present: tuple[str, ...]
    #: Columns by field; a field without a column is missing.
    columns: Mapping[str, str]
    #: Columns that hold one symbol where there is no key.
    symbols: tuple[str, ...]
    #: Fields whose column was named by the caller.
    given: frozenset[str]

    def unbound(self, keys: Collection[str | None] = ()) -> list[str]:
        """Return the columns that no field and no key takes."""
        taken = {*self.columns.values(), *self.symbols, *keys}
        return [name for name in self.present if name not in taken]


def bind(
    schema: Mapping[str, pl.DataType],
    columns: ColumnMap,
    *,
    keys: Sequence[str] = (),
    bar_id: str | None = None,
) -> Inputs:
    """Find the column of each field: by `columns`, by the name of the field, or by a known name."""
    binding = find_columns(schema, columns, keys=keys, bar_id=bar_id)
    extra = [("key", key) for key in keys]
    if bar_id is not None:
        extra.append(("bar_id", bar_id))
    for role, name in extra:
        if name not in schema:
            used_for = "group_by" if role == "key" else role
            raise MissingColumnError.of(name, schema, used_for=used_for)
    _check_keys_unbound(keys, binding)
    symbols = [(SYMBOL, name) for name in binding.symbols] if not extra else []
    pairs = [*binding.columns.items(), *extra, *symbols]
    apart = () if keys else _could_tell_apart(schema, binding)
    return Inputs(tuple(role for role, _ in pairs), tuple(name for _, name in pairs), apart)


def _check_keys_unbound(keys: Sequence[str], binding: Binding) -> None:
    """Refuse a key that is a field of the trades, such as their price."""
    fields = {name: field for field, name in binding.columns.items()}
    for key in keys:
        if key in fields:
            field = fields[key]
            hint = f'if it is a key and no `{field}`, say so: columns={{"{field}": None}}'
            if field in _REQUIRED:
                hint = (
                    f"compute the key as a column of its own, with "
                    f'.with_columns(my_{key}=pl.col("{key}")), and pass group_by="my_{key}"'
                )
            raise ValueError(
                with_hint(f"`group_by` names `{key}`, which is the `{field}` of the trades", hint)
            )


def _could_tell_apart(schema: Mapping[str, pl.DataType], binding: Binding) -> tuple[str, ...]:
    """Return the text columns that may be symbols, the most likely first."""
    described = [(name, _kind(dtype), True) for name, dtype in schema.items()]
    known = {
        field: {binding.present[at] for at in positions}
        for field, positions in _internal.candidates(described)
    }
    likely = known.pop(SYMBOL) - set(binding.symbols)
    others = {name for name in binding.unbound() if _kind(schema[name]) == "text"}
    others -= likely.union(*known.values())
    return (*sorted(likely), *(name for name in schema if name in others))


def find_columns(
    schema: Mapping[str, pl.DataType],
    columns: ColumnMap,
    *,
    keys: Sequence[str] = (),
    bar_id: str | None = None,
) -> Binding:
    """Find the column of each field that has one.

    Raises
    ------
    MissingColumnError
        A column that was named, or one without which there are no bars, is missing.
    ValueError
        A field has two candidates.
    """
    claimed = {name for name in (*columns.values(), *keys, bar_id) if name is not None}
    described = [(name, _kind(dtype), name not in claimed) for name, dtype in schema.items()]
    present = tuple(schema)
    candidates = {
        field: [present[at] for at in positions]
        for field, positions in _internal.candidates(described)
    }
    symbols = candidates.pop(SYMBOL)
    if SYMBOL in columns:
        named = _named_column(SYMBOL, columns[SYMBOL], present)
        symbols = [] if named is None else [named]
    found = {}
    for field, names in candidates.items():
        if not names and field in _REQUIRED and field not in columns:
            raise missing_field(field, schema, {*chain(*candidates.values()), *claimed})
        name = _column_of(field, names, present, columns)
        if name is not None:
            found[field] = name
    # Both identify the aggressor: the one in `columns` wins, else `is_buyer_maker`.
    if "side" in found and "is_buyer_maker" in found:
        del found["side" if columns.get("side") is None else "is_buyer_maker"]
    given = frozenset(field for field in found if columns.get(field) is not None)
    return Binding(present, found, tuple(symbols), given)


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    return "text" if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)) else "other"


def _named_column(field: str, name: str | None, present: Sequence[str]) -> str | None:
    if name is None or name in present:
        return name
    raise MissingColumnError.of(name, present, used_for=field, renamed_by=field)


def _column_of(
    field: str, candidates: Sequence[str], present: Sequence[str], columns: ColumnMap
) -> str | None:
    if field in columns:
        return _named_column(field, columns[field], present)
    if len(candidates) > 1:
        listed = " and ".join(f"`{name}`" for name in candidates)
        raise ValueError(
            with_hint(
                f"the frame has no column `{field}`, and {listed} could each be it",
                f'say which: columns={{"{field}": "{candidates[0]}"}}',
            )
        )
    return candidates[0] if candidates else None
