"""What a source gives and the store keeps: ticks of one UTC day, and where they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.exceptions import unknown_choice, with_hint

if TYPE_CHECKING:
    from datetime import date

__all__ = [
    "LONGEST_STEP_BACK_US",
    "MARKETS",
    "QUOTES_SCHEMA",
    "TRADES_SCHEMA",
    "DayTicks",
    "Origin",
    "Venue",
    "canonical_market",
    "canonical_symbol",
    "is_strictly_increasing",
    "schema_of",
]


#: In the order of the ids, a time that runs back by so much is raised; by more, it is an error.
LONGEST_STEP_BACK_US = 1_000_000


#: Columns and dtypes of a frame of aggregate trades.
TRADES_SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "quantity": pl.Float64(),
        "agg_trade_id": pl.Int64(),
        "first_trade_id": pl.Int64(),
        "last_trade_id": pl.Int64(),
        "is_buyer_maker": pl.Boolean(),
    }
)


#: Columns and dtypes of a frame of quotes. `price` is the mid of bid and ask; the id counts the
#: rows of a month: (100 · year + month) · 10⁸ + row.
QUOTES_SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "bid": pl.Float64(),
        "ask": pl.Float64(),
        "agg_trade_id": pl.Int64(),
    }
)


def schema_of(source: str) -> pl.Schema:
    """Schema of the ticks of a source."""
    return QUOTES_SCHEMA if source == "exness" else TRADES_SCHEMA


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the ticks of a day came from, and what was mended in them."""

    #: "archive", "rest" or "user".
    kind: str
    url: str = ""
    #: SHA-256 of the file as it was fetched, in hex.
    sha256: str = ""
    #: What the published checksum says; empty where none was found.
    checksum: str = ""
    etag: str = ""
    last_modified: str = ""
    #: Unit of time in the source: "ms" or "us".
    unit: str = ""
    #: Rows put in the order of their ids, raised in time, dropped as copies, dropped as sentinels.
    moved: int = 0
    raised: int = 0
    doubled: int = 0
    sentinels: int = 0


@dataclass(frozen=True, slots=True)
class DayTicks:
    """Ticks of one UTC day, in the order of their ids."""

    day: date
    ticks: pl.DataFrame
    origin: Origin
    #: Spans of ids, both ends included, that the source says it does not have.
    source_absent: tuple[tuple[int, int], ...] = ()
    #: Whether more may come: a running month of quotes, a day without its archive.
    is_tail: bool = False
    #: Why a day without ticks is complete.
    reason: str = ""


def is_strictly_increasing(values: pl.Series) -> bool:
    """Each value is above the one before."""
    return bool((values.diff() > 0).all())


#: Markets of each source by their names in this package.
MARKETS = {"binance": ("spot", "um", "cm"), "exness": ("spot",)}


_OTHER_NAMES = {"futures-um": "um", "futures-cm": "cm"}


_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]*")


class Venue(NamedTuple):
    """A market of a source, by the names of this package."""

    source: str = "binance"
    market: str = "spot"

    def __str__(self) -> str:
        return f"{self.source}/{self.market}"


def canonical_market(source: str, market: str) -> Venue:
    """Return the venue that a source and a market name in any letter case.

    Raises
    ------
    ValueError
        The source, or this market of it, is not known.

    Examples
    --------
    >>> from rangebar_polars.sources import canonical_market
    >>> canonical_market("Binance", "futures-um")
    Venue(source='binance', market='um')
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
    return Venue(origin, place)


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
    >>> from rangebar_polars.sources import canonical_symbol
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
