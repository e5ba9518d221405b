"""Public functions that read stored bars."""

from __future__ import annotations

from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars

__all__ = ["count_bars", "coverage", "get_cached_bars", "get_n_bars"]
