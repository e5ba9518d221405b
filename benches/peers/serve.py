"""The loop of a worker: another library in its own interpreter, timed round by round.

A request is a line of JSON. `["run", repeats, ...]` is answered with the seconds of one pass by the
clock and of the processor; `["bars", path, ...]` with the number of bars, after their columns are
written to that path. The first line out is the library's name.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def timed(work: Callable[..., object], repeats: int, settings: list[Any]) -> list[float]:
    """Seconds of one pass, by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work(*settings)
    return [(time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats]


def serve(
    name: str,
    work: Callable[..., object],
    columns: Callable[..., Mapping[str, np.ndarray]],
) -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is no answer

    def answer(value: object) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer(name)
    for line in sys.stdin:
        command, first, *settings = json.loads(line)
        if command == "run":
            answer(timed(work, first, settings))
        else:
            bars = columns(*settings)
            np.savez(first, **bars)
            answer(len(next(iter(bars.values()))))
