"""When the next batch of a symbol is applied."""

from __future__ import annotations

__all__ = ["BatchPace"]

SHORTEST_S, LONGEST_S = 0.005, 0.05
#: Batches take at most this part of the time.
LOAD = 4.0


class BatchPace:
    """The time between the beginnings of two batches: 5 ms or four times the last one's duration.

    The interval is at most 50 ms, so that a slow machine is late rather than silent.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.pacing import BatchPace
    >>> pace = BatchPace()
    >>> pace.done(begun_at=1.0, now=1.003)
    >>> round(pace.due_at, 6)
    1.012
    """

    def __init__(self) -> None:
        #: When the next batch may begin.
        self.due_at = float("-inf")

    def done(self, begun_at: float, now: float) -> None:
        """Note a batch by when it began and ended."""
        interval_s = min(LONGEST_S, max(SHORTEST_S, LOAD * (now - begun_at)))
        self.due_at = begun_at + interval_s
