"""The estimators as plain loops over lists, with None for null. Sums are exact (`math.fsum`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Column = list[float | None]


def windows(n: int, value: Callable[..., float | None], *columns: Sequence[float | None]) -> Column:
    """Apply a function of whole lists to each window of n rows without a null."""
    out: Column = []
    for end in range(1, len(columns[0]) + 1):
        parts = [list(column[max(0, end - n) : end]) for column in columns]
        whole = end >= n and all(item is not None for part in parts for item in part)
        out.append(value(*parts) if whole else None)
    return out


def vpin(buys: list[float], sells: list[float]) -> float | None:
    total = math.fsum(b + s for b, s in zip(buys, sells, strict=True))
    apart = math.fsum(abs(b - s) for b, s in zip(buys, sells, strict=True))
    return apart / total if total else None


def amihud(closes: list[float], turnovers: list[float]) -> float | None:
    terms = [
        abs(math.log(closes[i] / closes[i - 1])) / turnovers[i]
        for i in range(1, len(closes))
        if turnovers[i] > 0
    ]
    return math.fsum(terms) / len(terms) if terms else None


def kyle(closes: list[float], buys: list[float], sells: list[float]) -> float | None:
    net = [b - s for b, s in zip(buys, sells, strict=True)]
    squares = math.fsum(net[i] * net[i] for i in range(1, len(net)))
    products = [(closes[i] - closes[i - 1]) * net[i] for i in range(1, len(net))]
    return math.fsum(products) / squares if squares else None


def kyle_noise(closes: list[float], buys: list[float], sells: list[float]) -> float | None:
    """What rounding may leave of products that cancel."""
    net = [b - s for b, s in zip(buys, sells, strict=True)]
    squares = math.fsum(net[i] * net[i] for i in range(1, len(net)))
    products = [abs((closes[i] - closes[i - 1]) * net[i]) for i in range(1, len(net))]
    return 1e-13 * math.fsum(products) / squares if squares else None


def variance(opens: list[float], closes: list[float], seconds: list[float]) -> float | None:
    time = math.fsum(seconds)
    moves = math.fsum(math.log(c / o) ** 2 for o, c in zip(opens, closes, strict=True))
    return moves / time if time else None


def weighted_variance(half_life: float) -> Callable[..., float | None]:
    def value(opens: list[float], closes: list[float], seconds: list[float]) -> float | None:
        weights = [2.0 ** (-(len(opens) - 1 - i) / half_life) for i in range(len(opens))]
        time = math.fsum(w * s for w, s in zip(weights, seconds, strict=True))
        squares = [math.log(c / o) ** 2 for o, c in zip(opens, closes, strict=True)]
        moves = math.fsum(w * q for w, q in zip(weights, squares, strict=True))
        return moves / time if time else None

    return value


def from_the_first_row(
    value: Callable[..., float | None], *columns: Sequence[float | None]
) -> Column:
    out: Column = []
    for end in range(1, len(columns[0]) + 1):
        parts = [list(column[:end]) for column in columns]
        whole = all(item is not None for part in parts for item in part)
        out.append(value(*parts) if whole else None)
    return out


def tick_rule(prices: Sequence[float | None]) -> list[bool | None]:
    out: list[bool | None] = []
    last = side = None
    for price in prices:
        if price is not None:
            if last is not None and price != last:
                side = price < last
            last = price
        out.append(None if price is None else side)
    return out


def opposite_wick(o: float, h: float, low: float, c: float) -> float | None:
    if c == o:
        return None
    return ((o - low) if c > o else (h - o)) / (h - low)
