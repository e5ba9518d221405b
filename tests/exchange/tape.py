"""A tape of aggregate trades: what an exchange knows, whoever asks and however it is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from rangebar_polars._utils.span import day_start, parse_day
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rangebar_polars._utils.span import When

__all__ = ["UNIT_SWITCH", "Tape", "instant_us", "unit_of"]

UNIT_SWITCH = date(2025, 1, 1)
DAY_MS = 86_400_000
NEW_TIME = 0.6  # share of trades whose time is not the one before's
GREAT_BURST = 400

IdSpan = tuple[int, int]


def unit_of(market: str, day: date) -> str:
    """Unit of time of a market's archive of a day."""
    return "us" if market == "spot" and day >= UNIT_SWITCH else "ms"


def instant_us(when: When) -> int:
    """Microseconds since 1970 of a date's midnight, its text, or an instant with a zone."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(f"`{when}` has no time zone")
        return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return instant_us(day_start(parse_day(when)))


# Equal by identity: a frame has no single truth of `==`.
@dataclass(frozen=True, eq=False)
class Tape:
    """Trades of one symbol in one market, in the order of their ids; times never run back."""

    symbol: str
    ticks: pl.DataFrame
    market: str = "spot"
    price_digits: int = 2
    quantity_digits: int = 5
    #: Ids, both ends included, that exist nowhere.
    source_absent: tuple[IdSpan, ...] = ()
    #: Ids, both ends included, that REST has and no archive holds.
    archive_lacks: tuple[IdSpan, ...] = ()
    #: The time for which it was made; None: any.
    now: datetime | None = None

    @classmethod
    def generate(
        cls,
        symbol: str = "BTCUSDT",
        start: When = "2024-12-30",
        days: int = 4,
        *,
        per_day: int = 3_000,
        market: str = "spot",
        seed: int = 0,
        first_id: int = 3_370_000_000,
        price: float = 94_000.0,
        price_digits: int = 2,
        quantity_digits: int = 5,
        volatility: float = 0.03,
        absent: int = 2,
        archive_lacks: int = 1,
        empty_days: Iterable[When] = (),
    ) -> Tape:
        """Trades of whole UTC days from `start` on; the same arguments, the same trades.

        Every day begins with trades at 00:00:00 sharp, ends with some in its last instant, and has
        one great burst in a millisecond. `absent` and `archive_lacks` are numbers of id gaps.
        Ids run on over an empty day.
        """
        rng = np.random.default_rng(seed)
        first = parse_day(start)
        empty = {parse_day(day) for day in empty_days}
        all_days = [first + timedelta(days=n) for n in range(days)]
        traded = [day for day in all_days if day not in empty]
        times = [day_times(rng, day, per_day, unit_of(market, day)) for day in traded]
        time = np.concatenate([np.empty(0, np.int64), *times])
        ticks = trades(rng, time, first_id, price, price_digits, quantity_digits, volatility)
        holes = scattered(rng, len(time), absent + archive_lacks, first_id)
        tape = cls(symbol, ticks, market, price_digits, quantity_digits)
        for number, (low, high) in enumerate(holes):
            # Both kinds in turn, so that neither stays in the first days.
            is_absent = number % 2 == 0 if number < 2 * min(absent, archive_lacks) else None
            if is_absent is None:
                is_absent = absent > archive_lacks
            tape = tape.with_absent(low, high) if is_absent else tape.with_archive_lack(low, high)
        return tape

    @classmethod
    def around(
        cls,
        now: When,
        before: timedelta = timedelta(hours=1),
        after: timedelta = timedelta(hours=1),
        *,
        symbol: str = "BTCUSDT",
        per_minute: float = 120.0,
        market: str = "spot",
        seed: int = 0,
        first_id: int = 3_370_000_000,
        price: float = 94_000.0,
        price_digits: int = 2,
        quantity_digits: int = 5,
        volatility: float = 0.03,
    ) -> Tape:
        """Trades from so long before an instant to so long after it, evenly spread in time.

        Some 40 % have the time of the trade before. Without gaps of ids; see `with_absent`. An
        exchange of it begins at `now`.
        """
        rng = np.random.default_rng(seed)
        now_us = instant_us(now)
        begin, end = (now_us + step // timedelta(microseconds=1) for step in (-before, after))
        count = max(2, round((end - begin) / 60e6 * per_minute))
        starts = rng.random(count) < NEW_TIME
        starts[0] = True
        group = np.cumsum(starts) - 1
        # A grid with a random place in each cell: no silence is longer than two cells.
        cells = np.linspace(begin, end, int(group[-1]) + 2)
        times = cells[:-1] + rng.random(len(cells) - 1) * np.diff(cells)
        time = np.sort(times.astype(np.int64))[group]
        if market != "spot":
            time = time // 1_000 * 1_000
        ticks = trades(rng, time, first_id, price, price_digits, quantity_digits, volatility)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)
        return cls(symbol, ticks, market, price_digits, quantity_digits, now=moment)

    @cached_property
    def times_us(self) -> np.ndarray:
        return self.ticks["timestamp"].to_physical().to_numpy()

    @cached_property
    def agg_ids(self) -> np.ndarray:
        return self.ticks["agg_trade_id"].to_numpy()

    @property
    def first_day(self) -> date:
        return self.ticks["timestamp"].item(0).date()

    @property
    def last_day(self) -> date:
        return self.ticks["timestamp"].item(-1).date()

    @property
    def days(self) -> list[date]:
        """Every day from the first trade's to the last trade's, empty ones too."""
        count = (self.last_day - self.first_day).days + 1
        return [self.first_day + timedelta(days=n) for n in range(count)]

    def rows_before(self, when: When) -> int:
        """Number of trades before an instant."""
        return int(np.searchsorted(self.times_us, instant_us(when)))

    def rows_to(self, us: int) -> int:
        """Number of trades up to a time in microseconds, that time included."""
        return int(np.searchsorted(self.times_us, us, side="right"))

    def between(self, start: When, end: When) -> pl.DataFrame:
        """Trades from `start` on and before `end`; a date stands for its midnight."""
        low = self.rows_before(start)
        return self.ticks.slice(low, max(0, self.rows_before(end) - low))

    def day(self, day: When) -> pl.DataFrame:
        """Trades of a UTC day."""
        first = parse_day(day)
        return self.between(first, first + timedelta(days=1))

    def ids(self, first_id: int, last_id: int) -> pl.DataFrame:
        """Trades with ids from `first_id` to `last_id`, both included."""
        low, high = np.searchsorted(self.agg_ids, [first_id, last_id + 1])
        return self.ticks.slice(int(low), int(high - low))

    def id_span(self, day: When) -> IdSpan:
        """First and last id of a day with trades."""
        ids = self.day(day)["agg_trade_id"]
        return ids.item(0), ids.item(-1)

    def archived(self, start: When, end: When) -> pl.DataFrame:
        """Trades between two instants that an archive holds."""
        return without(self.between(start, end), self.archive_lacks)

    def with_absent(self, first_id: int, last_id: int) -> Tape:
        """The tape without these ids, anywhere."""
        gone = (first_id, last_id)
        return replace(
            self,
            ticks=without(self.ticks, [gone]),
            source_absent=tuple(sorted([*self.source_absent, gone])),
        )

    def with_archive_lack(self, first_id: int, last_id: int) -> Tape:
        """The tape with these ids in REST alone."""
        return replace(
            self, archive_lacks=tuple(sorted([*self.archive_lacks, (first_id, last_id)]))
        )


def without(ticks: pl.DataFrame, spans: Sequence[IdSpan]) -> pl.DataFrame:
    """Trades whose ids are in none of the spans."""
    ids = pl.col("agg_trade_id")
    return ticks.filter(*[~ids.is_between(first, last) for first, last in spans])


def day_times(rng: np.random.Generator, day: date, count: int, unit: str) -> np.ndarray:
    """Times of a day's trades, many of them equal."""
    starts = rng.random(count) < NEW_TIME
    starts[:1] = True
    starts[-1:] = True
    burst = min(GREAT_BURST, count // 8)
    at = int(rng.integers(1, max(2, count - burst)))
    starts[at + 1 : at + burst] = False
    group = np.cumsum(starts) - 1
    groups = int(group[-1]) + 1 if count else 0
    millis = np.sort(rng.integers(0, DAY_MS, groups))
    millis[:1] = 0
    millis[-1:] = DAY_MS - 1
    micros = millis[group] * 1_000
    if unit == "us":
        # Two bursts may fall into the same millisecond.
        micros = np.maximum.accumulate(micros + spread(starts))
    return micros + instant_us(day)


def spread(starts: np.ndarray) -> np.ndarray:
    """Microseconds inside a burst's millisecond: pairs share one, and the last is 999."""
    index = np.arange(len(starts))
    begin = np.maximum.accumulate(np.where(starts, index, 0))
    inside = np.minimum((index - begin) // 2 * 7, 999)
    inside[-1:] = 999
    return inside


def trades(
    rng: np.random.Generator,
    time: np.ndarray,
    first_id: int,
    price: float,
    price_digits: int,
    quantity_digits: int,
    volatility: float,
) -> pl.DataFrame:
    """Trades at these times: a random walk on the grid of prices, some filled in several parts."""
    count = len(time)
    per_day = max(1, np.count_nonzero(time < time[0] + DAY_MS * 1_000)) if count else 1
    walk = np.cumsum(rng.normal(0, volatility / per_day**0.5, count))
    price_ticks = np.maximum(1, np.rint(price * 10**price_digits * np.exp(walk)))
    lots = np.maximum(1, np.rint(rng.lognormal(-5.0, 1.7, count) * 10**quantity_digits))
    fills = np.where(rng.random(count) < 0.7, 1, rng.geometric(0.35, count))
    last = first_id + 250_000_000 + np.cumsum(fills)
    return pl.DataFrame(
        {
            "timestamp": time,
            # A whole number over a power of ten is the double nearest to the decimal text.
            "price": price_ticks / 10**price_digits,
            "quantity": lots / 10**quantity_digits,
            "agg_trade_id": first_id + np.arange(count),
            "first_trade_id": last - fills + 1,
            "last_trade_id": last,
            "is_buyer_maker": rng.random(count) < 0.5,
        }
    ).cast(dict(TRADES_SCHEMA))


def scattered(rng: np.random.Generator, rows: int, count: int, first_id: int) -> list[IdSpan]:
    """Spans of 1 to 20 ids, each inside its own part of the tape."""
    if count and rows < 100 * count:
        raise ValueError(f"{rows} trades are too few for {count} gaps")
    part = rows // max(1, count)
    starts = [first_id + n * part + int(rng.integers(30, part - 30)) for n in range(count)]
    return [(start, start + int(rng.integers(0, 20))) for start in starts]
