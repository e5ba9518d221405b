"""The builders of all series of one symbol, which take records of its journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import _internal
from rangebar_polars.bar_series.columns import ENDINGS
from rangebar_polars.bar_series.days import no_bars
from rangebar_polars.compute.builder import StoredTicksBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LiveBuilders", "bars_digest", "bars_state"]


class LiveBuilders:
    """Builders of several series of the same trades, as `new_builder` makes them.

    Their states and bars are those of a `RangeBarBuilder` with the same trades, bit for bit. Threads
    may share it.

    Parameters
    ----------
    states
        Checkpoints of builders with core and microstructure: the states of units, or those before
        the first trade.

    Raises
    ------
    CheckpointError
        This version cannot load a state.
    ValueError
        A state is not one of trades with exactly the columns of `TRADES_SCHEMA`.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from rangebar_polars import _internal
    >>> from rangebar_polars.bar_series.days import new_builder
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.bar_series.live_builders import LiveBuilders
    >>> states = [new_builder(BarSpec.of("ETHUSDT", dbps)).checkpoint() for dbps in (250, 5_000)]
    >>> builders = LiveBuilders(states)
    >>> bars = builders.push(_internal.encode_trades(rb.sample_ticks()))
    >>> [(index, frame.height > 0) for index, frame in bars], builders.partial(1).height
    ([(0, True)], 1)
    """

    def __init__(self, states: Sequence[bytes]) -> None:
        restored = [StoredTicksBuilder.from_checkpoint(state).hand_over() for state in states]
        self._core = _internal.LiveBuilders(restored)

    def __len__(self) -> int:
        return len(self._core)

    def push(
        self, record: bytes, index: int | None = None
    ) -> list[tuple[int, pl.DataFrame]] | None:
        """Push the trades of a record to all series, or to one.

        Return the bars that end, by the index of their series; None if none does.

        Raises
        ------
        TickDataError
            A trade has an invalid value or is out of order. No series has changed.
        ValueError
            The bytes are not one record of trades.
        """
        return self._core.push(record, index)

    def partial(self, index: int) -> pl.DataFrame:
        """Return the forming bar of a series; an empty frame without one."""
        bars = self._core.partial(index)
        return bars if bars.height else no_bars()

    def orphan(self, index: int) -> pl.DataFrame:
        """Return the forming bar as an orphan that a reset ends. The series does not change."""
        return self.partial(index).with_columns(ended_by=pl.lit("reset", pl.Enum(ENDINGS)))

    def checkpoint(self, index: int) -> bytes:
        """Return the state of a series."""
        return self._core.checkpoint(index)

    def digest(self, index: int) -> str:
        """Return `bars_digest` of the state of a series."""
        return self._core.bars_digest(index)

    def replace(self, index: int, state: bytes) -> None:
        """Resume a series from another state.

        Raises
        ------
        CheckpointError, ValueError
            As for the constructor. The series does not change.
        """
        self._core.replace(index, *StoredTicksBuilder.from_checkpoint(state).hand_over())


def bars_state(state: bytes) -> bytes:
    """Return the state of core and microstructure that a state of any feature groups contains.

    Raises
    ------
    CheckpointError
        This version cannot load the state.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.bar_series.live_builders import bars_state
    >>> plain, other = (
    ...     rb.RangeBarBuilder(250, features=groups)
    ...     for groups in ("microstructure", ["microstructure", "intrabar"])
    ... )
    >>> _ = plain.push(rb.sample_ticks()), other.push(rb.sample_ticks())
    >>> bars_state(other.checkpoint()) == plain.checkpoint() != other.checkpoint()
    True
    """
    return StoredTicksBuilder.from_checkpoint(state).bars_state()


def bars_digest(state: bytes) -> str:
    """Return a hash of the forming bar in a state and of all that decides the next bars.

    It depends neither on the numbers of rows and bars so far, nor on feature groups, nor on the
    format of checkpoints.

    Raises
    ------
    CheckpointError
        This version cannot load the state.
    """
    return StoredTicksBuilder.from_checkpoint(state).bars_digest()
