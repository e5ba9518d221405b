"""Sources of ticks: archives and REST interfaces, as frames with the canonical columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.fetch.binance.files import scan_agg_trades
from rangebar_polars.fetch.normalise import TradeFileWarning

if TYPE_CHECKING:
    from rangebar_polars.fetch.binance.archive import BinanceArchive
    from rangebar_polars.fetch.binance.rest import BinanceRest
    from rangebar_polars.fetch.exness.archive import Exness

__all__ = ["BinanceArchive", "BinanceRest", "Exness", "TradeFileWarning", "scan_agg_trades"]

# Modules of the sources, imported on first use.
_LATE = {
    "BinanceArchive": "binance.archive",
    "BinanceRest": "binance.rest",
    "Exness": "exness.archive",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
