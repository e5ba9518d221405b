"""The replays of a consumer that are under way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.live.consumers.replay import Replay

if TYPE_CHECKING:
    from threading import Condition

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.delivery import Compute, Delivery
    from rangebar_polars.live.consumers.replay import ReplaySource

__all__ = ["Replays"]

_LOG = logging.getLogger("rangebar_polars.live")
#: Most bars in memory that are computed again.
REPLAY_ROWS = 1_000


class Replays:
    """Computes bars again, one part after another, while nobody waits for it.

    Parameters
    ----------
    source
        Computes the bars.
    delivery
        The state of the consumer.
    condition
        Guards the state.
    """

    def __init__(self, source: ReplaySource, delivery: Delivery, condition: Condition) -> None:
        self._source, self._delivery, self._condition = source, delivery, condition
        self._limit = min(REPLAY_ROWS, delivery.options.max_pending_bars)
        #: By symbol, with the epoch in which it began.
        self._running: dict[str, tuple[int, Replay]] = {}

    def compute(self, step: Compute) -> None:
        """Compute the next bars of a symbol, and add them to the state; one call at a time."""
        epoch, replay = self._running.pop(step.symbol, (step.epoch, None))
        if replay is not None and epoch != step.epoch:
            replay.close()
            replay = None
        try:
            if replay is None:
                replay = self._begin(step.symbol)
            found = replay.next()
        except (RangeBarError, OSError) as error:
            _LOG.warning("bars of %s cannot be computed again: %s", step.symbol, error)
            with self._condition:
                self._delivery.not_computed(step.symbol, str(error), clock.monotonic())
            return
        with self._condition:
            is_over = self._delivery.computed(step.symbol, found, step.epoch)
        if is_over:
            replay.close()
        else:
            self._running[step.symbol] = step.epoch, replay

    def close(self) -> None:
        """End them."""
        for _, replay in self._running.values():
            replay.close()
        self._running.clear()

    def _begin(self, symbol: str) -> Replay:
        with self._condition:
            state = self._delivery.symbols[symbol]
            positions = state.positions

        def newest(threshold: int) -> BarSeries:
            # `begin` replaces them.
            return state.newest[threshold]

        frames = self._delivery.frames
        return Replay(self._source, frames, symbol, positions, newest, self._limit)
