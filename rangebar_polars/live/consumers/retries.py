"""When a frame is offered again after a consumer has raised."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILING_FROM", "LONGEST_WAIT_S", "Retries", "wait_after"]

#: So many raises in a row make a consumer a failing one.
FAILING_FROM = 4
#: The first wait of a failing consumer, and the longest one.
FIRST_LONG_WAIT_S, LONGEST_WAIT_S = 8.0, 300.0
_MOST_DOUBLINGS = 16


def wait_after(raised: int) -> float:
    """Return the seconds until the next attempt after a number of raises in a row.

    Examples
    --------
    >>> from rangebar_polars.live.consumers.retries import wait_after
    >>> [wait_after(raised) for raised in (1, 2, 3, 4, 5, 9, 10)]
    [1.0, 2.0, 4.0, 8.0, 16.0, 256.0, 300.0]
    """
    if raised < FAILING_FROM:
        return float(2 ** (raised - 1))
    doublings = min(raised - FAILING_FROM, _MOST_DOUBLINGS)
    return float(min(LONGEST_WAIT_S, FIRST_LONG_WAIT_S * 2**doublings))


@dataclass(slots=True)
class Retries:
    """The raises of a consumer in a row."""

    #: Raises of the frame in hand.
    raised: int = 0
    is_failing: bool = False
    #: The next attempt is not before this.
    retry_at: float = float("-inf")

    def returned(self) -> None:
        """Note that the consumer has taken a frame."""
        self.raised, self.is_failing, self.retry_at = 0, False, float("-inf")

    def failed(self, now: float) -> bool:
        """Note that the consumer has raised; return whether that makes it a failing one."""
        self.raised += 1
        self.retry_at = now + wait_after(self.raised)
        has_failed = self.raised == FAILING_FROM
        self.is_failing |= has_failed
        return has_failed

    def skipped(self) -> None:
        """Note that the frame is skipped. The consumer stays a failing one until it takes one."""
        self.raised, self.retry_at = 0, float("-inf")
