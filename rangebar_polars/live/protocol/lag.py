"""The delay of a stream, by the clock of the exchange."""

from __future__ import annotations

__all__ = ["Lag"]

#: Every message of this time must be late before the server counts as behind.
SPAN_S = 10.0
#: How long late messages prove nothing after a freshness check has found equal ids.
DISPROVED_S = 600.0


class Lag:
    """The lag of the messages of a connection: exchange time less their event time `E`.

    The server is behind once the lowest lag of ten seconds exceeds the limit, unless messages wait
    in our own queue.

    Parameters
    ----------
    limit_s
        Longest tolerated lag.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.lag import Lag
    >>> lag = Lag(limit_s=10.0)
    >>> for second in range(11):
    ...     lag.measured(12.0, now=float(second), is_queue_empty=True)
    >>> lag.is_behind(now=10.0)
    True
    >>> lag.measured(0.1, now=10.5, is_queue_empty=True)
    >>> lag.is_behind(now=10.5)
    False
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        #: Lag of the last message in seconds; None before the first one.
        self.last_s: float | None = None
        # Since when every message has been late, and when the last late one arrived.
        self._late_since: float | None = None
        self._late_at = 0.0
        self._ignored_until = float("-inf")

    def measured(self, lag_s: float, now: float, *, is_queue_empty: bool) -> None:
        """Note the lag of a message, and whether our own queue was empty when it was read."""
        self.last_s = lag_s
        if lag_s <= self._limit_s or not is_queue_empty or now < self._ignored_until:
            self._late_since = None
            return
        # Without a message for so long, there is no lowest lag of the last ten seconds.
        if self._late_since is None or now - self._late_at > SPAN_S:
            self._late_since = now
        self._late_at = now

    def is_behind(self, now: float) -> bool:
        """Return whether the server is behind."""
        since = self._late_since
        return (
            since is not None and self._late_at - since >= SPAN_S and now - self._late_at <= SPAN_S
        )

    def replaced(self) -> None:
        """Begin again with a new connection."""
        self._late_since = None

    def disproved(self, now: float) -> None:
        """Note that a freshness check has found equal ids while the server seemed to be behind.

        The clock of the messages is wrong then, and judges nothing for ten minutes.
        """
        if self.is_behind(now):
            self._late_since = None
            self._ignored_until = now + DISPROVED_S
