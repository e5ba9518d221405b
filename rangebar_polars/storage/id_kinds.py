"""The three kinds of ids that ticks of a user source may have, and the columns that hold them.

Numbers form a chain, which proves that no tick is missing. Texts, such as UUIDs, prove that no tick
is there twice. Without ids, neither is proved. Days of the last two kinds are complete as written.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._internal import known_names
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.sources import TEXT_ID
from rangebar_polars.storage.files.codec import LONGEST_TEXT
from rangebar_polars.trade_layouts.table import column_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ID", "IdKind", "check_same_kind", "id_kind", "id_names", "text_id_column", "text_ids"]

#: The column of ids that are numbers.
ID = "agg_trade_id"


class IdKind(Enum):
    """What identifies the ticks of a day."""

    NUMBERS = "numbers as ids"
    TEXTS = "texts as ids"
    NONE = "no ids"


def id_kind(columns: Iterable[str]) -> IdKind:
    """Return the kind of ids that stored columns have.

    Examples
    --------
    >>> from rangebar_polars.storage.id_kinds import id_kind
    >>> id_kind(["timestamp", "price", "trade_id"]).value
    'texts as ids'
    """
    names = set(columns)
    if ID in names:
        return IdKind.NUMBERS
    return IdKind.TEXTS if TEXT_ID in names else IdKind.NONE


def id_names(columns: Iterable[str]) -> list[str]:
    """Return the columns whose names are those of an id, in order.

    Examples
    --------
    >>> from rangebar_polars.storage.id_kinds import id_names
    >>> id_names(["price", "tradeId", "ID"])
    ['tradeId', 'ID']
    """
    known = {column_key(name) for field, names, _ in known_names() if field == ID for name in names}
    return [name for name in columns if column_key(name) in known]


def text_id_column(schema: Mapping[str, pl.DataType]) -> str | None:
    """Return the column of ids that are texts, or None without one.

    Raises
    ------
    TickDataError
        Two columns could be it.
    """
    texts = (pl.String, pl.Categorical, pl.Enum)
    found = [name for name in id_names(schema) if isinstance(schema[name], texts)]
    exact = [name for name in found if name in (ID, TEXT_ID)]
    found = found if len(exact) != 1 else exact
    if len(found) > 1:
        listed = " and ".join(f"`{name}`" for name in found)
        raise TickDataError(
            with_hint(
                f"{listed} could each be the ids of the ticks", f'drop one: .drop("{found[1]}")'
            )
        )
    return found[0] if found else None


def text_ids(values: pl.Series) -> pl.Series:
    """Return ids as texts, after checking that each is there and of a length that can be stored.

    Raises
    ------
    TickDataError
        An id is null, empty or too long.
    """
    texts = values.cast(pl.String).alias(TEXT_ID)
    sizes = texts.str.len_bytes().cast(pl.Int64)
    bad = texts.is_null() | ~sizes.is_between(1, LONGEST_TEXT)
    if not bad.any():
        return texts
    row = int(bad.arg_true()[0])
    found = {None: "null", 0: "empty"}.get(sizes[row], f"longer than {LONGEST_TEXT} bytes")
    raise TickDataError(
        with_hint(
            f"row {row}: the id in `{values.name}` is {found}",
            f'without usable ids, drop the column: .drop("{values.name}")',
        )
    )


def check_same_kind(stored: Sequence[str], offered: Sequence[str]) -> IdKind:
    """Return the kind of ids that two frames of one day have.

    Raises
    ------
    TickDataError
        They have different kinds, so that it is unknown which ticks are in both.
    """
    before, now = id_kind(stored), id_kind(offered)
    if before is now:
        return now
    raise TickDataError(
        with_hint(
            f"the stored ticks of the day have {before.value}, the new ones {now.value}",
            "write the day with the same columns as before, or delete it first (`delete_ticks`)",
        )
    )
