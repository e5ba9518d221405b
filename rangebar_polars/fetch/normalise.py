"""Trades as a file gives them, made one clean sequence: one time unit, one order, no sentinels.

Real archives interleave rows, repeat some, and step back in time by milliseconds. Whatever is
mended here is counted; what cannot be mended without guessing is an error with its line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.exceptions import TickDataError, TickOrderError, with_hint
from rangebar_polars.sources import LONGEST_STEP_BACK_US, TRADES_SCHEMA, is_strictly_increasing

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.sources import Origin

__all__ = ["TRADES_SCHEMA", "FileTimes", "Mended", "TradeFileWarning", "is_sentinel", "normalise"]

ID = "agg_trade_id"
TIME = "timestamp"
LINE = "line"
UNITS = {"ms": ("milliseconds", 1000), "us": ("microseconds", 1)}  # and their length in µs
# How far outside its days a file's time may be: an exchange's clock and its calendar differ.
SLACK_US = 1_000_000


class TradeFileWarning(UserWarning):
    """Rows of a file of trades were moved, raised or dropped."""


class FileTimes(NamedTuple):
    """The unit of a file's times, and the microseconds since 1970 between which they must be."""

    unit: str
    earliest_us: int
    latest_us: int
    words: str

    @classmethod
    def of_days(cls, first: date, last: date, unit: str) -> FileTimes:
        """Times of the UTC days from `first` to `last`, give or take a second."""
        start, end = day_start(first), day_start(last) + ONE_DAY
        words = f"{first}" if first == last else f"{first} to {last}"
        return cls(unit, micros(start) - SLACK_US, micros(end) + SLACK_US, words)

    @classmethod
    def of_value(cls, time: int) -> FileTimes:
        """Times of a file of any day, in the unit that this one looks like."""
        earliest, latest = (micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (2000, 2100))
        unit = "us" if time >= earliest else "ms"
        return cls(unit, earliest, latest, "2000 to 2100")


