"""Range bars for Polars, computed from trades by a native plugin.

Importing this package registers the namespace `rangebar` on expressions, DataFrames and LazyFrames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars import exceptions as exceptions
from rangebar_polars._internal import __version__ as __version__
from rangebar_polars.catalogue import INTER_BAR_FEATURE_COLUMNS as INTER_BAR_FEATURE_COLUMNS
from rangebar_polars.catalogue import INTRA_BAR_FEATURE_COLUMNS as INTRA_BAR_FEATURE_COLUMNS
from rangebar_polars.catalogue import MICROSTRUCTURE_COLUMNS, REFERENCE_COLUMNS, columns
from rangebar_polars.compute.auto import AUTO, known_names
from rangebar_polars.compute.builder import RangeBarBuilder
from rangebar_polars.compute.expr import aggregate, bar_id, bars
from rangebar_polars.compute.frame import iter_bars
from rangebar_polars.compute.namespace import rangebar as rangebar
from rangebar_polars.distance import Distance
from rangebar_polars.threshold import THRESHOLD_PRESETS

if TYPE_CHECKING:
    from rangebar_polars import estimators as estimators
    from rangebar_polars.clickhouse.open import open_cache
    from rangebar_polars.compute.binding import binding
    from rangebar_polars.compute.trades import (
        process_trades_chunked,
        process_trades_polars,
        process_trades_to_dataframe,
    )
    from rangebar_polars.fetch.binance.archive import scan_agg_trades
    from rangebar_polars.ingest.fetch import fetch_ticks
    from rangebar_polars.installation.versions import show_versions
    from rangebar_polars.interop.backtesting import to_backtesting
    from rangebar_polars.live.bars import LiveBars as LiveBars
    from rangebar_polars.live.bars import live_bars
    from rangebar_polars.populate.populate import populate_cache_resumable
    from rangebar_polars.populate.precompute import PrecomputeProgress as PrecomputeProgress
    from rangebar_polars.populate.precompute import PrecomputeResult as PrecomputeResult
    from rangebar_polars.populate.precompute import precompute_range_bars
    from rangebar_polars.populate.report import PopulateReport as PopulateReport
    from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
    from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars
    from rangebar_polars.readers.ticks import scan_ticks
    from rangebar_polars.sample import sample_ticks
    from rangebar_polars.storage.parquet import TickStorage
    from rangebar_polars.symbol_registry import TIER1_SYMBOLS
    from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold
    from rangebar_polars.symbol_registry._tier1 import tier1_pairs
    from rangebar_polars.trade_files.scan import scan_trades

__all__ = ["Distance", "RangeBarBuilder", "aggregate", "bar_id", "bars", "columns", "iter_bars"]
__all__ += ["process_trades_chunked", "process_trades_polars", "process_trades_to_dataframe"]
__all__ += ["TickStorage", "fetch_ticks", "sample_ticks", "scan_agg_trades", "scan_ticks"]
__all__ += ["scan_trades"]
__all__ += ["get_n_range_bars", "get_range_bars", "open_cache", "scan_range_bars"]
__all__ += ["count_bars", "coverage", "get_cached_bars"]
__all__ += ["live_bars", "populate_cache_resumable", "precompute_range_bars"]
__all__ += ["resolve_and_validate_threshold", "to_backtesting"]
__all__ += ["MICROSTRUCTURE_COLUMNS", "REFERENCE_COLUMNS"]
__all__ += ["THRESHOLD_PRESETS", "TIER1_SYMBOLS", "tier1_pairs"]
__all__ += ["AUTO", "binding", "known_names", "show_versions"]

# Modules of the names that are imported on first use. The names that functions of `__all__` return
# or pass to a callback are here too.
_LATE = {
    "LiveBars": "live.bars",
    "PopulateReport": "populate.report",
    "PrecomputeProgress": "populate.precompute",
    "PrecomputeResult": "populate.precompute",
    "TIER1_SYMBOLS": "symbol_registry",
    "TickStorage": "storage.parquet",
    "binding": "compute.binding",
    "count_bars": "readers.cached",
    "coverage": "readers.cached",
    "fetch_ticks": "ingest.fetch",
    "get_cached_bars": "readers.cached",
    "get_n_range_bars": "readers.bars",
    "get_range_bars": "readers.bars",
    "live_bars": "live.bars",
    "open_cache": "clickhouse.open",
    "populate_cache_resumable": "populate.populate",
    "precompute_range_bars": "populate.precompute",
    "process_trades_chunked": "compute.trades",
    "process_trades_polars": "compute.trades",
    "process_trades_to_dataframe": "compute.trades",
    "resolve_and_validate_threshold": "symbol_registry._minimum",
    "sample_ticks": "sample",
    "scan_agg_trades": "fetch.binance.archive",
    "scan_range_bars": "readers.bars",
    "scan_ticks": "readers.ticks",
    "scan_trades": "trade_files.scan",
    "show_versions": "installation.versions",
    "tier1_pairs": "symbol_registry._tier1",
    "to_backtesting": "interop.backtesting",
}

#: Modules that are imported on first use.
_LATE_MODULES = ("estimators",)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _LATE_MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _LATE:
        unknown = import_module(f"{__name__}._utils.arguments.public_names").unknown_name
        raise AttributeError(unknown(__name__, name, __dir__()))
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, without the modules that a call has imported."""
    special = [name for name in globals() if name.startswith("__") and name.endswith("__")]
    return sorted({*special, *__all__, *_LATE, *_LATE_MODULES, "exceptions", "rangebar"})
