"""The table of sources, and the ticks that they deliver.

Whatever depends on the source of a tick is a field of its row in `SOURCES`. A new source is a row
here, a folder below `fetch/` and a line in `fetch/registry.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from rangebar_polars.exceptions import unknown_choice, with_hint

if TYPE_CHECKING:
    from datetime import date

__all__ = [
    "DEFAULT_MARKET",
    "DEFAULT_SOURCE",
    "IDS_PER_MONTH",
    "LONGEST_STEP_BACK_US",
    "QUOTES",
    "QUOTES_SCHEMA",
    "SOURCES",
    "TRADES",
    "TRADES_SCHEMA",
    "DayTicks",
    "IdScheme",
    "Market",
    "Origin",
    "Source",
    "TickKind",
    "Venue",
    "canonical_market",
    "canonical_symbol",
    "has_monthly_ids",
    "is_strictly_increasing",
    "market_names",
    "schema_of",
    "source_named",
    "sources_with_monthly_ids",
]


#: The source and market of a call, or of an entry of the symbol registry, that names none.
DEFAULT_SOURCE, DEFAULT_MARKET = "binance", "spot"


#: In id order, a time that runs back by at most this much is raised. More is an error.
LONGEST_STEP_BACK_US = 1_000_000


#: The id of a quote is its month, 100 · year + month, times this, plus its row in the month's file.
IDS_PER_MONTH = 10**8


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


#: Columns and dtypes of a frame of quotes. `price` is the mid of bid and ask.
QUOTES_SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "bid": pl.Float64(),
        "ask": pl.Float64(),
        "agg_trade_id": pl.Int64(),
    }
)


class IdScheme(Enum):
    """How the ids of a symbol's ticks follow one another, which proves that none is missing."""

    #: Each id is the one before plus 1, over all days.
    CHAIN = "each id is the one before plus 1"
    #: Ids number the rows of a month's file, see `IDS_PER_MONTH`.
    MONTHLY = "rows of a month, (100 · year + month) · 10⁸ + row"


@dataclass(frozen=True, slots=True, eq=False)
class TickKind:
    """What a tick is: its columns, and those that a frame of ticks must have."""

    name: str
    schema: pl.Schema
    required: tuple[str, ...]


TRADES = TickKind("trades", TRADES_SCHEMA, ("timestamp", "price", "agg_trade_id"))


QUOTES = TickKind("quotes", QUOTES_SCHEMA, ("timestamp", "price", "bid", "ask", "agg_trade_id"))


class Market(NamedTuple):
    """A market of a source."""

    name: str
    #: Unit of the quantities; empty where ticks have no quantity.
    quantity_unit: str = ""
    #: Its name in a file of symbols, where that differs.
    registry_name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A row of the table of sources."""

    name: str
    #: The name in texts for people.
    title: str
    markets: tuple[Market, ...]
    ticks: TickKind
    ids: IdScheme
    #: The period that one file of the archive covers.
    archive_file: Literal["day", "month"]
    #: Whether trading pauses from Friday evening to Sunday evening.
    closes_at_weekends: bool
    #: Names of its own fields of `rangebar_polars.config.Settings`.
    settings: tuple[str, ...]

    @property
    def market_names(self) -> tuple[str, ...]:
        """Names of the markets."""
        return tuple(market.name for market in self.markets)


def _by_name(*sources: Source) -> dict[str, Source]:
    return {source.name: source for source in sources}


#: Every source by its name.
SOURCES = _by_name(
    Source(
        name="binance",
        title="Binance",
        markets=(
            Market("spot", "base currency"),
            Market("um", "base currency", "futures-um"),
            Market("cm", "contracts", "futures-cm"),
        ),
        ticks=TRADES,
        ids=IdScheme.CHAIN,
        archive_file="day",
        closes_at_weekends=False,
        settings=("binance_archive_url", "binance_rest_url", "checksum", "rest_weight_per_minute"),
    ),
    Source(
        name="exness",
        title="Exness",
        markets=(Market("spot"),),
        ticks=QUOTES,
        ids=IdScheme.MONTHLY,
        archive_file="month",
        closes_at_weekends=True,
        settings=("exness_url",),
    ),
)


def source_named(name: str) -> Source:
    """Return a source by its name in any letter case.

    Raises
    ------
    ValueError
        The source is not known.

    Examples
    --------
    >>> from rangebar_polars.sources import source_named
    >>> source_named("Exness").market_names
    ('spot',)
    """
    source = SOURCES.get(name.lower())
    if source is None:
        raise ValueError(unknown_choice("source", name, list(SOURCES)))
    return source


def schema_of(source: str) -> pl.Schema:
    """Return the schema of the ticks of a source."""
    return source_named(source).ticks.schema


def has_monthly_ids(source: str) -> bool:
    """Return whether ids number the rows of a month's file; False for an unknown source."""
    return source.lower() in sources_with_monthly_ids()


