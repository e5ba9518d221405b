"""The namespace `rangebar` of expressions, frames and plans.

Each method passes its arguments to a function, whose docstring and signature it shows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn, overload

import polars as pl

from rangebar_polars._utils.arguments.keywords import keywords_of
from rangebar_polars.compute import expr
from rangebar_polars.compute.binding import binding
from rangebar_polars.compute.frame import aggregate_frame, bars_frame
from rangebar_polars.exceptions import with_hint
from rangebar_polars.interop.backtesting import to_backtesting
from rangebar_polars.interop.pandas_accessor import register_accessor
from rangebar_polars.interop.pandas_frames import is_pandas
from rangebar_polars.plot.chart import plot_bars

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
        ContractSize,
        Features,
        FrameOptions,
        IntoColumn,
        Lookback,
        PlotOptions,
        SideIs,
    )
    from rangebar_polars.threshold import LimitLike

__all__ = ["DataFrameBars", "ExprBars", "LazyFrameBars", "rangebar"]


register_accessor()


@pl.api.register_expr_namespace("rangebar")
class ExprBars:
    """Range bars of a column of prices."""

    def __init__(self, price: pl.Expr) -> None:
        self._price = price

    @keywords_of(expr.bars, documented=True)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[BarOptions],
    ) -> pl.Expr:
        """Delegate to a function, whose docstring replaces this one."""
        return expr.bars(self._price, threshold, **arguments)

    @keywords_of(expr.bar_id, documented=True)
    def bar_id(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[BarIdOptions],
    ) -> pl.Expr:
        """Delegate to a function, whose docstring replaces this one."""
        return expr.bar_id(self._price, threshold, **arguments)

    @keywords_of(expr.aggregate, documented=True)
    def aggregate(self, bar_id: IntoColumn, **arguments: Unpack[AggregateOptions]) -> pl.Expr:
        """Delegate to a function, whose docstring replaces this one."""
        return expr.aggregate(self._price, bar_id, **arguments)


class _Trades:
    """What frames and plans of trades have in common."""

    _trades: pl.DataFrame | pl.LazyFrame

    @keywords_of(binding, documented=True)
    def binding(self, *, columns: ColumnMap | None = None) -> pl.DataFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return binding(self._trades, columns=columns)


@pl.api.register_dataframe_namespace("rangebar")
class DataFrameBars(_Trades):
    """Range bars of a frame of trades; exports and charts of a frame of bars."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = self._trades = frame

    @keywords_of(bars_frame, documented=True)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[FrameOptions],
    ) -> pl.DataFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return bars_frame(self._frame, threshold, **arguments)

    @keywords_of(aggregate_frame, documented=True)
    def aggregate(
        self,
        bar_id: str,
        *,
        features: Features = "core",
        lookback: Lookback | None = None,
        side_is: SideIs = "taker",
        contract_size: ContractSize | None = None,
        columns: ColumnMap | None = None,
    ) -> pl.DataFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return aggregate_frame(
            self._frame,
            bar_id,
            features=features,
            lookback=lookback,
            side_is=side_is,
            contract_size=contract_size,
            columns=columns,
        )

    @keywords_of(to_backtesting, documented=True)
    def to_backtesting(self) -> pd.DataFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return to_backtesting(self._frame)

    @keywords_of(plot_bars, documented=True)
    def plot(self, **arguments: Unpack[PlotOptions]) -> alt.VConcatChart:
        """Delegate to a function, whose docstring replaces this one."""
        return plot_bars(self._frame, **arguments)


@pl.api.register_lazyframe_namespace("rangebar")
class LazyFrameBars(_Trades):
    """Range bars of a plan of trades, in bounded memory."""

    def __init__(self, plan: pl.LazyFrame) -> None:
        self._plan = self._trades = plan

    @keywords_of(bars_frame, documented=True)
    def bars(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[FrameOptions],
    ) -> pl.LazyFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return bars_frame(self._plan, threshold, **arguments)

    @keywords_of(aggregate_frame, documented=True)
    def aggregate(
        self,
        bar_id: str,
        *,
        features: Features = "core",
        lookback: Lookback | None = None,
        side_is: SideIs = "taker",
        contract_size: ContractSize | None = None,
        columns: ColumnMap | None = None,
    ) -> pl.LazyFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return aggregate_frame(
            self._plan,
            bar_id,
            features=features,
            lookback=lookback,
            side_is=side_is,
            contract_size=contract_size,
            columns=columns,
        )

    @keywords_of(to_backtesting, documented=True)
    def to_backtesting(self) -> pd.DataFrame:
        """Delegate to a function, whose docstring replaces this one."""
        return to_backtesting(self._plan)

    @keywords_of(plot_bars, documented=True)
    def plot(self, **arguments: Unpack[PlotOptions]) -> alt.VConcatChart:
        """Delegate to a function, whose docstring replaces this one."""
        return plot_bars(self._plan, **arguments)


@pl.api.register_series_namespace("rangebar")
class SeriesBars:
    """Stand-in for the namespace of a frame: a Series of prices has no times."""

    def __init__(self, series: pl.Series) -> None:
        self._series = series

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse every method, with the call to write."""
        sentence = f"a Series has no `rangebar.{name}`, because bars also need the times"
        hint = f"write df.rangebar.{name} for a frame with the column `{self._series.name}`"
        raise AttributeError(with_hint(sentence, hint))


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

    Raises
    ------
    TypeError
        The value is neither an expression nor a Polars frame.

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
    if isinstance(polars, pl.Expr):
        return ExprBars(polars)
    raise _refused(polars)


def _refused(value: object) -> TypeError:
    """Return the error for a value that has no namespace, with the conversion to write."""
    kind = type(value).__name__
    if is_pandas(value):
        kind, hint = "pandas DataFrame", "convert it: rb.rangebar(pl.from_pandas(df))"
    elif isinstance(value, pl.Series):
        kind, hint = "Polars Series", "pass the frame: rb.rangebar(df)"
    elif isinstance(value, str):
        hint = f"write rb.rangebar(pl.col({json.dumps(value)})) for a column"
    elif isinstance(value, (dict, list)):
        hint = "make a frame of it: rb.rangebar(pl.DataFrame(trades))"
    else:
        hint = 'pass pl.col("price"), a DataFrame or a LazyFrame'
    sentence = f"`rb.rangebar` takes a Polars expression, DataFrame or LazyFrame, not a `{kind}`"
    return TypeError(with_hint(sentence, hint))
