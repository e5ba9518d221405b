"""Report of a population."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.interop.report_html import lines_html, rows_html

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.ingest.id_gap import Hole
    from rangebar_polars.ingest.newest_day import Clamp
    from rangebar_polars.populate.plan import Request

__all__ = ["PopulateReport", "SeriesReport"]

_MOST_LISTED = 5
_MOST_LINES = 8


@dataclass(slots=True)
class SeriesReport:
    """The outcome of a population for one series: one threshold of a symbol in one segment."""

    series: BarSeries
    #: Whether this population started the series; if not, it continued it.
    is_new: bool
    #: Number of requested days.
    planned: int
    #: Number of requested days that were stored already.
    kept: int
    #: Number of days written, rebuilt days included.
    published: int = 0
    #: Written days that have no tick, as the source confirms.
    absent: tuple[date, ...] = ()
    #: Number of ids within the written days that do not exist at the source.
    absent_ids: int = 0
    #: Days whose ticks have changed since their bars were stored.
    stale: tuple[date, ...] = ()
    #: Where the series stopped, and why.
    hole: Hole | None = None
    #: Number of bars written that reached their threshold.
    bars: int = 0
    #: Number of bars written that a reset or a gap ended.
    orphans: int = 0
    #: Number of written days after the last requested one: a rebuild extends to the end of the
    #: stored days.
    beyond: int = 0
    #: Days that were stored again with more feature groups, or with another window.
    upgraded: tuple[date, ...] = ()
    #: Feature groups of the series that its newest days do not have.
    left_out: tuple[str, ...] = ()

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        how = "new" if self.is_new else "continued"
        days = f"{self.published - self.beyond:,} of {self.planned:,} days written"
        days += f" and {self.beyond:,} after the end" if self.beyond else ""
        facts = [f"{days} ({self.bars:,} bars)"]
        facts += [f"{self.kept:,} already stored"] if self.kept else []
        facts += [f"{len(self.absent):,} without ticks at the source"] if self.absent else []
        ids = f"{self.absent_ids:,} ids do not exist at the source"
        facts += [ids] if self.absent_ids else []
        facts += [f"upgraded: {_days(self.upgraded)}"] if self.upgraded else []
        missing = f"without {', '.join(self.left_out)}: `rangebar cache upgrade` adds them"
        facts += [missing] if self.left_out else []
        facts += [f"stale: {_days(self.stale)}"] if self.stale else []
        facts += [f"stopped at {self.hole.day}: {self.hole.reason}"] if self.hole else []
        name = f"{self.symbol} at {self.threshold} dbps, {self.series.spec.reset} {self.segment}"
        return f"{name}, {how} from {self.anchor:%Y-%m-%d}: {', '.join(facts)}"


@dataclass(slots=True)
class PopulateReport:
    """The outcome of `populate_cache_resumable`; `int(report)` is the number of bars written.

    Bars that a reset or a gap ended are not counted.
    """

    series: list[SeriesReport] = field(default_factory=list)
    #: By symbol, the newest whole day, if it is earlier than the requested one.
    clamps: dict[str, Clamp] = field(default_factory=dict)
    #: By symbol, the newest known day, if the source gave no answer, so that newer days may exist.
    unanswered: dict[str, Clamp] = field(default_factory=dict)

    @classmethod
    def of(cls, requests: Iterable[Request]) -> PopulateReport:
        """Start the report of a population with the last days of its requests."""
        clamps = {request.symbol: request.clamp for request in requests}
        return cls(
            clamps={symbol: clamp for symbol, clamp in clamps.items() if clamp.is_earlier},
            unanswered={symbol: clamp for symbol, clamp in clamps.items() if not clamp.is_certain},
        )

    @property
    def bars(self) -> int:
        """Number of bars written that reached their threshold."""
        return sum(report.bars for report in self.series)

    @property
    def published(self) -> int:
        """Number of units written: days of a series."""
        return sum(report.published for report in self.series)

    @property
    def is_complete(self) -> bool:
        """Whether every requested day is stored, computed from the ticks now in the store."""
        return not any(report.hole or report.stale for report in self.series)

    @property
    def holes(self) -> dict[date, str]:
        """Days at which a segment stopped, and why."""
        return {
            report.hole.day: report.hole.reason for report in self.series if report.hole is not None
        }

    @property
    def stale(self) -> list[date]:
        """Days whose ticks have changed since their bars were stored."""
        return sorted({day for report in self.series for day in report.stale})

    @property
    def upgraded(self) -> list[date]:
        """Days that were stored again with more feature groups, or with another window."""
        return sorted({day for report in self.series for day in report.upgraded})

    @property
    def absent(self) -> list[date]:
        """Written days that have no tick, as the source confirms."""
        return sorted({day for report in self.series for day in report.absent})

    @property
    def clamped_from(self) -> date | None:
        """The requested last day, if the newest whole day is earlier."""
        return next((clamp.requested for clamp in self.clamps.values()), None)

    @property
    def clamped_to(self) -> date | None:
        """The newest whole day, which was taken instead."""
        return next((clamp.day for clamp in self.clamps.values()), None)

    def __int__(self) -> int:
        return self.bars

    def __str__(self) -> str:
        clamps = {**self.clamps, **self.unanswered}
        lines = [_describe_clamp(symbol, clamp) for symbol, clamp in clamps.items()]
        return "\n".join([*lines, *map(str, self.series)])

    def __repr__(self) -> str:
        lines = str(self).splitlines()
        if len(lines) > _MOST_LINES:
            left = len(lines) - _MOST_LINES + 1
            lines = [*lines[: _MOST_LINES - 1], f"and {left:,} more; `.frame()` has all of them"]
        total = f"{type(self).__name__}: {self.bars:,} bars written, {len(self.series):,} series"
        text = "\n  ".join([total, *lines])
        return f"<{text}>"

    def _repr_html_(self) -> str:
        """Return the report as a table, for notebooks."""
        clamps = {**self.clamps, **self.unanswered}
        notes = "\n".join(_describe_clamp(symbol, clamp) for symbol, clamp in clamps.items())
        rows = [[_cell(value) for value in _row(report)] for report in self.series]
        return lines_html(notes) + rows_html(list(_SCHEMA), rows)

    def frame(self) -> pl.DataFrame:
        """Return a frame with a row for each series."""
        return pl.DataFrame([_row(report) for report in self.series], schema=_SCHEMA, orient="row")


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
        "upgraded": pl.UInt32(),
    }
)


def _describe_clamp(symbol: str, clamp: Clamp) -> str:
    """Describe the last day in one line."""
    if clamp.requested is None:
        return f"{symbol}: the newest whole day is assumed to be {clamp.day} ({clamp.why})"
    return f"{symbol}: the newest whole day is {clamp.day}, not {clamp.requested} ({clamp.why})"


def _row(report: SeriesReport) -> tuple[object, ...]:
    hole = report.hole
    return (
        report.symbol,
        report.threshold,
        report.segment,
        report.anchor,
        report.is_new,
        report.planned,
        report.kept,
        report.published,
        len(report.absent),
        report.absent_ids,
        len(report.stale),
        report.bars,
        None if hole is None else hole.day,
        None if hole is None else hole.reason,
        len(report.upgraded),
    )


def _cell(value: object) -> object:
    return value.date() if isinstance(value, datetime) else value


def _days(days: Iterable[date]) -> str:
    """List days, the first few of many."""
    listed = sorted(days)
    text = ", ".join(str(day) for day in listed[:_MOST_LISTED])
    rest = len(listed) - _MOST_LISTED
    return f"{text} and {rest:,} more" if rest > 0 else text