def sources_with_monthly_ids() -> list[str]:
    """Return the names of the sources whose ids number the rows of a month's file."""
    return [source.name for source in SOURCES.values() if source.ids is IdScheme.MONTHLY]


def market_names() -> tuple[str, ...]:
    """Return the names of the markets of all sources, each once.

    Examples
    --------
    >>> from rangebar_polars.sources import market_names
    >>> market_names()
    ('spot', 'um', 'cm')
    """
    return tuple(dict.fromkeys(name for row in SOURCES.values() for name in row.market_names))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the ticks of a day came from, and which of their rows were repaired."""

    #: "archive", "rest" or "user".
    kind: str
    url: str = ""
    #: SHA-256 of the fetched file, in hex.
    sha256: str = ""
    #: The published checksum; empty if there was none.
    checksum: str = ""
    etag: str = ""
    last_modified: str = ""
    #: Unit of time at the source: "ms" or "us".
    unit: str = ""
    #: Rows that were moved into id order, raised in time, dropped as copies, dropped as sentinels.
    moved: int = 0
    raised: int = 0
    doubled: int = 0
    sentinels: int = 0


@dataclass(frozen=True, slots=True)
class DayTicks:
    """Ticks of one UTC day, in id order."""

    day: date
    ticks: pl.DataFrame
    origin: Origin
    #: Spans of ids, both ends included, that do not exist at the source.
    source_absent: tuple[tuple[int, int], ...] = ()
    #: Whether more ticks may follow: in a running month of quotes, on a day not yet archived.
    is_tail: bool = False
    #: Why a day without ticks is complete.
    reason: str = ""


def is_strictly_increasing(values: pl.Series) -> bool:
    """Return whether each value is greater than the one before."""
    return bool((values.diff() > 0).all())


_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]*")


class Venue(NamedTuple):
    """A market of a source, by the names of this package."""

    source: str = DEFAULT_SOURCE
    market: str = DEFAULT_MARKET

    def __str__(self) -> str:
        return f"{self.source}/{self.market}"


def canonical_market(source: str, market: str) -> Venue:
    """Return the venue that a source and a market name in any letter case.

    Raises
    ------
    ValueError
        The source, or its market, is not known.

    Examples
    --------
    >>> from rangebar_polars.sources import canonical_market
    >>> canonical_market("Binance", "futures-um")
    Venue(source='binance', market='um')
    """
    for name, value in (("source", source), ("market", market)):
        if not isinstance(value, str):
            raise TypeError(f"`{name}` must be text; it is of type `{type(value).__name__}`")
    row = source_named(source)
    for known in row.markets:
        if market.lower() in (known.name, known.registry_name or known.name):
            return Venue(row.name, known.name)
    raise ValueError(unknown_choice("market", market, row.market_names))


def canonical_symbol(symbol: str) -> str:
    """Return a symbol in upper case.

    Raises
    ------
    ValueError
        The symbol is empty, or has a character other than a letter, a digit or `_`.
    TypeError
        The symbol is not text.

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
            with_hint(f"`{symbol}` is not a symbol", "use letters, digits and `_`, as in BTCUSDT")
        )
    return name
