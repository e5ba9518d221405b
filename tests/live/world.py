"""A market for tests of sequencing: what the stream may send, and what REST answers."""

from __future__ import annotations

from rangebar_polars.live.protocol.trades import Trade

#: 2026-11-02 00:00 UTC, in microseconds.
MIDNIGHT_US = 1_793_577_600_000_000
PAGE = 1_000


class World:
    """Trades by id, and REST, which may lag behind the stream and hide ids.

    Parameters
    ----------
    nowhere
        Ids without a trade.
    step_back
        Ids whose trade has a time that is five seconds too early.
    invalid
        Ids whose trade has a negative price.
    """

    def __init__(self, nowhere=(), step_back=(), invalid=()):
        self.nowhere = set(nowhere)
        self.step_back = set(step_back)
        self.invalid = set(invalid)
        #: Ids that REST does not show yet, and the newest one that it shows.
        self.hidden = set()
        self.rest_head = 0
        self.page_rows = PAGE

    def trade(self, number) -> Trade:
        # A trade a millisecond; some are up to 0.4 s back, and midnight comes after 300 of them.
        time_us = MIDNIGHT_US + (number - 300) * 1_000 - (number % 7 == 0) * 400_000
        time_us -= (number in self.step_back) * 5_000_000
        price = 0.5 + number % 13
        if number in self.invalid:
            price = -price
        return Trade(
            time_us, price, 1.0 + number % 3, number, 2 * number, 2 * number + 1, number % 2 == 0
        )

    def exists(self, number) -> bool:
        return number > 0 and number not in self.nowhere

    def page(self, from_id) -> list[Trade]:
        """Return the trades of an answer, in order."""
        found = []
        for number in range(from_id, self.rest_head + 1):
            if self.exists(number) and number not in self.hidden:
                found.append(self.trade(number))
                if len(found) == self.page_rows:
                    break
        return found
