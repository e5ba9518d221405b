"""Trade files of each layout through `scan_trades`, against Polars reading the same file alone.

    python benches/trade_files.py [--rows 1000000] [--rounds 7] [--layout tardis]

Ours checks each value, puts rows in order and gives the canonical columns; the other side reads the
columns of the file with the same dtypes, and nothing else.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result

HERE = Path(__file__).resolve().parent
ROWS = 1_000_000
LEAST = 0.7
ISO = "%Y-%m-%dT%H:%M:%S.%6fZ"

# Columns of each file as expressions over generated trades; the name of a layout says the rest.
TIME = pl.col("timestamp").to_physical()
MS, NS = TIME // 1000, TIME * 1000
ID = pl.col("first_trade_id").cum_max() + pl.int_range(pl.len())
UUID = pl.format("d9cd8295-40dc-5dce-8deb-{}", pl.int_range(pl.len()) + 100_000_000_000)
SIDE = pl.when("is_buyer_maker").then(pl.lit("sell")).otherwise(pl.lit("buy"))
TRUTH = pl.when("is_buyer_maker").then(pl.lit("True")).otherwise(pl.lit("False"))
TURNOVER = (pl.col("price") * pl.col("quantity")).round(8)
P, Q, S = "price", "quantity", "BTCUSDT"
NUMBERS = {"price": pl.Float64, "quantity": pl.Float64}


def files() -> dict[str, tuple[list[pl.Expr], dict[str, type[pl.DataType] | pl.DataType]]]:
    """Columns of a file of each layout, and the dtypes of those that do not hold text."""
    agg = [pl.col(c) for c in ("agg_trade_id", P, Q, "first_trade_id", "last_trade_id")]
    ids = dict.fromkeys(("agg_trade_id", "first_trade_id", "last_trade_id"), pl.Int64)
    flag = {"is_buyer_maker": pl.Boolean}
    number = dict.fromkeys(("price", "size", "amount", "volume"), pl.Float64)

    def col(value: object, name: str) -> pl.Expr:
        return (value if isinstance(value, pl.Expr) else pl.lit(value)).alias(name)

    price = pl.col(P)
    return {
        "binance-agg-trades": (
            [*agg, col(MS, "transact_time"), col(TRUTH, "is_buyer_maker")],
            {**NUMBERS, **ids, **flag, "transact_time": pl.Int64},
        ),
        "binance-trades": (
            [
                col(ID, "id"),
                price,
                col(pl.col(Q), "qty"),
                col(TURNOVER, "quote_qty"),
                col(MS, "time"),
                col(TRUTH, "is_buyer_maker"),
            ],
            {"id": pl.Int64, "qty": pl.Float64, **number, **flag, "time": pl.Int64},
        ),
        "bybit": (
            [
                col(TIME / 1000000.0, "timestamp"),
                col(S, "symbol"),
                col(SIDE, "side"),
                col(pl.col(Q), "size"),
                price,
                col("PlusTick", "tickDirection"),
                col(UUID, "trdMatchID"),
                col(TURNOVER, "grossValue"),
                col(pl.col(Q), "homeNotional"),
                col(TURNOVER, "foreignNotional"),
            ],
            {**number, "timestamp": pl.Float64},
        ),
        "okx": (
            [
                col("BTC-USDT", "instrument_name"),
                col(ID, "trade_id"),
                col(SIDE, "side"),
                price,
                col(pl.col(Q), "size"),
                col(MS, "created_time"),
            ],
            {**number, "trade_id": pl.Int64, "created_time": pl.Int64},
        ),
        "bitget": (
            [
                col(ID, "trade_id"),
                col(MS, "timestamp"),
                price,
                col(SIDE, "side"),
                col(TURNOVER, "volume(quote)"),
                col(pl.col(Q), "size(base)"),
            ],
            {**number, "size(base)": pl.Float64, "timestamp": pl.Int64},
        ),
        "kraken": (
            [col(TIME // 10**6, "timestamp"), price, col(pl.col(Q), "volume")],
            {**number, "timestamp": pl.Float64},
        ),
        "coinbase": (
            [
                col(pl.col("timestamp").dt.strftime(ISO), "time"),
                col(ID, "trade_id"),
                price,
                col(pl.col(Q), "size"),
                col(SIDE, "side"),
            ],
            {**number, "trade_id": pl.Int64, "time": pl.Datetime("us", "UTC")},
        ),
        "tardis": (
            [
                col("binance", "exchange"),
                col(S, "symbol"),
                col(TIME, "timestamp"),
                col(TIME + 3000, "local_timestamp"),
                col(UUID, "id"),
                col(SIDE, "side"),
                price,
                col(pl.col(Q), "amount"),
            ],
            {**number, "timestamp": pl.Int64},
        ),
        "databento-csv": (
            [
                col(NS, "ts_recv"),
                col(NS, "ts_event"),
                col(0, "rtype"),
                col(1, "publisher_id"),
                col(14160, "instrument_id"),
                col("T", "action"),
                col("B", "side"),
                col(0, "depth"),
                price,
                col(1, "size"),
                col(0, "flags"),
                col(13730, "ts_in_delta"),
                col(pl.int_range(pl.len()), "sequence"),
                col("ESU5", "symbol"),
            ],
            {**number, "ts_event": pl.Int64},
        ),
        "polygon": (
            [
                col("A", "ticker"),
                col("12", "conditions"),
                col(0, "correction"),
                col(4, "exchange"),
                col(ID, "id"),
                col(NS, "participant_timestamp"),
                price,
                col(pl.int_range(pl.len()), "sequence_number"),
                col(NS, "sip_timestamp"),
                col(100, "size"),
                col(1, "tape"),
                col(0, "trf_id"),
                col(0, "trf_timestamp"),
            ],
            {**number, "sip_timestamp": pl.Int64},
        ),
        "dukascopy": (
            [
                col(MS, "timestamp"),
                col((price + 0.01).round(2), "askPrice"),
                col(price, "bidPrice"),
                col(pl.col(Q), "askVolume"),
                col(pl.col(Q), "bidVolume"),
            ],
            {"timestamp": pl.Int64, "askPrice": pl.Float64, "bidPrice": pl.Float64},
        ),
        "csv": (
            [col(TIME, "timestamp"), price, pl.col(Q), col(SIDE, "side")],
            {**NUMBERS, "timestamp": pl.Int64},
        ),
        "bybit, gzip": ([], {}),
        "parquet": ([], {}),
    }


def written(name: str, trades: pl.DataFrame, folder: Path) -> tuple[Path, Callable[[], object]]:
    """Write a file of a layout; give its path and how Polars reads it."""
    if name == "parquet":
        path = folder / "t.parquet"
        trades.write_parquet(path)
        return path, lambda: pl.read_parquet(path)
    columns, dtypes = files()[name.partition(",")[0]]
    frame = trades.select(columns)
    has_header = name != "kraken"
    text = frame.write_csv(include_header=has_header, float_scientific=False).encode()
    path = folder / f"{name}.csv"
    path.write_bytes(gzip.compress(text, 6) if "gzip" in name else text)
    schema = {column: dtypes.get(column, pl.String) for column in frame.columns}
    return path, lambda: pl.read_csv(path, has_header=has_header, schema=schema)


def speed_of(name: str, bench: Bench) -> Result:
    """Speed of one layout, in times of Polars'."""
    import data
    from bench import speed
    from timing import here

    import rangebar_polars as rb

    with tempfile.TemporaryDirectory() as folder:
        path, plainly = written(name, data.frame(bench.rows), Path(folder))
        unit = {"time_unit": "us"} if name == "csv" else {}
        plan = rb.scan_trades(path, **unit)
        if plan.collect().height != bench.rows:
            message = f"{name}: rows are missing"
            raise AssertionError(message)
        return speed(bench.compare(here(plan.collect), here(plainly)), bench.rows, "Polars")


def main() -> int:
    """Measures in this process and prints a line for each layout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="trades of a file (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of samples (%(default)s)")
    parser.add_argument("--layout", help="one layout alone")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
    from bench import Bench
    from timing import require_release

    require_release()
    for name in [given.layout] if given.layout else files():
        result = speed_of(name, Bench(given.rows, given.rounds, full=False))
        reached = "" if result.value >= LEAST else "  MISSED"
        print(
            f"{name:20} {result.value:.2f} ({result.low:.2f} … {result.high:.2f}), by CPU "
            f"{result.by_cpu:.2f}; at least {LEAST:g}; {'; '.join(result.notes)}{reached}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
