"""Series, bars and units for the tests of the cache."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

import rangebar_polars as rb
from rangebar_polars.bar_series.columns import ENDINGS
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.units import TickDay, UnitDraft

FIRST = date(2024, 1, 30)
SPEC = BarSpec.of("BTCUSDT", 250, reset="year")
SERIES = SPEC.series(FIRST)
BARS_A_DAY = 12


def days(count, first=FIRST):
    return [first + timedelta(days=offset) for offset in range(count)]


def noon(day):
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


_BASE = (
    rb.sample_ticks()
    .rangebar.bars(100, features="microstructure", incomplete="keep")
    .filter("is_closed")
    .head(BARS_A_DAY)
)


def bars_on(day, *, count=BARS_A_DAY, scale=1.0, ending="threshold"):
    """Return `count` bars that close an hour apart until noon of a day; `ending` ends the last."""
    number = (day - date(2024, 1, 1)).days
    order = pl.int_range(pl.len())
    close = pl.lit(noon(day)).cast(pl.Datetime("us", "UTC")) - pl.duration(
        hours=pl.len() - 1 - order
    )
    is_last = order == pl.len() - 1
    return (
        _BASE.head(count)
        .with_columns(
            close_time=close,
            open_time=close - pl.duration(minutes=1),
            close=pl.col("close") * scale,
            first_agg_trade_id=order * 10 + number * 1000,
            last_agg_trade_id=order * 10 + number * 1000 + 9,
            ended_by=pl.when(is_last).then(pl.lit(ending)).otherwise(pl.lit("threshold")),
        )
        .with_columns(
            pl.col("ended_by").cast(pl.Enum(ENDINGS)), is_closed=pl.col("ended_by") == "threshold"
        )
    )


def ticks_on(day, content="ticks"):
    number = (day - date(2024, 1, 1)).days
    return TickDay("final", 1000, content, number * 1000, number * 1000 + 999)


def drafts(count, *, series=SERIES, first=None, built_on=0, **fields):
    """Return drafts of consecutive days of a series."""
    begin = first or series.first_day
    scale = fields.pop("scale", 1.0)
    return [
        UnitDraft(
            series,
            day,
            bars_on(day, scale=scale),
            ticks_on(day),
            day.isoformat().encode(),
            built_on=built_on if day == begin else None,
            **fields,
        )
        for day in days(count, begin)
    ]


def expected(day_list, scale=1.0):
    """Return the bars that a read of these days returns."""
    return pl.concat([bars_on(day, scale=scale) for day in day_list]).drop("bar_id")
