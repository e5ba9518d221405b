"""Validation that bars contain every trade once, by the chain of trade ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import polars as pl

from rangebar_polars._text import count_text
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

# Length of a segment for `dt.truncate`, and the days by which segments begin later than there.
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
    """A break in the chain of ids."""

    #: Index of the bar before which ids are missing, or in which they are for "inside".
    bar_index: int
    kind: BreakKind
    #: The first and last missing id, or id that two bars share.
    first_id: int
    last_id: int
    #: Number of ids. For "inside" it is not known which ones.
    ids: int
    #: Close time of the bar before, or open time of the bar itself for "inside".
    after: datetime | None
    #: Open time of the bar, or its close time for "inside".
    before: datetime | None

    def __str__(self) -> str:
        where = f"in bar {self.bar_index}" if self.kind == "inside" else f"before {self.bar_index}"
        what = "doubled" if self.kind == "overlap" else "missing"
        times = f", {self.after} to {self.before}" if self.after and self.before else ""
        span = f"{self.ids:,} of" if self.kind == "inside" else "ids"
        return f"{where}: {span} {self.first_id} to {self.last_id} {what}{times}"


@dataclass(frozen=True, slots=True)
class ContinuityReport:
    """The result of checking the chain of ids."""

    bar_count: int
    breaks: tuple[Break, ...]
    #: Bars that a reset or a gap ended.
    orphans: int
    #: Number of resets, or of month ends of quotes, between two bars.
    resets: int

    @property
    def is_valid(self) -> bool:
        """Whether every id is there once."""
        return not self.breaks

    def __bool__(self) -> bool:
        return self.is_valid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        """Format a readable report."""
        count = len(self.breaks)
        verdict = count_text(count, "break") if count else "no trade is missing"
        lines = [f"{count_text(self.bar_count, 'bar')}: {verdict}"]
        lines += [f"  {found}" for found in self.breaks[:_SHOWN]]
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
    """Check that every trade between the first and the last bar is in exactly one bar.

    The first id of a bar must follow the last id of the bar before, and a bar must have as many
    records as its ids span. Prices are not checked, because they may jump.

    Parameters
    ----------
    bars
        Bars of one threshold in order, with the columns first_agg_trade_id and last_agg_trade_id.
    reset
        The reset of the bars, if the frame leaves out the bars that it ended (`is_closed` is
        false). Ids that are missing between two bars with a reset between them are then no break.
    absent
        Spans of ids, both ends included, that do not exist at the source.
    source
        Source of the ticks, which determines how ids follow one another.

    Returns
    -------
    ContinuityReport
        It is true in a condition if there is no break.

    Raises
    ------
    MissingColumnError
        The bars have no columns of ids.
    ValueError
        The bars have several thresholds or null ids, or the reset is not valid.

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
    """The same check for bars in batches, in order, such as a month at a time."""

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
        """Check the next bars. `absent` adds ids that do not exist at the source."""
        self._absent = sorted({*self._absent, *absent})
        frame = self._links(polars_bars(bars))
        if frame.is_empty():
            return
        if {"is_closed", "ended_by"} <= set(frame.columns):
            ended = frame.filter(~pl.col("is_closed"), pl.col("ended_by").is_not_null())
            self._orphans += ended.height
        # The last bar of the batch before comes first, so that its link is checked too.
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
            self._check_link(row)
        for row in chain.filter(_missing_ids() > 0).iter_rows(named=True):
            self._check_inside(row)

    def report(self) -> ContinuityReport:
        """Return the result for all bars so far."""
        breaks = sorted(self._breaks, key=lambda found: found.bar_index)
        return ContinuityReport(self._rows, tuple(breaks), self._orphans, self._resets)

    def _links(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Select the columns that the check reads."""
        for name in _NEEDED:
            if name not in frame.columns:
                raise MissingColumnError(
                    with_hint(
                        f"the bars have no column `{name}`, which the check of continuity needs",
                        "use the bars of this package, not their pandas frames for backtesting",
                    )
                )
        if "threshold" in frame.columns and frame["threshold"].n_unique() > 1:
            raise ValueError(
                with_hint(
                    "the bars have several thresholds; each threshold has its own chain of ids",
                    'bars.filter(pl.col("threshold") == 250)',
                )
            )
        if frame.select(pl.any_horizontal(pl.col(*_NEEDED).is_null().any())).item():
            raise ValueError(
                with_hint("the bars have no ids", "compute them from trades with `agg_trade_id`")
            )
        if self._reset is not None and not {"open_time", "close_time"} <= set(frame.columns):
            raise MissingColumnError("with `reset`, the bars need `open_time` and `close_time`")
        names = ("open_time", "close_time", "agg_record_count", *_NEEDED, "is_closed", "ended_by")
        absent = [name for name in names[:3] if name not in frame.columns]
        return frame.select(
            *(name for name in names if name in frame.columns),
            *(pl.lit(None).alias(name) for name in absent),
        )

    def _check_link(self, row: dict[str, Any]) -> None:
        """Record a break between two bars, unless a reset explains it."""
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

    def _check_inside(self, row: dict[str, Any]) -> None:
        """Record a break inside a bar that has fewer records than its ids span."""
        first, last = row["first_agg_trade_id"], row["last_agg_trade_id"]
        if self._are_quotes and month_of(first) != month_of(last):
            return
        left = sum(high - low + 1 for low, high in without(first, last, self._absent))
        missing = left - row["agg_record_count"]
        if missing > 0:
            times = (row["open_time"], row["close_time"])
            self._breaks.append(Break(row["bar"], "inside", first, last, missing, *times))

    def _is_reset(self, before: datetime | None, after: datetime | None) -> bool:
        """Return whether a reset lies between two instants."""
        if self._reset is None:
            return False
        every, later_days = self._reset
        starts = pl.Series([before, after]).dt.offset_by(f"{later_days}d").dt.truncate(every)
        return bool(starts[0] != starts[1])


def _missing_ids() -> pl.Expr:
    """Return how many more ids than records a bar has."""
    span = pl.col("last_agg_trade_id") - pl.col("first_agg_trade_id") + 1
    return span - pl.col("agg_record_count").cast(pl.Int64)
