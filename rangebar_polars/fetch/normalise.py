"""Trades as a file gives them, made one clean sequence: one time unit, one order, no sentinels.

Real archives interleave rows, repeat some, and step back in time by milliseconds. Whatever is
mended here is counted and warned of; what cannot be mended without guessing is an error with its
line.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import polars as pl

from rangebar_polars.exceptions import TickDataError, TickOrderError, with_hint

__all__ = ["TRADES_SCHEMA", "TradeFileWarning", "is_sentinel", "normalise"]

#: Columns and dtypes of a frame of aggregate trades.
TRADES_SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "quantity": pl.Float64(),
        "agg_trade_id": pl.Int64(),
        "first_trade_id": pl.Int64(),
        "last_trade_id": pl.Int64(),
        "is_buyer_maker": pl.Boolean(),
    }
)

ID = "agg_trade_id"
TIME = "timestamp"
LINE = "line"
# 2000 and 2100 in milliseconds since 1970; a time in microseconds is a thousand times as much.
EARLIEST_MS = 946_684_800_000
LATEST_MS = 4_102_444_800_000
PER_MS = {"milliseconds": 1, "microseconds": 1000}
LONGEST_STEP_BACK_US = 1_000_000


class TradeFileWarning(UserWarning):
    """Rows of a file of trades were moved, raised or dropped."""


@dataclass(slots=True)
class Mended:
    """How many rows of one file were changed, and how."""

    moved: int = 0
    raised: int = 0
    doubled: int = 0
    sentinels: int = 0

    def warn(self, source: str) -> None:
        """One warning for the file, unless nothing was changed."""
        parts = (
            (self.moved, "moved into the order of their ids"),
            (self.raised, "raised to the time of the trade before"),
            (self.doubled, "dropped as exact copies"),
            (self.sentinels, "dropped as sentinels (price 0, trade id -1)"),
        )
        said = [f"{count:,} {what}" for count, what in parts if count]
        if said:
            message = f"rows of `{source}`: {'; '.join(said)}"
            warnings.warn(message, TradeFileWarning, stacklevel=2)


def is_sentinel() -> pl.Expr:
    """Rows that stand for no trade: price 0 and trade ids of -1."""
    ids_absent = (pl.col("first_trade_id") == -1) & (pl.col("last_trade_id") == -1)
    return (pl.col("price") == 0) & ids_absent


def normalise(raw: pl.DataFrame, source: str, first_line: int) -> pl.DataFrame:
    """Trades of one file in the canonical columns, ordered by id, with times that do not run back.

    Parameters
    ----------
    raw
        The columns of `TRADES_SCHEMA`, time as whole milliseconds or microseconds since 1970.
    source
        Name of the file, for messages.
    first_line
        Line of the file that the first row stands in.

    Raises
    ------
    TickDataError
        Two time units in one file, or two trades with one id.
    TickOrderError
        In the order of the ids, time runs back by more than a second.
    """
    mended = Mended(sentinels=int(raw.select(is_sentinel().sum()).item()))
    trades = raw.with_row_index(LINE, offset=first_line)
    if mended.sentinels:
        trades = trades.filter(~is_sentinel())
    trades = to_microseconds(trades, source)
    if not is_strictly_increasing(trades[ID]):
        trades = order_by_id(trades, source, mended)
    if not trades[TIME].is_sorted():
        trades = raise_times(trades, source, mended)
    mended.warn(source)
    return trades.select(TRADES_SCHEMA.names()).cast({TIME: TRADES_SCHEMA[TIME]})


def is_strictly_increasing(values: pl.Series) -> bool:
    """Each value is above the one before."""
    return bool((values.diff() > 0).all())


def to_microseconds(trades: pl.DataFrame, source: str) -> pl.DataFrame:
    """The same trades with time in whole microseconds, whichever unit the file has."""
    if trades.is_empty():
        return trades
    unit = "microseconds" if trades[TIME][0] >= EARLIEST_MS * 1000 else "milliseconds"
    scale = PER_MS[unit]
    inside = trades[TIME].is_between(EARLIEST_MS * scale, LATEST_MS * scale, closed="left")
    if not inside.all():
        row = trades.filter(~inside).row(0, named=True)
        raise TickDataError(
            with_hint(
                f"`{source}`, line {row[LINE]}: the time `{row[TIME]}` is outside 2000 to 2100 in "
                f"{unit}, the unit taken from the file's first trade",
                "a file holds one unit: milliseconds or microseconds since 1970",
            )
        )
    return trades.with_columns(pl.col(TIME) * (1000 // scale))


def order_by_id(trades: pl.DataFrame, source: str, mended: Mended) -> pl.DataFrame:
    """The same trades in the order of their ids, each once."""
    ids = trades[ID]
    mended.moved = int((ids < ids.cum_max()).sum())
    ordered = trades.sort(ID, maintain_order=True)
    if is_strictly_increasing(ordered[ID]):
        return ordered
    single = ordered.unique(TRADES_SCHEMA.names(), keep="first", maintain_order=True)
    mended.doubled = ordered.height - single.height
    if not is_strictly_increasing(single[ID]):
        first, second = single.filter(pl.col(ID).is_duplicated()).head(2)[LINE]
        number = single.filter(pl.col(ID).is_duplicated())[ID][0]
        raise TickDataError(
            with_hint(
                f"`{source}`, lines {first} and {second}: two different trades have the "
                f"agg_trade_id `{number}`",
                "fetch the file anew: an archive gives an id once",
            )
        )
    return single


def raise_times(trades: pl.DataFrame, source: str, mended: Mended) -> pl.DataFrame:
    """The same trades, a time that runs back raised to the highest before it."""
    times = trades[TIME]
    highest = times.cum_max()
    behind = highest - times
    if behind.max() > LONGEST_STEP_BACK_US:  # type: ignore[operator]
        row = trades.filter(behind > LONGEST_STEP_BACK_US).row(0, named=True)
        raise TickOrderError(
            with_hint(
                f"`{source}`, line {row[LINE]}: in the order of agg_trade_id, the time of trade "
                f"`{row[ID]}` runs back by more than a second",
                "fetch the file anew; or read it with `pl.read_csv` and clamp time with `cum_max`",
            )
        )
    mended.raised = int((behind > 0).sum())
    return trades.with_columns(highest)
