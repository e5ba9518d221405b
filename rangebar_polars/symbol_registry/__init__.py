"""The symbol registry, and the gate that checks symbols against it.

The registry is `symbols.toml` of the package, with the user's own file merged over it.
"""

from __future__ import annotations

from rangebar_polars.symbol_registry._entries import KnownGap, SymbolEntry, SymbolTransition
from rangebar_polars.symbol_registry._gate import (
    StartDateClampedWarning,
    SymbolNotRegisteredWarning,
    past_gate,
    validate_and_clamp_start_date,
    validate_symbol_registered,
    validate_symbols_registered,
)
from rangebar_polars.symbol_registry._registry import (
    TIER1_SYMBOLS,
    clear_symbol_registry_cache,
    get_contract_size,
    get_effective_start_date,
    get_registered_symbols,
    get_symbol_entries,
    get_transitions,
)

__all__ = [
    "TIER1_SYMBOLS",
    "KnownGap",
    "StartDateClampedWarning",
    "SymbolEntry",
    "SymbolNotRegisteredWarning",
    "SymbolTransition",
    "clear_symbol_registry_cache",
    "get_contract_size",
    "get_effective_start_date",
    "get_registered_symbols",
    "get_symbol_entries",
    "get_transitions",
    "past_gate",
    "validate_and_clamp_start_date",
    "validate_symbol_registered",
    "validate_symbols_registered",
]