def micros(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def no_times() -> pl.Series:
    """The times of no rows."""
    return pl.Series(dtype=pl.Int64)


@dataclass(slots=True)
class Mended:
    """Which rows of one file were changed, and how: their times in microseconds since 1970."""

    moved: pl.Series = field(default_factory=no_times)
    raised: pl.Series = field(default_factory=no_times)
    doubled: pl.Series = field(default_factory=no_times)
    sentinels: pl.Series = field(default_factory=no_times)

    def counts(self, day: date | None = None) -> dict[str, int]:
        """How many rows of a UTC day there are of each kind; of the file if there is no day."""
        return {one.name: self._count(one.name, day) for one in fields(self)}

    def recorded_in(self, origin: Origin, day: date | None = None) -> Origin:
        """The origin of a day, or of a file that is one, with its counts."""
        moved, raised, doubled, sentinels = self.counts(day).values()
        return replace(origin, moved=moved, raised=raised, doubled=doubled, sentinels=sentinels)

    def warning(self, source: str) -> str:
        """Words for all of it; empty where nothing was changed."""
        words = {
            "moved": "moved into the order of their ids",
            "raised": "raised to the time of the trade before",
            "doubled": "dropped as exact copies",
            "sentinels": "dropped as sentinels (price 0, trade id -1)",
        }
        said = [f"{count:,} {words[kind]}" for kind, count in self.counts().items() if count]
        return f"rows of `{source}`: {'; '.join(said)}" if said else ""

    def _count(self, kind: str, day: date | None) -> int:
        times: pl.Series = getattr(self, kind)
        if day is None:
            return len(times)
        start = micros(day_start(day))
        return int(times.is_between(start, start + 86_400_000_000, closed="left").sum())


class Clean(NamedTuple):
    """Trades in the canonical columns, what was mended in them, and the unit of the file."""

    ticks: pl.DataFrame
    mended: Mended
    unit: str


def is_sentinel() -> pl.Expr:
    """Rows that stand for no trade: price 0 and trade ids of -1."""
    ids_absent = (pl.col("first_trade_id") == -1) & (pl.col("last_trade_id") == -1)
    return (pl.col("price") == 0) & ids_absent


def normalise(
    raw: pl.DataFrame, source: str, first_line: int, times: FileTimes | None = None
) -> Clean:
    """Trades of one file in the canonical columns, ordered by id, with times that do not run back.

    Parameters
    ----------
    raw
        The columns of `TRADES_SCHEMA`, time as whole milliseconds or microseconds since 1970.
    source
        Name of the file, for messages.
    first_line
        Line of the file that the first row stands in.
    times
        Unit and range of the times; by the first trade if None.

    Raises
    ------
    TickDataError
        A time out of range, or two trades with one id.
    TickOrderError
        In the order of the ids, time runs back by more than a second.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.normalise import TRADES_SCHEMA, normalise
    >>> row = (1_735_689_600_000, 100.0, 1.0, 1, 1, 1, True)
    >>> raw = pl.DataFrame([row], {**TRADES_SCHEMA, "timestamp": pl.Int64}, orient="row")
    >>> normalise(raw, "day.csv", 1).ticks["timestamp"].dt.to_string().item()
    '2025-01-01 00:00:00.000000+00:00'
    """
    mended = Mended()
    trades = raw.with_row_index(LINE, offset=first_line)
    sentinel = raw.select(is_sentinel()).to_series()
    if sentinel.any():
        trades = trades.filter(~sentinel)
    if times is None:
        times = FileTimes.of_value(trades[TIME][0] if trades.height else 0)
    _, unit_us = UNITS[times.unit]
    mended.sentinels = raw[TIME].filter(sentinel) * unit_us
    trades = to_microseconds(trades, source, times)
    if not is_strictly_increasing(trades[ID]):
        trades = order_by_id(trades, source, mended)
    if not trades[TIME].is_sorted():
        trades = raise_times(trades, source, mended)
    ticks = trades.select(TRADES_SCHEMA.names()).cast({TIME: TRADES_SCHEMA[TIME]})
    return Clean(ticks, mended, times.unit)


def to_microseconds(trades: pl.DataFrame, source: str, times: FileTimes) -> pl.DataFrame:
    """The same trades with time in whole microseconds; each of them in range."""
    words, unit_us = UNITS[times.unit]
    # Judged in the unit of the file: a product of anything could be anything.
    inside = trades[TIME].is_between(
        -(-times.earliest_us // unit_us), -(-times.latest_us // unit_us), closed="left"
    )
    if not inside.all():
        row = trades.filter(~inside).row(0, named=True)
        raise TickDataError(
            with_hint(
                f"`{source}`, line {row[LINE]}: the time `{row[TIME]}` is outside {times.words}, "
                f"taken as {words} since 1970",
                "a file holds one unit, milliseconds or microseconds, and the days of its name",
            )
        )
    return trades.with_columns(pl.col(TIME) * unit_us) if unit_us > 1 else trades


def order_by_id(trades: pl.DataFrame, source: str, mended: Mended) -> pl.DataFrame:
    """The same trades in the order of their ids, each once."""
    ids = trades[ID]
    mended.moved = trades[TIME].filter(ids < ids.cum_max())
    ordered = trades.sort(ID, maintain_order=True)
    if is_strictly_increasing(ordered[ID]):
        return ordered
    first = ordered.select(pl.struct(TRADES_SCHEMA.names()).is_first_distinct()).to_series()
    mended.doubled = ordered[TIME].filter(~first)
    single = ordered.filter(first)
    if not is_strictly_increasing(single[ID]):
        conflict = single.filter(pl.col(ID).is_duplicated()).head(2)
        first_line, second_line = conflict[LINE]
        raise TickDataError(
            with_hint(
                f"`{source}`, lines {first_line} and {second_line}: conflicting trades: two "
                f"different ones have the agg_trade_id `{conflict[ID][0]}`",
                "fetch the file again: an archive gives an id once",
            )
        )
    return single


def raise_times(trades: pl.DataFrame, source: str, mended: Mended) -> pl.DataFrame:
    """The same trades, a time that runs back raised to the highest before it."""
    times = trades[TIME]
    highest = times.cum_max()
    behind = highest - times
    far = behind > LONGEST_STEP_BACK_US
    if far.any():
        row = trades.filter(far).row(0, named=True)
        raise TickOrderError(
            with_hint(
                f"`{source}`, line {row[LINE]}: in the order of agg_trade_id, the time of trade "
                f"`{row[ID]}` runs back by more than a second",
                "fetch the file again; or read it with `pl.read_csv` and clamp time with `cum_max`",
            )
        )
    mended.raised = highest.filter(behind > 0)
    return trades.with_columns(highest)
