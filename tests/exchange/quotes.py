"""A tape of quotes: bid and ask of an instrument that rests at weekends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from exchange.tape import instant_us
from rangebar_polars._utils.span import day_start, parse_day
from rangebar_polars.sources import QUOTES_SCHEMA

if TYPE_CHECKING:
    from rangebar_polars._utils.span import When

__all__ = ["QuoteTape"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FRIDAY, SATURDAY, SUNDAY = 4, 5, 6
# Milliseconds of the day in which a weekday has quotes: from Sunday evening to Friday evening.
OPEN = {FRIDAY: (0, 21 * HOUR_MS), SATURDAY: (0, 0), SUNDAY: (21 * HOUR_MS + 300_000, DAY_MS)}


@dataclass(frozen=True, eq=False)
class QuoteTape:
    """Quotes of one instrument in whole milliseconds; ids count the rows of each month."""

    symbol: str
    ticks: pl.DataFrame
    digits: int = 5

    @classmethod
    def generate(
        cls,
        symbol: str = "EURUSD",
        start: When = "2024-12-01",
        end: When = "2025-02-01",
        *,
        per_day: int = 1_000,
        seed: int = 0,
        price: float = 1.05,
        digits: int = 5,
        volatility: float = 0.005,
        equal: float = 0.9,
    ) -> QuoteTape:
        """Quotes of the days from `start` on and before `end`; `equal` is the share without spread."""
        rng = np.random.default_rng(seed)
        first = parse_day(start)
        days = [first + timedelta(days=n) for n in range((parse_day(end) - first).days)]
        times = [day_times(rng, day, per_day) for day in days]
        time = np.concatenate([np.empty(0, np.int64), *times])
        walk = np.cumsum(rng.normal(0, volatility / per_day**0.5, len(time)))
        bid = np.maximum(1, np.rint(price * 10**digits * np.exp(walk))).astype(np.int64)
        ask = bid + np.where(rng.random(len(time)) < equal, 0, rng.integers(1, 9, len(time)))
        return cls(symbol, quotes(time, bid, ask, digits), digits)

    @property
    def months(self) -> list[date]:
        """First days of the months with quotes."""
        return self.ticks["timestamp"].dt.date().dt.month_start().unique().sort().to_list()

    def day(self, day: When) -> pl.DataFrame:
        """Quotes of a UTC day."""
        first = parse_day(day)
        return self.between(first, first + timedelta(days=1))

    def month(self, year: int, month: int) -> pl.DataFrame:
        """Quotes of a month."""
        first = date(year, month, 1)
        return self.between(first, next_month(first))

    def between(self, start: When, end: When) -> pl.DataFrame:
        """Quotes from `start` on and before `end`; a date stands for its midnight."""
        low, high = (midnight(when) for when in (start, end))
        return self.ticks.filter(pl.col("timestamp").is_between(low, high, closed="left"))


def next_month(day: date) -> date:
    """First day of the month after a day's."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def midnight(when: When) -> datetime:
    """An instant; of a date or its text, its midnight."""
    return when if isinstance(when, datetime) else day_start(parse_day(when))


def day_times(rng: np.random.Generator, day: date, count: int) -> np.ndarray:
    """Times of a day's quotes."""
    low, high = OPEN.get(day.weekday(), (0, DAY_MS))
    times = np.sort(rng.integers(low, max(high, 1), count * (high - low) // DAY_MS))
    return times * 1_000 + instant_us(day)


def quotes(time: np.ndarray, bid: np.ndarray, ask: np.ndarray, digits: int) -> pl.DataFrame:
    """Quotes of whole points; the mid is the double nearest to the exact one."""
    frame = pl.DataFrame(
        {
            "timestamp": time,
            "price": (bid + ask) / (2 * 10**digits),
            "bid": bid / 10**digits,
            "ask": ask / 10**digits,
        }
    ).with_columns(pl.col("timestamp").cast(QUOTES_SCHEMA["timestamp"]))
    moment = pl.col("timestamp").dt
    month = moment.year().cast(pl.Int64) * 100 + moment.month()
    row = pl.int_range(pl.len()).over(month)
    return frame.with_columns(agg_trade_id=month * 10**8 + row).cast(dict(QUOTES_SCHEMA))
