"""Range bars as a Polars plugin: trades in, bars out.

The namespace `rangebar` of expressions, frames and plans exists once this package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars import exceptions as exceptions
from rangebar_polars._internal import __version__ as __version__
from rangebar_polars._lib import show_versions
from rangebar_polars.build import iter_bars
from rangebar_polars.builder import RangeBarBuilder
from rangebar_polars.catalogue import MICROSTRUCTURE_COLUMNS, columns
from rangebar_polars.distance import Distance
from rangebar_polars.expr import aggregate, bar_id, bars
from rangebar_polars.namespace import rangebar as rangebar
from rangebar_polars.threshold import THRESHOLD_PRESETS

if TYPE_CHECKING:
    from rangebar_polars.clickhouse.client import open_cache
    from rangebar_polars.export.backtesting import to_backtesting
    from rangebar_polars.fetch.binance_archive import scan_agg_trades
    from rangebar_polars.minimum import resolve_and_validate_threshold
    from rangebar_polars.pipeline.download import fetch_ticks
    from rangebar_polars.pipeline.populate import populate_cache_resumable
    from rangebar_polars.pipeline.populate_report import PopulateReport as PopulateReport
    from rangebar_polars.pipeline.precompute import PrecomputeProgress as PrecomputeProgress
    from rangebar_polars.pipeline.precompute import PrecomputeResult as PrecomputeResult
    from rangebar_polars.pipeline.precompute import precompute_range_bars
    from rangebar_polars.readers import get_n_range_bars, get_range_bars, scan_range_bars
    from rangebar_polars.sample import sample_ticks
    from rangebar_polars.symbol_registry import TIER1_SYMBOLS
    from rangebar_polars.ticks import scan_ticks
    from rangebar_polars.trades import (
        process_trades_chunked,
        process_trades_polars,
        process_trades_to_dataframe,
    )

__all__ = ["Distance", "RangeBarBuilder", "aggregate", "bar_id", "bars", "columns", "iter_bars"]
__all__ += ["process_trades_chunked", "process_trades_polars", "process_trades_to_dataframe"]
__all__ += ["fetch_ticks", "sample_ticks", "scan_agg_trades", "scan_ticks"]
__all__ += ["get_n_range_bars", "get_range_bars", "open_cache", "scan_range_bars"]
__all__ += ["populate_cache_resumable", "precompute_range_bars"]
__all__ += ["resolve_and_validate_threshold", "to_backtesting"]
__all__ += ["MICROSTRUCTURE_COLUMNS", "THRESHOLD_PRESETS", "TIER1_SYMBOLS"]
__all__ += ["show_versions"]

# Where the names are that this module loads when they are asked for; what functions of `__all__`
# return or hand to a callback stands here too.
_LATE = {
    "PopulateReport": "pipeline.populate_report",
    "PrecomputeProgress": "pipeline.precompute",
    "PrecomputeResult": "pipeline.precompute",
    "TIER1_SYMBOLS": "symbol_registry",
    "fetch_ticks": "pipeline.download",
    "get_n_range_bars": "readers",
    "get_range_bars": "readers",
    "open_cache": "clickhouse.client",
    "populate_cache_resumable": "pipeline.populate",
    "precompute_range_bars": "pipeline.precompute",
    "process_trades_chunked": "trades",
    "process_trades_polars": "trades",
    "process_trades_to_dataframe": "trades",
    "resolve_and_validate_threshold": "minimum",
    "sample_ticks": "sample",
    "scan_agg_trades": "fetch.binance_archive",
    "scan_range_bars": "readers",
    "scan_ticks": "ticks",
    "to_backtesting": "export.backtesting",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
