"""Words of a side, and what they say of the buyer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.trade_layouts.table import BUY, NO_SIDE, SELL

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["seller_took"]


def seller_took(
    side: pl.Series, *, is_maker: bool = False, plain: Callable[[str], str] = str
) -> pl.Series | None:
    """Return whether the seller was the taker, null where nobody was; None if a word is unknown.

    `is_maker` says that the words are the side of the maker. `plain` is applied once to each
    different word.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.trade_layouts.sides import seller_took
    >>> seller_took(pl.Series(["buy", "S", "none", None])).to_list()
    [False, True, None, None]
    >>> seller_took(pl.Series([1, -1, 0]), is_maker=True).to_list()
    [True, False, None]
    """
    words = side.cast(pl.String)
    found = {word: plain(word or "").lower() for word in words.unique()}
    if not all(word in BUY | SELL | NO_SIDE for word in found.values()):
        return None
    meanings = {
        word: None if text in NO_SIDE else (text in SELL) != is_maker
        for word, text in found.items()
    }
    return words.replace_strict(
        pl.Series([*meanings], dtype=pl.String),
        pl.Series([*meanings.values()], dtype=pl.Boolean),
        return_dtype=pl.Boolean,
    )
