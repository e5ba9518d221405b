"""The symbol registry: what is known about each symbol, from `symbols.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

__all__ = [
    "TIER1_SYMBOLS",
    "KnownGap",
    "SymbolEntry",
    "get_registered_symbols",
    "get_symbol_entries",
]

#: Base names of the most liquid symbols.
TIER1_SYMBOLS: tuple[str, ...] = (
    "AAVE",
    "ADA",
    "AVAX",
    "BCH",
    "BNB",
    "BTC",
    "DOGE",
    "ETH",
    "FIL",
    "LINK",
    "LTC",
    "NEAR",
    "SOL",
    "SUI",
    "UNI",
    "WIF",
    "WLD",
    "XRP",
)


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A span of UTC days, both ends included, whose missing data are no fault."""

    start_date: date
    end_date: date
    reason: str


@dataclass(frozen=True, slots=True)
class SymbolEntry:
    """What `symbols.toml` says about one symbol."""

    name: str
    enabled: bool
    asset_class: str
    exchange: str
    market: str
    listing_date: date | None = None
    effective_start: date | None = None
    tier: int | None = None
    min_threshold: int | None = None
    data_anomalies: tuple[str, ...] = ()
    known_gaps: tuple[KnownGap, ...] = ()

    @classmethod
    def from_table(cls, name: str, table: Mapping[str, Any]) -> SymbolEntry:
        """Entry of the table `[symbols.NAME]`."""
        values = dict(table)
        anomalies = tuple(values.pop("data_anomalies", ()))
        gaps = tuple(KnownGap(**gap) for gap in values.pop("known_gaps", ()))
        return cls(name=name, data_anomalies=anomalies, known_gaps=gaps, **values)


@cache
def get_symbol_entries() -> Mapping[str, SymbolEntry]:
    """Every entry of the registry by its name, in the order of the file.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_symbol_entries
    >>> entry = get_symbol_entries()["SHIBUSDT"]
    >>> entry.asset_class, entry.min_threshold
    ('crypto', 750)
    """
    tables = tomllib.loads(_internal.symbols_toml())["symbols"]
    return MappingProxyType(
        {name: SymbolEntry.from_table(name, table) for name, table in tables.items()}
    )


def get_registered_symbols(
    *,
    asset_class: str | None = None,
    tier: int | None = None,
    enabled_only: bool = True,
) -> tuple[str, ...]:
    """Names of the registered symbols, sorted.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_registered_symbols
    >>> get_registered_symbols(asset_class="forex")[:3]
    ('AUDUSD', 'EURGBP', 'EURJPY')
    """
    return tuple(
        sorted(
            entry.name
            for entry in get_symbol_entries().values()
            if (entry.enabled or not enabled_only)
            and asset_class in (None, entry.asset_class)
            and tier in (None, entry.tier)
        )
    )
