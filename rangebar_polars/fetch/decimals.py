"""Published decimals on the grid of 1e-8, and the tails that binary arithmetic leaves on them.

Some publishers compute with doubles and print all of their digits: `1.1375899999999999` for
1.13759, `0.010000000000000009` for 0.01, `1.38e-17` for 0. A number within 1e-10 of a point of the
grid is that point. What lies farther off is not a number of eight decimals.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import polars as pl

__all__ = ["GRID", "TELLING_BELOW", "has_eight_places", "is_near_grid", "is_near_point"]
__all__ += ["on_grid", "point_of"]

GRID = 100_000_000  # units of the eighth place
#: Doubles below lie so close that one of nine decimals is not one of eight.
TELLING_BELOW = 2**20
#: How far from a point of the grid a tail may lead.
LONGEST_TAIL = Decimal("1e-10")
# Half of the distance between doubles, in relation to their size.
HALF_STEP = 2.0**-53
PLACES = Decimal("1e-8")
LARGEST = 1e20
DIGITS = 64


def nearest_point(value: pl.Expr) -> pl.Expr:
    """Return the double of the point of the grid that is nearest to a value."""
    # Polars replaces division by a scalar with a product with its reciprocal, which is not exact.
    return (value * GRID).round() / (value * 0 + GRID)


def has_eight_places(name: str) -> pl.Expr:
    """Find values that are the double nearest to a decimal number of at most eight places."""
    return nearest_point(pl.col(name)) == pl.col(name)


def is_near_point(name: str) -> pl.Expr:
    """Find values that are within a tail's length of the grid, as far as their doubles tell."""
    value = pl.col(name)
    allowed = float(LONGEST_TAIL) + value.abs() * HALF_STEP
    return (value - nearest_point(value)).abs() <= allowed


def on_grid(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return values with their tails cut off, and which of them had one.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.decimals import on_grid
    >>> values, had_tail = on_grid(pl.Series([1.1375899999999999, 1.13735, 1.123456789]))
    >>> values.to_list(), had_tail.to_list()
    ([1.13759, 1.13735, 1.123456789], [True, False, False])
    """
    frame = values.rename("value").to_frame()
    tail = frame.select(
        is_near_point("value")
        & ~has_eight_places("value")
        & (pl.col("value").abs() < TELLING_BELOW)
    ).to_series()
    point = frame.select(pl.when(tail).then(nearest_point(pl.col("value"))).otherwise("value"))
    return point.to_series().alias(values.name), tail.alias("tail")


def point_of(text: str) -> Decimal | None:
    """Return the point of the grid that the text of a number stands for, if it does.

    Examples
    --------
    >>> from rangebar_polars.fetch.decimals import point_of
    >>> point_of("1.1375899999999999"), point_of("1.123456789")
    (Decimal('1.13759000'), None)
    """
    if abs(float(text)) >= LARGEST:
        return None
    with localcontext(Context(prec=DIGITS)):
        number = +Decimal(text)  # digits beyond those cannot matter
        point = number.quantize(PLACES)
        return point if abs(number - point) <= LONGEST_TAIL else None


def is_near_grid(text: str) -> bool:
    """Return whether the text of a number is within a tail's length of the grid.

    Examples
    --------
    >>> from rangebar_polars.fetch.decimals import is_near_grid
    >>> [is_near_grid(text) for text in ("0.010000000000000009", "1.38e-17", "0.123456789")]
    [True, True, False]
    """
    value = float(text)
    if abs(value) < TELLING_BELOW:
        allowed = float(LONGEST_TAIL) + abs(value) * HALF_STEP
        return abs(value - round(value * GRID) / GRID) <= allowed
    return point_of(text) is not None
