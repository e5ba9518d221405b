"""A build of this package from before the features, as an installed package.

python before_worker.py TRADES.parquet
"""

from __future__ import annotations

import sys

import polars as pl
from serve import serve

import rangebar_polars as rb

IDS = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}
COLUMNS = ("open", "high", "low", "close", "volume", "agg_record_count")


def main() -> None:
    """Loads the trades and serves."""
    trades = pl.read_parquet(sys.argv[1]).rechunk()

    def bars(rows: int, threshold: int) -> pl.DataFrame:
        return trades.head(rows).select(rb.bars("price", threshold, **IDS))

    def columns(rows: int, threshold: int) -> dict:
        made = bars(rows, threshold).unnest("bars")
        return {name: made[name].to_numpy() for name in COLUMNS}

    serve(f"rangebar-polars {rb.__version__} before", bars, columns)


if __name__ == "__main__":
    main()
