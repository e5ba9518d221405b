"""What a consumer does next: a function of what has happened and of the time.

No thread, no clock and no file. The worker of a consumer asks for the next step, does it, and says how it
went; the engine adds bars meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rangebar_polars.live.consumers.retries import FAILING_FROM, Retries, wait_after
from rangebar_polars.live.consumers.symbol_bars import SymbolBars
from rangebar_polars.live.interfaces import ConsumerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.cursors import Cursor
    from rangebar_polars.live.consumers.replay import ReplayedRows
    from rangebar_polars.live.consumers.symbol_bars import Offered
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.interfaces import SeriesBars, SeriesStart

__all__ = [
    "Compute",
    "ConsumerFailed",
    "Delivery",
    "DeliveryOptions",
    "Finished",
    "Offer",
    "Save",
    "Step",
    "Unsaved",
    "Wait",
]

#: Longest time between two attempts to compute bars again.
LONGEST_REPLAY_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How a consumer behaves."""

    name: str
    kind: str
    max_pending_bars: int = 10_000
    #: Whether bars are skipped after four calls that raised.
    skips: bool = False
    #: Whether its positions are stored.
    has_cursors: bool = True
    #: The run of the operating system.
    boot: str = ""


class Offer(NamedTuple):
    """Pass these bars to the receiver."""

    offered: Offered


class Compute(NamedTuple):
    """Compute the next bars of a symbol again, in a replay of this epoch."""

    symbol: str
    #: A replay of another epoch is of no use.
    epoch: int


class Save(NamedTuple):
    """Write the cursor of a symbol before anything is delivered."""

    symbol: str


class Wait(NamedTuple):
    """There is nothing to do until something happens, or until a time."""

    until: float | None


class Finished(NamedTuple):
    """The consumer is closed, and has nothing to deliver any more."""


Step: TypeAlias = Offer | Compute | Save | Wait | Finished


class Unsaved(NamedTuple):
    """A cursor that is newer than the stored one."""

    symbol: str
    cursor: Cursor
    version: int


class ConsumerFailed(NamedTuple):
    """A frame was offered four times in vain."""

    symbol: str
    first_id: int
    last_id: int
    bars: int
    is_skipped: bool


