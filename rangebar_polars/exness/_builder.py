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
from rangebar_polars.exness._instruments import ValidationStrictness, check_quotes
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

#: Columns that a bar of quotes has in addition to those of a bar of trades.
SPREAD_COLUMNS = ("spread_avg", "spread_min", "spread_max")
#: For `max_gap`, which ends a bar after a longer silence: 40 hours or more count as a weekend.
WEEKEND = timedelta(hours=40) - timedelta.resolution
# Sums of spreads, exact for any number of quotes.
_SUMS = pl.Schema({"bar": pl.Int64(), "sum": pl.Int128(), "low": pl.Int64(), "high": pl.Int64()})


class QuoteBars:
    """Builder of bars from batches of quotes, for a checked symbol and threshold."""

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
        # Held while bars and spreads are inconsistent.
        self._lock = Lock()
        self._builder = RangeBarBuilder(threshold, max_gap=max_gap, incomplete="keep")
        self._forming = _SUMS.to_frame()
        self._records = 0
        self._closed = 0

    def push(self, quotes: Quotes) -> pl.DataFrame:
        """Add quotes and return the bars that close in them, in order.

        Raises
        ------
        TickDataError, TickOrderError
            A quote is rejected, with its row, or is out of order. The builder is unchanged.
        """
        frame = quotes_of(quotes)
        bid, ask = grid_units(frame["bid"]), grid_units(frame["ask"])
        check_quotes(frame, bid, ask, self.symbol, self.strictness)
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
        """Return the forming bar, with `is_closed` and `ended_by`; empty before the first push."""
        with self._lock:
            bars, sums, closed = self._builder.partial(), self._forming, self._closed
        if bars.is_empty():
            return bars
        return spread_columns(bars, sums).with_columns(pl.lit(closed, pl.UInt32).alias("bar_id"))

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            # Copy the builder under the lock, because a push could change it before it is pickled.
            state = {**vars(self), "_builder": copy(self._builder)}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def _with_spreads(self, bars: pl.DataFrame, spreads: pl.Series) -> pl.DataFrame:
        """Add the spreads to bars that ended, and store those of the forming bar."""
        counts = bars["agg_record_count"]
        ends = counts.cum_sum() - self._records
        rows = pl.int_range(spreads.len(), eager=True)
        spread_rows = pl.DataFrame(
            {
                "bar": ends.search_sorted(rows, side="right"),
                "sum": spreads,
                "low": spreads,
                "high": spreads,
            },
            schema_overrides=_SUMS,
        )
        folded = (
            pl.concat([self._forming.with_columns(bar=pl.lit(0, pl.Int64)), spread_rows])
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
    """Builder of range bars from batches of quotes, with `spread_avg`, `spread_min`, `spread_max`.

    The size of the batches does not change the bars. A push that raises changes nothing.

    Parameters
    ----------
    instrument
        An `ExnessInstrument`, or any registered symbol.
    threshold_decimal_bps
        250 is 0.25 %; not below the instrument's minimum.
    strictness
        How strictly quotes are checked.
    max_gap
        A longer silence ends the forming bar, which is dropped. `WEEKEND` ends it at weekends.

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
    """Add the average, smallest and largest spread to bars, before the flags at the end."""
    average = sums["sum"] / (bars["agg_record_count"] * int(PER_UNIT))
    values = (average, quotient(sums["low"], PER_UNIT), quotient(sums["high"], PER_UNIT))
    spreads = [series.alias(name) for name, series in zip(SPREAD_COLUMNS, values, strict=True)]
    flags = ("is_closed", "ended_by")
    return bars.with_columns(spreads).select(pl.exclude(flags), *flags)
