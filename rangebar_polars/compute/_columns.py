"""Binding of the columns of a frame to the fields of a trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars.catalogue import column_names
from rangebar_polars.exceptions import MissingColumnError, unknown_choice, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars._typing import ColumnMap, GroupBy

__all__ = ["FIELDS", "Inputs", "bind", "parse_columns", "parse_keys"]

# Names that exchanges, their files and other libraries give to a field. Not included, because they
# are ambiguous: `id` and `trade_id` (often text, or the id of a single fill), `t` (a trade id or a
# time), `E` and `event_time` (the time at which a message was sent).
_ALIASES: dict[str, tuple[str, ...]] = {
    "price": ("px", "p", "P"),
    "timestamp": ("transact_time", "time", "T", "ts", "datetime", "trade_time"),
    "quantity": ("volume", "qty", "size", "amount", "vol", "q", "Q"),
    "is_buyer_maker": ("m", "buyer_maker", "isBuyerMaker"),
    "side": (),
    "agg_trade_id": ("a", "agg_id", "aggTradeId"),
    "first_trade_id": ("f", "first_id", "firstTradeId"),
    "last_trade_id": ("l", "last_id", "lastTradeId"),
}
_REQUIRED = ("price", "timestamp")

#: The fields of a trade, in binding order.
FIELDS = tuple(_ALIASES)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns to read, each with its role: a field, `bar_id` or `key`."""

    roles: tuple[str, ...]
    names: tuple[str, ...]


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
    if field not in FIELDS:
        message = unknown_choice("columns", str(field), FIELDS)
        if name in FIELDS:
            message = with_hint(message, f'the field comes first: columns={{"{name}": "{field}"}}')
        raise ValueError(message)
    if name is None and field in _REQUIRED:
        raise ValueError(f"`columns` leaves out `{field}`, which bars require")
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"`columns` must map `{field}` to the name of a column or to None, not to a value of "
            f"type `{type(name).__name__}`"
        )


def parse_keys(group_by: GroupBy | None) -> tuple[str, ...]:
    """Return the names of the key columns."""
    if group_by is None:
        return ()
    keys = (group_by,) if isinstance(group_by, str) else group_by
    if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
        raise TypeError(
            with_hint(
                "`group_by` of a frame must be the name of a column or a list of names",
                "compute a key with `with_columns` first, then pass its name",
            )
        )
    if not keys:
        raise ValueError("`group_by` is an empty list; leave it out for a single series of trades")
    return tuple(keys)


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


def bind(
    present: Sequence[str],
    columns: ColumnMap,
    *,
    keys: Sequence[str] = (),
    bar_id: str | None = None,
) -> Inputs:
    """Find the column of each field: by `columns`, by the name of the field, or by an alias."""
    found = _fields(present, columns, {*columns.values(), *keys, bar_id})
    extra = [("key", key) for key in keys]
    if bar_id is not None:
        extra.append(("bar_id", bar_id))
    for role, name in extra:
        if name not in present:
            used_for = "group_by" if role == "key" else role
            raise MissingColumnError.of(name, present, used_for=used_for)
    pairs = [*found.items(), *extra]
    return Inputs(tuple(role for role, _ in pairs), tuple(name for _, name in pairs))


def _fields(present: Sequence[str], columns: ColumnMap, claimed: set[str | None]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in FIELDS:
        name = _column_of(field, present, columns, claimed)
        if name is not None:
            found[field] = name
    # Both identify the aggressor: the one in `columns` wins, else `is_buyer_maker`.
    if "side" in found and "is_buyer_maker" in found:
        del found["side" if columns.get("side") is None else "is_buyer_maker"]
    return found


def _column_of(
    field: str, present: Sequence[str], columns: ColumnMap, claimed: set[str | None]
) -> str | None:
    name = columns.get(field, field)
    if name is None or name in present:
        return name
    if field in columns:
        raise MissingColumnError.of(name, present, used_for=field, renamed_by=field)
    aliases = [name for name in _ALIASES[field] if name in present and name not in claimed]
    if len(aliases) > 1:
        listed = " and ".join(f"`{alias}`" for alias in aliases)
        raise ValueError(
            with_hint(
                f"the frame has no column `{field}`, and each of {listed} could stand for it",
                f'name the column: columns={{"{field}": "{aliases[0]}"}}',
            )
        )
    if not aliases and field in _REQUIRED:
        raise MissingColumnError.of(field, present, used_for=field, renamed_by=field)
    return aliases[0] if aliases else None
