"""The table of sources, and the ticks that they deliver.

Whatever depends on the source of a tick is a field of its row in `SOURCES`. A new source is a row
here, a folder below `fetch/` and a line in `fetch/registry.py`. A user source, whose ticks come from
`TickStorage.write_ticks` only, has a row that is made from its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal, NamedTuple

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars._utils.contracts import CONTRACTS
from rangebar_polars._utils.symbol_names import canonical_name
from rangebar_polars.exceptions import nearest, unknown_choice, with_hint

__all__ = [
    "DEFAULT_MARKET",
    "DEFAULT_SOURCE",
    "IDS_PER_MONTH",
    "LONGEST_STEP_BACK_US",
    "QUOTES",
    "QUOTES_SCHEMA",
    "SOURCES",
    "TEXT_ID",
    "TICK_KINDS",
    "TRADES",
    "TRADES_SCHEMA",
    "TRADES_SUFFIX",
    "USER_TRADES",
    "IdScheme",
    "Market",
    "Source",
    "TickKind",
    "Venue",
    "canonical_market",
    "canonical_symbol",
    "delivered_schema",
    "has_contracts",
    "has_monthly_ids",
    "is_user_source",
    "market_names",
    "market_of_kind",
    "schema_of",
    "similar_source",
    "source_named",
    "sources_with_monthly_ids",
    "stored_schema_of",
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


#: Kinds of ticks that an archive has: trades of one order at one price, or single trades.
TICK_KINDS = ("agg_trades", "trades")
#: What the name of a market ends in where the store holds its single trades.
TRADES_SUFFIX = ".trades"


#: The column of ids that are texts, such as UUIDs.
TEXT_ID = "trade_id"


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
    #: Columns that only some stored days have, after those of the schema.
    extra: tuple[tuple[str, pl.DataType], ...] = ()

    @property
    def stored_schema(self) -> pl.Schema:
        """Columns and dtypes that a stored day may have."""
        return pl.Schema([*self.schema.items(), *self.extra])


TRADES = TickKind(
    "trades",
    TRADES_SCHEMA,
    ("timestamp", "price", "agg_trade_id"),
    ((CONTRACTS, pl.Float64()),),
)


#: Trades of a user source. Ids are whole numbers in `agg_trade_id`, or texts in `trade_id`, or absent.
USER_TRADES = TickKind("trades", TRADES_SCHEMA, ("timestamp", "price"), ((TEXT_ID, pl.String()),))


QUOTES = TickKind("quotes", QUOTES_SCHEMA, ("timestamp", "price", "bid", "ask", "agg_trade_id"))


class Market(NamedTuple):
    """A market of a source."""

    name: str
    #: Unit of the quantities; empty where ticks have no quantity.
    quantity_unit: str = ""
    #: Its name in a file of symbols, where that differs.
    registry_name: str = ""
    #: Whether the exchange counts contracts, which become coins when the ticks are stored.
    has_contracts: bool = False


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
    #: Whether its ticks come from `TickStorage.write_ticks` only. Its markets then have any name.
    is_user: bool = False
    #: Whether its archive also has single trades, which the store holds beside the aggregate ones.
    has_trades: bool = False

    @property
    def all_markets(self) -> tuple[Market, ...]:
        """The markets, and those of single trades."""
        if not self.has_trades:
            return self.markets
        of_trades = (
            market._replace(name=f"{market.name}{TRADES_SUFFIX}", registry_name="")
            for market in self.markets
        )
        return (*self.markets, *of_trades)

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
            Market(
                "cm", "base currency, converted from contracts", "futures-cm", has_contracts=True
            ),
        ),
        ticks=TRADES,
        ids=IdScheme.CHAIN,
        archive_file="day",
        closes_at_weekends=False,
        settings=("binance_archive_url", "binance_rest_url", "checksum", "rest_weight_per_minute"),
        has_trades=True,
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
    if source is not None:
        return source
    if not _NAME_OF_SOURCE.fullmatch(name.lower()):
        sentence = unknown_choice("source", name, list(SOURCES)).partition("\n")[0]
        hint = (
            "a source of your own has a name of 2 to 32 characters a-z, 0-9, `_` and `-` that begins "
            "with a letter"
        )
        raise ValueError(with_hint(sentence, hint))
    return _user_source(name.lower())


@lru_cache(maxsize=256)
def _user_source(name: str) -> Source:
    """Make the row of a user source."""
    return Source(
        name=name,
        title=name,
        markets=(),
        ticks=USER_TRADES,
        ids=IdScheme.CHAIN,
        archive_file="day",
        closes_at_weekends=False,
        settings=(),
        is_user=True,
    )


def is_user_source(source: str) -> bool:
    """Return whether the ticks of a source come from `TickStorage.write_ticks` only.

    Examples
    --------
    >>> from rangebar_polars.sources import is_user_source
    >>> is_user_source("kraken"), is_user_source("binance")
    (True, False)
    """
    return source_named(source).is_user


def similar_source(name: str) -> str | None:
    """Return the source of the table that the name of a user source may be a misspelling of.

    Examples
    --------
    >>> from rangebar_polars.sources import similar_source
    >>> similar_source("binanc"), similar_source("kraken"), similar_source("binance")
    ('binance', None, None)
    """
    return None if name.lower() in SOURCES else nearest(name.lower(), SOURCES)


def schema_of(source: str) -> pl.Schema:
    """Return the schema of the ticks of a source."""
    return source_named(source).ticks.schema


def has_contracts(source: str, market: str) -> bool:
    """Return whether an exchange counts contracts on a market, which are stored beside the coins.

    Examples
    --------
    >>> from rangebar_polars.sources import has_contracts
    >>> has_contracts("binance", "cm"), has_contracts("binance", "um")
    (True, False)
    """
    markets = source_named(source).all_markets
    return any(row.has_contracts for row in markets if row.name == market)


def delivered_schema(source: str, market: str) -> pl.Schema:
    """Return the schema of the ticks that the fetcher of a market delivers."""
    schema = schema_of(source)
    return (
        pl.Schema({**schema, CONTRACTS: pl.Float64()}) if has_contracts(source, market) else schema
    )


def stored_schema_of(source: str) -> pl.Schema:
    """Return the columns that a stored day of a source may have."""
    return source_named(source).ticks.stored_schema


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


# Both are names of folders of the store.
_NAME_OF_SOURCE = re.compile(r"[a-z][a-z0-9_-]{1,31}")
_NAME_OF_MARKET = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Venue(NamedTuple):
    """A market of a source, by the names of this package."""

    source: str = DEFAULT_SOURCE
    market: str = DEFAULT_MARKET

    def __str__(self) -> str:
        return f"{self.source}/{self.market}"


def canonical_market(source: str, market: str) -> Venue:
    """Return the venue that a source and a market name in any letter case.

    The market of a user source has any name of 1 to 32 characters a-z, 0-9, `_` and `-` that begins
    with a letter or a digit.

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
    if row.is_user:
        return Venue(row.name, _market_of_user(market))
    for known in row.all_markets:
        if market.lower() in (known.name, known.registry_name or known.name):
            return Venue(row.name, known.name)
    raise ValueError(unknown_choice("market", market, row.market_names))


