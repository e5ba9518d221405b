"""Days of coin-margined futures whose stored quantity is in contracts, as all of them once were.

Such a day has no column `contracts`. Its quantity becomes coins when it is read, and its hash in
snapshots differs from what it was, so that bars of contracts are computed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.contracts import CONTRACTS, with_coins
from rangebar_polars.sources import has_contracts
from rangebar_polars.symbol_registry import get_contract_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["CONTRACTS", "columns_to_read", "in_coins", "is_in_contracts"]


def is_in_contracts(symbol_dir: SymbolDir, columns: Sequence[str]) -> bool:
    """Return whether the quantity of ticks with these columns is in contracts."""
    if "quantity" not in columns or CONTRACTS in columns:
        return False
    return has_contracts(symbol_dir.source, symbol_dir.market)


def columns_to_read(wanted: Sequence[str]) -> list[str]:
    """Return the stored columns of which these columns of a day in contracts are made."""
    names = [name for name in wanted if name != CONTRACTS]
    if "quantity" in wanted or CONTRACTS in wanted:
        names += [name for name in ("price", "quantity") if name not in names]
    return names


def in_coins(symbol_dir: SymbolDir, ticks: pl.DataFrame) -> pl.DataFrame:
    """Convert a quantity in contracts to coins, and add the contracts as a column.

    Raises
    ------
    SettingError
        The registry has no contract size for the symbol.
    """
    if "quantity" not in ticks.columns:
        return ticks
    return with_coins(ticks, get_contract_size(symbol_dir.symbol))
