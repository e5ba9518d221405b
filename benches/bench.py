"""What the cases share: the trades, the other libraries, and the shape of a result."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import data
import numpy as np
import polars as pl
from memory import lazy_peak
from peer import SkippedError, Worker
from timing import here, interleave, typical
from yardstick import reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from timing import Comparison, Sample

TRADES_PER_BAR = 1_000
SHORTEST_SAMPLE_ROWS = 10_000_000  # fewer rows are gone through several times in one sample


@dataclass(frozen=True)
class Result:
    """A figure with its spread over the rounds, and what else is worth knowing."""

    value: float
    low: float
    high: float
    by_cpu: float | None = None
    notes: list[str] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)


def figure(values: list[float], by_cpu: list[float] | None = None, **details: object) -> Result:
    """Median and range of a figure."""
    cpu = None if by_cpu is None else median(by_cpu)
    return Result(median(values), min(values), max(values), cpu, details=details)


@dataclass(frozen=True)
class Bench:
    """The trades of a run, and how often each pair is timed."""

    rows: int
    rounds: int
    full: bool

    @property
    def few(self) -> int:
        """Rows of the short input."""
        return self.rows // 10

    @property
    def many(self) -> int:
        """Rows of the long input."""
        return self.rows * 4

    @property
    def most(self) -> int:
        """Rows of the longest input that this run may use."""
        return self.rows * 10 if self.full else self.many

    @property
    def sizes(self) -> dict[str, str]:
        """The numbers of rows in words, for the names of cases."""
        counts = {"rows": self.rows, "few": self.few, "many": self.many, "most": self.most}
        return {name: f"{count / 1e6:g} M" for name, count in counts.items()}

    @cached_property
    def trades(self) -> pl.DataFrame:
        """The trades in memory."""
        return data.frame(self.rows)

    @cached_property
    def reading_seconds(self) -> float:
        """What one pass over the columns takes."""
        read = self.side(reader(self.trades)[0])
        return typical([read() for _ in range(self.rounds)])

    @cached_property
    def range_bars(self) -> Worker:
        """The existing library, over the same file."""
        path = data.parquet(self.rows)
        return Worker("RANGEBAR_PEER_PYTHON", "rangebar_worker.py", path)

    @cached_property
    def finmlkit(self) -> Worker:
        """The library for features of given bars, over the same trades."""
        with tempfile.TemporaryDirectory() as folder:
            sides = 1 - 2 * self.trades["is_buyer_maker"].cast(pl.Int8)
            columns = {"price": self.trades["price"], "quantity": self.trades["quantity"]}
            for name, column in {**columns, "side": sides}.items():
                np.save(Path(folder, f"{name}.npy"), column.to_numpy())
            return Worker(
                "RANGEBAR_FINMLKIT_PYTHON",
                *("finmlkit_worker.py", folder, TRADES_PER_BAR),
                NUMBA_NUM_THREADS="1",
            )

    @cached_property
    def peaks(self) -> tuple[dict, dict]:
        """Peak memory over the ordinary file, and over the long one."""
        return lazy_peak(data.parquet(self.rows)), lazy_peak(data.parquet(self.many))

    def repeats(self, rows: int) -> int:
        """Passes in one sample."""
        return max(1, min(50, SHORTEST_SAMPLE_ROWS // rows))

    def side(self, work: Callable[[], object], rows: int | None = None) -> Callable[[], Sample]:
        """Work over `rows` as a side of a comparison, in this process."""
        return here(work, self.repeats(rows or self.rows))

    def compare(self, ours: Callable[[], Sample], other: Callable[[], Sample]) -> Comparison:
        """The two sides, timed in turn."""
        return interleave(ours, other, self.rounds)

    def close(self) -> None:
        """Ends the workers that were started."""
        for name in ("range_bars", "finmlkit"):
            if name in self.__dict__:
                self.__dict__[name].close()


def speed(comparison: Comparison, rows: int, other: str) -> Result:
    """How many times faster than the other."""
    return _timed(comparison.speeds(), comparison.speeds("cpu"), comparison, rows, other)


def cost(comparison: Comparison, rows: int, other: str) -> Result:
    """How many times the other's time."""
    return _timed(comparison.costs(), comparison.costs("cpu"), comparison, rows, other)


def _timed(
    values: list[float], by_cpu: list[float], comparison: Comparison, rows: int, other: str
) -> Result:
    result = figure(values, by_cpu, rows=rows, ours=comparison.ours, other=comparison.other)
    ours, others = (rows / typical(s) / 1e6 for s in (comparison.ours, comparison.other))
    result.notes.append(f"{ours:,.0f} M trades/s; {other} {others:,.0f}")
    return result


def demand_equal(bars: pl.DataFrame, theirs: dict[str, np.ndarray], library: str) -> None:
    """Refuses to time two libraries that do not say the same."""
    for name, values in theirs.items():
        if len(values) != bars.height:
            raise SkippedError(f"{library} makes {len(values):,} bars of {bars.height:,}")
        if not np.array_equal(bars[name].to_numpy(), values):
            raise SkippedError(f"{library} has other values in `{name}`")
