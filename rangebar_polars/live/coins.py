"""Trades of coin-margined futures, whose quantities are stored in coins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.contracts import CONTRACTS, with_coins
from rangebar_polars.live.protocol.trades import TradeColumns
from rangebar_polars.sources import has_contracts
from rangebar_polars.symbol_registry import get_contract_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.live.interfaces import Journal
    from rangebar_polars.live.protocol.spans import MissingIds
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["CoinJournal", "stored_in_coins"]


def stored_in_coins(journal: Journal, symbol_dir: SymbolDir) -> Journal:
    """Return a journal that takes what the exchange sends: coins, or contracts that become coins.

    Raises
    ------
    SettingError
        The registry has no contract size for a coin-margined future.
    """
    if not has_contracts(symbol_dir.source, symbol_dir.market):
        return journal
    return CoinJournal(journal, get_contract_size(symbol_dir.symbol))


class CoinJournal:
    """Converts quantities from contracts to coins, as an archive's are, and writes them.

    Parameters
    ----------
    journal
        The journal.
    contract_size
        Value of a contract in the currency of the price.
    """

    def __init__(self, journal: Journal, contract_size: int) -> None:
        self._journal = journal
        self._contract_size = contract_size

    @property
    def written_bytes(self) -> int:
        """Bytes that were written by this process."""
        return self._journal.written_bytes

    def append_missing(self, spans: Sequence[MissingIds]) -> None:
        """Write records of missing ids, and sync them."""
        self._journal.append_missing(spans)

    def append_trades(self, day: date, trades: TradeColumns) -> bytes:
        """Write a record of trades of one day, and return it for the builders."""
        return self._journal.append_trades(day, self._converted(trades))

    def append_late(self, trades: TradeColumns) -> None:
        """Write a record of late trades."""
        self._journal.append_late(self._converted(trades))

    def close_day(self, day: date) -> None:
        """Mark a day as closed."""
        self._journal.close_day(day)

    def sync(self) -> None:
        """Sync all records that are written."""
        self._journal.sync()

    def revision(self, text: str) -> None:
        """Write a record of a revision, and sync it."""
        self._journal.revision(text)

    def close(self) -> None:
        """Sync all records and close the files."""
        self._journal.close()

    def _converted(self, trades: TradeColumns) -> TradeColumns:
        frame = with_coins(trades.frame(), self._contract_size).drop(CONTRACTS)
        return TradeColumns.of_frame(frame)
