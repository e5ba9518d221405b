"""Whether bars follow one another without a lost trade, by the chain of the ids they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import polars as pl

from rangebar_polars.exceptions import MissingColumnError, unknown_choice, with_hint
from rangebar_polars.sources import has_monthly_ids
from rangebar_polars.validation._frames import polars_bars
from rangebar_polars.validation._ids import is_next_month, month_of, without

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import pandas as pd

__all__ = ["Break", "ContinuityCheck", "ContinuityReport", "validate_continuity"]

BreakKind: TypeAlias = Literal["missing", "overlap", "inside"]

# The length of a segment for Polars, and how much later than its own segments begin.
_RESETS = {
    "year": ("1y", 0),
    "month": ("1mo", 0),
    "week": ("1w", 1),
    "day": ("1d", 0),
    "1y": ("1y", 0),
    "1mo": ("1mo", 0),
    "1w": ("1w", 0),
    "1d": ("1d", 0),
}
_SHOWN = 10
_NEEDED = ("first_agg_trade_id", "last_agg_trade_id")


class Break(NamedTuple):
    """A place where ids do not follow one another."""

    #: Number of the bar before which, or for "inside" in which, ids are missing.
    bar_index: int
    kind: BreakKind
    #: The first and last id that is missing, or that two bars share.
    first_id: int
    last_id: int
    #: How many ids; of an "inside", which of them is not known.
    ids: int
    #: When the bar before closed, or for "inside" the bar itself opened.
    after: datetime | None
    #: When the bar opened, or for "inside" closed.
    before: datetime | None

    def __str__(self) -> str:
        where = f"in bar {self.bar_index}" if self.kind == "inside" else f"before {self.bar_index}"
        what = "doubled" if self.kind == "overlap" else "missing"
        times = f", {self.after} to {self.before}" if self.after and self.before else ""
        span = f"{self.ids:,} of" if self.kind == "inside" else "ids"
        return f"{where}: {span} {self.first_id} to {self.last_id} {what}{times}"


@dataclass(frozen=True, slots=True)
class ContinuityReport:
    """What the chain of ids says of bars."""

    bar_count: int
    breaks: tuple[Break, ...]
    #: Bars that a reset or a gap ended.
    orphans: int
    #: Places where a reset, or a month of quotes, lies between two bars.
    resets: int

    @property
    def is_valid(self) -> bool:
        """Whether no id is missing or doubled that should be there once."""
        return not self.breaks

    def __bool__(self) -> bool:
        return self.is_valid

    def __str__(self) -> str:
        """Lines for a person."""
        count = len(self.breaks)
        verdict = f"{count:,} break{'s' * (count > 1)}" if count else "no trade is missing"
        lines = [f"{self.bar_count:,} bars: {verdict}"]
        lines += [f"  {one}" for one in self.breaks[:_SHOWN]]
        if len(self.breaks) > _SHOWN:
            lines.append(f"  and {len(self.breaks) - _SHOWN:,} more")
        return "\n".join(lines)


def validate_continuity(
    bars: pl.DataFrame | pd.DataFrame,
    *,
    reset: str | None = None,
    absent: Iterable[tuple[int, int]] = (),
    source: str = "binance",
) -> ContinuityReport:
    """Look whether every trade between the first bar and the last is in one bar, and in one only.

    The first id of a bar must follow the last id of the bar before it, and a bar must have as many
    records as its ids span. No price is looked at: prices may jump, ids do not.

    Parameters
    ----------
    bars
        Bars of one threshold in order, with the columns first_agg_trade_id and last_agg_trade_id.
    reset
        The reset that the bars were made with, if what it ended (the bars with `is_closed` false)
        was left out: ids that lie between two bars with a reset between them are no break.
    absent
        Spans of ids, both ends included, that do not exist at the source.
    source
        Source of the ticks; it decides how ids follow one another.

    Returns
    -------
    ContinuityReport
        True in a condition if there is no break.

    Raises
    ------
    MissingColumnError
        There are no ids.
    ValueError
        Several thresholds, bars without ids, or no reset.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.validation.continuity import validate_continuity
    >>> bars = rb.sample_ticks().rangebar.bars(100)
    >>> validate_continuity(bars).is_valid
    True
    >>> import polars as pl
    >>> print(str(validate_continuity(pl.concat([bars[:4], bars[5:]]))).splitlines()[0])
    1,186 bars: 1 break
    """
    check = ContinuityCheck(reset=reset, absent=absent, source=source)
    check.add(bars)
    return check.report()


class ContinuityCheck:
    """The same look at bars that come in pieces, in order: a month at a time, say."""

    def __init__(
        self,
        *,
        reset: str | None = None,
        absent: Iterable[tuple[int, int]] = (),
        source: str = "binance",
    ) -> None:
        if reset not in (None, "none", *_RESETS):
            raise ValueError(unknown_choice("reset", str(reset), list(_RESETS)))
        self._reset = _RESETS.get(reset or "none")
        self._absent = sorted(absent)
        self._are_quotes = has_monthly_ids(source)
        self._last: pl.DataFrame | None = None
        self._rows = self._orphans = self._resets = 0
        self._breaks: list[Break] = []

    def add(
        self, bars: pl.DataFrame | pd.DataFrame, *, absent: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Look at the bars that come next, and know of more ids that do not exist."""
        self._absent = sorted({*self._absent, *absent})
        frame = self._links(polars_bars(bars))
        if frame.is_empty():
            return
        if {"is_closed", "ended_by"} <= set(frame.columns):
            ended = frame.filter(~pl.col("is_closed"), pl.col("ended_by").is_not_null())
            self._orphans += ended.height
        # The last bar that was seen comes first, so that the links to it are seen.
        chain = frame if self._last is None else pl.concat([self._last, frame], how="diagonal")
        chain = chain.with_columns(
            before_id=pl.col("last_agg_trade_id").shift(1),
            before_time=pl.col("close_time").shift(1),
        ).tail(frame.height)
        chain = chain.with_row_index("bar", self._rows)
        self._rows += frame.height
        self._last = frame.tail(1)
        links = chain.filter(pl.col("first_agg_trade_id") != pl.col("before_id") + 1)
        for row in links.iter_rows(named=True):
            self._judge_link(row)
        for row in chain.filter(_lack() > 0).iter_rows(named=True):
            self._judge_inside(row)

    def report(self) -> ContinuityReport:
        """What was found."""
        breaks = sorted(self._breaks, key=lambda one: one.bar_index)
        return ContinuityReport(self._rows, tuple(breaks), self._orphans, self._resets)

    def _links(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns that are looked at."""
        for name in _NEEDED:
            if name not in frame.columns:
                raise MissingColumnError(
                    with_hint(
                        f"continuity is told by ids; there is no column `{name}`",
                        "bars of this package have it, and their pandas frames for backtesting not",
                    )
                )
        if "threshold" in frame.columns and frame["threshold"].n_unique() > 1:
            raise ValueError(
                with_hint(
                    "the bars are of several thresholds, each with a chain of its own",
                    'bars.filter(pl.col("threshold") == 250)',
                )
            )
        if frame.select(pl.any_horizontal(pl.col(*_NEEDED).is_null().any())).item():
            raise ValueError(
                with_hint("the bars have no ids", "make them of trades with agg_trade_id")
            )
        if self._reset is not None and not {"open_time", "close_time"} <= set(frame.columns):
            raise MissingColumnError("where a reset lies is told by `open_time` and `close_time`")
        wanted = ("open_time", "close_time", "agg_record_count", *_NEEDED, "is_closed", "ended_by")
        absent = [name for name in wanted[:3] if name not in frame.columns]
        return frame.select(
            *(name for name in wanted if name in frame.columns),
            *(pl.lit(None).alias(name) for name in absent),
        )

    def _judge_link(self, row: dict[str, Any]) -> None:
        """Two bars whose ids do not follow one another."""
        before, first = row["before_id"], row["first_agg_trade_id"]
        times = (row["before_time"], row["open_time"])
        if first <= before:
            count = before - first + 1
            self._breaks.append(Break(row["bar"], "overlap", first, before, count, *times))
            return
        if self._is_reset(*times) or (self._are_quotes and is_next_month(before, first)):
            self._resets += 1
            return
        for low, high in without(before + 1, first - 1, self._absent):
            self._breaks.append(Break(row["bar"], "missing", low, high, high - low + 1, *times))

    def _judge_inside(self, row: dict[str, Any]) -> None:
        """A bar of fewer records than its ids span."""
        first, last = row["first_agg_trade_id"], row["last_agg_trade_id"]
        if self._are_quotes and month_of(first) != month_of(last):
            return
        left = sum(high - low + 1 for low, high in without(first, last, self._absent))
        lacking = left - row["agg_record_count"]
        if lacking > 0:
            times = (row["open_time"], row["close_time"])
            self._breaks.append(Break(row["bar"], "inside", first, last, lacking, *times))

    def _is_reset(self, before: datetime | None, after: datetime | None) -> bool:
        """Whether a reset lies between two instants."""
        if self._reset is None:
            return False
        every, later_days = self._reset
        starts = pl.Series([before, after]).dt.offset_by(f"{later_days}d").dt.truncate(every)
        return bool(starts[0] != starts[1])


def _lack() -> pl.Expr:
    """How many more ids than records a bar has."""
    span = pl.col("last_agg_trade_id") - pl.col("first_agg_trade_id") + 1
    return span - pl.col("agg_record_count").cast(pl.Int64)
