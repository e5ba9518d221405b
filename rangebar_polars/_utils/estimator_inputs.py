"""Arguments, columns and window sums of estimators."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from rangebar_polars._typing import IntoColumn

__all__ = [
    "BARS",
    "column_of",
    "half_life_of",
    "is_complete",
    "named",
    "number_of",
    "price_of",
    "valid_number",
    "volume_of",
    "whole_of",
    "window_of",
    "window_or_weights",
    "window_sum",
]

#: Bars in a window by default.
BARS = 50
#: A frame has fewer rows.
_MOST_BARS = 2**32
#: Sums of at most this many terms are computed from scratch for each row, so that a value depends on its
#: window alone. The cost grows with n; longer sums are Polars' compensated running sums.
_FROM_SCRATCH = 1000


def window_of(n: object) -> int:
    """Return the number of bars in a window, after checking it."""
    try:
        bars = 0 if isinstance(n, bool) else operator.index(n)  # type: ignore[arg-type]
    except TypeError:
        bars = 0
    if bars < 2:  # noqa: PLR2004  (the smallest window with a pair)
        sentence = f"`n` must be a whole number of bars, 2 or more; it is `{shown(n)}`"
        raise ValueError(with_hint(sentence, f"write n={BARS}"))
    return min(bars, _MOST_BARS)


def window_or_weights(n: object, half_life: object) -> int | None:
    """Return the number of bars in a window; None if weights replace it."""
    if n is not None and half_life is not None:
        sentence = (
            f"`n` is `{shown(n)}` and `half_life` is `{shown(half_life)}`; they exclude each other"
        )
        raise ValueError(with_hint(sentence, "pass one of them"))
    if half_life is not None:
        return None
    return window_of(BARS if n is None else n)


def half_life_of(value: object) -> float:
    """Return a half-life in bars, after checking it."""
    number = 0.0
    if isinstance(value, Real) and not isinstance(value, bool):
        # An integer may be too large for a double.
        with suppress(OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        sentence = f"`half_life` must be a number of bars above 0; it is `{shown(value)}`"
        raise ValueError(with_hint(sentence, f"write half_life={BARS}"))
    return number


def column_of(name: str, given: IntoColumn) -> pl.Expr:
    """Return the expression of a column argument."""
    if isinstance(given, pl.Expr):
        return given
    if isinstance(given, str):
        return pl.col(given)
    if isinstance(given, pl.Series):
        return pl.lit(given)
    kind = type(given).__name__
    sentence = f"`{name}` must be the name of a column or an expression; it is of type `{kind}`"
    raise TypeError(with_hint(sentence, f'write {name}="{name}"'))


def number_of(name: str, given: IntoColumn) -> pl.Expr:
    """Return the finite numbers of a column."""
    # A product refuses texts, which a cast would parse.
    return valid_number(column_of(name, given) * 1.0)


def price_of(name: str, given: IntoColumn) -> pl.Expr:
    """Return the numbers above 0 of a column."""
    return valid_number(column_of(name, given) * 1.0, above=0.0)


def volume_of(name: str, given: IntoColumn) -> pl.Expr:
    """Return the numbers of a column that are 0 or more."""
    return valid_number(column_of(name, given) * 1.0, at_least=0.0)


def valid_number(
    numbers: pl.Expr, *, above: float | None = None, at_least: float | None = None
) -> pl.Expr:
    """Convert to Float64, with null for what is not finite or below the bound."""
    numbers = numbers.cast(pl.Float64)
    is_valid = numbers.is_finite()
    if above is not None:
        is_valid &= numbers > above
    if at_least is not None:
        is_valid &= numbers >= at_least
    return pl.when(is_valid).then(numbers)


def window_sum(terms: pl.Expr, n: int) -> pl.Expr:
    """Add up the n terms that end at each row; a null counts as 0."""
    terms = terms.fill_null(0.0)
    if n <= _FROM_SCRATCH:
        return terms.rolling_sum(n, weights=[1.0] * n)
    # A running sum may keep a rest of what has left the window.
    return pl.when(_window_count(terms != 0.0, n) > 0).then(terms.rolling_sum(n)).otherwise(0.0)


def is_complete(n: int, *inputs: pl.Expr) -> pl.Expr:
    """Return whether the window of each row has n rows and no null in any input."""
    return _window_count(pl.all_horizontal(one.is_not_null() for one in inputs), n) == n


def _window_count(condition: pl.Expr, n: int) -> pl.Expr:
    """Count the rows of a window for which a condition is true."""
    count = condition.cast(pl.Int64).cum_sum()
    return count - count.shift(n, fill_value=0)


def named(name: str, value: pl.Expr, is_defined: pl.Expr | None = None) -> pl.Expr:
    """Name a value, with null where it is not defined or overflows."""
    is_valid = value.is_finite() if is_defined is None else is_defined & value.is_finite()
    return pl.when(is_valid).then(value).alias(name)


def whole_of(name: str, given: IntoColumn) -> pl.Expr:
    """Convert to Int64, with null for what is not a whole number."""
    numbers = column_of(name, given) + 0
    whole = numbers.cast(pl.Int64, strict=False)
    return pl.when(whole == numbers).then(whole)
