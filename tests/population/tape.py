"""Ticks of any days: a walk of prices that makes some bars a day, and its bars in one go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

SYMBOL = "BTCUSDT"
ONE_DAY = timedelta(days=1)
PER_DAY = 60
DAY_US = 86_400_000_000
#: Columns that say which bar it is, and every value of it but its number.
BAR_ID = "bar_id"


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def microseconds(when: datetime) -> int:
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@cache
def tape(
    first: date, last: date, per_day: int = PER_DAY, *, step: float = 0.001, grid_us: int = 1
) -> pl.DataFrame:
    """Ticks of the days from one to another, one at each midnight and one a moment before.

    On a coarse grid many have the same time.
    """
    days = (last - first).days + 1
    count = days * per_day
    random = np.random.default_rng(11)
    within = np.sort(random.integers(1, DAY_US - 1, (days, per_day)))
    within[:, 0], within[:, -1] = 0, DAY_US - 1
    within = within // grid_us * grid_us
    times = microseconds(at(first)) + np.arange(days)[:, None] * DAY_US + within
    return walk(times.ravel(), random, step, count)


def walk(times: np.ndarray, random: np.random.Generator, step: float, count: int) -> pl.DataFrame:
    """Ticks at these times."""
    ids = np.arange(count)
    return pl.DataFrame(
        {
            "timestamp": times,
            "price": (40_000 * np.exp(random.normal(0, step, count).cumsum())).round(2),
            "quantity": random.integers(1, 100_000, count) / 10_000,
            "agg_trade_id": 1_000 + ids,
            "first_trade_id": 5_000 + 2 * ids,
            "last_trade_id": 5_001 + 2 * ids,
            "is_buyer_maker": random.random(count) < 0.5,
        }
    ).cast(dict(TRADES_SCHEMA))


def between(ticks: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """Ticks of the days from one to another, both included."""
    return ticks.filter(
        pl.col("timestamp").is_between(at(first), at(last + ONE_DAY), closed="left")
    )


def store(folder: Path, ticks: pl.DataFrame, symbol: str = SYMBOL) -> TickStorage:
    storage = TickStorage(folder)
    storage.write_ticks(symbol, ticks)
    return storage


def bars(ticks: pl.DataFrame, threshold: int = 250, **options: object) -> pl.DataFrame:
    """Bars of ticks in one go, those that have ended, with all that the cache keeps of a bar."""
    options = {"features": "microstructure", "incomplete": "keep", **options}
    made = ticks.rangebar.bars(threshold, **options)
    return made.filter(pl.col("ended_by").is_not_null()).drop(BAR_ID)
