"""The namespace `rangebar` of expressions, frames and plans.

Each method delegates to the function named in its first line, which documents the arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import polars as pl

from rangebar_polars._utils.keywords import keywords_of
from rangebar_polars.compute import expr
from rangebar_polars.compute.frame import aggregate_frame, bars_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    import altair as alt
    import pandas as pd

    from rangebar_polars._typing import (
        AggregateOptions,
        BarIdOptions,
        BarOptions,
        ColumnMap,
        Features,
        FrameOptions,
        IntoColumn,
        PlotOptions,
    )
    from rangebar_polars.threshold import LimitLike

__all__ = ["DataFrameBars", "ExprBars", "LazyFrameBars", "rangebar"]


@pl.api.register_expr_namespace("rangebar")
class ExprBars:
    """Range bars of a column of prices."""

    def __init__(self, price: pl.Expr) -> None:
        self._price = price

    @keywords_of(expr.bars)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[BarOptions],
    ) -> pl.Expr:
        """Compute range bars as a Struct `bars`: see `rangebar_polars.bars`."""
        return expr.bars(self._price, threshold, **arguments)

    @keywords_of(expr.bar_id)
    def bar_id(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[BarIdOptions],
    ) -> pl.Expr:
        """Assign each trade the number of its bar: see `rangebar_polars.bar_id`."""
        return expr.bar_id(self._price, threshold, **arguments)

    @keywords_of(expr.aggregate)
    def aggregate(self, bar_id: IntoColumn, **arguments: Unpack[AggregateOptions]) -> pl.Expr:
        """Compute bars of your own as a Struct `bars`: see `rangebar_polars.aggregate`."""
        return expr.aggregate(self._price, bar_id, **arguments)


@pl.api.register_dataframe_namespace("rangebar")
class DataFrameBars:
    """Range bars of a frame of trades; exports and charts of a frame of bars."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    @keywords_of(bars_frame)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[FrameOptions],
    ) -> pl.DataFrame:
        """Compute range bars of these trades: see `rangebar_polars.compute.frame.bars_frame`."""
        return bars_frame(self._frame, threshold, **arguments)

    def aggregate(
        self, bar_id: str, *, features: Features = "core", columns: ColumnMap | None = None
    ) -> pl.DataFrame:
        """Compute bars of your own: see `rangebar_polars.compute.frame.aggregate_frame`."""
        return aggregate_frame(self._frame, bar_id, features=features, columns=columns)

    def to_backtesting(self) -> pd.DataFrame:
        """Convert these bars for backtesting.py: see `rangebar_polars.to_backtesting`."""
        from rangebar_polars.interop.backtesting import to_backtesting

        return to_backtesting(self._frame)

    def plot(self, **arguments: Unpack[PlotOptions]) -> alt.VConcatChart:
        """Draw a candlestick chart of these bars: see `rangebar_polars.plot.chart.plot_bars`.

        The keywords are `max_bars`, `width`, `height`, `title` and `volume`.
        """
        from rangebar_polars.plot.chart import plot_bars

        return plot_bars(self._frame, **arguments)


@pl.api.register_lazyframe_namespace("rangebar")
class LazyFrameBars:
    """Range bars of a plan of trades, in bounded memory."""

    def __init__(self, plan: pl.LazyFrame) -> None:
        self._plan = plan

    @keywords_of(bars_frame)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[FrameOptions],
    ) -> pl.LazyFrame:
        """Compute range bars of these trades: see `rangebar_polars.compute.frame.bars_frame`."""
        return bars_frame(self._plan, threshold, **arguments)

    def aggregate(
        self, bar_id: str, *, features: Features = "core", columns: ColumnMap | None = None
    ) -> pl.LazyFrame:
        """Compute bars of your own: see `rangebar_polars.compute.frame.aggregate_frame`."""
        return aggregate_frame(self._plan, bar_id, features=features, columns=columns)


@overload
def rangebar(polars: pl.Expr) -> ExprBars: ...
@overload
def rangebar(polars: pl.DataFrame) -> DataFrameBars: ...
@overload
def rangebar(polars: pl.LazyFrame) -> LazyFrameBars: ...
def rangebar(
    polars: pl.Expr | pl.DataFrame | pl.LazyFrame,
) -> ExprBars | DataFrameBars | LazyFrameBars:
    """Return the namespace of an expression, a frame or a plan, with types for type checkers.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> type(rb.rangebar(pl.LazyFrame())) is type(pl.LazyFrame().rangebar)
    True
    """
    if isinstance(polars, pl.DataFrame):
        return DataFrameBars(polars)
    if isinstance(polars, pl.LazyFrame):
        return LazyFrameBars(polars)
    return ExprBars(polars)
