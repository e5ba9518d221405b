"""Gaps of one symbol: which ids to request from REST and when, and which are confirmed missing.

A gap is a span of ids that have not arrived although a higher id is known. It is requested after
100 ms, because reordering may close it, and reported after 5 s. Its ids are confirmed missing when
two answers of REST, sent at least 5 s apart, pass over them and the gap is as old as the patience.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.protocol.backoff import doubled
from rangebar_polars.live.protocol.trades import runs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PAGE_IDS", "Gap", "GapEvent", "GapKind", "Gaps", "Incident", "Request"]

#: Ids that one page of REST covers at most.
PAGE_IDS = 1_000
#: Time for reordering before a gap is requested.
REORDERING_S = 0.1
#: Age at which a gap is reported.
REPORT_S = 5.0
#: Time between the two answers that confirm missing ids.
APART_S = 5.0
#: First and longest wait before ids above REST's newest, or an answer that failed, are requested again.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


class GapKind(Enum):
    """Why ids have not arrived."""

    #: The stream left them out.
    STREAM = "stream"
    #: REST has them and the stream has not begun, or has stopped.
    BACKFILL = "backfill"
    #: They arrived while the buffer was full.
    DROPPED = "dropped"


@dataclass(slots=True, eq=False)
class Incident:
    """A gap as it was opened; its parts may close one by one."""

    first: int
    last: int
    #: Ids that are still open.
    left: int
    is_reported: bool = False


@dataclass(slots=True, eq=False)
class Gap:
    """Ids that are open, both ends included, and what is known of them."""

    first: int
    last: int
    kind: GapKind
    opened_at: float
    ask_at: float
    incident: Incident
    #: When the first answer that passed over them arrived.
    absent_at: float | None = None
    #: Answers in a row that ended below them.
    unanswered: int = 0


class Request(NamedTuple):
    """A page to request from REST: trades from an id on."""

    from_id: int


class GapEvent(NamedTuple):
    """A gap that is detected, or healed because its last id has arrived or is confirmed missing."""

    is_healed: bool
    first: int
    last: int


class Gaps:
    """The open gaps of a symbol.

    Every id above the applied one up to `top` is in the buffer, confirmed missing, or in a gap.

    Parameters
    ----------
    top
        The highest id that is accounted for.
    patience_s
        Lowest age of a gap whose ids are confirmed missing.
    """

    def __init__(self, top: int, patience_s: float = 30.0) -> None:
        self.top = top
        #: Kind of the gaps below ids that arrive: a backfill until the symbol has caught up once.
        self.kind_of_holes = GapKind.STREAM
        self._patience_s = patience_s
        self._gaps: list[Gap] = []
        self._events: list[GapEvent] = []
        self._failures = 0
        #: No request is sent earlier, because REST has failed or refuses.
        self._closed_until = float("-inf")

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def __len__(self) -> int:
        return len(self._gaps)

    @property
    def ids(self) -> int:
        """The number of ids in all gaps."""
        return sum(gap.last - gap.first + 1 for gap in self._gaps)

    @property
    def is_behind(self) -> bool:
        """Whether ids are open that the stream did not just leave out: a backfill is under way."""
        return any(gap.kind is not GapKind.STREAM for gap in self._gaps)

    @property
    def is_reported(self) -> bool:
        """Whether a gap is open that has been reported."""
        return any(gap.incident.is_reported for gap in self._gaps)

    # What becomes known

    def expect(self, last: int, now: float, kind: GapKind = GapKind.BACKFILL) -> None:
        """Open a gap for all ids above `top` up to an id that exists."""
        if last > self.top:
            wait_s = REORDERING_S if kind is GapKind.STREAM else 0.0
            self._open(self.top + 1, last, kind, now, now + wait_s)

    def arrived(self, first: int, last: int, now: float) -> None:
        """Note that ids have arrived or need not arrive; the ids between them and `top` are a gap."""
        if first > self.top + 1:
            self.expect(first - 1, now, self.kind_of_holes)
        if first > self.top:
            self.top = last
            return
        self._close(first, min(last, self.top))
        self.top = max(self.top, last)

    def suspected(self, number: int, now: float) -> None:
        """Note an id whose trade is not valid, so that it is requested at once.

        It is above `top`, in a gap, or was taken out of the buffer.
        """
        if number > self.top:
            self.expect(number - 1, now, self.kind_of_holes)
        at = self._find(number)
        if at is None:
            self._open(number, number, GapKind.STREAM, now, now)
            return
        self._split(self._gaps[at], number, number).ask_at = now

    def dropped(self, first: int, last: int, now: float) -> None:
        """Note ids that are not in the buffer any more; gaps among them stay as they are."""
        at = bisect_right(self._gaps, first, key=lambda gap: gap.first)
        below = self._gaps[at - 1] if at else None
        above = self._gaps[at] if at < len(self._gaps) else None
        # They grow at both ends, id by id: one gap stands for all of them.
        if below is not None and below.kind is GapKind.DROPPED and below.last == first - 1:
            below.last = below.incident.last = last
            below.incident.left += last - first + 1
        elif above is not None and above.kind is GapKind.DROPPED and above.first == last + 1:
            above.first = above.incident.first = first
            above.incident.left += last - first + 1
        else:
            self._open(first, last, GapKind.DROPPED, now, now)
        self.top = max(self.top, last)

    def collapse_from(self, first: int, now: float, keep: Sequence[tuple[int, int]]) -> None:
        """Replace all gaps from an id on by gaps of dropped ids, except the spans to keep."""
        at = bisect_right(self._gaps, first - 1, key=lambda gap: gap.first)
        del self._gaps[at:]
        if self._gaps and self._gaps[-1].last >= first:
            self._gaps[-1].last = first - 1
        for low, high in keep:
            if low > first:
                self._open(first, low - 1, GapKind.DROPPED, now, now)
            first = high + 1
        if self.top >= first:
            self._open(first, self.top, GapKind.DROPPED, now, now)

    # Requests

    def due_at(self, *, has_room: bool) -> float | None:
        """Return when the next request is due; None without gaps.

        Without room in the buffer, only the lowest gap is requested: its ids are applied at once.
        """
        times = [gap.ask_at for gap in self._askable(has_room)]
        return max(self._closed_until, min(times)) if times else None

    def request(self, now: float, *, has_room: bool) -> Request | None:
        """Return the page to request now: from the lowest gap that is due."""
        if now < self._closed_until:
            return None
        gaps = self._askable(has_room)
        return next((Request(gap.first) for gap in gaps if gap.ask_at <= now), None)

    def report_at(self) -> float | None:
        """Return when the next gap is to be reported."""
        times = [gap.opened_at + REPORT_S for gap in self._gaps if self._is_unreported(gap)]
        return min(times, default=None)

    def _askable(self, has_room: bool) -> list[Gap]:  # noqa: FBT001 - of the public methods
        return self._gaps if has_room else self._gaps[:1]

    # Answers

    def answered(
        self, request: Request, ids: Sequence[int], sent_at: float, now: float
    ) -> list[tuple[int, int]]:
        """Judge an answer, after its trades have been reported as `arrived`.

        Parameters
        ----------
        request
            What was requested.
        ids
            All ids of the answer from the requested one on, in increasing order, whatever became of
            their trades. The answer says nothing about ids above the last one.
        sent_at, now
            When the request was sent and answered.

        Returns
        -------
        list[tuple[int, int]]
            Spans of ids that are now confirmed missing. They are not in a gap any more.
        """
        self._failures = 0
        if not ids:
            self._postpone_from(request.from_id, now)
            return []
        missing: list[tuple[int, int]] = []
        before = request.from_id - 1
        for first, last in runs_of(ids):
            if first > before + 1:
                missing += self._passed_over(before + 1, first - 1, sent_at, now)
            before = last
        above = self._find(ids[-1] + 1)
        if above is not None:
            # Where the answer ends, the next request begins, but reordering gets its time.
            rest = self._split(self._gaps[above], ids[-1] + 1, self._gaps[above].last)
            wait_s = REORDERING_S if rest.kind is GapKind.STREAM else 0.0
            if rest.absent_at is None:
                rest.ask_at = min(rest.ask_at, max(now, rest.opened_at + wait_s))
            rest.unanswered = 0
        return missing

    def _passed_over(
        self, first: int, last: int, sent_at: float, now: float
    ) -> list[tuple[int, int]]:
        """Judge the gaps among ids that an answer passes over, and return those to close."""
        start = max(0, bisect_right(self._gaps, first, key=lambda gap: gap.first) - 1)
        stop = bisect_right(self._gaps, last, key=lambda gap: gap.first)
        parts = [
            self._split(gap, first, last) for gap in self._gaps[start:stop] if gap.last >= first
        ]
        missing = [(one.first, one.last) for one in parts if self._is_confirmed(one, sent_at, now)]
        for span in missing:
            self._close(*span)
        return missing

    def failed(self, now: float, closed_until: float | None = None) -> None:
        """Note that REST gave no answer; all requests wait, at least until `closed_until`."""
        self._failures += 1
        wait_s = doubled(FIRST_WAIT_S, self._failures - 1, LONGEST_WAIT_S)
        self._closed_until = max(self._closed_until, now + wait_s, closed_until or now)

    def events(self, now: float) -> list[GapEvent]:
        """Return the gaps that are detected or healed since the last call."""
        for gap in self._gaps:
            if self._is_unreported(gap) and now >= gap.opened_at + REPORT_S:
                gap.incident.is_reported = True
                self._events.append(GapEvent(False, gap.incident.first, gap.incident.last))  # noqa: FBT003
        events, self._events = self._events, []
        return events

    def _is_unreported(self, gap: Gap) -> bool:
        return gap.kind is GapKind.STREAM and not gap.incident.is_reported

    def _is_confirmed(self, gap: Gap, sent_at: float, now: float) -> bool:
        """Note that an answer passes over a gap, and return whether its ids are missing."""
        gap.unanswered = 0
        if gap.absent_at is None:
            gap.absent_at = now
            if gap.kind is not GapKind.STREAM:
                # A backfill is expected to take its time; this is the moment a hole in it shows.
                gap.kind, gap.opened_at = GapKind.STREAM, now
        elif sent_at >= gap.absent_at + APART_S and sent_at >= gap.opened_at + self._patience_s:
            return True
        apart_at, patient_at = gap.absent_at + APART_S, gap.opened_at + self._patience_s
        gap.ask_at = max(now, apart_at if now < apart_at else patient_at)
        return False

    def _postpone_from(self, first: int, now: float) -> None:
        """Wait before ids above REST's newest are requested again."""
        asked = next((gap for gap in self._gaps if gap.last >= first), None)
        if asked is None:
            return
        again_at = now + doubled(FIRST_WAIT_S, asked.unanswered, LONGEST_WAIT_S)
        asked.unanswered += 1
        for gap in self._gaps[self._gaps.index(asked) :]:
            gap.ask_at = max(gap.ask_at, again_at)

    # Spans

    def _open(self, first: int, last: int, kind: GapKind, now: float, ask_at: float) -> None:
        incident = Incident(first, last, last - first + 1)
        at = bisect_right(self._gaps, first, key=lambda gap: gap.first)
        self._gaps.insert(at, Gap(first, last, kind, now, ask_at, incident))
        self.top = max(self.top, last)

    def _close(self, first: int, last: int) -> None:
        """Take ids out of the gaps that contain them."""
        start = max(0, bisect_right(self._gaps, first, key=lambda gap: gap.first) - 1)
        stop = bisect_right(self._gaps, last, key=lambda gap: gap.first)
        left: list[Gap] = []
        for gap in self._gaps[start:stop]:
            low, high = max(first, gap.first), min(last, gap.last)
            if low > high:
                left.append(gap)
                continue
            self._count_closed(gap.incident, high - low + 1)
            if gap.first < low:
                left.append(replace(gap, last=low - 1))
            if high < gap.last:
                left.append(replace(gap, first=high + 1))
        self._gaps[start:stop] = left

    def _find(self, number: int) -> int | None:
        at = bisect_right(self._gaps, number, key=lambda gap: gap.first) - 1
        return at if at >= 0 and self._gaps[at].last >= number else None

    def _split(self, gap: Gap, first: int, last: int) -> Gap:
        """Divide a gap, and return the part with the ids of a span."""
        at = self._gaps.index(gap)
        inside = replace(gap, first=max(first, gap.first), last=min(last, gap.last))
        parts = [inside]
        if gap.first < inside.first:
            parts.insert(0, replace(gap, last=inside.first - 1))
        if gap.last > inside.last:
            parts.append(replace(gap, first=inside.last + 1))
        self._gaps[at : at + 1] = parts
        return inside

    def _count_closed(self, incident: Incident, count: int) -> None:
        incident.left -= count
        if incident.left == 0 and incident.is_reported:
            self._events.append(GapEvent(True, incident.first, incident.last))  # noqa: FBT003
