"""The yardstick: merely reading the columns once, on one thread, as fast as NumPy can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

# All of them touch every word; which is the fastest depends on the processor.
REDUCTIONS = (np.bitwise_xor, np.bitwise_and, np.add, np.maximum)
TRIALS = 5


def words(column: pl.Series) -> np.ndarray:
    """The buffer of a column as 64-bit words, not copied; Booleans are packed bits."""
    if column.n_chunks() != 1 or column.null_count():
        raise ValueError(f"`{column.name}` must be one chunk without nulls")
    if column.dtype == pl.Boolean:
        array = column.to_arrow()
        if array.offset:
            raise ValueError(f"`{column.name}` must start at its buffer's first bit")
        packed = np.frombuffer(array.buffers()[1], np.uint8)[: -(-len(column) // 8)]
        return packed[: packed.size // 8 * 8].view(np.uint64)
    return column.to_physical().to_numpy(allow_copy=False).view(np.uint64)


def fastest(array: np.ndarray) -> np.ufunc:
    """The reduction that reads this array in the least time."""

    def seconds(reduction: np.ufunc) -> float:
        start = time.perf_counter()
        reduction.reduce(array)
        return time.perf_counter() - start

    return min(REDUCTIONS, key=lambda r: min(seconds(r) for _ in range(TRIALS)))


def reader(frame: pl.DataFrame) -> tuple[Callable[[], list], str]:
    """One pass over all columns of the frame, and the names of the reductions it uses."""
    arrays = [words(column) for column in frame.get_columns()]
    plan = [(fastest(array).reduce, array) for array in arrays]
    names = {reduction.__self__.__name__ for reduction, _ in plan}
    return (lambda: [reduction(array) for reduction, array in plan]), ", ".join(sorted(names))
