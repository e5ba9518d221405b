"""Types of arguments that several entry points share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, TypeVar

import polars as pl

if TYPE_CHECKING:
    from polars._typing import IntoExprColumn

__all__ = [
    "AggregateOptions",
    "BarIdOptions",
    "BarOptions",
    "ColumnMap",
    "Features",
    "FrameOptions",
    "FrameT",
    "GroupBy",
    "Incomplete",
    "IntoColumn",
    "KernelOptions",
    "MaxGap",
    "PlotOptions",
    "Reset",
    "Rule",
]

FrameT = TypeVar("FrameT", pl.DataFrame, pl.LazyFrame)

IntoColumn: TypeAlias = "IntoExprColumn"
#: The column of each field of a trade; None leaves the field out.
ColumnMap: TypeAlias = Mapping[str, str | None]
Features: TypeAlias = str | Iterable[str]
GroupBy: TypeAlias = str | Sequence[str]
Incomplete: TypeAlias = Literal["drop", "keep"]
MaxGap: TypeAlias = timedelta | str
Reset: TypeAlias = Literal["year", "month", "week", "day", "1y", "1mo", "1w", "1d"]


Rule: TypeAlias = Literal["open", "high_low"]


class _Rule(TypedDict, total=False):
    rule: Rule
    reset: Reset | None
    max_gap: MaxGap | None
    incomplete: Incomplete
    prevent_same_timestamp_close: bool


class KernelOptions(_Rule, total=False):
    """Keywords of the frame methods that do not depend on the frame."""

    features: Features


class FrameOptions(KernelOptions, total=False):
    """Keywords of the frame methods."""

    group_by: GroupBy | None
    columns: ColumnMap | None


class BarIdOptions(_Rule, total=False):
    """Keywords of `bar_id`."""

    timestamp: IntoColumn
    group_by: IntoColumn | Sequence[IntoColumn] | None


class AggregateOptions(TypedDict, total=False):
    """Keywords of `aggregate`."""

    timestamp: IntoColumn
    quantity: IntoColumn | None
    is_buyer_maker: IntoColumn | None
    side: IntoColumn | None
    agg_trade_id: IntoColumn | None
    first_trade_id: IntoColumn | None
    last_trade_id: IntoColumn | None
    features: Features


class BarOptions(BarIdOptions, AggregateOptions, total=False):
    """Keywords of `bars`."""


class PlotOptions(TypedDict, total=False):
    """Keywords of `plot`."""

    max_bars: int
    width: int
    height: int
    title: str | None
    volume: bool
