"""Which files hold the symbol that the caller names, by the names of the files."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from rangebar_polars.exceptions import TickDataError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["check_symbol", "has_symbol", "of_symbol"]

# Contracts of the same pair: dated futures (`BTCUSDT_240628`), and perpetual ones.
CONTRACT = (
    r"[-_][0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?![0-9])|[-_](?:SWAP|PERP)(?![A-Z])"
)

File = TypeVar("File")


def has_symbol(file: object, symbol: str) -> bool:
    """Return whether the name of a file contains a symbol, and not that of another contract.

    Examples
    --------
    >>> from rangebar_polars.trade_files.file_symbols import has_symbol
    >>> [
    ...     has_symbol(f"{name}-trades-2024-01-01.csv", "btcusdt")
    ...     for name in ("BTCUSDT", "BTCUSDT_240628", "BTCUSDTM")
    ... ]
    [True, False, False]
    """
    token = rf"(?<![A-Z0-9]){re.escape(symbol)}(?![A-Z]|{CONTRACT})"
    name = PurePath(str(file).partition("?")[0]).name
    return re.search(token, name, re.IGNORECASE) is not None


def of_symbol(files: Sequence[File], symbol: str | None) -> list[File]:
    """Return the files whose names contain the symbol, or all files if none does."""
    named = [file for file in files if symbol is None or has_symbol(file, symbol)]
    return named or list(files)


def check_symbol(file: object, layout: TradeLayout, symbol: str | None) -> None:
    """Refuse a file that says nowhere that its trades are of the symbol.

    Raises
    ------
    TickDataError
        The file has no column of symbols, and its name does not contain the symbol.
    """
    if symbol is None or layout.symbol or has_symbol(file, symbol):
        return
    raise TickDataError(
        with_hint(
            f"`{file}` does not say that its trades are of `{symbol}`: it has no column of "
            "symbols, and its name does not contain the symbol",
            "leave out `symbol=` to read all its trades",
        )
    )
