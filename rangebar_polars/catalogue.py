"""Columns of a bar frame, read from the table in the native library."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import polars as pl

from rangebar_polars import _internal

__all__ = [
    "INTER_BAR_FEATURE_COLUMNS",
    "INTRA_BAR_FEATURE_COLUMNS",
    "MICROSTRUCTURE_COLUMNS",
    "REFERENCE_COLUMNS",
    "columns",
]

#: Columns of the reference library's option `include_microstructure`, in its order.
REFERENCE_COLUMNS: tuple[str, ...] = (
    "vwap",
    "buy_volume",
    "sell_volume",
    "individual_trade_count",
    "agg_record_count",
    "duration_us",
    "ofi",
    "vwap_close_deviation",
    "price_impact",
    "kyle_lambda_proxy",
    "trade_intensity",
    "volume_per_trade",
    "aggression_ratio",
    "aggregation_density",
    "turnover_imbalance",
)


def _group(name: str) -> tuple[str, ...]:
    return tuple(row[0] for row in _internal.columns() if row[3] == name)


#: Columns of the group `features="microstructure"`, in the order of a bar frame.
MICROSTRUCTURE_COLUMNS: tuple[str, ...] = _group("microstructure")

#: Columns of the group `features="lookback"`: the reference library's, with `lookback_vwap` in
#: place of `lookback_vwap_raw`.
INTER_BAR_FEATURE_COLUMNS: tuple[str, ...] = _group("lookback")

#: Columns of the group `features="intrabar"`, which are the reference library's.
INTRA_BAR_FEATURE_COLUMNS: tuple[str, ...] = _group("intrabar")

_SCHEMA = {
    "name": pl.String,
    "dtype": pl.String,
    "unit": pl.String,
    "group": pl.String,
    "nullable": pl.Boolean,
    "lower": pl.Float64,
    "upper": pl.Float64,
    "meaning": pl.String,
    "needs": pl.String,
    "sample": pl.String,
    "min_sample": pl.UInt32,
}


class ColumnNames(NamedTuple):
    """Column names of the catalogue, in the order of a bar frame."""

    core: tuple[str, ...]
    optional: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]


def columns() -> pl.DataFrame:
    """Describe every column of a bar frame: dtype, unit, group, bounds and meaning.

    Returns
    -------
    DataFrame
        One row per column, in the order of a bar frame. `lower` and `upper` are the bounds of a
        valid value, both included, and null where there is no bound. `needs` lists the columns of
        trades without which a column is null. It is also null for a sample of fewer than
        `min_sample` `sample`: records of the bar or window, or orders, which are runs of records
        of one time and side.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> rb.columns().filter(pl.col("name") == "ofi").select("dtype", "group", "lower", "upper")
    shape: (1, 4)
    ┌─────────┬────────────────┬───────┬───────┐
    │ dtype   ┆ group          ┆ lower ┆ upper │
    │ ---     ┆ ---            ┆ ---   ┆ ---   │
    │ str     ┆ str            ┆ f64   ┆ f64   │
    ╞═════════╪════════════════╪═══════╪═══════╡
    │ Float64 ┆ microstructure ┆ -1.0  ┆ 1.0   │
    └─────────┴────────────────┴───────┴───────┘
    """
    return pl.DataFrame(_internal.columns(), schema=_SCHEMA, orient="row")


@cache
def column_names() -> ColumnNames:
    """Return the column names of the catalogue: core, the others, and by group."""
    groups: dict[str, tuple[str, ...]] = {}
    for row in _internal.columns():
        groups[row[3]] = (*groups.get(row[3], ()), row[0])
    optional = tuple(name for group, names in groups.items() if group != "core" for name in names)
    return ColumnNames(groups["core"], optional, groups)
