"""Range bars of quotes, with the spread of each bar.

Spreads are summed in whole numbers of 1e-8, so that their averages do not depend on how the quotes
were cut into pieces.
"""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from rangebar_polars.compute.builder import RangeBarBuilder
from rangebar_polars.exness._instruments import ValidationStrictness, judge
from rangebar_polars.exness._quotes import quotes_of
from rangebar_polars.fetch.exness.csv import PER_UNIT, grid_units, mid_price, quotient
from rangebar_polars.symbol_registry import validate_symbol_registered
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold

if TYPE_CHECKING:
    from rangebar_polars._typing import MaxGap
    from rangebar_polars.exness._instruments import ExnessInstrument
    from rangebar_polars.exness._quotes import Quotes
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["SPREAD_COLUMNS", "WEEKEND", "ExnessRangeBarBuilder", "Instrument", "QuoteBars"]

Instrument: TypeAlias = "ExnessInstrument | str"

#: Columns that a bar of quotes has beside those of a bar of trades.
SPREAD_COLUMNS = ("spread_avg", "spread_min", "spread_max")
#: A silence of 40 hours or more is a weekend; `max_gap` is what a silence must exceed.
WEEKEND = timedelta(hours=40) - timedelta.resolution
# Spread sums, exact up to any number of quotes.
_SUMS = pl.Schema({"bar": pl.Int64(), "sum": pl.Int128(), "low": pl.Int64(), "high": pl.Int64()})


class QuoteBars:
    """Bars of quotes that come in pieces; symbol and threshold are what they should be."""

    def __init__(
        self,
        symbol: str,
        threshold: int,
        strictness: ValidationStrictness | str,
        max_gap: MaxGap | None,
    ) -> None:
        self.symbol = symbol
        self.threshold = threshold
        self.strictness = ValidationStrictness(strictness)
        # Held while bars and spreads are between two consistent states.
        self._lock = Lock()
        self._builder = RangeBarBuilder(threshold, max_gap=max_gap, incomplete="keep")
        self._forming = _SUMS.to_frame()
        self._records = 0
        self._closed = 0

    def push(self, quotes: Quotes) -> pl.DataFrame:
        """Bars that reach the threshold in these quotes, in order.

        Raises
        ------
        TickDataError, TickOrderError
            A quote that is refused, with its row, or one out of order. Nothing changed.
        """
        frame = quotes_of(quotes)
        bid, ask = grid_units(frame["bid"]), grid_units(frame["ask"])
        judge(frame, bid, ask, self.symbol, self.strictness)
        priced = frame.drop("bid", "ask").with_columns(
            mid_price(bid, ask), pl.lit(0.0).alias("quantity")
        )
        with self._lock:
            bars = self._builder.push(priced)
            closed = self._with_spreads(bars, ask - bid).filter("is_closed")
            numbers = pl.int_range(pl.len(), dtype=pl.UInt32) + self._closed
            self._closed += closed.height
        return closed.drop("is_closed", "ended_by").with_columns(numbers.alias("bar_id"))

    def partial(self) -> pl.DataFrame:
        """The forming bar, with `is_closed` and `ended_by`; before the first push an empty frame."""
        with self._lock:
            bars, sums, closed = self._builder.partial(), self._forming, self._closed
        if bars.is_empty():
            return bars
        return spread_columns(bars, sums).with_columns(pl.lit(closed, pl.UInt32).alias("bar_id"))

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            # The builder is copied here: between this and its pickling it could take a push.
            state = {**vars(self), "_builder": copy(self._builder)}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def _with_spreads(self, bars: pl.DataFrame, spreads: pl.Series) -> pl.DataFrame:
        """The bars that ended, with their spreads; those of the forming one are kept."""
        counts = bars["agg_record_count"]
        ends = counts.cum_sum() - self._records
        rows = pl.int_range(spreads.len(), eager=True)
        pieces = pl.DataFrame(
            {
                "bar": ends.search_sorted(rows, side="right"),
                "sum": spreads,
                "low": spreads,
                "high": spreads,
            },
            schema_overrides=_SUMS,
        )
        folded = (
            pl.concat([self._forming.with_columns(bar=pl.lit(0, pl.Int64)), pieces])
            .group_by("bar", maintain_order=True)
            .agg(pl.col("sum").sum(), pl.col("low").min(), pl.col("high").max())
        )
        self._forming = folded[bars.height :]
        self._records += spreads.len() - int(counts.sum())
        return spread_columns(bars, folded[: bars.height])

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.symbol!r}, {self.threshold}, {self.strictness.value!r})"


class ExnessRangeBarBuilder(QuoteBars):
    """Range bars of quotes that come in pieces, with `spread_avg`, `spread_min`, `spread_max`.

    How the quotes are cut into pieces makes no difference. A push that is refused changes nothing.

    Parameters
    ----------
    instrument
        An `ExnessInstrument`, or any registered symbol.
    threshold_decimal_bps
        250 is 0.25 %; not below the instrument's minimum.
    strictness
        How quotes are judged.
    max_gap
        A longer silence ends the forming bar, which is dropped; `WEEKEND` is what ends a week.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.exness import ExnessRangeBarBuilder
    >>> quotes = pl.DataFrame(
    ...     {
    ...         "timestamp_ms": [1704067200000, 1704067201000, 1704067202000],
    ...         "bid": [1.0000, 1.0010, 1.0030],
    ...         "ask": [1.0002, 1.0010, 1.0031],
    ...     }
    ... )
    >>> builder = ExnessRangeBarBuilder("EURUSD", 250)
    >>> builder.push(quotes.head(2)).height
    0
    >>> builder.push(quotes.tail(1)).select("open", "close", "spread_avg", "spread_max").row(0)
    (1.0001, 1.00305, 0.0001, 0.0002)
    """

    def __init__(
        self,
        instrument: Instrument,
        threshold_decimal_bps: ThresholdLike = 250,
        strictness: ValidationStrictness | str = ValidationStrictness.Strict,
        *,
        max_gap: MaxGap | None = None,
    ) -> None:
        symbol = validate_symbol_registered(instrument, operation="ExnessRangeBarBuilder")
        threshold = resolve_and_validate_threshold(symbol, threshold_decimal_bps)
        super().__init__(symbol, threshold, strictness, max_gap)


def spread_columns(bars: pl.DataFrame, sums: pl.DataFrame) -> pl.DataFrame:
    """Bars with the average, the smallest and the largest spread, before the flags at their end."""
    average = sums["sum"] / (bars["agg_record_count"] * int(PER_UNIT))
    values = (average, quotient(sums["low"], PER_UNIT), quotient(sums["high"], PER_UNIT))
    spreads = [series.alias(name) for name, series in zip(SPREAD_COLUMNS, values, strict=True)]
    flags = ("is_closed", "ended_by")
    return bars.with_columns(spreads).select(pl.exclude(flags), *flags)
