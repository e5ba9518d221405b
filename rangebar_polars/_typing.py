"""Types of arguments that several entry points share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias, TypedDict, TypeVar

import polars as pl

if TYPE_CHECKING:
    from polars._typing import IntoExprColumn

    from rangebar_polars._utils.span import When
    from rangebar_polars.threshold import ThresholdLike

__all__ = [
    "AggregateOptions",
    "BarIdOptions",
    "BarOptions",
    "CachedNames",
    "ColumnMap",
    "ContractSize",
    "CountNames",
    "CoverageNames",
    "Features",
    "FrameOptions",
    "FrameT",
    "GroupBy",
    "Incomplete",
    "IntoColumn",
    "KernelOptions",
    "Lookback",
    "MaxGap",
    "NewestCachedNames",
    "NewestNames",
    "PlotOptions",
    "Plugins",
    "PopulateNames",
    "PrecomputeNames",
    "RangeBarNames",
    "Reset",
    "Rule",
    "ScanNames",
    "SideIs",
    "TickNames",
]

FrameT = TypeVar("FrameT", pl.DataFrame, pl.LazyFrame)

IntoColumn: TypeAlias = "IntoExprColumn"
#: The column of each field of a trade; None leaves the field out.
ColumnMap: TypeAlias = Mapping[str, str | None]
#: Worth of one contract in quote units.
ContractSize: TypeAlias = str | int | float | Decimal
Features: TypeAlias = str | Iterable[str]
#: Records, or text such as "3bars" or "5m".
Lookback: TypeAlias = SupportsIndex | str | timedelta
GroupBy: TypeAlias = str | Sequence[str]
Incomplete: TypeAlias = Literal["drop", "keep"] | bool
MaxGap: TypeAlias = timedelta | str
#: Whether to add the columns of plugins, or the names of the plugins.
Plugins: TypeAlias = bool | list[str] | tuple[str, ...]
Reset: TypeAlias = Literal["year", "month", "week", "day", "1y", "1mo", "1w", "1d", "none"]


Rule: TypeAlias = Literal["open", "high_low"]
SideIs: TypeAlias = Literal["taker", "maker"]


class _Rule(TypedDict, total=False):
    rule: Rule
    reset: Reset | None
    max_gap: MaxGap | None
    incomplete: Incomplete
    prevent_same_timestamp_close: bool


class KernelOptions(_Rule, total=False):
    """Keywords of the frame methods that do not depend on the frame."""

    features: Features
    lookback: Lookback | None
    side_is: SideIs
    contract_size: ContractSize | None


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
    side_is: SideIs
    features: Features
    lookback: Lookback | None


class BarOptions(BarIdOptions, AggregateOptions, total=False):
    """Keywords of `bars`."""


class PlotOptions(TypedDict, total=False):
    """Keywords of `plot`."""

    max_bars: int
    width: int
    height: int
    title: str | None
    volume: bool


class _End(TypedDict, total=False):
    end: When | None


class _Times(_End, total=False):
    start: When


class _LongTimes(TypedDict, total=False):
    start_date: When | None
    end_date: When | None


class _Threshold(TypedDict, total=False):
    threshold: ThresholdLike


class _Reset(TypedDict, total=False):
    reset: str | None


class _Fetch(TypedDict, total=False):
    fetch: bool


class _Incomplete(TypedDict, total=False):
    incomplete: Incomplete


class RangeBarNames(_Times, _Threshold, _Reset, _Fetch, _Incomplete, total=False):
    """Short names of arguments of `get_range_bars`."""


class NewestNames(_End, _Threshold, _Reset, _Fetch, total=False):
    """Short names of arguments of `get_n_range_bars`."""


class PopulateNames(_Times, _Reset, total=False):
    """Short names of arguments of `populate_cache_resumable`."""

    threshold: ThresholdLike | Sequence[ThresholdLike]


class PrecomputeNames(_Times, _Threshold, _Reset, total=False):
    """Short names of arguments of `precompute_range_bars`."""


class CountNames(_Reset, total=False):
    """Other names of arguments of `count_bars`."""

    threshold_decimal_bps: ThresholdLike


class NewestCachedNames(CountNames, total=False):
    """Other names of arguments of `get_n_bars`."""

    include_microstructure: bool


class CoverageNames(CountNames, _LongTimes, total=False):
    """Other names of arguments of `coverage`."""


class CachedNames(NewestCachedNames, _LongTimes, total=False):
    """Other names of arguments of `get_cached_bars`."""


class ScanNames(_LongTimes, _Reset, _Fetch, _Incomplete, total=False):
    """Other names of arguments of `scan_range_bars`."""

    threshold_decimal_bps: ThresholdLike | Sequence[ThresholdLike]
    include_microstructure: bool


class TickNames(_LongTimes, total=False):
    """Other names of arguments of `scan_ticks`."""

    fetch_if_missing: bool
