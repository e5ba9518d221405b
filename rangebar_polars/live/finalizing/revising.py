"""Revisions: series that are computed again, since their final trades are not the streamed ones."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import CancelledError
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.bar_series.live_builders import bars_digest
from rangebar_polars.live.helper.messages import series_of, series_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.helper.base import Base
    from rangebar_polars.live.interfaces import Consumer
    from rangebar_polars.live.series import SeriesGroup
    from rangebar_polars.live.symbol import LiveSymbol
    from rangebar_polars.live.symbol_parts import AppliedRecord

__all__ = ["Revision", "RevisionRecord", "newest_revision", "revise", "revision_of", "run_in"]

#: A series takes over once at most so many records are left to push, or after so many rounds.
FEW_RECORDS, MOST_ROUNDS = 20, 10


class Revision(NamedTuple):
    """A series to compute again from the state after a final day."""

    series: BarSeries
    day: date
    base: Base
    #: The first id whose trade differs; None if only the state does.
    first_id: int | None = None

    def text(self, number: int) -> str:
        """Return the record of it in a journal."""
        return json.dumps(
            {
                "number": number,
                "day": self.day.isoformat(),
                "series": series_values(self.series),
                "first_id": self.first_id,
                "digest": bars_digest(self.base.state),
            }
        )

    def is_that_of(self, text: str) -> bool:
        """Return whether a record is of the same series in the same state."""
        try:
            values = json.loads(text)
            state = (series_of(values["series"]), values["day"], values["digest"])
        except (ValueError, TypeError, KeyError, OverflowError):
            return False
        return state == (self.series, self.day.isoformat(), bars_digest(self.base.state))


class RevisionRecord(NamedTuple):
    """What a journal says of a revision."""

    number: int
    day: date
    series: BarSeries


class Recomputing(Protocol):
    """What computes a series again."""

    def computed_again(
        self, symbol: str, series: BarSeries, base: Base
    ) -> tuple[SeriesGroup, int | None]:
        """Return a series after the stored trades that follow a state, and their last id."""
        ...


class Revised(Protocol):
    """A running session."""

    @property
    def history(self) -> Recomputing:
        """What is stored."""
        ...

    def next_revision(self, symbol: str) -> int:
        """Return a number above those of earlier revisions of a symbol."""
        ...

    @property
    def consumers(self) -> Sequence[Consumer]:
        """Where bars go."""
        ...

    def in_loop(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it returns
        """Run a function in the thread of the event loop, and return what it returns.

        Raises
        ------
        CancelledError
            The loop has ended.
        """
        ...


def revise(session: Revised, symbol: LiveSymbol, revisions: Sequence[Revision]) -> bool:
    """Compute series of a symbol again, while trades are applied; return whether it is done.

    It is called in a thread of its own. The bars of the series wait meanwhile; then the next bar that
    consumers receive is the first one of the new computation after their position.

    Parameters
    ----------
    session
        The session.
    symbol
        A symbol whose history is there.
    revisions
        What is computed again.

    Raises
    ------
    StorageError
        Stored trades cannot be read. The series are as they were.
    """
    number = session.next_revision(symbol.name)
    records = [(one.series, one.text(number)) for one in revisions]
    try:
        running = session.in_loop(lambda: symbol.begin_revision(records))
        if running is None:
            return False
        try:
            groups = _computed(session, symbol, revisions)
            for _ in range(MOST_ROUNDS):
                taken = session.in_loop(running.take)
                _push(groups, taken)
                if len(taken) <= FEW_RECORDS:
                    break
        except BaseException:
            session.in_loop(symbol.end_revision)
            raise
        done: bool = session.in_loop(lambda: _take_over(session, symbol, groups, number))
    except CancelledError:
        return False
    if done:
        failpoint(Step.REVISED)
    return done


class _Group(NamedTuple):
    """A series that is computed again."""

    revision: Revision
    group: SeriesGroup
    #: Trades up to this id are in it.
    through_id: int


def _computed(session: Revised, symbol: LiveSymbol, revisions: Iterable[Revision]) -> list[_Group]:
    found = []
    for one in revisions:
        group, through_id = session.history.computed_again(symbol.name, one.series, one.base)
        found.append(_Group(one, group, -1 if through_id is None else through_id))
    return found


def _push(groups: Sequence[_Group], records: Sequence[AppliedRecord]) -> None:
    for one in groups:
        for day, record, last_id in records:
            # What was stored before it was read is in it already.
            if last_id > one.through_id:
                one.group.push_one(0, day, record)


def _take_over(session: Revised, symbol: LiveSymbol, groups: Sequence[_Group], number: int) -> bool:
    """Push the last records, and let the series take over. It runs in the loop."""
    running, series, sequencing = symbol.revision, symbol.series, symbol.sequencing
    if running is None or series is None or sequencing is None:
        return False  # the symbol has begun again meanwhile
    _push(groups, running.take())
    for one in groups:
        index = series.index_of(one.revision.series.spec)
        if index is None:
            continue
        series.replace(index, one.group)
        for consumer in session.consumers:
            consumer.revised(symbol.name, series.series[index], number, sequencing.applied_id)
    symbol.end_revision()
    return True


def run_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Run a function in the thread of a loop, and return what it returns."""

    async def call() -> Any:  # noqa: ANN401
        return function()

    return asyncio.run_coroutine_threadsafe(call(), loop).result()


def newest_revision(texts: Iterable[str], series: BarSeries) -> int:
    """Return the number of the newest revision of a series in records; 0 without one.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.helper.base import Base
    >>> from rangebar_polars.live.finalizing.revising import Revision, newest_revision
    >>> from rangebar_polars.live.series import fresh_state
    >>> series = BarSpec.of("BTCUSDT", 250).series(date(2026, 11, 1))
    >>> base = Base(fresh_state(series.spec), date(2026, 11, 3), None)
    >>> text = Revision(series, date(2026, 11, 2), base).text(12)
    >>> newest_revision([text, "damaged"], series)
    12
    """
    records = map(revision_of, texts)
    own = (one.number for one in records if one is not None and one.series.spec == series.spec)
    return max(own, default=0)


def revision_of(text: str) -> RevisionRecord | None:
    """Return the revision that a record describes; None if it cannot be read."""
    try:
        values = json.loads(text)
        number, day = int(values["number"]), date.fromisoformat(values["day"])
        return RevisionRecord(number, day, series_of(values["series"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