def market_of_kind(venue: Venue, kind: str) -> Venue:
    """Return the venue under which the store holds ticks of a kind.

    Raises
    ------
    ValueError
        The kind is not known, or the source has no single trades.

    Examples
    --------
    >>> from rangebar_polars.sources import Venue, market_of_kind
    >>> market_of_kind(Venue("binance", "um"), "trades")
    Venue(source='binance', market='um.trades')
    """
    if kind not in TICK_KINDS:
        raise ValueError(unknown_choice("kind", shown(kind), TICK_KINDS))
    if kind == TICK_KINDS[0] or venue.market.endswith(TRADES_SUFFIX):
        return venue
    row = source_named(venue.source)
    if not row.has_trades:
        named = ", ".join(f"`{name}`" for name, source in SOURCES.items() if source.has_trades)
        raise ValueError(
            with_hint(f"`{row.name}` has no single trades beside its ticks", f"{named} has them")
        )
    return Venue(row.name, f"{venue.market}{TRADES_SUFFIX}")


def _market_of_user(market: str) -> str:
    """Return the market of a user source in lower case, after checking its characters."""
    name = market.lower()
    if _NAME_OF_MARKET.fullmatch(name):
        return name
    raise ValueError(
        with_hint(
            f"`market` is `{shown(market)}`, which is not the name of a market",
            "use 1 to 32 characters a-z, 0-9, `_` and `-` that begin with a letter or a digit",
        )
    )


def canonical_symbol(symbol: str) -> str:
    """Return a symbol in NFC and in upper case.

    Raises
    ------
    ValueError
        The symbol is empty or too long, or has a character other than a letter of any script, a
        digit, `_`, `-`, `.` and `/`.
    TypeError
        The symbol is not text.

    Examples
    --------
    >>> from rangebar_polars.sources import canonical_symbol
    >>> canonical_symbol("btcusd_perp"), canonical_symbol("eur/usd")
    ('BTCUSD_PERP', 'EUR/USD')
    """
    if not isinstance(symbol, str):
        raise TypeError(f"`symbol` must be text; it is of type `{type(symbol).__name__}`")
    # The text of a subclass of `str`, such as an enum of instruments.
    return canonical_name(str.__str__(symbol))
