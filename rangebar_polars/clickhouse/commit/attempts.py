"""A draft on its way: its rows under a number of its own, and what the cache must say of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.clickhouse.schema.rows import rows_of
from rangebar_polars.clickhouse.schema.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.bar_series.units import UnitDraft

__all__ = ["Attempt", "attempts_of", "new_number", "with_keys"]

#: Columns that the rows of an attempt have alike.
_KEY = (*SeriesKey._fields, "unit_day", "attempt")


class _Facts(NamedTuple):
    """What can be said of the rows of a unit; the first six the cache must say of them, too."""

    rows: int = 0
    row_hash_sum: int = 0
    stored_hash_sum: int = 0
    first_id: int | None = None
    last_id: int | None = None
    orphans: int = 0
    first_close_us: int | None = None
    last_close_us: int | None = None
    #: Of the bars that reached their threshold.
    first_closed: date | None = None
    last_closed: date | None = None


@dataclass(slots=True)
class Attempt:
    """A draft with the rows that are sent for it under a number of its own."""

    draft: UnitDraft
    rows: pl.DataFrame
    facts: _Facts
    number: int

    @property
    def expected(self) -> tuple[int | date | None, ...]:
        """What the cache must say of its rows."""
        return self.facts[:6]


def attempts_of(drafts: Sequence[UnitDraft]) -> list[Attempt]:
    """The drafts, judged, with their rows."""
    rows = rows_of([draft.bars for draft in drafts])
    facts = _facts(rows)
    for draft, one in zip(drafts, facts, strict=True):
        _judge_day(draft, one)
    return [Attempt(*item, new_number()) for item in zip(drafts, rows, facts, strict=True)]


def _facts(units: Sequence[pl.DataFrame]) -> list[_Facts]:
    """Facts of the rows of units, found for all of them at once."""
    close, is_closed = pl.col("close_time_us"), pl.col("is_closed")
    closed = close.filter(is_closed).cast(pl.Datetime("us", "UTC")).dt.date()
    found = (
        pl.concat(units)
        .lazy()
        .with_columns(_place_of([rows.height for rows in units]))
        .group_by("unit")
        .agg(
            pl.len(),
            pl.col("row_hash").sum(),
            pl.col("row_hash").sum().alias("stored"),
            pl.col("first_agg_trade_id").min(),
            pl.col("last_agg_trade_id").max(),
            (~is_closed).sum().alias("orphans"),
            close.min().alias("first_us"),
            close.max().alias("last_us"),
            closed.min().alias("first_day"),
            closed.max().alias("last_day"),
        )
        .collect()
    )
    by_place = {place: _Facts(*values) for place, *values in found.iter_rows()}
    return [by_place.get(place, _Facts()) for place in range(len(units))]


def _place_of(lengths: Sequence[int]) -> pl.Series:
    """For each row of units in a row, which of them it belongs to."""
    places = pl.DataFrame(
        {"unit": range(len(lengths)), "count": lengths},
        schema={"unit": pl.UInt32, "count": pl.UInt32},
    )
    return places.select(pl.col("unit").repeat_by("count").explode().drop_nulls()).to_series()


def new_number() -> int:
    """Random number of an attempt; 0 stands for none."""
    return secrets.randbits(63) + 1


def _judge_day(draft: UnitDraft, facts: _Facts) -> None:
    """Refuse a unit that does not belong to its series, or a bar that does not to its unit."""
    is_first = draft.day == draft.series.first_day
    if draft.day < draft.series.first_day or draft.day not in draft.series.segment:
        raise ValueError(f"`{draft.day}` is no day of {draft.series}")
    if draft.built_on is not None and (draft.built_on == 0) != is_first:
        raise ValueError(f"only the first unit of {draft.series} is built on none")
    if not {facts.first_closed, facts.last_closed} <= {draft.day, None}:
        raise ValueError(f"a bar of the unit `{draft.day}` of {draft.series} closes on another day")


def with_keys(attempts: Sequence[Attempt]) -> pl.DataFrame:
    """The rows of attempts, each with its key."""
    keys = pl.DataFrame(
        [(*one.draft.series.key, one.draft.day, one.number) for one in attempts],
        schema={name: table("bars").dtypes()[name] for name in _KEY},
        orient="row",
    )
    places = _place_of([one.rows.height for one in attempts])
    return keys[places].hstack(pl.concat([one.rows for one in attempts], rechunk=True))
