"""Two sides of a comparison, timed in turn, so that a busy moment of the machine hits both."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


def require_release() -> None:
    """End the program with exit code 2 if the library was built without optimisation."""
    from rangebar_polars import _internal

    if _internal.__debug_build__:
        print("this is a debug build, whose times say nothing: `make build` first", file=sys.stderr)
        sys.exit(2)


class Sample(NamedTuple):
    """Seconds of one pass: of the clock, and of all processors together."""

    wall: float
    cpu: float


def here(work: Callable[[], object], repeats: int = 1) -> Callable[[], Sample]:
    """`work` as a side, in this process; a short one is repeated and averaged."""

    def side() -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            work()
        return Sample((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)

    return side


@dataclass(frozen=True)
class Comparison:
    """Samples of both sides, one pair per round."""

    ours: list[Sample]
    other: list[Sample]

    def costs(self, clock: str = "wall") -> list[float]:
        """Our time over the other's, round by round."""
        return [
            getattr(ours, clock) / max(getattr(other, clock), 1e-9)
            for ours, other in zip(self.ours, self.other, strict=True)
        ]

    def speeds(self, clock: str = "wall") -> list[float]:
        """The other's time over ours, round by round."""
        return [1 / max(cost, 1e-9) for cost in self.costs(clock)]


def typical(samples: list[Sample]) -> float:
    """Median seconds by the clock."""
    return median(sample.wall for sample in samples)


def interleave(ours: Callable[[], Sample], other: Callable[[], Sample], rounds: int) -> Comparison:
    """Times the two in turn, after one pass of each that does not count."""
    ours()
    other()
    pairs = [(ours(), other()) for _ in range(rounds)]
    return Comparison([pair[0] for pair in pairs], [pair[1] for pair in pairs])
