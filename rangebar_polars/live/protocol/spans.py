"""Spans of ids that have no trade, with the reason."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MissingIds", "MissingReason", "MissingSpans"]


class MissingReason(StrEnum):
    """Why ids are confirmed missing."""

    #: REST does not have them.
    ABSENT = "absent"
    #: The exchange says itself that there is no trade.
    SENTINEL = "sentinel"
    #: Stream and REST agree on a trade that is not valid.
    INVALID = "invalid"


class MissingIds(NamedTuple):
    """Consecutive ids, both ends included, that are confirmed missing for one reason."""

    first: int
    last: int
    reason: MissingReason

    @property
    def ids(self) -> int:
        """The number of ids."""
        return self.last - self.first + 1


class MissingSpans:
    """Disjoint spans of missing ids in increasing order.

    Parameters
    ----------
    spans
        Spans to begin with, in any order.
    most
        When there are more spans, the lowest ones are forgotten.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.spans import MissingIds, MissingReason, MissingSpans
    >>> spans = MissingSpans([MissingIds(5, 9, MissingReason.ABSENT)])
    >>> spans.remove(7)
    True
    >>> [(span.first, span.last) for span in spans], 7 in spans, 8 in spans
    ([(5, 6), (8, 9)], False, True)
    """

    def __init__(self, spans: Iterable[MissingIds] = (), most: int = 10_000) -> None:
        self._spans: list[MissingIds] = []
        self._most = most
        for span in sorted(spans):
            self.add(span)

    def __iter__(self) -> Iterator[MissingIds]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, number: int) -> bool:
        return self._find(number) is not None

    def reason(self, number: int) -> MissingReason | None:
        """Return why an id is missing; None if it is not in a span."""
        at = self._find(number)
        return None if at is None else self._spans[at].reason

    def add(self, span: MissingIds) -> None:
        """Add a span of ids that are not in any other span."""
        at = bisect_right(self._spans, span.first, key=lambda one: one.first)
        for other in self._spans[max(0, at - 1) : at + 1]:
            if other.first <= span.last and other.last >= span.first:
                raise ValueError(f"{span} overlaps {other}")
        if at and self._joins(self._spans[at - 1], span):
            at -= 1
            span = span._replace(first=self._spans.pop(at).first)
        if at < len(self._spans) and self._joins(span, self._spans[at]):
            span = span._replace(last=self._spans.pop(at).last)
        self._spans.insert(at, span)
        del self._spans[: max(0, len(self._spans) - self._most)]

    @staticmethod
    def _joins(one: MissingIds, other: MissingIds) -> bool:
        return one.last + 1 == other.first and one.reason is other.reason

    def remove(self, number: int) -> bool:
        """Remove an id, and return whether it was there."""
        at = self._find(number)
        if at is None:
            return False
        span = self._spans[at]
        parts = (span._replace(last=number - 1), span._replace(first=number + 1))
        self._spans[at : at + 1] = [part for part in parts if part.ids > 0]
        return True

    def take_upto(self, last: int) -> list[MissingIds]:
        """Remove all ids up to an id, and return them."""
        count = bisect_right(self._spans, last, key=lambda one: one.last)
        taken, self._spans = self._spans[:count], self._spans[count:]
        if self._spans and self._spans[0].first <= last:
            # It has grown at its end since a batch with its beginning was taken.
            taken.append(self._spans[0]._replace(last=last))
            self._spans[0] = self._spans[0]._replace(first=last + 1)
        return taken

    def _find(self, number: int) -> int | None:
        at = bisect_right(self._spans, number, key=lambda one: one.first) - 1
        return at if at >= 0 and self._spans[at].last >= number else None
