"""Conversion of contracts of coin-margined futures to coins, in whole numbers."""

from __future__ import annotations

import polars as pl

__all__ = ["CONTRACTS", "with_coins"]

#: The column of quantities in contracts, beside the quantity in coins.
CONTRACTS = "contracts"
_GRID = 100_000_000


def with_coins(ticks: pl.DataFrame, contract_size: int) -> pl.DataFrame:
    """Replace the quantity, in contracts, by coins, and add the contracts as a column.

    The coins are contracts · contract size / price, rounded half to even to 8 decimals. The rounding
    is exact, since it is done in whole numbers.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars._utils.contracts import with_coins
    >>> ticks = pl.DataFrame({"price": [60_000.0, 64_000.0], "quantity": [10.0, 1.0]})
    >>> with_coins(ticks, 100).rows()
    [(60000.0, 0.01666667, 10.0), (64000.0, 0.0015625, 1.0)]
    """
    price, contracts = (
        (pl.col(name) * _GRID).round().cast(pl.Int128) for name in ("price", "quantity")
    )
    dividend = contracts * pl.lit(contract_size * _GRID, pl.Int128)
    whole = dividend // price
    twice = (dividend - whole * price) * pl.lit(2, pl.Int128)
    is_odd = whole % pl.lit(2, pl.Int128) == pl.lit(1, pl.Int128)
    is_up = (twice > price) | ((twice == price) & is_odd)
    units = (whole + is_up.cast(pl.Int128)).cast(pl.Float64)
    # Polars multiplies by the reciprocal of a scalar, which is not exact.
    grid = units * 0 + _GRID
    return ticks.with_columns((units / grid).alias("quantity"), pl.col("quantity").alias(CONTRACTS))
