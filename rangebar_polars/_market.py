"""The sources of ticks, their markets, and what a symbol may look like."""

from __future__ import annotations

import re

from rangebar_polars.exceptions import unknown_choice, with_hint

__all__ = ["MARKETS", "canonical_market", "canonical_symbol"]

#: Markets of each source by their names in this package.
MARKETS = {"binance": ("spot", "um", "cm"), "exness": ("spot",)}

_OTHER_NAMES = {"futures-um": "um", "futures-cm": "cm"}
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]*")


def canonical_market(source: str, market: str) -> tuple[str, str]:
    """Source and market in lower case, by the names of this package.

    Raises
    ------
    ValueError
        The source, or this market of it, is not known.

    Examples
    --------
    >>> from rangebar_polars._market import canonical_market
    >>> canonical_market("Binance", "futures-um")
    ('binance', 'um')
    """
    for name, value in (("source", source), ("market", market)):
        if not isinstance(value, str):
            raise TypeError(f"`{name}` must be text; it is of type `{type(value).__name__}`")
    origin = source.lower()
    if origin not in MARKETS:
        raise ValueError(unknown_choice("source", source, list(MARKETS)))
    place = _OTHER_NAMES.get(market.lower(), market.lower())
    if place not in MARKETS[origin]:
        raise ValueError(unknown_choice("market", market, MARKETS[origin]))
    return origin, place


def canonical_symbol(symbol: str) -> str:
    """Symbol in upper case.

    Raises
    ------
    ValueError
        Not a symbol: empty, or with other signs than letters, digits and `_`.
    TypeError
        Not text.

    Examples
    --------
    >>> from rangebar_polars._market import canonical_symbol
    >>> canonical_symbol("btcusd_perp")
    'BTCUSD_PERP'
    """
    if not isinstance(symbol, str):
        raise TypeError(f"`symbol` must be text; it is of type `{type(symbol).__name__}`")
    name = symbol.strip().upper()
    if not _SYMBOL.fullmatch(name):
        raise ValueError(
            with_hint(f"`{symbol}` is no symbol", "letters, digits and `_`, such as BTCUSDT")
        )
    return name
