"""Rank statistics of series of bars, on NumPy arrays.

NumPy belongs to the extra `validation`, so this module is imported late.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MISSING",
    "benjamini_hochberg",
    "block_correlations",
    "correlated_pairs",
    "group_count",
    "scores",
    "shift_test",
    "value_codes",
]

Doubles: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int32]

#: The code of a missing value.
MISSING = -1

_BLOCKS = 5
_GAPS_PER_SERIES = 100
_MARGINS_PER_SERIES = 20


def value_codes(values: Doubles) -> Codes:
    """Return the number of each value among the different ones in ascending order, from 0.

    NaN and infinities count as missing. The ranks within any selection of rows follow from these
    numbers without sorting again.

    Examples
    --------
    >>> import numpy as np
    >>> from rangebar_polars.validation._ranks import value_codes
    >>> value_codes(np.array([2.5, np.nan, -1.0, 2.5])).tolist()
    [1, -1, 0, 1]
    """
    codes = np.full(values.size, MISSING, dtype=np.int32)
    present = np.isfinite(values)
    codes[present] = np.unique(values[present], return_inverse=True)[1]
    return codes


def scores(codes: Codes) -> Doubles:
    """Return the ranks, ties averaged, moved and scaled to mean 0 and length 1.

    The product of two such vectors is Spearman's correlation. A constant gives zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from rangebar_polars.validation._ranks import scores
    >>> round(float(scores(np.array([0, 1, 2])) @ scores(np.array([2, 0, 1]))), 9)
    -0.5
    """
    counts = np.bincount(codes)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    centred: Doubles = ranks[codes] - (codes.size + 1) / 2
    length = math.sqrt(float(centred @ centred))
    return centred / length if length else centred


def shift_test(column: Doubles, target: Doubles) -> tuple[float, float]:
    """Return the correlation of a column with a target, and its p value; both are given as scores.

    The correlations with circular shifts of the target, by at least a twentieth of the rows, show
    how large one becomes by chance, with the memory of both series in it. The p value is that of a
    normal distribution around 0 with the root mean square of these.
    """
    size = column.size
    rho = min(1.0, max(-1.0, float(column @ target)))
    shifted = np.fft.irfft(np.conj(np.fft.rfft(column)) * np.fft.rfft(target), size)
    margin = size // _MARGINS_PER_SERIES
    spread = math.sqrt(float(np.mean(shifted[margin : size - margin + 1] ** 2)))
    if spread == 0.0:
        return rho, 0.0 if rho else 1.0
    return rho, math.erfc(abs(rho) / (math.sqrt(2) * spread))


def block_correlations(column: Codes, target: Codes) -> list[float | None]:
    """Return Spearman's correlation in five equal blocks, from the first row on.

    A hundredth of the rows is left out between two blocks. None means that a series is constant.
    """
    gap = math.ceil(column.size / _GAPS_PER_SERIES)
    length = (column.size - (_BLOCKS - 1) * gap) // _BLOCKS
    found: list[float | None] = []
    for start in range(0, _BLOCKS * (length + gap), length + gap):
        block = slice(start, start + length)
        left, right = scores(column[block]), scores(target[block])
        varies = left.any() and right.any()
        found.append(min(1.0, max(-1.0, float(left @ right))) if varies else None)
    return found


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q values: the false discovery rates at which each test becomes significant.

    Source: Benjamini & Hochberg (1995).

    Examples
    --------
    >>> from rangebar_polars.validation._ranks import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.03]
    """
    count, least = len(p_values), 1.0
    q_values = [0.0] * count
    ascending = sorted(range(count), key=p_values.__getitem__)
    for rank, index in zip(range(count, 0, -1), reversed(ascending), strict=True):
        least = min(least, p_values[index] * count / rank)
        q_values[index] = least
    return q_values


class _Pair(NamedTuple):
    first: int
    second: int
    rho: float


def correlated_pairs(
    columns: Mapping[str, Codes], *, beyond: float, least_rows: int
) -> list[tuple[str, str, float]]:
    """Return the pairs of columns whose correlation is beyond a bound, with it, in order.

    The correlation is Spearman's over the rows in which neither is missing. Pairs with fewer than
    `least_rows` such rows are left out. Columns with the same missing rows are ranked together.
    """
    names, codes = list(columns), list(columns.values())
    groups: dict[bytes, list[int]] = {}
    for index, column in enumerate(codes):
        groups.setdefault((column == MISSING).tobytes(), []).append(index)
    found: list[_Pair] = []
    for left, right in combinations_with_replacement(groups.values(), 2):
        common = (codes[left[0]] != MISSING) & (codes[right[0]] != MISSING)
        if np.count_nonzero(common) < least_rows:
            continue
        rows = _matrix([codes[index][common] for index in left])
        others = rows if left is right else _matrix([codes[index][common] for index in right])
        rhos = np.clip(rows @ others.T, -1.0, 1.0)
        for i, j in np.argwhere(np.abs(rhos) > beyond).tolist():
            first, second = sorted((left[i], right[j]))
            if left is not right or i < j:
                found.append(_Pair(first, second, float(rhos[i, j])))
    return [(names[pair.first], names[pair.second], pair.rho) for pair in sorted(found)]


def _matrix(codes: Sequence[Codes]) -> Doubles:
    return np.stack([scores(column) for column in codes])


def group_count(names: Sequence[str], pairs: Sequence[tuple[str, str, float]]) -> int:
    """Count the groups, linked by pairs, that contain at least one of the names.

    Examples
    --------
    >>> from rangebar_polars.validation._ranks import group_count
    >>> group_count(["a", "c", "d"], [("a", "b", 0.9), ("b", "c", -0.9)])
    2
    """
    links: dict[str, set[str]] = {}
    for first, second, _ in pairs:
        links.setdefault(first, set()).add(second)
        links.setdefault(second, set()).add(first)
    count, seen = 0, set[str]()
    for name in names:
        if name not in seen:
            count += 1
            open_names = [name]
            while open_names:
                current = open_names.pop()
                if current not in seen:
                    seen.add(current)
                    open_names += links.get(current, ())
    return count
