"""What a population did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.ingest.id_gap import Hole
    from rangebar_polars.ingest.newest_day import Clamp

__all__ = ["PopulateReport", "SeriesReport"]

_LISTED = 5


@dataclass(slots=True)
class SeriesReport:
    """What a population did for one series: one threshold of a symbol in one segment."""

    series: BarSeries
    #: Whether it was begun by this population; else it was continued.
    is_new: bool
    #: Days asked for.
    planned: int
    #: Of them, days that were kept already.
    kept: int
    #: Days that were written, those that were built anew included.
    published: int = 0
    #: Days written without a tick, as the source says for certain.
    absent: tuple[date, ...] = ()
    #: How many ids of the days written do not exist at the source.
    absent_ids: int = 0
    #: Days whose ticks have changed since they were written.
    stale: tuple[date, ...] = ()
    #: Where it stopped, and why.
    hole: Hole | None = None
    #: Bars written that reached their threshold.
    bars: int = 0
    #: Bars written that a reset or a gap ended.
    orphans: int = 0
    #: Of the days that were written, those after the last that was asked for: what is built anew
    #: goes on to the end of what was kept.
    beyond: int = 0

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.series.spec.symbol

    @property
    def threshold(self) -> int:
        """The threshold in decimal basis points."""
        return self.series.spec.threshold

    @property
    def segment(self) -> str:
        """Name of the segment."""
        return self.series.segment.name

    @property
    def anchor(self) -> datetime:
        """The instant at which the computation of the series begins."""
        return self.series.anchor

    def __str__(self) -> str:
        """One line for a person."""
        how = "new" if self.is_new else "continued"
        days = f"{self.published - self.beyond:,} of {self.planned:,} days written"
        days += f" and {self.beyond:,} after the end" if self.beyond else ""
        words = [f"{days} ({self.bars:,} bars)"]
        words += [f"{self.kept:,} kept"] if self.kept else []
        words += [f"{len(self.absent):,} without a tick at the source"] if self.absent else []
        ids = f"{self.absent_ids:,} ids do not exist at the source"
        words += [ids] if self.absent_ids else []
        words += [f"stale: {_days(self.stale)}"] if self.stale else []
        words += [f"stopped at {self.hole.day}: {self.hole.reason}"] if self.hole else []
        name = f"{self.symbol} at {self.threshold} dbps, {self.series.spec.reset} {self.segment}"
        return f"{name}, {how} from {self.anchor:%Y-%m-%d}: {', '.join(words)}"


@dataclass(slots=True)
class PopulateReport:
    """What `populate_cache_resumable` did; as a number, the bars it wrote.

    Bars that a reset or a gap ended are not counted.
    """

    series: list[SeriesReport] = field(default_factory=list)
    #: By symbol, the newest whole day that was to be had where it was not the one asked for.
    clamps: dict[str, Clamp] = field(default_factory=dict)
    #: By symbol, the newest whole day that is known where the source gave no answer, so that days
    #: may lack at the end.
    unanswered: dict[str, Clamp] = field(default_factory=dict)

    @property
    def bars(self) -> int:
        """Bars written that reached their threshold."""
        return sum(one.bars for one in self.series)

    @property
    def published(self) -> int:
        """Units written: days of a series."""
        return sum(one.published for one in self.series)

    @property
    def is_complete(self) -> bool:
        """Whether every day asked for is kept, of the ticks that the store holds."""
        return not any(one.hole or one.stale for one in self.series)

    @property
    def holes(self) -> dict[date, str]:
        """Days at which a segment stopped, and why."""
        return {one.hole.day: one.hole.reason for one in self.series if one.hole is not None}

    @property
    def stale(self) -> list[date]:
        """Days whose ticks have changed since they were written."""
        return sorted({day for one in self.series for day in one.stale})

    @property
    def absent(self) -> list[date]:
        """Days written without a tick, as the source says for certain."""
        return sorted({day for one in self.series for day in one.absent})

    @property
    def clamped_from(self) -> date | None:
        """The last day asked for, where there is no whole one up to it."""
        return next((one.requested for one in self.clamps.values()), None)

    @property
    def clamped_to(self) -> date | None:
        """The last day taken instead."""
        return next((one.day for one in self.clamps.values()), None)

    def __int__(self) -> int:
        return self.bars

    def __str__(self) -> str:
        """A line for each series, for a person."""
        clamps = {**self.clamps, **self.unanswered}
        lines = [_words_of(symbol, clamp) for symbol, clamp in clamps.items()]
        return "\n".join([*lines, *map(str, self.series)])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}\n{self}>"

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        html: str = self.frame()._repr_html_()
        return html

    def frame(self) -> pl.DataFrame:
        """A row for each series."""
        return pl.DataFrame([_row(one) for one in self.series], schema=_SCHEMA, orient="row")


_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "threshold": pl.UInt32(),
        "segment": pl.String(),
        "anchor": pl.Datetime("us", "UTC"),
        "is_new": pl.Boolean(),
        "planned": pl.UInt32(),
        "kept": pl.UInt32(),
        "published": pl.UInt32(),
        "absent": pl.UInt32(),
        "absent_ids": pl.UInt64(),
        "stale": pl.UInt32(),
        "bars": pl.UInt64(),
        "stopped_at": pl.Date(),
        "reason": pl.String(),
    }
)


def _words_of(symbol: str, clamp: Clamp) -> str:
    """One line about the last day, for a person."""
    if clamp.requested is None:
        return f"{symbol}: the newest whole day is taken to be {clamp.day} ({clamp.why})"
    return f"{symbol}: the newest whole day is {clamp.day}, not {clamp.requested} ({clamp.why})"


def _row(one: SeriesReport) -> tuple[object, ...]:
    hole = one.hole
    return (
        one.symbol,
        one.threshold,
        one.segment,
        one.anchor,
        one.is_new,
        one.planned,
        one.kept,
        one.published,
        len(one.absent),
        one.absent_ids,
        len(one.stale),
        one.bars,
        None if hole is None else hole.day,
        None if hole is None else hole.reason,
    )


def _days(days: Iterable[date]) -> str:
    listed = sorted(days)
    words = ", ".join(str(day) for day in listed[:_LISTED])
    rest = len(listed) - _LISTED
    return f"{words} and {rest:,} more" if rest > 0 else words
