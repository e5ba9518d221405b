"""A day of generated trades for examples and first steps."""

from __future__ import annotations

from importlib import resources

import polars as pl

from rangebar_polars._utils.fork import raise_if_forked

__all__ = ["sample_ticks"]


def sample_ticks() -> pl.DataFrame:
    """Return one day of about 50,000 generated trades, which are not real data.

    Returns
    -------
    DataFrame
        The canonical columns `timestamp` (UTC, microseconds), `price`, `quantity`,
        `agg_trade_id`, `first_trade_id`, `last_trade_id` and `is_buyer_maker`.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> ticks = rb.sample_ticks()
    >>> ticks.width, ticks["timestamp"].dt.date().unique().to_list()
    (7, [datetime.date(2024, 8, 8)])
    """
    raise_if_forked("sample_ticks")
    file = resources.files("rangebar_polars") / "data" / "sample.parquet"
    return pl.read_parquet(file.read_bytes())
