"""The existing library's Arrow entry point: `rangebar`, or its successor `opendeviationbar`.

python rangebar_worker.py TRADES.parquet
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
from serve import serve

if find_spec("rangebar"):
    LIBRARY = "rangebar"
    from rangebar._core import PyRangeBarProcessor as Processor
else:
    LIBRARY = "opendeviationbar"
    from opendeviationbar._core import PyOpenDeviationBarProcessor as Processor

COLUMNS = (
    *("open", "high", "low", "close", "volume", "buy_volume"),
    *("individual_trade_count", "first_trade_id", "last_trade_id", "last_agg_trade_id"),
)
# The successor's names for the same.
OTHER_NAMES = {
    "first_trade_id": "first_sub_id",
    "last_trade_id": "last_sub_id",
    "last_agg_trade_id": "last_ref_id",
}


def load(path: str) -> pa.RecordBatch:
    """All trades as one batch in the library's own terms: microseconds, and `volume`."""
    table = pq.read_table(path).combine_chunks()
    table = table.rename_columns({"quantity": "volume"})
    time = table["timestamp"].combine_chunks().view(pa.int64())
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", time)
    (batch,) = table.combine_chunks().to_batches()
    return batch


def main() -> None:
    """Loads the trades and serves."""
    trades = load(sys.argv[1])

    @cache
    def first(rows: int) -> pa.RecordBatch:
        return trades.slice(0, rows)

    def bars(rows: int, threshold: int) -> object:
        return Processor(threshold).process_trades_arrow_native(first(rows))

    def columns(rows: int, threshold: int) -> dict:
        batch = pa.record_batch(bars(rows, threshold))
        other = OTHER_NAMES if LIBRARY == "opendeviationbar" else {}
        return {name: batch.column(other.get(name, name)).to_numpy() for name in COLUMNS}

    serve(f"{LIBRARY} {version(LIBRARY)}", bars, columns)


if __name__ == "__main__":
    main()
