"""Finalizing: closed days become final, and their bars units, while the stream goes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rangebar_polars._utils import clock
from rangebar_polars._utils.caught import Caught
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.live_builders import bars_digest
from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.live.consumers.positions import series_from
from rangebar_polars.live.finalizing.revising import Revision
from rangebar_polars.live.helper.base import Base
from rangebar_polars.live.helper.messages import day_of, series_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.finalizing.digests import Digests
    from rangebar_polars.live.helper.client import Helper
    from rangebar_polars.sources import Venue

__all__ = ["DayStates", "Finalizer", "FinalizingOptions"]

#: The first pass comes this long after the start of a symbol, or sooner.
FIRST_S = 60.0
#: How long something may be missing or in use before `finalizing_behind` says so, and again.
BEHIND_S = 86_400.0


@dataclass(frozen=True, slots=True)
class FinalizingOptions:
    """How closed days are finalized."""

    interval_s: float = 900.0
    #: Whether bars are stored as units.
    has_cache: bool = True


class DayStates(Protocol):
    """Where the states of finalized days go."""

    def note(self, series: BarSeries, base: Base) -> None:
        """Note the state after a day that is finalized."""
        ...


@dataclass(slots=True)
class _Symbol:
    """What is known of a symbol."""

    #: The last day that is finalized, and the first day that is not closed.
    finalized_through: date
    open_day: date
    #: The series that are streamed, by threshold.
    series: dict[int, BarSeries]
    #: The first series of each threshold that has a day to finalize.
    first_series: dict[int, BarSeries]
    #: Digests of the states of series after closed days.
    digests: Digests = field(default_factory=dict)
    #: Since when something is waited for, by kind, and when that was reported.
    waiting_since: dict[str, float] = field(default_factory=dict)
    reported_at: dict[str, float] = field(default_factory=dict)
    reported: set[tuple[Any, ...]] = field(default_factory=set)
    #: Series and days of differences that were revised.
    revised: set[tuple[BarSeries, date]] = field(default_factory=set)


class Finalizer:
    """Runs a pass over the closed days of all symbols at an interval, in a thread of its own.

    Parameters
    ----------
    options
        How.
    venue
        Source and market of the symbols.
    helper
        Does the work.
    states
        Where states of finalized days go.
    event
        Takes an event: the symbol, its name and its fields. It may be called in the thread.
    revise
        Computes series of a symbol again, and returns whether it is done.
    """

    def __init__(
        self,
        options: FinalizingOptions,
        venue: Venue,
        helper: Helper,
        states: DayStates,
        event: Callable[..., None],
        revise: Callable[[str, Sequence[Revision]], bool],
    ) -> None:
        self._revise = revise
        self._options = options
        self._venue = venue
        self._helper = helper
        self._states = states
        self._event = event
        self._changed = threading.Condition()
        self._symbols: dict[str, _Symbol] = {}
        self._due_at: float | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._errors: list[BaseException] = []
        #: Number of passes that have ended.
        self.passes = 0

    # What the session says

    def begin(
        self,
        symbol: str,
        *,
        finalized_through: date,
        open_day: date,
        series: Sequence[BarSeries],
        held: Sequence[BarSeries] = (),
        bases: Mapping[BarSeries, Base] | None = None,
        digests: Digests | None = None,
    ) -> None:
        """Begin with a symbol whose history is there.

        Parameters
        ----------
        symbol
            The symbol.
        finalized_through
            The last day that is finalized.
        open_day
            The first day that is not closed.
        series
            The series that are streamed.
        held
            Series that writers have streamed before.
        bases
            The states that the series began with.
        digests
            Known digests of later states.
        """
        current = {one.spec.threshold: one for one in series}
        first_day = finalized_through + ONE_DAY
        first = {threshold: _first_of(one, held, first_day) for threshold, one in current.items()}
        now = clock.monotonic()
        with self._changed:
            known = _Symbol(finalized_through, open_day, current, first, dict(digests or {}))
            for one, base in (bases or {}).items():
                if base.last_id is not None:
                    known.digests[one, base.first_day - ONE_DAY] = bars_digest(base.state)
            self._symbols[symbol] = known
            due_at = now + min(FIRST_S, self._options.interval_s)
            self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(
                    target=self._run, name="rangebar-finalizing", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def day_closed(self, symbol: str, day: date, digests: Mapping[BarSeries, str]) -> None:
        """Note that a day is closed, with the digests of the states of the series after it."""
        with self._changed:
            known = self._symbols.get(symbol)
            if known is None:
                return
            known.open_day = max(known.open_day, day + ONE_DAY)
            for series, digest in digests.items():
                known.digests[series, day] = digest
                known.series[series.spec.threshold] = series

    def finalized_through(self, symbol: str) -> date | None:
        """Return the last day of a symbol that is finalized without a break; None before the start."""
        with self._changed:
            known = self._symbols.get(symbol)
            return None if known is None else known.finalized_through

    def digests(self, symbol: str) -> Digests | None:
        """Return the digests of states after days that may be computed again; None before the start."""
        with self._changed:
            known = self._symbols.get(symbol)
            return None if known is None else dict(known.digests)

    def unfinalized_days(self, symbol: str) -> int | None:
        """Return the number of closed days that are not finalized."""
        with self._changed:
            known = self._symbols.get(symbol)
            if known is None:
                return None
            return max(0, (known.open_day - known.finalized_through).days - 1)

    def close(self) -> None:
        """End the thread. The helper has to be closed or interrupted before, if a pass is under way."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    @property
    def error(self) -> BaseException | None:
        """An error of this program that has ended the thread; None without one."""
        return next(iter(self._errors), None)

    # Passes

    def _run(self) -> None:
        # The session raises it.
        with Caught(even_exits=True) as caught:
            while self._wait():
                self._pass()
        if caught.error is not None:
            self._errors.append(caught.error)

    def _wait(self) -> bool:
        """Wait until a pass is due; return whether there is one."""
        with self._changed:
            while not self._is_closed:
                left_s = float("inf") if self._due_at is None else self._due_at - clock.monotonic()
                if left_s <= 0:
                    return True
                self._changed.wait(clock.real_seconds(min(left_s, self._options.interval_s)))
            return False

    def _pass(self) -> None:
        with self._changed:
            symbols = list(self._symbols)
        for symbol in symbols:
            if self._is_closed:
                return
            self._finalize(symbol)
        with self._changed:
            self._due_at = clock.monotonic() + self._options.interval_s
            self.passes += 1
            self._changed.notify_all()

    def _finalize(self, symbol: str) -> None:
        """Run the pass of a symbol."""
        with self._changed:
            known = self._symbols[symbol]
            first_day, last_day = known.finalized_through + ONE_DAY, known.open_day - ONE_DAY
            series = _series_of(known)
        if last_day < first_day and not self._options.has_cache:
            return
        try:
            answer = self._helper.call(
                "finalize",
                {
                    "source": self._venue.source,
                    "market": self._venue.market,
                    "symbol": symbol,
                    "first_day": first_day.isoformat(),
                    "last_day": last_day.isoformat(),
                    "series": [series_values(one) for one in series],
                    "cache": self._options.has_cache,
                },
            )
        except RangeBarError as error:
            if not self._is_closed:
                text = str(error).partition("\n")[0]
                self._note_waiting(symbol, known, [("helper", first_day, text, "")])
            return
        self._take(symbol, known, series, answer.values, answer.parts)

    def _take(
        self,
        symbol: str,
        known: _Symbol,
        series: Sequence[BarSeries],
        values: Mapping[str, Any],
        parts: Sequence[bytes],
    ) -> None:
        for one in values["differences"]:
            key = (one["day"], *one["ids"], *one["trades"])
            if key not in known.reported:
                known.reported.add(key)
                self._report_difference(symbol, one)
        is_revised = self._note_states(symbol, known, series, values, parts)
        waiting = [
            (one["kind"], day_of(one["day"]), one["reason"], one["command"])
            for one in values["waiting"]
        ]
        self._note_waiting(symbol, known, waiting)  # type: ignore[arg-type]
        through = day_of(values["through"])
        if is_revised and through is not None and through > known.finalized_through:
            self._note_finalized(symbol, known, through)

    def _note_states(
        self,
        symbol: str,
        known: _Symbol,
        series: Sequence[BarSeries],
        values: Mapping[str, Any],
        parts: Sequence[bytes],
    ) -> bool:
        """Note the states of finalized days; compute series again whose bars or states differ.

        Return whether that is done, or nothing differs.
        """
        states = iter(parts)
        revisions = []
        for index, (one, state) in enumerate(zip(series, values["states"], strict=True)):
            if state is None:
                continue
            day = day_of(state["day"])
            assert day is not None  # noqa: S101
            base = Base(next(states), day + ONE_DAY, state["last_id"])
            first_id = self._differing(known, one, index, values["differences"])
            own = known.digests.get((one, day))
            is_other = own is not None and own != state["digest"]
            has_ended = one.segment.end is not None and one.segment.end <= known.open_day
            if (is_other or first_id is not None) and not has_ended:
                revisions.append(Revision(one, day, base, first_id))
            else:
                self._states.note(one, base)
        if not revisions:
            return True
        try:
            if not self._revise(symbol, revisions):
                return False
        except RangeBarError as error:
            text = str(error).partition("\n")[0]
            self._note_waiting(symbol, known, [("revision", revisions[0].day, text, "")])
            return False
        for revision in revisions:
            self._note_revised(known, revision, values["differences"])
        return True

    @staticmethod
    def _differing(
        known: _Symbol, series: BarSeries, index: int, differences: Sequence[Mapping[str, Any]]
    ) -> int | None:
        """Return the first differing id of a day that changes bars of a series; None without one."""
        ids = [
            one["ids"][0]
            for one in differences
            if any(one["bars"][index]) and (series, day_of(one["day"])) not in known.revised
        ]
        return min(ids, default=None)

    def _note_revised(
        self, known: _Symbol, revision: Revision, differences: Sequence[Mapping[str, Any]]
    ) -> None:
        series = revision.series
        with self._changed:
            # States of later days were those of the computation before.
            known.digests = {
                key: text
                for key, text in known.digests.items()
                if key[0] != series or key[1] < revision.day
            }
            known.digests[series, revision.day] = bars_digest(revision.base.state)
        for one in differences:
            day = day_of(one["day"])
            assert day is not None  # noqa: S101
            known.revised.add((series, day))
        self._states.note(series, revision.base)

    def _report_difference(self, symbol: str, values: Mapping[str, Any]) -> None:
        changed, added, removed = (sum(counts) for counts in zip(*values["bars"], strict=True))
        self._event(
            symbol,
            "archive_differs",
            day=day_of(values["day"]),
            ids=values["ids"],
            bars_changed=changed,
            bars_added=added,
            bars_removed=removed,
        )

    def _note_finalized(self, symbol: str, known: _Symbol, through: date) -> None:
        with self._changed:
            before, known.finalized_through = known.finalized_through, through
            # That of the newest final day stays: its unit may be computed again.
            known.digests = {key: text for key, text in known.digests.items() if key[1] >= through}
        day = before + ONE_DAY
        while day <= through:
            self._event(symbol, "sidecar_checkpoint_saved", day=day)
            day += ONE_DAY

    def _note_waiting(
        self, symbol: str, known: _Symbol, waiting: Sequence[tuple[str, date, str, str]]
    ) -> None:
        """Report what has been waited for for a day, and days that a pass cannot compute at once."""
        now = clock.monotonic()
        kinds = {kind for kind, *_ in waiting}
        for kind in [*known.waiting_since]:
            if kind not in kinds:
                del known.waiting_since[kind]
                known.reported_at.pop(kind, None)
        for kind, day, reason, command in waiting:
            since = known.waiting_since.setdefault(kind, now)
            due_at = since if kind == "days" else since + BEHIND_S
            due_at = max(due_at, known.reported_at.get(kind, float("-inf")) + BEHIND_S)
            if now >= due_at:
                known.reported_at[kind] = now
                self._event(symbol, "finalizing_behind", day=day, reason=reason, command=command)


def _first_of(current: BarSeries, held: Sequence[BarSeries], first_day: date) -> BarSeries:
    """Return the series of a threshold that had the first day; the current one if none had."""
    if current.first_day <= first_day or current.segment_start <= first_day:
        return current
    had = [
        one
        for one in held
        if one.spec == current.spec
        and one.segment_start < current.segment_start
        and one.first_day <= first_day
    ]
    return max(had, key=lambda one: one.anchor_us, default=current)


def _series_of(known: _Symbol) -> list[BarSeries]:
    """Return the series that have closed days that are not finalized."""
    found = []
    for threshold, current in known.series.items():
        *before, last = series_from(known.first_series.get(threshold, current), current)
        if last != current:
            before, last = [], current
        done = known.finalized_through + ONE_DAY
        found += [one for one in before if one.segment.end is None or one.segment.end > done]
        found.append(last)
    return found
