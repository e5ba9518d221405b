"""Normalisation of the trades of a file: one time unit, id order, no duplicates or sentinels.

Real archives interleave rows, repeat some of them, and step back in time by milliseconds. Each repair
is counted. A fault that cannot be repaired without guessing is an error that names the line.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import (
    MissingFileWarning,
    RepeatedFillsWarning,
    TickDataError,
    TickOrderError,
    TradeFileWarning,
    with_hint,
)
from rangebar_polars.sources import LONGEST_STEP_BACK_US, TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from rangebar_polars.day_ticks import Origin

__all__ = ["TRADES_SCHEMA", "FileTimes", "MissingFileWarning", "Repairs", "RepeatedFillsWarning"]
__all__ += ["TradeFileWarning", "is_sentinel", "normalise", "repairs_text", "warn_of_file"]
__all__ += ["warn_of_tails"]

ID = "agg_trade_id"
TIME = "timestamp"
LINE = "line"
UNITS = {"ms": ("milliseconds", 1000), "us": ("microseconds", 1)}  # and their length in µs
#: Kinds of repairs of rows, and the words for them.
REPAIRS = {
    "moved": "moved into the order of their ids",
    "raised": "raised to the time of the trade before",
    "doubled": "dropped as exact copies",
    "sentinels": "dropped as sentinels (price 0, trade id -1)",
    "tails": "rounded to 8 decimals (they had the tail of a binary fraction)",
}
# Tolerance of times outside the days of a file, because clocks of an exchange differ a little.
SLACK_US = 1_000_000


def warn_of_file(
    message: str, kind: type[TradeFileWarning] = TradeFileWarning, depth: int = 2
) -> None:
    """Warn of what was changed in a file, or is wrong with it."""
    warnings.warn(message, kind, stacklevel=depth + 1)


def warn_of_tails(count: int, source: str) -> None:
    """Warn of decimals of a fetched file that were put on the grid of 1e-8."""
    if count:
        warn_of_file(repairs_text(source, {"tails": count}))


def repairs_text(source: str, counts: Mapping[str, int]) -> str:
    """Describe the repairs of a file by the number of rows of each kind; empty without any.

    Examples
    --------
    >>> from rangebar_polars.fetch.normalise import repairs_text
    >>> repairs_text("day.csv", {"moved": 0, "doubled": 2})
    'rows of `day.csv`: 2 dropped as exact copies'
    """
    parts = [f"{count:,} {REPAIRS[kind]}" for kind, count in counts.items() if count]
    return f"rows of `{source}`: {'; '.join(parts)}" if parts else ""


class FileTimes(NamedTuple):
    """The time unit of a file, and the allowed range in microseconds since 1970."""

    unit: str
    earliest_us: int
    latest_us: int
    range_text: str

    @classmethod
    def of_days(cls, first: date, last: date, unit: str) -> FileTimes:
        """Allow the UTC days from `first` to `last`, with a tolerance of a second."""
        start, end = day_start(first), day_start(last) + ONE_DAY
        text = f"{first}" if first == last else f"{first} to {last}"
        return cls(unit, micros(start) - SLACK_US, micros(end) + SLACK_US, text)

    @classmethod
    def of_value(cls, time: int) -> FileTimes:
        """Infer the unit from one time, and allow the years 2000 to 2100."""
        earliest, latest = (micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (2000, 2100))
        unit = "us" if time >= earliest else "ms"
        return cls(unit, earliest, latest, "2000 to 2100")


def micros(instant: datetime) -> int:
    """Convert an instant to microseconds since 1970."""
    return (instant - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def no_times() -> pl.Series:
    """Make an empty series of times."""
    return pl.Series(dtype=pl.Int64)


@dataclass(slots=True)
class Repairs:
    """The repaired rows of one file by kind, as their times in microseconds since 1970."""

    moved: pl.Series = field(default_factory=no_times)
    raised: pl.Series = field(default_factory=no_times)
    doubled: pl.Series = field(default_factory=no_times)
    sentinels: pl.Series = field(default_factory=no_times)
    tails: pl.Series = field(default_factory=no_times)

    def counts(self, day: date | None = None) -> dict[str, int]:
        """Count the rows of each kind, of one UTC day or of the whole file."""
        return {item.name: self._count(item.name, day) for item in fields(self)}

    def recorded_in(self, origin: Origin, day: date | None = None) -> Origin:
        """Return an origin with the counts of a day, or of the whole file."""
        moved, raised, doubled, sentinels, tails = self.counts(day).values()
        return replace(
            origin, moved=moved, raised=raised, doubled=doubled, sentinels=sentinels, tails=tails
        )

    def warning(self, source: str) -> str:
        """Describe all repairs; empty if there are none."""
        return repairs_text(source, self.counts())

    def _count(self, kind: str, day: date | None) -> int:
        times: pl.Series = getattr(self, kind)
        if day is None:
            return len(times)
        start = micros(day_start(day))
        return int(times.is_between(start, start + 86_400_000_000, closed="left").sum())


class Clean(NamedTuple):
    """Trades in the canonical columns, the repairs, and the time unit of the file."""

    ticks: pl.DataFrame
    repairs: Repairs
    unit: str


def is_sentinel() -> pl.Expr:
    """Return the condition of sentinel rows, which stand for no trade: price 0 and trade ids of -1."""
    ids_absent = (pl.col("first_trade_id") == -1) & (pl.col("last_trade_id") == -1)
    return (pl.col("price") == 0) & ids_absent


def normalise(
    raw: pl.DataFrame,
    source: str,
    first_line: int,
    times: FileTimes | None = None,
    tails: pl.Series | None = None,
) -> Clean:
    """Convert the trades of one file to the canonical columns, in id order and with ordered times.

    Parameters
    ----------
    raw
        The columns of `TRADES_SCHEMA`, with time in milliseconds or microseconds since 1970.
    source
        Name of the file, for messages.
    first_line
        Line of the first row in the file.
    times
        Unit and range of the times; inferred from the first trade if None.
    tails
        Which rows had a decimal that was put on the grid of 1e-8.

    Raises
    ------
    TickDataError
        A time is out of range, or two different trades have one id.
    TickOrderError
        In id order, time runs back by more than a second.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.normalise import TRADES_SCHEMA, normalise
    >>> row = (1_735_689_600_000, 100.0, 1.0, 1, 1, 1, True)
    >>> raw = pl.DataFrame([row], {**TRADES_SCHEMA, "timestamp": pl.Int64}, orient="row")
    >>> normalise(raw, "day.csv", 1).ticks["timestamp"].dt.to_string().item()
    '2025-01-01 00:00:00.000000+00:00'
    """
    repairs = Repairs()
    trades = raw.with_row_index(LINE, offset=first_line)
    sentinel = raw.select(is_sentinel()).to_series()
    if sentinel.any():
        trades = trades.filter(~sentinel)
    if times is None:
        times = FileTimes.of_value(trades[TIME][0] if trades.height else 0)
    _, unit_us = UNITS[times.unit]
    repairs.sentinels = raw[TIME].filter(sentinel) * unit_us
    if tails is not None:
        repairs.tails = raw[TIME].filter(tails) * unit_us
    trades = to_microseconds(trades, source, times)
    if not is_strictly_increasing(trades[ID]):
        trades = order_by_id(trades, source, repairs)
    if not trades[TIME].is_sorted():
        trades = raise_times(trades, source, repairs)
    ticks = trades.select(TRADES_SCHEMA.names()).cast({TIME: TRADES_SCHEMA[TIME]})
    return Clean(ticks, repairs, times.unit)


def to_microseconds(trades: pl.DataFrame, source: str, times: FileTimes) -> pl.DataFrame:
    """Convert times to microseconds, and check that they are in range."""
    unit_name, unit_us = UNITS[times.unit]
    # Compare in the unit of the file, because the product could overflow.
    inside = trades[TIME].is_between(
        -(-times.earliest_us // unit_us), -(-times.latest_us // unit_us), closed="left"
    )
    if not inside.all():
        row = trades.filter(~inside).row(0, named=True)
        raise TickDataError(
            with_hint(
                f"`{source}`, line {row[LINE]}: the time `{row[TIME]}` is outside {times.range_text}, "
                f"taken as {unit_name} since 1970",
                "a file has one unit, milliseconds or microseconds, and the days in its name",
            )
        )
    return trades.with_columns(pl.col(TIME) * unit_us) if unit_us > 1 else trades


def order_by_id(trades: pl.DataFrame, source: str, repairs: Repairs) -> pl.DataFrame:
    """Sort trades by id, and drop exact copies."""
    ids = trades[ID]
    repairs.moved = trades[TIME].filter(ids < ids.cum_max())
    ordered = trades.sort(ID, maintain_order=True)
    if is_strictly_increasing(ordered[ID]):
        return ordered
    first = ordered.select(pl.struct(TRADES_SCHEMA.names()).is_first_distinct()).to_series()
    repairs.doubled = ordered[TIME].filter(~first)
    single = ordered.filter(first)
    if not is_strictly_increasing(single[ID]):
        conflict = single.filter(pl.col(ID).is_duplicated()).head(2)
        first_line, second_line = conflict[LINE]
        raise TickDataError(
            with_hint(
                f"`{source}`, lines {first_line} and {second_line}: conflicting trades: two "
                f"different ones have the agg_trade_id `{conflict[ID][0]}`",
                "fetch the file again; an archive uses an id once",
            )
        )
    return single


def raise_times(trades: pl.DataFrame, source: str, repairs: Repairs) -> pl.DataFrame:
    """Raise a time that runs back to the highest time before it."""
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
    repairs.raised = highest.filter(behind > 0)
    return trades.with_columns(highest)
