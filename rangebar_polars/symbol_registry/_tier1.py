"""The most liquid symbols against one quote currency."""

from __future__ import annotations

from rangebar_polars._text import shown
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars.exceptions import nearest, with_hint
from rangebar_polars.symbol_registry._registry import TIER1_SYMBOLS, get_symbol_entries

__all__ = ["tier1_pairs"]


@checked_keywords
def tier1_pairs(quote: str = "USDT") -> tuple[str, ...]:
    """Return the registered symbols of the base names `rb.TIER1_SYMBOLS` against one quote.

    Parameters
    ----------
    quote
        The quote currency, in any letter case.

    Raises
    ------
    ValueError
        No base name is registered against this quote.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> rb.tier1_pairs("USDT")[:3]
    ('AAVEUSDT', 'ADAUSDT', 'AVAXUSDT')
    """
    if not isinstance(quote, str):
        raise TypeError(f"`quote` must be text; it is of type `{type(quote).__name__}`")
    entries = get_symbol_entries()
    wanted = quote.strip().upper()
    found = tuple(base + wanted for base in TIER1_SYMBOLS if base + wanted in entries)
    if not wanted or not found:
        quotes = sorted(
            {
                name.removeprefix(base)
                for name in entries
                for base in TIER1_SYMBOLS
                if name.startswith(base)
            }
            - {""}
        )
        near = nearest(wanted, quotes) or "USDT"
        sentence = f"no symbol of `rb.TIER1_SYMBOLS` is registered against `{shown(quote)}`"
        raise ValueError(with_hint(sentence, f'rb.tier1_pairs("{near}")'))
    return found
