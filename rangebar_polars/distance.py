"""Absolute price distances, an alternative to thresholds in percent."""

from __future__ import annotations

import math
import operator
import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex, final

from rangebar_polars.exceptions import ThresholdError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Distance", "GridKind", "grid_text", "parse_grid"]

_DECIMALS = 8
_GRID_PER_UNIT = 100_000_000
_TOO_LARGE = 2**63
#: More digits before or after the point than any distance in range needs are rejected unparsed.
_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{0,60})?|\.[0-9]{1,60}")
#: More digits than any distance in range has, in units of 1e-8.
_MOST_DIGITS = 30


class GridKind(NamedTuple):
    """Words for the errors of a number that must be exact on the 1e-8 grid."""

    noun: str
    #: Code that gives a number of this kind, with `{}` for its text.
    code: str
    example: str
    unit: str
    error: type[ValueError]


_DISTANCE = GridKind("the distance", 'rb.Distance("{}")', "1.50", "units of price", ThresholdError)


def parse_grid(value: object, kind: GridKind) -> int:
    """Convert text, a Decimal, an int or an exact float above 0 to units of 1e-8."""
    return _in_range(_to_grid(value, kind), value, kind)


def grid_text(grid: int) -> str:
    """Format a number of units of 1e-8 in decimals."""
    whole, rest = divmod(grid, _GRID_PER_UNIT)
    digits = f"{rest:0{_DECIMALS}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else f"{whole}"


@final
class Distance:
    """An absolute distance between prices, in place of a percentage.

    A bar closes when the price has moved by this distance, whatever its level, as in the tick-based
    range bars of futures and FX. One list cannot mix distances and percentages.

    Parameters
    ----------
    value
        Units of price (quote currency), exact on the 1e-8 grid: text, a Decimal or an int. A
        float is rejected unless it is an exact multiple of 1e-8, as 1.5 is and 0.1 is not.

    Raises
    ------
    ThresholdError
        The value is not above 0, is finer than 1e-8 or is 92,233,720,368.54775808 or more.
    TypeError
        The value is not a number.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(5)],
    ...         "price": [100.0, 101.0, 99.5, 99.0, 100.5],
    ...     }
    ... )
    >>> trades.rangebar.bars(rb.Distance("1.50"), rule="high_low").select("open", "close").rows()
    [(100.0, 99.5), (99.0, 100.5)]
    """

    __slots__ = ("_grid",)

    def __init__(self, value: str | Decimal | SupportsIndex | float) -> None:
        self._grid = parse_grid(value, _DISTANCE)

    @property
    def grid(self) -> int:
        """The distance in units of 1e-8."""
        return self._grid

    def __str__(self) -> str:
        return grid_text(self._grid)

    def __repr__(self) -> str:
        return f'Distance("{self}")'

    def __eq__(self, other: object) -> bool:
        return self._grid == other.grid if isinstance(other, Distance) else NotImplemented

    def __hash__(self) -> int:
        return hash((Distance, self._grid))

    def __reduce__(self) -> tuple[Callable[[str], Distance], tuple[str]]:
        return Distance, (str(self),)


def _to_grid(value: object, kind: GridKind) -> int:
    example = kind.code.format(kind.example)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text) is None:
            raise kind.error(
                with_hint(
                    f"{kind.noun} `{value[:80]}` is not a plain number above 0",
                    f"write the {kind.unit}: {example}",
                )
            )
        return _exact(Decimal(text), value, kind)
    if isinstance(value, Decimal):
        return _exact(value, value, kind)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise kind.error(f"{kind.noun} `{value}` is not a finite number")
        return _exact(Decimal(value), value, kind)
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        whole: int = operator.index(value)
        return whole * _GRID_PER_UNIT
    noun = kind.noun.replace("the distance", "a distance")
    raise TypeError(
        with_hint(
            f"{noun} is text, a Decimal or an int; it is of type `{type(value).__name__}`",
            f"write {example}",
        )
    )


def _exact(number: Decimal, value: object, kind: GridKind) -> int:
    """Convert a number to units of 1e-8, of which it must be a multiple."""
    if not number.is_finite():
        raise kind.error(f"{kind.noun} `{value}` is not a finite number")
    sign, every_digit, exponent = number.as_tuple()
    text = "".join(map(str, every_digit)).lstrip("0")
    digits = text.rstrip("0")
    # Decimal arithmetic would round; integers do not.
    shift = int(exponent) + len(text) - len(digits) + _DECIMALS
    if not digits:
        return 0
    if shift >= 0:
        whole = int(digits) if len(digits) + shift <= _MOST_DIGITS else 1
        size: int = whole * 10 ** min(shift, _MOST_DIGITS)
        return -size if sign else size
    sentence = f"{kind.noun} `{str(value)[:80]}` is finer than 1e-8"
    if not isinstance(value, float):
        raise kind.error(sentence)
    sentence = f"{kind.noun} `{value}` is a float that is not exactly a multiple of 1e-8"
    raise kind.error(with_hint(sentence, f"write it as text: {kind.code.format(repr(value))}"))


def _in_range(grid: int, value: object, kind: GridKind) -> int:
    if 0 < grid < _TOO_LARGE:
        return grid
    bound = "below 92,233,720,368.54775808" if grid > 0 else "above 0"
    shown = f" `{value}`" if abs(grid) < 10**_MOST_DIGITS else ""
    raise kind.error(f"{kind.noun}{shown} must be {bound}")
