"""How each source of the table is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.fetch.binance.days import BINANCE
from rangebar_polars.fetch.exness.days import EXNESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.fetch.source import ArchiveProbe, DaySource, Fetcher

__all__ = ["FETCHERS", "archive_probe", "day_source"]


#: The fetcher of each source, by its name in `rangebar_polars.sources.SOURCES`.
FETCHERS: dict[str, Fetcher] = {
    "binance": BINANCE,
    "exness": EXNESS,
}


def day_source(symbol: str, source: str, market: str) -> DaySource:
    """Return the day source of a symbol."""
    return FETCHERS[source].days(symbol, market)


def archive_probe(
    symbol: str, source: str, market: str, *, now: Callable[[], float] = clock.unix_seconds
) -> ArchiveProbe:
    """Return the archive probe of a symbol, at the address that the settings name."""
    return FETCHERS[source].probe(symbol, market, now)
