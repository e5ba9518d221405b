"""Trades of one file in one sequence, a block behind the text.

Neighbouring blocks are put in order together, so that rows which a file interleaves find their
place. What lies farther apart is an error: it would need the whole file in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import TickDataError, TickOrderError, with_hint
from rangebar_polars.fetch.normalise import repairs_text
from rangebar_polars.sources import LONGEST_STEP_BACK_US
from rangebar_polars.trade_files.values import LINE, TAIL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Sequence"]

ID = "agg_trade_id"
TIME = "timestamp"
COUNTED = ("moved", "raised", "doubled", "tails")


class Sequence:
    """Puts the blocks of one file in order, and counts the repairs."""

    def __init__(self, source: str, counted: str = "line") -> None:
        self.source = source
        #: What the numbers of trades count: "line" or "row".
        self.counted = counted
        self.counts = dict.fromkeys(COUNTED, 0)
        self._last_id: int | None = None
        self._last_us: int | None = None

    @property
    def warning(self) -> str:
        """Describe all repairs; empty if there are none."""
        return repairs_text(self.source, self.counts)

    def ordered(self, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the trades in order.

        Raises
        ------
        TickDataError
            Two different trades have one id.
        TickOrderError
            A row is more than a block away from its place, or time runs back by more than a second.
        """
        held: pl.DataFrame | None = None
        for block in forwards(filter(lambda one: one.height, blocks)):
            if TAIL in block.columns:
                self.counts["tails"] += int(block[TAIL].sum())
            frame = block.drop(TAIL, strict=False)
            if held is None or follows(held, frame):
                done, held = held, self.sorted(frame)
            else:
                both = self.sorted(pl.concat([held, frame]))
                # What came first is done; the rest may still meet rows of the next block.
                done, held = both.head(held.height), both.slice(held.height)
            if done is not None and done.height:
                yield self.finished(done)
        if held is not None and held.height:
            yield self.finished(held)

    def sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return trades in the order of their ids, each once; without ids as they are."""
        if ID not in frame.columns or is_strictly_increasing(frame[ID]):
            return frame
        ids = frame[ID]
        self.counts["moved"] += int((ids < ids.cum_max()).sum())
        ordered = frame.sort(ID, maintain_order=True)
        again = (ordered[ID].diff() == 0).fill_null(value=False)
        if not again.any():
            return ordered
        values = [name for name in ordered.columns if name != LINE]
        single = ordered.unique(values, keep="first", maintain_order=True)
        self.counts["doubled"] += ordered.height - single.height
        if not is_strictly_increasing(single[ID]):
            first, second = single.filter(pl.col(ID).is_duplicated()).head(2).iter_rows(named=True)
            raise TickDataError(
                with_hint(
                    f"`{self.source}`, {self.counted}s {first[LINE]} and {second[LINE]}: "
                    f"conflicting trades: two different ones have the id `{first[ID]}`",
                    f"remove one of the {self.counted}s",
                )
            )
        return single

    def finished(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return trades whose place is certain, with times that do not run back."""
        if ID in frame.columns:
            first = frame[ID][0]
            if self._last_id is not None and first <= self._last_id:
                raise TickOrderError(
                    with_hint(
                        f"`{self.source}`, {self.counted} {frame[LINE][0]}: the id `{first}` comes after "
                        f"`{self._last_id}`, too far from its place",
                        f"sort the {self.counted}s of the file by their ids first",
                    )
                )
            self._last_id = frame[ID][-1]
        times = frame[TIME]
        floor = times[0] if self._last_us is None else self._last_us
        if times[0] >= floor and times.is_sorted():
            self._last_us = times[-1]
            return frame
        highest = pl.concat([pl.Series([floor], dtype=pl.Int64), times]).cum_max().slice(1)
        behind = highest - times
        far = (behind > LONGEST_STEP_BACK_US).arg_true()
        if len(far):
            raise TickOrderError(
                with_hint(
                    f"`{self.source}`, {self.counted} {frame[LINE][far[0]]}: the time runs back by "
                    f"more than a second, by {behind[far[0]] / 1e6:g} s",
                    f"sort the {self.counted}s of the file by time first",
                )
            )
        self.counts["raised"] += int((behind > 0).sum())
        self._last_us = highest[-1]
        return frame.with_columns(highest.alias(TIME))


def follows(before: pl.DataFrame, after: pl.DataFrame) -> bool:
    """Return whether no row of a block belongs before the end of the other."""
    if ID not in before.columns:
        return True
    return bool((after[ID] > before[ID][-1]).all())


def forwards(blocks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield blocks oldest first: a file that runs newest first is read whole and turned around."""
    first = next(blocks, None)
    if first is None:
        return
    if not runs_back(first):
        yield first
        yield from blocks
        return
    rest = [first, *blocks]
    while rest:
        yield rest.pop().reverse()


def runs_back(frame: pl.DataFrame) -> bool:
    """Return whether a block runs from the newest trade to the oldest."""
    key = frame[ID] if ID in frame.columns else frame[TIME]
    return bool(key[0] > key[-1] and key.is_sorted(descending=True))
