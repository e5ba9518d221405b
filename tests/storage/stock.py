"""Ticks for tests of the store, and the contents of a store."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.sources import QUOTES_SCHEMA, TRADES_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.storage.parquet import TickStorage

SYMBOL = "BTCUSDT"
JANUARY = date(2024, 1, 31)
FEBRUARY = date(2024, 2, 1)
DAY_US = 86_400_000_000
A_WEEK_AND_A_BIT = 8 * 86_400


def midnight_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def trades(day: date, rows: int = 50, first_id: int = 1, *, price: float = 100.0) -> pl.DataFrame:
    """Return trades spread over a day, with consecutive ids."""
    step = DAY_US // (rows + 1)
    return pl.DataFrame(
        {
            "timestamp": [midnight_us(day) + step * (i + 1) for i in range(rows)],
            "price": [price + (i * 7 % 40) / 100 for i in range(rows)],
            "quantity": [0.5 + i % 3 for i in range(rows)],
            "agg_trade_id": range(first_id, first_id + rows),
            "first_trade_id": range(2 * first_id, 2 * (first_id + rows), 2),
            "last_trade_id": range(2 * first_id + 1, 2 * (first_id + rows) + 1, 2),
            "is_buyer_maker": [i % 2 == 0 for i in range(rows)],
        },
        schema_overrides={"agg_trade_id": pl.Int64, "timestamp": pl.Int64},
    ).cast(dict(TRADES_SCHEMA))


def quotes(day: date, rows: int = 20, first_row: int = 0) -> pl.DataFrame:
    """Return quotes spread over a day, whose ids count the rows of the month."""
    step = DAY_US // (rows + 1)
    base = (100 * day.year + day.month) * 10**8 + first_row
    bid = [round(1.1 + i / 10_000, 4) for i in range(rows)]
    return pl.DataFrame(
        {
            "timestamp": [midnight_us(day) + step * (i + 1) for i in range(rows)],
            "price": bid,
            "bid": bid,
            "ask": bid,
            "agg_trade_id": range(base, base + rows),
        },
        schema_overrides={"agg_trade_id": pl.Int64, "timestamp": pl.Int64},
    ).cast(dict(QUOTES_SCHEMA))


def given_day(day: date, ticks: pl.DataFrame, **fields: object) -> DayTicks:
    """Return a day as a source returns it."""
    origin = Origin(kind="archive", sha256=str(fields.pop("sha256", "")))
    return DayTicks(day, ticks, origin, **fields)


def whole(storage: TickStorage, first: date = JANUARY, last: date = FEBRUARY) -> pl.DataFrame:
    return storage.get_ticks(SYMBOL, first, last)


def day_files(storage: TickStorage) -> list[Path]:
    return sorted(
        path for path in storage.root.rglob("*.parquet") if "quarantine" not in path.parts
    )


def temporaries(storage: TickStorage) -> list[Path]:
    return sorted(storage.root.rglob(".*.tmp"))


def quarantined(storage: TickStorage) -> list[Path]:
    return sorted(storage.root.rglob("quarantine/*"))


def make_old(path: Path, seconds: float = A_WEEK_AND_A_BIT) -> None:
    """Set the modification time of a file back."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def states(storage: TickStorage, first: date = JANUARY, last: date = FEBRUARY) -> list[str]:
    return storage.coverage(SYMBOL, first, last)["state"].to_list()
