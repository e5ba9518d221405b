"""Which trades are valid, and when two answers about one id are the same trade."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from rangebar_polars.sources import LONGEST_STEP_BACK_US

if TYPE_CHECKING:
    from rangebar_polars.live.protocol.trades import Trade, TradeColumns

__all__ = ["is_same", "is_sentinel", "is_valid", "raised_times", "unusual"]

#: The years 2000 to 2100, in microseconds since 1970.
EARLIEST_US, LATEST_US = 946_684_800_000_000, 4_102_444_800_000_000
_NO_TRADE = -1


def is_sentinel(trade: Trade) -> bool:
    """Check whether a row says that its id has no trade (price 0, trade ids −1)."""
    return trade.price == 0 and trade.first_id == trade.last_id == _NO_TRADE and trade.id >= 0


def is_valid(trade: Trade) -> bool:
    """Check the values of a trade by themselves. A quantity of 0 is valid, as in archives."""
    return (
        0 < trade.price < inf
        and 0 <= trade.quantity < inf
        and 0 <= trade.first_id <= trade.last_id
        and trade.id >= 0
        and EARLIEST_US <= trade.time_us < LATEST_US
    )


def unusual(trades: TradeColumns) -> list[int]:
    """Return the positions of trades that are not valid, sentinels included."""
    times, prices, quantities, ids, firsts, lasts, _ = trades.columns
    rows = zip(times, prices, quantities, ids, firsts, lasts, strict=True)
    return [
        position
        for position, (time_us, price, quantity, number, first_id, last_id) in enumerate(rows)
        if not (
            0 < price < inf
            and 0 <= quantity < inf
            and 0 <= first_id <= last_id
            and number >= 0
            and EARLIEST_US <= time_us < LATEST_US
        )
    ]


def is_same(applied: Trade, other: Trade, before_us: int | None) -> bool:
    """Check whether another trade with the id of an applied one is the same.

    The applied time may have been raised to that of the trade before, `before_us`. It then differs
    by at most a second.
    """
    if applied[1:] != other[1:]:
        return False
    behind = applied.time_us - other.time_us
    is_raised = applied.time_us == before_us
    return behind == 0 or (is_raised and 0 <= behind <= LONGEST_STEP_BACK_US)


def raised_times(times_us: list[int], highest_us: int) -> tuple[list[int], int]:
    """Raise times to the running maximum, as far as none is more than a second below it.

    Returns
    -------
    tuple[list[int], int]
        The raised times up to the first one that is too far back, and how many of them differ.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.values import raised_times
    >>> raised_times([5_000_000, 4_000_000, 3_999_999], 0)
    ([5000000, 5000000], 1)
    """
    raised, count = [], 0
    for time_us in times_us:
        if time_us >= highest_us:
            highest_us = time_us
        elif highest_us - time_us > LONGEST_STEP_BACK_US:
            break
        else:
            count += 1
        raised.append(highest_us)
    return raised, count
