"""Quotes of Exness, and range bars of them with the spread of each bar.

The price is the mid of bid and ask. Quotes have no volume.
"""

from __future__ import annotations

from rangebar_polars.exness._bars import (
    fetch_exness_ticks,
    get_range_bars_exness,
    is_exness_available,
    process_exness_ticks_to_dataframe,
)
from rangebar_polars.exness._builder import SPREAD_COLUMNS, WEEKEND, ExnessRangeBarBuilder
from rangebar_polars.exness._instruments import ExnessInstrument, ValidationStrictness
from rangebar_polars.fetch.exness.archive import Exness

__all__ = [
    "SPREAD_COLUMNS",
    "WEEKEND",
    "Exness",
    "ExnessInstrument",
    "ExnessRangeBarBuilder",
    "ValidationStrictness",
    "fetch_exness_ticks",
    "get_range_bars_exness",
    "is_exness_available",
    "process_exness_ticks_to_dataframe",
]
