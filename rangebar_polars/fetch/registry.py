"""One answer per day from the sources of an exchange: its archive, else its interface."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rangebar_polars.config import settings
from rangebar_polars.fetch.binance.days import BinanceDays, BinanceProbe
from rangebar_polars.fetch.exness.days import ExnessDays, ExnessProbe
from rangebar_polars.fetch.http_probe import ProbingTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.fetch.source import ArchiveProbe, DaySource

__all__ = ["day_source", "probe_of"]


def day_source(symbol: str, source: str, market: str) -> DaySource:
    """The sources of a symbol behind one door."""
    if source == "exness":
        return ExnessDays(symbol)
    return BinanceDays(symbol, market)


def probe_of(
    symbol: str, source: str, market: str, *, now: Callable[[], float] = time.time
) -> ArchiveProbe:
    """Probe of a symbol at the address that the settings name.

    With `RANGEBAR_CHECKSUM=warn`, a file without a checksum counts too, as it is taken then.
    """
    options: Any = settings()
    if source == "exness":
        return ExnessProbe(symbol, ProbingTransport(options.exness_url, now=now))
    transport = ProbingTransport(
        options.binance_archive_url, with_checksum=options.checksum == "require", now=now
    )
    return BinanceProbe(symbol, transport, market)
