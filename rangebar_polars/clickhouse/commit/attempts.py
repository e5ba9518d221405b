"""Attempts to store a draft: its rows under a unique number, and the facts that prove them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.bar_series.identity import SeriesKey
from rangebar_polars.clickhouse.schema.rows import feature_rows_of, rows_of
from rangebar_polars.clickhouse.schema.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from rangebar_polars.bar_series.columns import StoredColumn
    from rangebar_polars.bar_series.units import UnitDraft

__all__ = ["Attempt", "attempts_of", "by_columns", "new_number", "with_keys"]

#: Columns with the same value in all rows of an attempt.
_KEY = (*SeriesKey._fields, "unit_day", "attempt")


class _Facts(NamedTuple):
    """Facts about the rows of a unit. The first six are compared with the stored rows."""

    rows: int = 0
    row_hash_sum: int = 0
    stored_hash_sum: int = 0
    first_id: int | None = None
    last_id: int | None = None
    orphans: int = 0
    first_close_us: int | None = None
    last_close_us: int | None = None
    #: The days of the bars that reached their threshold.
    first_closed: date | None = None
    last_closed: date | None = None


@dataclass(slots=True)
class Attempt:
    """A draft with its rows, which are sent under a unique number."""

    draft: UnitDraft
    rows: pl.DataFrame
    facts: _Facts
    number: int
    #: Sum of the hashes of the columns of optional groups; 0 without such groups.
    feature_hash_sum: int = 0

    @property
    def columns(self) -> tuple[StoredColumn, ...]:
        """The columns of optional groups."""
        return self.draft.features.columns

    @property
    def expected(self) -> tuple[int | date | None, ...]:
        """The facts that the stored rows must have."""
        own = (self.feature_hash_sum, self.feature_hash_sum) if self.columns else ()
        return (*self.facts[:6], *own)


def attempts_of(drafts: Sequence[UnitDraft]) -> list[Attempt]:
    """Check drafts and convert each to an attempt."""
    rows = rows_of([draft.bars for draft in drafts])
    facts = _facts(rows)
    for draft, facts_of_one in zip(drafts, facts, strict=True):
        _check_day(draft, facts_of_one)
    attempts = [Attempt(*item, new_number()) for item in zip(drafts, rows, facts, strict=True)]
    for columns, with_columns in by_columns(attempts).items():
        if columns:
            _add_features(with_columns, columns)
    return attempts


def by_columns(attempts: Iterable[Attempt]) -> dict[tuple[StoredColumn, ...], list[Attempt]]:
    """Group attempts by their columns of optional groups."""
    found: dict[tuple[StoredColumn, ...], list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.columns, []).append(attempt)
    return found


def _add_features(attempts: Sequence[Attempt], columns: Sequence[StoredColumn]) -> None:
    """Add the columns of optional groups to the rows of attempts, and the sums of their hashes."""
    frames = feature_rows_of([attempt.draft.bars for attempt in attempts], columns)
    for attempt, features in zip(attempts, frames, strict=True):
        attempt.rows = attempt.rows.hstack(features)
        # Modulo 2^64, as the sum in the database.
        attempt.feature_hash_sum = int(features["feature_hash"].sum())


def _facts(units: Sequence[pl.DataFrame]) -> list[_Facts]:
    """Compute the facts of the rows of units, for all units at once."""
    close, is_closed = pl.col("close_time_us"), pl.col("is_closed")
    closed = close.filter(is_closed).cast(pl.Datetime("us", "UTC")).dt.date()
    found = (
        pl.concat(units)
        .lazy()
        .with_columns(_unit_numbers([rows.height for rows in units]))
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
    by_number = {number: _Facts(*values) for number, *values in found.iter_rows()}
    return [by_number.get(number, _Facts()) for number in range(len(units))]


def _unit_numbers(lengths: Sequence[int]) -> pl.Series:
    """Return, for each row of concatenated units, the number of its unit."""
    counts = pl.DataFrame(
        {"unit": range(len(lengths)), "count": lengths},
        schema={"unit": pl.UInt32, "count": pl.UInt32},
    )
    return counts.select(pl.col("unit").repeat_by("count").explode(empty_as_null=False)).to_series()


def new_number() -> int:
    """Return a random number for an attempt. 0 stands for no attempt."""
    return secrets.randbits(63) + 1


def _check_day(draft: UnitDraft, facts: _Facts) -> None:
    """Refuse a unit outside of its series, and a bar outside of its unit."""
    is_first = draft.day == draft.series.first_day
    if draft.day < draft.series.first_day or draft.day not in draft.series.segment:
        raise ValueError(f"`{draft.day}` is not a day of {draft.series}")
    if draft.built_on is not None and (draft.built_on == 0) != is_first:
        raise ValueError(f"only the first unit of {draft.series} is not built on another one")
    if not {facts.first_closed, facts.last_closed} <= {draft.day, None}:
        raise ValueError(f"a bar of the unit `{draft.day}` of {draft.series} closes on another day")


def with_keys(attempts: Sequence[Attempt]) -> pl.DataFrame:
    """Concatenate the rows of attempts, each with its key."""
    keys = pl.DataFrame(
        [(*attempt.draft.series.key, attempt.draft.day, attempt.number) for attempt in attempts],
        schema={name: table("bars").dtypes()[name] for name in _KEY},
        orient="row",
    )
    numbers = _unit_numbers([attempt.rows.height for attempt in attempts])
    return keys[numbers].hstack(pl.concat([attempt.rows for attempt in attempts], rechunk=True))
