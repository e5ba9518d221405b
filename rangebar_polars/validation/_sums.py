"""Running sums over batches of bars, from which statistics follow without storing the bars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

__all__ = ["Correlation", "Median"]

#: Relative spread that sums of doubles show for values that are all the same.
_ROUNDING = 1e-12


@dataclass(slots=True)
class Correlation:
    """Sums from which the correlation of two columns follows."""

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def add(self, x: pl.Series, y: pl.Series) -> None:
        """Add the next pairs, leaving out those with a null."""
        pairs = pl.DataFrame([x.alias("x"), y.alias("y")]).drop_nulls()
        x, y = pairs["x"], pairs["y"]
        self.n += pairs.height
        self.x, self.y = self.x + float(x.sum()), self.y + float(y.sum())
        self.xx, self.yy = self.xx + float((x * x).sum()), self.yy + float((y * y).sum())
        self.xy += float((x * y).sum())

    @property
    def value(self) -> float | None:
        """Pearson's correlation; None if one of the columns does not vary."""
        spread_x = self.n * self.xx - self.x**2
        spread_y = self.n * self.yy - self.y**2
        varies = spread_x > _ROUNDING * self.n * self.xx and spread_y > _ROUNDING * self.n * self.yy
        if self.n == 0 or not varies:
            return None
        value = (self.n * self.xy - self.x * self.y) / math.sqrt(spread_x * spread_y)
        return value if math.isfinite(value) else None


class Median:
    """Comparison of a median with a bound, without storing the numbers."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._below = self._above = 0
        self._greatest, self._smallest = -math.inf, math.inf

    def add(self, values: pl.Series) -> None:
        """Add the next numbers."""
        below, above = values.filter(values < self._bound), values.filter(values >= self._bound)
        self._below += below.len()
        self._above += above.len()
        self._greatest = max([self._greatest, *below.top_k(1)])
        self._smallest = min([self._smallest, *above.bottom_k(1)])

    @property
    def is_below(self) -> bool | None:
        """Whether the median is below the bound; None without numbers."""
        if not self._below + self._above:
            return None
        if self._below == self._above:  # the median lies between the two in the middle
            return (self._greatest + self._smallest) / 2 < self._bound
        return self._below > self._above
