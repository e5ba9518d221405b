"""What a source gives and the store keeps: ticks of one UTC day, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from datetime import date

__all__ = [
    "LONGEST_STEP_BACK_US",
    "QUOTES_SCHEMA",
    "TRADES_SCHEMA",
    "DayTicks",
    "Origin",
    "is_strictly_increasing",
    "schema_of",
]

#: In the order of the ids, a time that runs back by so much is raised; by more, it is an error.
LONGEST_STEP_BACK_US = 1_000_000

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

#: Columns and dtypes of a frame of quotes. `price` is the mid of bid and ask; the id counts the
#: rows of a month: (100 · year + month) · 10⁸ + row.
QUOTES_SCHEMA = pl.Schema(
    {
        "timestamp": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "bid": pl.Float64(),
        "ask": pl.Float64(),
        "agg_trade_id": pl.Int64(),
    }
)


def schema_of(source: str) -> pl.Schema:
    """Schema of the ticks of a source."""
    return QUOTES_SCHEMA if source == "exness" else TRADES_SCHEMA


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the ticks of a day came from, and what was mended in them."""

    #: "archive", "rest" or "user".
    kind: str
    url: str = ""
    #: SHA-256 of the file as it was fetched, in hex.
    sha256: str = ""
    #: What the published checksum says; empty where none was found.
    checksum: str = ""
    etag: str = ""
    last_modified: str = ""
    #: Unit of time in the source: "ms" or "us".
    unit: str = ""
    #: Rows put in the order of their ids, raised in time, dropped as copies, dropped as sentinels.
    moved: int = 0
    raised: int = 0
    doubled: int = 0
    sentinels: int = 0


@dataclass(frozen=True, slots=True)
class DayTicks:
    """Ticks of one UTC day, in the order of their ids."""

    day: date
    ticks: pl.DataFrame
    origin: Origin
    #: Spans of ids, both ends included, that the source says it does not have.
    source_absent: tuple[tuple[int, int], ...] = ()
    #: Whether more may come: a running month of quotes, a day without its archive.
    is_tail: bool = False
    #: Why a day without ticks is complete.
    reason: str = ""


def is_strictly_increasing(values: pl.Series) -> bool:
    """Each value is above the one before."""
    return bool((values.diff() > 0).all())
