"""Jobs of worker processes on a store."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import ParquetCorruptionError, TicksNotCachedError
from rangebar_polars.storage.files.lock import writing
from storage.stock import FEBRUARY, JANUARY, SYMBOL, given_day, trades

if TYPE_CHECKING:
    from rangebar_polars.storage.parquet import TickStorage

#: Rows in the store before a job, and what a write adds to them: the rest of one month, all of another.
BEFORE = trades(JANUARY, 50, 1).head(30)
AFTER = pl.concat([trades(JANUARY, 50, 1), trades(FEBRUARY, 40, 51)])


def write(storage: TickStorage) -> None:
    storage.write_ticks(SYMBOL, AFTER)


def put(storage: TickStorage) -> None:
    days = [
        given_day(JANUARY, trades(JANUARY, 50, 1)),
        given_day(FEBRUARY, trades(FEBRUARY, 40, 51)),
    ]
    storage.put_days(SYMBOL, days)


def read(storage: TickStorage) -> None:
    try:
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    except (ParquetCorruptionError, TicksNotCachedError):
        return


def restore(storage: TickStorage) -> None:
    storage.verify()


def collect(storage: TickStorage) -> None:
    storage.gc(dry_run=False)


def write_many(storage: TickStorage, writer: int, writes: int, rows: int) -> None:
    """Write a month as one of several writers, in blocks of ids between those of the others."""
    for number in range(writes):
        storage.write_ticks(SYMBOL, block(number * 3 + writer, rows))


def block(number: int, rows: int) -> pl.DataFrame:
    """Return one block of trades of January 2024, one every 20 seconds."""
    ids = pl.int_range(number * rows, (number + 1) * rows, eager=True)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = pl.lit(start).dt.cast_time_unit("us") + pl.duration(seconds=20) * pl.col("agg_trade_id")
    return (
        ids.alias("agg_trade_id")
        .to_frame()
        .with_columns(timestamp=times, price=pl.lit(100.0), quantity=pl.lit(1.0))
    )


def replace_often(storage: TickStorage, times: int) -> None:
    """Replace two days at once by rows of another price, several times."""
    for number in range(times):
        price = 200.0 + number % 2 * 100
        days = [JANUARY - timedelta(days=1), JANUARY]
        storage.put_days(
            SYMBOL,
            [
                given_day(day, trades(day, 50, 1 + 50 * i, price=price))
                for i, day in enumerate(days)
            ],
        )


def replace_until_stopped(storage: TickStorage, least: int) -> None:
    """Replace two days until a line arrives. Make the file `replaced` after `least` replacements."""
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
    done = 0
    while not stopped.is_set():
        replace_often(storage, 2)
        done += 2
        if done >= least:
            (storage.root.parents[1] / "replaced").touch()


def hold_lock(storage: TickStorage, marker: str) -> None:
    """Hold the lock until a line arrives. Write the marker while it is held."""
    from pathlib import Path

    with writing(storage.symbol_dir(SYMBOL, "binance", "spot")):
        print("locked", flush=True)
        sys.stdin.readline()
        Path(marker).touch()


def print_days(storage: TickStorage) -> None:
    """Print what a reader in this time zone sees."""
    ticks = storage.get_ticks(SYMBOL, "2024-03-09", "2024-03-11")
    print(ticks.height, ticks.hash_rows(seed=1).sum(), storage.list_days(SYMBOL))
