"""Trades that wait for their turn, and the last applied ones to compare repeats with."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.protocol.trades import TradeColumns
from rangebar_polars.live.protocol.values import is_same

if TYPE_CHECKING:
    from rangebar_polars.live.protocol.trades import Trade

__all__ = ["Conflict", "RecentTrades", "known_ids", "without_repeats"]

#: Applied trades that repeats are compared with.
COMPARED = 4_096


class Conflict(NamedTuple):
    """Two different trades with one id. The first stays."""

    first: Trade
    other: Trade


class RecentTrades:
    """The last 4 096 applied trades.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.buffer import RecentTrades
    >>> from rangebar_polars.live.protocol.trades import Trade, TradeColumns
    >>> recent = RecentTrades()
    >>> trade = Trade(1_700_000_000_000_000, 0.5, 2.0, 7, 9, 9, True)
    >>> recent.extend(TradeColumns([trade]))
    >>> recent.conflict(trade), recent.conflict(trade._replace(price=0.6)).first.price
    (None, 0.5)
    """

    def __init__(self) -> None:
        self._trades = TradeColumns()

    def extend(self, trades: TradeColumns) -> None:
        """Add applied trades."""
        self._trades.extend(trades)
        # One more than is compared: the time of the trade before tells whether a time was raised.
        # Rows are removed many at a time, since each removal moves all others.
        if len(self._trades) > 2 * COMPARED:
            self._trades.delete(0, len(self._trades) - COMPARED - 1)

    def conflict(self, other: Trade) -> Conflict | None:
        """Compare a trade with the applied one of the same id, if that is among the last 4 096."""
        at = self._trades.position(other.id)
        if at is None or at < len(self._trades) - COMPARED:
            return None
        applied = self._trades.row(at)
        before_us = self._trades.times_us[at - 1] if at else None
        return None if is_same(applied, other, before_us) else Conflict(applied, other)


def without_repeats(trades: TradeColumns) -> tuple[TradeColumns, list[int], list[Conflict]]:
    """Drop trades whose id is that of the trade before.

    Parameters
    ----------
    trades
        Trades in the order of their ids.

    Returns
    -------
    tuple[TradeColumns, list[int], list[Conflict]]
        Trades with increasing ids, the ids of the dropped ones, and conflicts among them.
    """
    ids = trades.ids
    repeats = [at for at in range(1, len(ids)) if ids[at] == ids[at - 1]]
    if not repeats:
        return trades, [], []
    dropped, conflicts, first = set(repeats), [], 0
    for at in repeats:
        first = first if ids[first] == ids[at] else at - 1
        if not is_same(trades.row(first), trades.row(at), None):
            conflicts.append(Conflict(trades.row(first), trades.row(at)))
    kept = trades.take([at for at in range(len(ids)) if at not in dropped])
    return kept, [ids[at] for at in repeats], conflicts


def known_ids(
    held: TradeColumns, trades: TradeColumns
) -> tuple[TradeColumns, list[int], list[Conflict]]:
    """Split trades with increasing ids into those with new ids, and those that are held already.

    Returns
    -------
    tuple[TradeColumns, list[int], list[Conflict]]
        The new trades, the other ids, and conflicts with held trades.
    """
    ids, held_ids = trades.ids, held.ids
    if not ids or not held_ids or ids[0] > held_ids[-1]:
        return trades, [], []
    known, conflicts = [], []
    for at in range(bisect_right(ids, held_ids[-1])):
        position = held.position(ids[at])
        if position is not None:
            known.append(at)
            first, other = held.row(position), trades.row(at)
            if first != other:
                conflicts.append(Conflict(first, other))
    if not known:
        return trades, [], []
    dropped = set(known)
    new = trades.take([at for at in range(len(ids)) if at not in dropped])
    return new, [ids[at] for at in known], conflicts
