"""Candlestick charts of bars."""

from __future__ import annotations

from rangebar_polars.plot.chart import plot_bars, require_extra, save_png, save_svg

__all__ = ["plot_bars", "require_extra", "save_png", "save_svg"]