class Delivery:
    """The state of a consumer.

    Parameters
    ----------
    options
        How it behaves.
    frames
        Makes the frames that it receives.
    """

    def __init__(self, options: DeliveryOptions, frames: BarFrames) -> None:
        self.options = options
        self.frames = frames
        self.symbols: dict[str, SymbolBars] = {}
        self.delivered, self.skipped, self.failures = 0, 0, 0
        self.last_error: str | None = None
        self.is_closing = False
        #: Symbols whose last bars could not be computed again, and why.
        self.not_delivered: dict[str, str] = {}
        self._replay_attempts = 1
        self._turns: deque[str] = deque()
        self._retries = Retries()
        self._failed_at: float | None = None
        self._offered: Offered | None = None
        self._has_given_up = False
        #: Vain attempts to compute bars of symbols again, and when the next one is.
        self._replay_fails: dict[str, int] = {}
        self._replay_at: dict[str, float] = {}

    # What the engine says

    def begin(
        self,
        symbol: str,
        starts: Sequence[SeriesStart],
        bars: Sequence[SeriesBars],
        applied_id: int,
        cursor: Cursor | None,
        now: float,
    ) -> list[BarSeries]:
        """Begin to receive the bars of a symbol; return series that begin beside their cursor.

        `cursor` is the stored one; None if there is none, or if the symbol had begun before.
        """
        found = self.symbols.get(symbol)
        if found is None:
            found = SymbolBars(symbol, self.frames, cursor, self.options.boot)
            found.replay_until = applied_id
            if cursor is not None and not cursor.is_closed:
                found.replays_until_live = cursor.boot != self.options.boot
            self.symbols[symbol] = found
            self._turns.append(symbol)
        new = found.begin(starts, applied_id, now)
        if not self.options.has_cursors:
            found.saves_first = False
        found.stored(bars, now)
        self._bound(now)
        return new

    def queue(self, symbol: str, bars: Sequence[SeriesBars], applied_id: int, now: float) -> None:
        """Add the bars of a symbol that have ended."""
        self.symbols[symbol].queue(bars, applied_id, now)
        self._bound(now)

    def live(self, symbol: str, applied_id: int, now: float) -> None:
        """Note that a symbol has become live."""
        found = self.symbols[symbol]
        found.live(applied_id, now)
        if not self.options.has_cursors:
            found.saves_first = False

    def revised(self, symbol: str, series: BarSeries, number: int, applied_id: int) -> None:
        """Note that a series was computed again."""
        self.symbols[symbol].revised(series, number, applied_id)

    def close(self, *, retries: bool = False) -> None:
        """Deliver what is there, and no more.

        With `retries`, bars are computed again as often as the receiver of a frame is called before
        it counts as failing. Otherwise one attempt is made: the cursor says where the next consumer
        begins.
        """
        self.is_closing = True
        self._replay_attempts = FAILING_FROM if retries else 1
        self._replay_fails.clear()
        self._retries.retry_at = float("-inf")
        self._replay_at.clear()

    # What the worker asks and says

    def next(self, now: float) -> Step:
        """Return the next step."""
        if self._has_given_up:
            return Finished()
        if now < self._retries.retry_at:
            return Wait(self._retries.retry_at)
        offered = self._offered
        if offered is not None:
            if self._is_current(offered):
                return Offer(offered)
            self._offered = None
        for _ in range(len(self._turns)):
            name = self._turns[0]
            step = self._step_of(self.symbols[name], now)
            if step is not None:
                return step
            self._turns.rotate(-1)
        replay_at = min((time for time in self._replay_at.values() if time > now), default=None)
        if self.is_closing and replay_at is None:
            return Finished()
        return Wait(replay_at)

    def partly_delivered(self, count: int, now: float) -> None:
        """Note that the first bars of the offer were delivered, and the others not yet."""
        offered = self._offered
        if offered is not None and count:
            self.delivered += count
            self.symbols[offered.symbol].delivered(offered, count, now)
            self._offered = offered.rest(count)

    def returned(self, now: float) -> None:
        """Note that the offer was delivered."""
        self._retries.returned()
        self._done(now, is_skipped=False)

    def raised(self, text: str, now: float) -> ConsumerFailed | None:
        """Note that the receiver raised; return a failure that is to be reported."""
        offered = self._offered
        self.failures += 1
        self.last_error, self._failed_at = text, now
        has_failed = self._retries.failed(now)
        if offered is None:
            return None
        ids = offered.rows.get_column("last_agg_trade_id")
        skips = has_failed and self.options.skips
        failed = ConsumerFailed(offered.symbol, ids[0], ids[-1], len(ids), skips)
        if skips:
            self._done(now, is_skipped=True)
            self._retries.skipped()
        elif self.is_closing and self._retries.is_failing:
            self._has_given_up = True
        return failed if has_failed else None

    def computed(self, symbol: str, found: ReplayedRows, epoch: int) -> bool:
        """Take in bars that were computed again; return whether no more of them are needed."""
        state = self.symbols[symbol]
        self._replay_fails.pop(symbol, None)
        self._replay_at.pop(symbol, None)
        if state.epoch != epoch:
            return True
        state.replayed(found)
        return found.is_last or not state.is_incomplete

    def not_computed(self, symbol: str, text: str, now: float) -> None:
        """Note that bars cannot be computed again now."""
        fails = self._replay_fails[symbol] = self._replay_fails.get(symbol, 0) + 1
        self.last_error = text
        if self.is_closing and fails >= self._replay_attempts:
            self._turns.remove(symbol)
            self.not_delivered[symbol] = text
        else:
            self._replay_at[symbol] = now + min(LONGEST_REPLAY_WAIT_S, wait_after(fails))

    # Cursors

    def unsaved(self) -> list[Unsaved]:
        """Return the cursors that are not stored yet."""
        if not self.options.has_cursors:
            return []
        found = (self.cursor(name) for name in self.symbols)
        return [one for one in found if one is not None and not self._is_saved(one)]

    def cursor(self, symbol: str, *, is_closed: bool = False) -> Unsaved | None:
        """Return the cursor of a symbol; None before there is one."""
        state = self.symbols[symbol]
        cursor = state.current_cursor(is_closed=is_closed)
        return None if cursor is None else Unsaved(symbol, cursor, state.version)

    def saved(self, symbol: str, version: int, now: float) -> None:
        """Note that the cursor of a version is stored."""
        self.symbols[symbol].saved(version, now)

    def status(self, now: float) -> ConsumerStatus:
        """Return how the consumer is doing."""
        pending = sum(one.pending for one in self.symbols.values())
        if self._offered is not None:
            pending += self._offered.rows.height
        state = "lagging" if self.is_lagging else "ok"
        return ConsumerStatus(
            name=self.options.name,
            kind=self.options.kind,
            state="failing" if self._retries.is_failing else state,
            pending=pending,
            cursor_lag_s=max(0.0, now - self._behind_since(now)),
            delivered=self.delivered,
            failures=self.failures,
            last_error=self.last_error,
            skipped=self.skipped,
            failed_ago_s=None if self._failed_at is None else now - self._failed_at,
        )

    @property
    def is_lagging(self) -> bool:
        """Whether bars are computed again."""
        return any(one.is_incomplete or one.has_replayed for one in self.symbols.values())

    # Inside

    def _step_of(self, state: SymbolBars, now: float) -> Step | None:
        if state.is_waiting:
            return None
        if state.saves_first:
            return Save(state.name)
        if state.is_incomplete and not state.has_replayed:
            if now < self._replay_at.get(state.name, float("-inf")):
                return None
            return Compute(state.name, state.epoch)
        offered = state.offer()
        if offered is None:
            return None
        self._offered = offered
        self._turns.rotate(-1)
        return Offer(offered)

    def _is_current(self, offered: Offered) -> bool:
        return offered.epoch == self.symbols[offered.symbol].epoch

    def _done(self, now: float, *, is_skipped: bool) -> None:
        offered, self._offered = self._offered, None
        if offered is None:
            return
        count = offered.rows.height
        if is_skipped:
            self.skipped += count
        else:
            self.delivered += count
        if count:
            self.symbols[offered.symbol].delivered(offered, count, now)

    def _bound(self, now: float) -> None:
        """Drop all queues if they hold too much."""
        if sum(one.queued for one in self.symbols.values()) <= self.options.max_pending_bars:
            return
        for state in self.symbols.values():
            if state.has_queued:
                state.drop_queue()
                state.replay_until = max(state.replay_until, state.applied_id)
                if state.lagging_since is None:
                    state.lagging_since = now

    def _is_saved(self, one: Unsaved) -> bool:
        return self.symbols[one.symbol].saved_version == one.version

    def _behind_since(self, now: float) -> float:
        """Return since when a bar is not in the stored cursor."""
        times: list[float | None] = [now]
        if self._offered is not None:
            times.append(self._offered.since)
        for state in self.symbols.values():
            if state.is_incomplete and state.lagging_since is None:
                state.lagging_since = now
            times += (state.queued_since, state.lagging_since)
            if self.options.has_cursors:
                times.append(state.unsaved_since)
        return min(time for time in times if time is not None)
