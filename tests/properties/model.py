"""The model as an entry point: a frame of trades and the public arguments in, the promised frame out."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

import rangebar_polars as rb
from properties import oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CORE = [
    "bar_id", "open_time", "close_time", "open", "high", "low", "close", "volume", "vwap", "turnover",
    "buy_volume", "sell_volume", "buy_turnover", "sell_turnover", "buy_trade_count", "sell_trade_count",
    "individual_trade_count", "agg_record_count", "first_trade_id", "last_trade_id", "first_agg_trade_id",
    "last_agg_trade_id",
]  # fmt: skip
STATUS = ["is_closed", "ended_by"]
TEN = [
    "duration_us", "ofi", "vwap_close_deviation", "price_impact", "kyle_lambda_proxy", "trade_intensity",
    "volume_per_trade", "aggression_ratio", "aggregation_density", "turnover_imbalance",
]  # fmt: skip
INTEGERS = {
    "buy_trade_count", "sell_trade_count", "individual_trade_count", "agg_record_count", "first_trade_id",
    "last_trade_id", "first_agg_trade_id", "last_agg_trade_id", "duration_us",
}  # fmt: skip
OPTIONAL = ("quantity", "is_buyer_maker", "side", "agg_trade_id", "first_trade_id", "last_trade_id")
SELLERS = {"sell", "s", "ask", "-1"}
BUYERS = {"buy", "b", "bid", "1"}


@dataclass(frozen=True)
class Case:
    """A frame in canonical column names and the arguments that every entry point takes."""

    frame: pl.DataFrame
    threshold: Any = 250
    group_by: str | list[str] | None = None
    features: str | list[str] = "core"
    reset: str | None = None
    max_gap: dt.timedelta | str | None = None
    incomplete: str = "drop"
    gate: bool = True
    rule: str = "open"

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "group_by": self.group_by,
            "features": self.features,
            "reset": self.reset,
            "max_gap": self.max_gap,
            "incomplete": self.incomplete,
            "prevent_same_timestamp_close": self.gate,
        }

    @property
    def keys(self) -> list[str]:
        return [self.group_by] if isinstance(self.group_by, str) else list(self.group_by or [])

    @property
    def thresholds(self) -> list[int | rb.Distance]:
        return self.threshold if isinstance(self.threshold, list) else [self.threshold]

    @property
    def limits(self) -> list[oracle.Limit]:
        """Return the thresholds as the oracle takes them."""
        return [
            oracle.Absolute(t.grid) if isinstance(t, rb.Distance) else t for t in self.thresholds
        ]

    @property
    def unit(self) -> str:
        dtype = self.frame.schema["timestamp"]
        assert isinstance(dtype, pl.Datetime)
        return dtype.time_unit

    @property
    def bound(self) -> dict[str, str | None]:
        """Return the column arguments of an expression: those present, None for the others."""
        names: dict[str, str | None] = {c: c if c in self.frame.columns else None for c in OPTIONAL}
        return {"timestamp": "timestamp", **names}

    def with_frame(self, frame: pl.DataFrame) -> Case:
        return replace(self, frame=frame)


@dataclass
class Expected:
    """The expected frame, and the ids of the records."""

    bars: pl.DataFrame
    ids: pl.Series
    exact: list[oracle.Bar] = field(default_factory=list)


def trades_of(case: Case) -> list[oracle.Trade]:
    """Read the frame as trades, by the rules for its dtypes."""
    frame, rows = case.frame, case.frame.height

    def column(name: str, convert: Callable[[Any], Any] = lambda v: v) -> list[Any]:
        return (
            [convert(v) for v in frame[name].to_list()] if name in frame.columns else [None] * rows
        )

    sells = column("is_buyer_maker")
    if "is_buyer_maker" not in frame.columns and "side" in frame.columns:
        words = [str(v).lower() for v in frame["side"].to_list()]
        sells = [w in SELLERS if w in SELLERS | BUYERS else None for w in words]
    sided = "is_buyer_maker" in frame.columns or "side" in frame.columns
    keys = frame.select(case.keys).rows() if case.keys else [None] * rows
    columns = (
        frame["timestamp"].to_physical().to_list(),
        column("price", oracle.to_grid),
        column("quantity", oracle.to_grid),
        sells,
        column("agg_trade_id"),
        column("first_trade_id"),
        column("last_trade_id"),
        keys,
    )
    return [
        oracle.Trade(row, *values, sided=sided)
        for row, values in enumerate(zip(*columns, strict=True))
    ]


def rules_of(case: Case) -> oracle.Rules:
    return oracle.Rules(
        tuple(case.limits),
        case.rule,
        case.gate,
        case.reset,
        gap_ns(case.max_gap),
        case.incomplete == "keep",
        case.unit,
    )


def gap_ns(gap: dt.timedelta | str | None) -> int | None:
    if isinstance(gap, str):
        units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
        number = gap.rstrip("nsumh")
        return int(number) * units[gap[len(number) :]]
    return None if gap is None else (gap // dt.timedelta(microseconds=1)) * 1000


def expect(case: Case) -> Expected:
    """Return what every entry point must give for a case."""
    bars, ids = oracle.split(trades_of(case), rules_of(case))
    frame = to_frame(
        bars,
        case,
        threshold_column=isinstance(case.threshold, list),
        status=case.incomplete == "keep",
    )
    if isinstance(case.threshold, list):
        fields = [
            pl.Series(f"bar_id_{threshold}", [i[limit] for i in ids], pl.UInt32)
            for threshold, limit in zip(case.thresholds, case.limits, strict=True)
        ]
        return Expected(frame, pl.DataFrame(fields).to_struct("bar_id"), bars)
    return Expected(frame, pl.Series("bar_id", [i[case.limits[0]] for i in ids], pl.UInt32), bars)


def expect_aggregate(case: Case, bar_id: str) -> pl.DataFrame:
    """Return what `aggregate` must give for a column of bar ids."""
    ids = case.frame[bar_id]
    bars = oracle.runs(trades_of(case), ids.to_list())
    values = pl.Series("bar_id", [bar.bar_id for bar in bars], ids.dtype)
    numbered = [replace(bar, bar_id=0) for bar in bars]
    return to_frame(numbered, case, threshold_column=False, status=False).with_columns(values)


def wanted_features(case: Case) -> list[str]:
    if isinstance(case.features, str):
        return TEN if case.features == "microstructure" else [f for f in TEN if f == case.features]
    asked = set(case.features)
    return [f for f in TEN if f in asked or "microstructure" in asked]


def to_frame(
    bars: Sequence[oracle.Bar], case: Case, *, threshold_column: bool, status: bool
) -> pl.DataFrame:
    """Arrange bars in the expected columns and dtypes."""
    time_dtype = case.frame.schema["timestamp"]
    extra = wanted_features(case)
    rows = [oracle.core(bar) | (oracle.features(bar, case.unit) if extra else {}) for bar in bars]

    def series(name: str, dtype: Any) -> pl.Series:
        return pl.Series(name, [row[name] for row in rows], dtype)

    columns = [key_column(name, bars, case) for name in case.keys]
    if threshold_column:
        columns.append(limit_column(bars, case))
    for name in [*CORE, *(STATUS if status else []), *extra]:
        if name in {"open_time", "close_time"}:
            columns.append(series(name, pl.Int64).cast(time_dtype))
        else:
            columns.append(series(name, dtype_of(name)))
    return pl.DataFrame(columns)


def limit_column(bars: Sequence[oracle.Bar], case: Case) -> pl.Series:
    """Name the threshold or the distance of each bar."""
    if isinstance(case.thresholds[0], int):
        return pl.Series("threshold", [bar.threshold for bar in bars], pl.UInt32)
    grids = [bar.threshold.grid for bar in bars if isinstance(bar.threshold, oracle.Absolute)]
    return pl.Series("threshold", [oracle.grid_float(grid) for grid in grids], pl.Float64)


def dtype_of(name: str) -> Any:
    special = {
        "bar_id": pl.UInt32,
        "is_closed": pl.Boolean,
        "ended_by": pl.Enum(["threshold", "reset", "gap"]),
    }
    return special.get(name, pl.Int64 if name in INTEGERS else pl.Float64)


def key_column(name: str, bars: Sequence[oracle.Bar], case: Case) -> pl.Series:
    """Take the key values from the input rows, so that their dtype is the input's."""
    first_rows = [bar.trades[0].row for bar in bars]
    return case.frame[name].gather(first_rows) if first_rows else case.frame[name].clear()
